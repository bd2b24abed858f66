//! What a run shows on standard output: the text it generates and then its result, or one envelope, or every event.

use lmrun_interpreter::{Envelope, Event, Status};
use serde::Serialize;
use serde_json::Value;

use crate::cli::RunFormat;
use crate::failure::Failure;
use crate::output::{print, print_json};

/// The branch whose text is the program's answer.
const ROOT: &str = "0";

/// Shows a run.
#[derive(Debug)]
pub(super) struct Printer {
    format: RunFormat,
    /// Whether the last text left its line open.
    line_is_open: bool,
}

/// An envelope among events.
#[derive(Serialize)]
struct Last<'a> {
    event: &'static str,
    #[serde(flatten)]
    envelope: &'a Envelope,
}

impl Printer {
    pub(super) fn new(format: RunFormat) -> Self {
        Self {
            format,
            line_is_open: false,
        }
    }

    /// Shows what happened, at once.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), Failure> {
        match self.format {
            RunFormat::Events => return print_json(event),
            RunFormat::Envelope => return Ok(()),
            RunFormat::Text => {}
        }
        match event {
            Event::Text { branch, text, .. } if branch == ROOT && !text.is_empty() => {
                self.line_is_open = !text.ends_with('\n');
                print(text)
            }
            Event::GenEnd { branch, .. } if branch == ROOT => self.close_line(),
            Event::Prompt {
                branch,
                name,
                text,
                tokens,
                ..
            } => {
                self.close_line()?;
                let name = name
                    .as_deref()
                    .map(|name| format!(" {name}"))
                    .unwrap_or_default();
                print(&format!("--- {branch}{name}: {tokens} tokens\n{text}\n"))
            }
            _ => Ok(()),
        }
    }

    /// Shows how the run ended. The result of a program without `return` is the text already shown.
    pub(super) fn end(&mut self, envelope: &Envelope, returns: bool) -> Result<(), Failure> {
        match self.format {
            RunFormat::Events => print_json(&Last {
                event: "envelope",
                envelope,
            }),
            RunFormat::Envelope => print_json(envelope),
            RunFormat::Text => {
                self.close_line()?;
                if !returns || envelope.status != Status::Ok {
                    return Ok(());
                }
                match &envelope.result {
                    Value::String(text) => print(&format!("{text}\n")),
                    // `{:#}` is the indented form.
                    value => print(&format!("{value:#}\n")),
                }
            }
        }
    }

    /// Shows that no run came about.
    pub(super) fn no_run(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        match self.format {
            RunFormat::Text => self.close_line(),
            RunFormat::Envelope | RunFormat::Events => self.end(envelope, false),
        }
    }

    fn close_line(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.line_is_open) {
            return Ok(());
        }
        print("\n")
    }
}
