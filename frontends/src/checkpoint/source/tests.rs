use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn repository(text: &str) -> Repository {
    Repository::parse(text).unwrap()
}

fn hub(cache: &Path, endpoint: String, offline: bool) -> Hub {
    Hub { cache: cache.to_owned(), endpoint, token: None, offline }
}

fn no_progress(_: Progress<'_>) {}

#[test]
fn a_path_is_its_own() {
    assert_eq!(resolve("some/folder", &mut no_progress).unwrap(), Path::new("some/folder"));
}

#[test]
fn names_have_an_optional_owner_and_revision() {
    let parsed = |name: &str, revision: &str| Repository { name: name.into(), revision: revision.into() };
    assert_eq!(repository("gpt2"), parsed("gpt2", "main"));
    assert_eq!(repository("org/a-b.c@refs/pr/1"), parsed("org/a-b.c", "refs/pr/1"));
    for bad in ["", "a/b/c", "../b", "a/..", "a/b@", "a/b@../../x", "a b/c", "a/b@x/.git"] {
        assert!(matches!(Repository::parse(bad), Err(SourceError::Name(_))), "{bad}");
    }
}

#[test]
fn variables_are_those_of_the_hub() {
    let with = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> = pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect();
        let find = move |name: &str| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        Hub::new(&find, Some("/user".into())).unwrap()
    };
    assert_eq!(with(&[]).cache, Path::new("/user/.cache/huggingface/hub"));
    assert_eq!(with(&[("HF_HOME", "/a")]).cache, Path::new("/a/hub"));
    assert_eq!(with(&[("HF_HOME", "/a"), ("HUGGINGFACE_HUB_CACHE", "/b")]).cache, Path::new("/b"));
    assert_eq!(with(&[("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/b")]).cache, Path::new("/c"));
    assert_eq!(with(&[("HF_ENDPOINT", "http://x/")]).endpoint, "http://x");
    assert_eq!(with(&[("HF_TOKEN", " t\n")]).token.as_deref(), Some("t"));
    assert!(with(&[("HF_HUB_OFFLINE", "true")]).offline && !with(&[("HF_HUB_OFFLINE", "0")]).offline);
    assert!(matches!(Hub::new(&|_| None, None), Err(SourceError::NoHome)));
}

#[test]
fn the_cache_is_looked_up_first() {
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(cache.path(), "http://127.0.0.1:1".into(), true);
    let folder = cache.path().join("models--org--name");
    let snapshot = folder.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    fs::write(snapshot.join("config.json"), "{}").unwrap();
    let index = r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;
    fs::write(snapshot.join("model.safetensors.index.json"), index).unwrap();
    fs::write(snapshot.join("one.safetensors"), "").unwrap();
    let find = |name: &str| hub.find(&repository(name), &mut no_progress);
    // A shard is missing, and the hub must not be asked.
    assert!(matches!(find("org/name"), Err(SourceError::Offline { .. })));
    fs::write(snapshot.join("two.safetensors"), "").unwrap();
    assert_eq!(find("org/name").unwrap(), snapshot);
    assert_eq!(find(&format!("org/name@{COMMIT}")).unwrap(), snapshot);
    assert!(matches!(find("org/name@other"), Err(SourceError::Offline { .. })));
}

/// Files of a repository that a hub on this machine serves.
const FILES: [(&str, &str); 5] = [
    ("config.json", r#"{"model_type": "llama"}"#),
    ("1_Pooling/config.json", "{}"),
    ("model.safetensors", "weights"),
    ("README.md", "not needed"),
    ("../../escape/config.json", "{}"),
];

#[test]
fn what_the_cache_lacks_is_downloaded() {
    let cache = tempfile::tempdir().unwrap();
    let endpoint = start_hub();
    let mut seen = Vec::new();
    let hub = Hub { token: Some("secret".into()), ..hub(cache.path(), endpoint, false) };
    let mut progress = |p: Progress<'_>| seen.push((p.file.to_owned(), p.done, p.total));
    let snapshot = hub.find(&repository("org/name"), &mut progress).unwrap();
    assert_eq!(fs::read_to_string(snapshot.join("config.json")).unwrap(), FILES[0].1);
    assert_eq!(fs::read_to_string(snapshot.join("model.safetensors")).unwrap(), "weights");
    assert!(snapshot.join("1_Pooling/config.json").is_file() && !snapshot.join("README.md").exists());
    assert!(seen.contains(&("model.safetensors".to_owned(), 7, 7)), "{seen:?}");
    assert_eq!(Hub { offline: true, ..hub }.find(&repository("org/name"), &mut no_progress).unwrap(), snapshot);
}

#[test]
fn a_repository_that_is_not_there_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let endpoint = start_hub();
    let hub = Hub { token: Some("secret".into()), ..hub(cache.path(), endpoint, false) };
    let message = hub.find(&repository("org/other"), &mut no_progress).unwrap_err().to_string();
    assert!(message.contains("hf:org/other@main") && message.contains("no such repository"), "{message}");
}

/// Address of a hub that runs as long as the tests.
fn start_hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = |stream| drop(std::thread::spawn(|| drop(serve(stream))));
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    endpoint
}

/// Answers requests of one connection as the hub does.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut first, mut range, mut allowed) = (String::new(), None, false);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_lowercase();
            allowed |= line == "authorization: bearer secret";
            range = line.strip_prefix("range: bytes=").map(str::to_owned).or(range);
            if line.is_empty() {
                break;
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        let siblings = FILES.map(|(name, _)| format!(r#"{{"rfilename": "{name}"}}"#)).join(",");
        let info = format!(r#"{{"sha": "{COMMIT}", "siblings": [{siblings}]}}"#);
        let body = match path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/")) {
            Some(name) => FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| text.to_string()),
            None => Some(info).filter(|_| path == "/api/models/org/name/revision/main"),
        };
        let answer = match body.filter(|_| allowed) {
            None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Some(body) => {
                let (start, end) = range.as_deref().and_then(|r| r.split_once('-')).unwrap_or(("0", ""));
                let (start, last) = (start.parse().unwrap_or(0), body.len() - 1);
                let end = end.parse().unwrap_or(last).min(last);
                let part = &body[start..=end];
                format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{end}/{}\r\n\
                     ETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n\r\n{part}",
                    part.len(),
                    body.len(),
                    path.replace('/', "_"),
                )
            }
        };
        stream.write_all(answer.as_bytes())?;
    }
}
