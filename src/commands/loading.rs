//! Telling a person how far a model is loaded: a bar on standard error, if it takes long enough to wonder.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lmrun_engine::LoadProgress;

/// What takes less needs no bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// Loading that has begun. The bar goes when it is dropped.
pub(crate) struct Loading {
    name: String,
    begun: Instant,
    bar: OnceLock<ProgressBar>,
}

impl Loading {
    pub(crate) fn begin(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            begun: Instant::now(),
            bar: OnceLock::new(),
        }
    }

    pub(crate) fn tell(&self, progress: LoadProgress) {
        if self.begun.elapsed() >= PATIENCE {
            let bar = self.bar.get_or_init(|| bar(&self.name, progress.n_total));
            bar.set_position(progress.n_done);
        }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, n_bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(n_bytes);
    let template = "loading {msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(name.to_owned());
    bar
}
