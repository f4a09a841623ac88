//! The folder in which castiron keeps what it would otherwise fetch or make anew.

use std::ffi::OsString;
use std::path::PathBuf;

/// `CASTIRON_CACHE`, else `castiron` under `XDG_CACHE_HOME` or `~/.cache`; nothing if none of these
/// variables is set, or if `CASTIRON_CACHE` is `off`. The folder need not exist.
pub fn folder() -> Option<PathBuf> {
    folder_by(|name| std::env::var_os(name))
}

fn folder_by(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match path("CASTIRON_CACHE") {
        Some(folder) => Some(folder).filter(|folder| folder.as_os_str() != "off"),
        None => path("XDG_CACHE_HOME")
            .map(|folder| folder.join("castiron"))
            .or_else(|| path("HOME").map(|folder| folder.join(".cache/castiron"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_variable_counts() {
        let folder = |set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            folder_by(found).map(|folder| folder.to_string_lossy().into_owned())
        };
        let (home, xdg) = (("HOME", "/h"), ("XDG_CACHE_HOME", "/x"));
        assert_eq!(folder(&[]), None);
        assert_eq!(folder(&[home]).as_deref(), Some("/h/.cache/castiron"));
        assert_eq!(folder(&[home, xdg]).as_deref(), Some("/x/castiron"));
        assert_eq!(folder(&[home, xdg, ("CASTIRON_CACHE", "")]).as_deref(), Some("/x/castiron"));
        assert_eq!(folder(&[home, xdg, ("CASTIRON_CACHE", "/c")]).as_deref(), Some("/c"));
        assert_eq!(folder(&[home, xdg, ("CASTIRON_CACHE", "off")]), None);
    }
}
