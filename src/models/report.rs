//! Telling a person what is being fetched: a bar on a terminal, plain lines elsewhere, always on standard error.

#![allow(
    clippy::print_stderr,
    reason = "this is the one place that tells of a fetch"
)]

use std::fmt::Display;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Hears what is being fetched.
pub trait Report: Send + Sync {
    /// One line.
    fn note(&self, line: &str);
    /// A transfer begins, or goes on after `n_done` bytes; of how many in all, if that is known.
    fn begin(&self, what: &str, n_done: u64, n_total: Option<u64>);
    /// More bytes came.
    fn advance(&self, n_bytes: u64);
    /// The transfer ended, well or not.
    fn end(&self);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Report for Silent {
    fn note(&self, _line: &str) {}
    fn begin(&self, _what: &str, _n_done: u64, _n_total: Option<u64>) {}
    fn advance(&self, _n_bytes: u64) {}
    fn end(&self) {}
}

/// Reports on standard error.
#[derive(Debug)]
pub struct StandardError {
    is_terminal: bool,
    transfer: Mutex<Option<Transfer>>,
}

/// A transfer that runs: the bar, or the counts that the next line needs.
#[derive(Debug)]
enum Transfer {
    Bar(ProgressBar),
    Lines {
        what: String,
        n_done: u64,
        n_total: u64,
        n_quarters: u64,
    },
}

impl Default for StandardError {
    fn default() -> Self {
        Self {
            is_terminal: stderr().is_terminal(),
            transfer: Mutex::new(None),
        }
    }
}

impl StandardError {
    fn transfer(&self) -> std::sync::MutexGuard<'_, Option<Transfer>> {
        // A panic elsewhere leaves counts that are still worth showing.
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report for StandardError {
    fn note(&self, line: &str) {
        match &*self.transfer() {
            Some(Transfer::Bar(bar)) => bar.suspend(|| eprintln!("{line}")),
            _ => eprintln!("{line}"),
        }
    }

    fn begin(&self, what: &str, n_done: u64, n_total: Option<u64>) {
        let transfer = if self.is_terminal {
            Transfer::Bar(bar(what, n_done, n_total))
        } else {
            match n_total {
                Some(n_total) => eprintln!("fetching {what} ({})", Bytes(n_total)),
                None => eprintln!("fetching {what}"),
            }
            let n_total = n_total.unwrap_or(0);
            let n_quarters = (4 * n_done).checked_div(n_total).unwrap_or(0);
            Transfer::Lines {
                what: what.to_owned(),
                n_done,
                n_total,
                n_quarters,
            }
        };
        *self.transfer() = Some(transfer);
    }

    fn advance(&self, n_bytes: u64) {
        match &mut *self.transfer() {
            Some(Transfer::Bar(bar)) => bar.inc(n_bytes),
            Some(Transfer::Lines {
                what,
                n_done,
                n_total,
                n_quarters,
            }) => {
                *n_done += n_bytes;
                let reached = (4 * *n_done).checked_div(*n_total).unwrap_or(0);
                if reached > *n_quarters {
                    *n_quarters = reached;
                    eprintln!("fetching {what}: {}%", 25 * reached);
                }
            }
            None => {}
        }
    }

    fn end(&self) {
        if let Some(Transfer::Bar(bar)) = self.transfer().take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &str, n_done: u64, n_total: Option<u64>) -> ProgressBar {
    let (bar, template) = match n_total {
        Some(n_total) => (
            ProgressBar::new(n_total),
            "fetching {msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} fetching {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_owned());
    bar.set_position(n_done);
    bar.reset_eta();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A number of bytes for a person, in powers of ten: `98.4 MB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n_bytes = self.0 as f64;
        let text = match self.0 {
            0..1_000 => format!("{} B", self.0),
            1_000..1_000_000 => format!("{:.1} kB", n_bytes / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} MB", n_bytes / 1e6),
            _ => format!("{:.1} GB", n_bytes / 1e9),
        };
        f.pad(&text)
    }
}
