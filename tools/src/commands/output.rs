//! What commands print besides their results: progress on standard error, errors, sizes.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use castiron_frontends::checkpoint::source::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Prints an error with what caused it.
pub(super) fn error(error: &(dyn Error + 'static)) {
    eprintln!("error: {error}");
    let mut source = error.source();
    let mut said = error.to_string();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !said.contains(&text) {
            eprintln!("  caused by: {text}");
        }
        said = text;
        source = cause.source();
    }
}

/// A bar over bytes; hidden unless a person is watching.
pub(super) fn bytes_bar(what: &str, total: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:>10} {bar:40} {bytes:>10} of {total_bytes} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what.to_owned())
}

/// Writes a file under another name first, so that the path never holds a part of it.
///
/// # Errors
/// A file system that refuses.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(named)?;
    file.write_all(bytes).map_err(named)?;
    file.persist(path).map_err(|e| named(e.error))?;
    Ok(())
}

/// Bytes for people.
pub(super) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// A time for people.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// A bar over things; hidden unless a person is watching and there are many.
pub(super) fn count_bar(what: &str, total: usize) -> ProgressBar {
    if total < 64 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:>10} {bar:40} {pos} of {len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total as u64).with_style(style).with_message(what.to_owned())
}

/// Shows a download; `bar` is the bar of the current file.
pub(super) fn download(bar: &mut Option<(String, ProgressBar)>, progress: Progress<'_>) {
    if bar.as_ref().is_none_or(|(file, _)| file != progress.file) {
        if let Some((_, old)) = bar.take() {
            old.finish_and_clear();
        }
        *bar = Some((progress.file.to_owned(), bytes_bar(progress.file, progress.total)));
    }
    if let Some((_, bar)) = bar {
        bar.set_position(progress.done);
    }
}
