//! Fetching over HTTP: small answers whole, files with resumption.
//!
//! A file that stops arriving is asked for again from where it stopped, with a Range request (RFC 9110, section 14),
//! as long as attempts bring something; a server that ignores the range is read from the start.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode};

use super::error::ModelsError;
use super::files::{Expected, Incomplete};
use super::report::Report;

/// Attempts in a row that bring nothing before giving up.
const MAX_FRUITLESS: u32 = 4;
/// The longest a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(20);
/// The wait after the first fruitless attempt; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The most bytes of an answer that is read whole.
const MAX_ANSWER: u64 = 32 << 20;

/// Asks servers; the token goes to the endpoint alone, never along a redirect.
pub(super) struct Client {
    agent: Agent,
    token: Option<String>,
}

/// Why an attempt ended.
enum Stop {
    /// For good.
    Fatal(ModelsError),
    /// Another attempt may do better.
    Broken(String),
}

impl From<ModelsError> for Stop {
    fn from(error: ModelsError) -> Self {
        Self::Fatal(error)
    }
}

impl Client {
    pub(super) fn new(token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("lmrun/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.into(),
            token,
        }
    }

    /// A small answer, whole.
    pub(super) fn text(&self, url: &str) -> Result<String, ModelsError> {
        let failed = |reason: String| ModelsError::Http {
            url: url.to_owned(),
            reason,
        };
        let mut fruitless = 0;
        loop {
            let stop = match self.get(url, 0) {
                Ok(mut response) => {
                    let body = response.body_mut().with_config().limit(MAX_ANSWER);
                    match body.read_to_string() {
                        Ok(text) => return Ok(text),
                        Err(error) => Stop::Broken(error.to_string()),
                    }
                }
                Err(stop) => stop,
            };
            match stop {
                Stop::Fatal(error) => return Err(error),
                Stop::Broken(reason) if fruitless >= MAX_FRUITLESS => return Err(failed(reason)),
                Stop::Broken(_) => wait(&mut fruitless),
            }
        }
    }

    /// Fills `incomplete` with the file at `url`, from wherever it stopped.
    pub(super) fn file(
        &self,
        url: &str,
        what: &str,
        expected: &Expected,
        incomplete: &mut Incomplete,
        report: &dyn Report,
    ) -> Result<(), ModelsError> {
        if expected
            .size
            .is_some_and(|size| incomplete.n_bytes() > size)
        {
            incomplete.restart()?;
        }
        if expected.size == Some(incomplete.n_bytes()) {
            return Ok(());
        }
        report.begin(what, incomplete.n_bytes(), expected.size);
        let result = self.resume_until_done(url, expected, incomplete, report);
        report.end();
        result
    }

    fn resume_until_done(
        &self,
        url: &str,
        expected: &Expected,
        incomplete: &mut Incomplete,
        report: &dyn Report,
    ) -> Result<(), ModelsError> {
        let mut fruitless = 0;
        // Bytes gained again after a restart are no gain: otherwise two faults could take turns for ever.
        let mut most = incomplete.n_bytes();
        loop {
            let reason = match self.attempt(url, expected, incomplete, report) {
                Ok(()) => return Ok(()),
                Err(Stop::Fatal(error)) => return Err(error),
                Err(Stop::Broken(reason)) => reason,
            };
            if incomplete.n_bytes() > most {
                most = incomplete.n_bytes();
                fruitless = 0;
            } else if fruitless >= MAX_FRUITLESS {
                return Err(ModelsError::Http {
                    url: url.to_owned(),
                    reason,
                });
            }
            wait(&mut fruitless);
        }
    }

    /// One request for the rest of a file.
    fn attempt(
        &self,
        url: &str,
        expected: &Expected,
        incomplete: &mut Incomplete,
        report: &dyn Report,
    ) -> Result<(), Stop> {
        let from = incomplete.n_bytes();
        let response = self.get(url, from)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            incomplete.restart()?;
            return Err(Stop::Broken(format!("it has no bytes from {from} on")));
        }
        if from > 0 && !continues_at(&response, from) {
            incomplete.restart()?;
        }
        let told = length_told(&response, incomplete.n_bytes());
        if let Some(mismatch) = told.and_then(|length| expected.size_mismatch(length)) {
            let (url, reason) = (url.to_owned(), format!("another file: {mismatch}"));
            return Err(Stop::Fatal(ModelsError::Http { url, reason }));
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    incomplete.append(&buffer[..n])?;
                    report.advance(n as u64);
                }
                Err(error) => return Err(Stop::Broken(error.to_string())),
            }
        }
        match expected.size {
            Some(size) if incomplete.n_bytes() < size => {
                let n_bytes = incomplete.n_bytes();
                Err(Stop::Broken(format!(
                    "it ended after {n_bytes} of {size} bytes"
                )))
            }
            _ => Ok(()),
        }
    }

    /// An answer that has what was asked for.
    fn get(&self, url: &str, from: u64) -> Result<Response<ureq::Body>, Stop> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let fatal = |reason: String| {
            Stop::Fatal(ModelsError::Http {
                url: url.to_owned(),
                reason,
            })
        };
        let response = request.call().map_err(|error| match error {
            ureq::Error::HostNotFound => fatal("the host is not known: is there a network?".into()),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => fatal(error.to_string()),
            _ => Stop::Broken(error.to_string()),
        })?;
        let status = response.status();
        match status.as_u16() {
            200 | 206 | 416 => Ok(response),
            401 | 403 => {
                let token = match self.token {
                    Some(_) => "the token gives no access to it",
                    None => "it is private or does not exist: set HF_TOKEN",
                };
                Err(fatal(format!("{status}: {token}")))
            }
            404 => Err(fatal(format!(
                "{status}: there is no such repository or file"
            ))),
            408 | 429 | 500.. => Err(Stop::Broken(status.to_string())),
            _ => Err(fatal(status.to_string())),
        }
    }
}

/// Whether the answer is the part of the file that was asked for.
fn continues_at(response: &Response<ureq::Body>, from: u64) -> bool {
    let range = response
        .headers()
        .get("content-range")
        .and_then(|value| value.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

/// The whole file's length, if the answer, which starts at `from`, tells its own.
fn length_told(response: &Response<ureq::Body>, from: u64) -> Option<u64> {
    let length = response.headers().get("content-length")?;
    let length: u64 = length.to_str().ok()?.parse().ok()?;
    from.checked_add(length)
}

/// Waits before another attempt, longer each time.
fn wait(fruitless: &mut u32) {
    std::thread::sleep(FIRST_WAIT * 2_u32.pow(*fruitless));
    *fruitless += 1;
}
