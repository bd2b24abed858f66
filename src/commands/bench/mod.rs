//! `lmrun bench`: what this machine does with a model.

mod chart;
mod measure;
mod plan;
mod report;

use std::fs;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lmrun_engine::{EngineOptions, Peak};
use tokio::runtime::Builder;

use self::measure::Bench;
use self::plan::Plan;
use self::report::Report;
use super::{compute_options, drive, open, store};
use crate::cli::{BenchCommand, BenchEngineOptions, BenchOptions};
use crate::failure::{ExitCode, Failure};
use crate::output;

/// Carries one of the commands out, on a thread of its own, so that ctrl-C is heard.
pub(crate) fn bench(options: &BenchOptions) -> Result<ExitCode, Failure> {
    let BenchCommand::Engine(options) = options.command.clone();
    drive(Builder::new_current_thread(), async |signals| {
        signals.guard(move || engine(&options)).await
    })
}

fn engine(options: &BenchEngineOptions) -> Result<ExitCode, Failure> {
    let plan = Plan::new(options);
    let path = store(options.offline)?.locate(&options.model)?;
    let n_threads = match options.compute.threads {
        Some(given) => given,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let engine_options = EngineOptions {
        n_threads,
        kv_tokens: plan.kv_tokens(),
        max_running: plan.max_running(),
        prefix_cache: plan.needs_cache(),
        ..compute_options(&options.compute)
    };
    // A file that cannot be written is told of before minutes are spent.
    if let Some(svg) = &options.svg {
        write(svg, "")?;
    }
    let engine = open(&options.model, &path, &engine_options, !options.json)?;
    let handle = engine.handle();
    let plan = plan.within(handle.info().context_length)?;
    let peak = Peak::measure(n_threads)
        .map_err(|error| Failure::backend(format!("cannot measure the machine: {error}")))?;
    let mut report = Report::new(options, &handle.info().place, n_threads, peak, &plan);
    let bench = Bench::new(handle)?;
    let bar = bar(plan.points().len() * (1 + options.runs));
    // Round by round, so that a machine whose speed drifts favours no figure. The first round warms up: memory that
    // nobody has touched, threads asleep.
    for round in 0..=options.runs {
        for &point in plan.points() {
            bar.set_message(point.to_string());
            let speed = bench.speed(point).inspect_err(|_| bar.finish_and_clear())?;
            if round > 0 {
                report.add(point, speed);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if let Some(svg) = &options.svg {
        write(svg, &chart::svg(&report))?;
    }
    if options.json {
        output::print_json(&report.to_json())?;
    } else {
        output::print(&report.to_string())?;
    }
    Ok(ExitCode::OK)
}

fn write(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}

/// A bar on standard error if that is a terminal.
fn bar(n_points: usize) -> ProgressBar {
    let bar = ProgressBar::new(n_points as u64);
    if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {pos}/{len} {eta} {wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
