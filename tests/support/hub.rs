//! A hub of one repository, `org/tiny`, that can be told to misbehave: a small HTTP/1.1 server on a port of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::lmrun;

/// The commit that `main` is at.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The one model file.
pub const FILE: &str = "tiny.Q8_0.gguf";

/// How it answers a request for the file.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// The file's bytes.
    pub content: Vec<u8>,
    /// Bytes after which an answer breaks off.
    pub breaks_after: Option<usize>,
    /// Whether it ignores ranges.
    pub ignores_ranges: bool,
    /// How long it thinks before it answers.
    pub delay: Duration,
    /// The status line's end, if not what is asked for.
    pub status: Option<&'static str>,
}

/// A request for the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The byte it starts from.
    pub from: usize,
    /// The token it carries.
    pub token: Option<String>,
}

/// The server.
pub struct Hub {
    pub address: String,
    /// The manners can be changed while it runs.
    pub manners: Arc<Mutex<Manners>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Hub {
    /// A hub whose listing tells of `content` and that sends it.
    pub fn start(content: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let listing = json!({"sha": COMMIT, "siblings": [
            {"rfilename": "README.md", "size": 1, "blobId": "aa"},
            {"rfilename": FILE, "size": content.len(), "blobId": "bb",
             "lfs": {"sha256": sha256(content), "size": content.len()}}
        ]})
        .to_string();
        let manners = Manners {
            content: content.to_vec(),
            ..Manners::default()
        };
        let hub = Self {
            address,
            manners: Arc::new(Mutex::new(manners)),
            seen: Arc::default(),
        };
        let (manners, seen) = (Arc::clone(&hub.manners), Arc::clone(&hub.seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manners = manners.lock().expect("no panic").clone();
                // What a client that went away makes of it is no concern of the hub's.
                let _ = answer(stream, &listing, &manners, &seen);
            }
        });
        hub
    }

    /// The requests for the file, so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Changes its manners.
    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().expect("no panic"));
    }

    /// `lmrun` with this hub and this cache, and nothing of the user's own settings.
    pub fn lmrun(&self, cache: &Path) -> Command {
        let mut command = lmrun();
        command
            .env("HF_ENDPOINT", &self.address)
            .env("HF_HUB_CACHE", cache)
            .env("HF_HOME", cache)
            .env("LMRUN_CACHE", cache.join("lmrun"))
            .env("no_proxy", "127.0.0.1")
            .env_remove("HF_TOKEN")
            .env_remove("HF_HUB_OFFLINE");
        command
    }

    /// `lmrun models pull hf:org/tiny`
    pub fn pull(&self, cache: &Path) -> Output {
        self.lmrun(cache)
            .args(["models", "pull", "hf:org/tiny"])
            .output()
            .expect("lmrun starts")
    }
}

/// In lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn answer(
    mut stream: TcpStream,
    listing: &str,
    manners: &Manners,
    seen: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(Ok(request)) = lines.next() else {
        return Ok(());
    };
    let mut asked = Seen {
        from: 0,
        token: None,
    };
    for header in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        let (name, value) = header.split_once(": ").unwrap_or((header.as_str(), ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let from = value.trim_start_matches("bytes=").trim_end_matches('-');
                asked.from = from.parse().expect("bytes=N-");
            }
            "authorization" => asked.token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let path = request.split(' ').nth(1).expect("a path");
    if path == "/api/models/org/tiny/revision/main?blobs=true" {
        return send(&mut stream, "200 OK", "", listing.as_bytes(), None);
    }
    if !path.ends_with(".gguf") {
        return send(&mut stream, "404 Not Found", "", b"no", None);
    }
    seen.lock().expect("no panic").push(asked.clone());
    std::thread::sleep(manners.delay);
    let from = if manners.ignores_ranges {
        0
    } else {
        asked.from
    };
    let (status, range) = match (manners.status, manners.content.get(from..)) {
        (Some(status), _) => (status, String::new()),
        (None, None | Some([])) => ("416 Range Not Satisfiable", String::new()),
        (None, Some(_)) if from == 0 => ("200 OK", String::new()),
        (None, Some(rest)) => {
            let (last, all) = (from + rest.len() - 1, manners.content.len());
            (
                "206 Partial Content",
                format!("content-range: bytes {from}-{last}/{all}\r\n"),
            )
        }
    };
    let body = manners.content.get(from..).unwrap_or_default();
    send(&mut stream, status, &range, body, manners.breaks_after)
}

/// Sends an answer with its full length told, though it may break off before.
fn send(
    stream: &mut TcpStream,
    status: &str,
    headers: &str,
    body: &[u8],
    breaks_after: Option<usize>,
) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body[..breaks_after.unwrap_or(length).min(length)])
}
