//! The HTTP surface as its clients see it: the openai package from PyPI, and plain requests for what it cannot send.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{lmrun, smollm2};

/// A running `lmrun serve`, killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(extra: &[&str]) -> Self {
        let model = smollm2();
        let mut child = lmrun()
            .args(["serve", "--port", "0", "--model"])
            .arg(model)
            .args(extra)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("lmrun starts");
        let stderr = child.stderr.take().expect("piped");
        let mut lines = BufReader::new(stderr).lines();
        let address = loop {
            let line = lines
                .next()
                .expect("the server says where it listens")
                .expect("UTF-8");
            if let Some(at) = line.find("http://") {
                break line[at..]
                    .split_whitespace()
                    .next()
                    .expect("an address")
                    .to_owned();
            }
        };
        // Keep reading, so that the server never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let mut response = agent
            .post(format!("{}{path}", self.address))
            .header("content-type", "application/json")
            .send(body.to_string())
            .expect("the server answers");
        let text = response.body_mut().read_to_string().expect("UTF-8");
        (
            response.status().as_u16(),
            serde_json::from_str(&text).expect(&text),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The openai package, installed once into the build folder.
fn openai_packages() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openai-package");
        if !folder.join("openai").is_dir() {
            let status = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--target"])
                .arg(&folder)
                .arg("openai>=2")
                .status()
                .expect("python3 starts");
            assert!(status.success(), "pip installs the openai package");
        }
        folder
    })
}

#[test]
fn the_openai_package_is_served() {
    let packages = openai_packages();
    let server = Server::start(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/openai_client.py");
    let output = Command::new("python3")
        .env("PYTHONPATH", packages)
        .arg(script)
        .arg(&server.address)
        .output()
        .expect("python3 starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
}

#[test]
fn a_program_is_run_and_checked_over_http() {
    let server = Server::start(&[]);
    let source = "input n: int(1..9)\nuser \"Count to ${n}.\"\nassistant gen(x, max_tokens=8)\nreturn { n: n, x: x }";
    let (status, envelope) =
        server.post("/v1/programs", &json!({"source": source, "args": {"n": 3}}));
    assert_eq!(status, 200, "{envelope}");
    assert_eq!(envelope["result"]["n"], 3);
    assert_eq!(envelope["gens"]["x"]["value"], envelope["result"]["x"]);

    let (status, refused) = server.post(
        "/v1/programs",
        &json!({"source": source, "args": {"n": 30}}),
    );
    assert_eq!(status, 400, "{refused}");

    let (status, checked) = server.post(
        "/v1/programs/check",
        &json!({"source": "user \"${nobody}\""}),
    );
    assert_eq!(status, 200, "{checked}");
    assert!(
        checked["diagnostics"][0]["code"]
            .as_str()
            .is_some_and(|code| code.starts_with('E'))
    );
}

#[test]
fn what_is_not_served_is_a_clear_error() {
    let server = Server::start(&[]);
    let message = json!([{"role": "user", "content": "hi"}]);
    for (path, body, expected) in [
        ("/v1/responses", json!({"input": "hi"}), 404),
        ("/v1/chat/completions", json!({"messages": []}), 400),
        (
            "/v1/chat/completions",
            json!({"model": "none", "messages": message}),
            404,
        ),
        (
            "/v1/chat/completions",
            json!({"messages": message, "temperature": -1}),
            400,
        ),
        (
            "/v1/chat/completions",
            json!({"messages": message, "n": 1000}),
            400,
        ),
        (
            "/v1/chat/completions",
            json!({"messages": message, "response_format": {"type": "json_schema", "json_schema":
                {"name": "x", "schema": {"type": "object", "minProperties": "1"}}}}),
            400,
        ),
    ] {
        let (status, answer) = server.post(path, &body);
        assert_eq!(status, expected, "{path} {body}: {answer}");
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|m| !m.is_empty()),
            "{answer}"
        );
    }
}

#[test]
fn a_key_guards_every_route_but_health() {
    let server = Server::start(&["--api-key", "secret"]);
    let (status, answer) = server.post("/v1/programs/check", &json!({"source": ""}));
    assert_eq!(status, 401, "{answer}");
    let health = ureq::get(format!("{}/health", server.address))
        .call()
        .expect("alive");
    assert_eq!(health.status().as_u16(), 200);
}
