//! What the server may be told when it starts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How to serve.
#[derive(Clone)]
pub struct ServerOptions {
    /// The address to bind; 127.0.0.1 by default, so that nobody else reaches it unless told otherwise.
    pub host: IpAddr,
    /// The port to bind; 0 lets the system choose.
    pub port: u16,
    /// Guards every route but `/health` when set: `Authorization: Bearer KEY`.
    pub api_key: Option<String>,
    /// The name under which the model is served.
    pub model_name: String,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Connections open at once; more wait in the system's backlog.
    pub max_connections: usize,
    /// Programs running at once; more are refused with 429.
    pub max_programs: usize,
    /// Tokens that one choice of a chat completion may generate, also where a request names no limit.
    pub max_tokens: usize,
    /// How long the constraints of a chat completion may take to compile.
    pub compile_timeout: Duration,
    /// Tokens that one program may generate, also where a request names no limit.
    pub max_program_tokens: usize,
    /// The longest a program may take, also where a request names no limit.
    pub max_program_time: Duration,
    /// How long running requests may go on after a shutdown was asked for.
    pub drain: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            api_key: None,
            model_name: "lmrun".to_owned(),
            max_body_bytes: 4 << 20,
            max_connections: 1024,
            max_programs: 32,
            max_tokens: 8192,
            compile_timeout: Duration::from_millis(250),
            max_program_tokens: 65_536,
            max_program_time: Duration::from_secs(600),
            drain: Duration::from_secs(20),
        }
    }
}

/// Everything but the key.
impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("has_api_key", &self.api_key.is_some())
            .field("model_name", &self.model_name)
            .finish_non_exhaustive()
    }
}
