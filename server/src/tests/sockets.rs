//! The server over real connections: disconnecting clients and shutdowns.

use std::net::SocketAddr;
use std::time::Duration;

use lmrun_engine::RequestId;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Bench;
use super::script::Script::{self, Hang, Say};
use crate::{ServerOptions, accept};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a port of its own.
struct Running {
    bench: Bench,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start(script: Vec<Script>, drain: Duration) -> Self {
        let options = ServerOptions {
            drain,
            model_name: "m".into(),
            ..Default::default()
        };
        let bench = Bench::with_options(script, options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (router, app) = (bench.router.clone(), bench.app.clone());
        let server = tokio::spawn(async move {
            accept::run(listener, router, app, async { drop(stopped.await) }).await
        });
        Self {
            bench,
            address,
            stop,
            server,
        }
    }

    /// A connection that asks for a chat.
    async fn ask(&self, stream: bool) -> TcpStream {
        let messages = json!([{ "role": "user", "content": "hi" }]);
        let body = json!({ "messages": messages, "stream": stream }).to_string();
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let head =
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
        let n_bytes = body.len();
        let request = format!("{head}\r\ncontent-length: {n_bytes}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    /// Waits until so many requests have reached the engine.
    async fn reached(&self, n_requests: usize) {
        wait_until(|| self.bench.model.n_requests() == n_requests).await;
    }

    async fn stopped(self) {
        tokio::time::timeout(PATIENCE, self.server)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

async fn wait_until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it happens");
}

/// Everything until the server closes the connection.
async fn rest(mut socket: TcpStream) -> String {
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_cancels_whether_it_streams_or_not() {
    let running = Running::start(vec![Hang("some"), Hang("some")], Duration::ZERO).await;
    for (idx, stream) in [true, false].into_iter().enumerate() {
        let socket = running.ask(stream).await;
        running.reached(idx + 1).await;
        assert_eq!(running.bench.model.cancelled.lock().unwrap().len(), idx);
        drop(socket);
        let model = &running.bench.model;
        wait_until(|| {
            model
                .cancelled
                .lock()
                .unwrap()
                .contains(&RequestId(idx as u64))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_what_outlives_the_drain_with_an_error() {
    let drain = Duration::from_millis(50);
    let mut running = Running::start(vec![Hang("some"), Hang("")], drain).await;
    let (streamed, whole) = (running.ask(true).await, running.ask(false).await);
    running.reached(2).await;
    let (stop, _) = oneshot::channel();
    std::mem::replace(&mut running.stop, stop).send(()).unwrap();
    let (streamed, whole) = (rest(streamed).await, rest(whole).await);
    for text in [&streamed, &whole] {
        assert!(text.contains("\"code\":\"shutting_down\""), "{text}");
    }
    assert!(!streamed.contains("[DONE]"));
    assert!(whole.starts_with("HTTP/1.1 503"), "{whole}");
    running.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_does_not_hold_a_shutdown_up() {
    let mut running = Running::start(vec![Say("Hello.")], PATIENCE * 2).await;
    let mut socket = running.ask(false).await;
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let (stop, _) = oneshot::channel();
    std::mem::replace(&mut running.stop, stop).send(()).unwrap();
    running.stopped().await;
}
