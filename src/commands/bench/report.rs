//! The figures of a bench: a table for people, one object for programs.

use std::fmt;

use lmrun_engine::{Peak, Place, Quantisation};
use serde_json::{Map, Value, json};

use super::plan::{Plan, Point};
use crate::cli::BenchEngineOptions;

/// What was measured.
pub(super) struct Report {
    model: String,
    device: String,
    kv_type: &'static str,
    /// What its weights were quantised to, if they were.
    quantisation: Option<&'static str>,
    n_threads: usize,
    peak: Peak,
    /// The runs of each figure, in the plan's order.
    speeds: Vec<(Point, Vec<f64>)>,
}

impl Report {
    pub(super) fn new(
        options: &BenchEngineOptions,
        place: &Place,
        n_threads: usize,
        peak: Peak,
        plan: &Plan,
    ) -> Self {
        let empty = |point: &Point| (*point, Vec::new());
        Self {
            model: options.model.clone(),
            device: place.to_string(),
            kv_type: options.compute.kv_type.name(),
            quantisation: options.compute.quant.map(Quantisation::name),
            n_threads,
            peak,
            speeds: plan.points().iter().map(empty).collect(),
        }
    }

    /// Takes one run's figure, in tokens a second.
    pub(super) fn add(&mut self, point: Point, speed: f64) {
        let mut speeds = self.speeds.iter_mut();
        if let Some((_, speeds)) = speeds.find(|(known, _)| *known == point) {
            speeds.push(speed);
            speeds.sort_unstable_by(f64::total_cmp);
        }
    }

    /// The model, the threads, and what is not usual.
    pub(super) fn title(&self) -> String {
        let threads = match self.n_threads {
            1 => "1 thread".to_owned(),
            n => format!("{n} threads"),
        };
        let mut title = format!("{}, {threads}", self.model);
        if self.device != "cpu" {
            title += &format!(", {}", self.device);
        }
        if self.kv_type != "bf16" {
            title += &format!(", keys and values in {}", self.kv_type);
        }
        if let Some(quantisation) = self.quantisation {
            title += &format!(", quantised to {quantisation}");
        }
        title
    }

    /// The median, least and greatest speed of each figure that was measured.
    fn summaries(&self) -> impl Iterator<Item = (Point, [f64; 3])> {
        self.speeds.iter().filter_map(|(point, speeds)| {
            let median =
                (speeds.get((speeds.len().max(1) - 1) / 2)? + speeds[speeds.len() / 2]) / 2.0;
            Some((*point, [median, speeds[0], *speeds.last()?]))
        })
    }

    /// Numbers of tokens or sequences and the median speeds of those figures that `is_it` accepts.
    pub(super) fn medians(&self, is_it: fn(Point) -> bool) -> Vec<(usize, f64)> {
        self.summaries()
            .filter(|(point, _)| is_it(*point))
            .map(|(point, [median, ..])| (point.x(), median))
            .collect()
    }

    /// `{model, device, kv_type, quant, threads, prefill: {"512": tokens a second}, decode, context, shared, apart, peak}`.
    pub(super) fn to_json(&self) -> Value {
        let medians = |is_it: fn(Point) -> bool| -> Map<String, Value> {
            let summaries = self.summaries().filter(|(point, _)| is_it(*point));
            summaries
                .map(|(point, [median, ..])| (point.label(), json!(median)))
                .collect()
        };
        json!({
            "model": self.model,
            "device": self.device,
            "kv_type": self.kv_type,
            "quant": self.quantisation,
            "threads": self.n_threads,
            "prefill": medians(|point| matches!(point, Point::Prefill(_))),
            "decode": medians(|point| matches!(point, Point::Decode(_))),
            "context": medians(|point| matches!(point, Point::Context(_))),
            "shared": medians(|point| matches!(point, Point::Shared(_))),
            "apart": medians(|point| matches!(point, Point::Apart(_))),
            "peak": {
                "int8_tops": self.peak.int8_tops,
                "read_gbs": self.peak.read_gbs,
                "barrier_ns": self.peak.barrier_ns,
            },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peak {
            int8_tops,
            read_gbs,
            barrier_ns,
        } = self.peak;
        writeln!(formatter, "{}", self.title())?;
        writeln!(
            formatter,
            "the machine: {int8_tops:.2} TOPS of int8, {read_gbs:.1} GB/s read, {barrier_ns:.0} ns a barrier\n"
        )?;
        writeln!(
            formatter,
            "{:<26} {:>9}  {:>9} .. {:<9}",
            "tokens a second", "median", "least", "most"
        )?;
        for (point, [median, least, most]) in self.summaries() {
            let name = point.to_string();
            writeln!(
                formatter,
                "{name:<26} {median:>9.1}  {least:>9.1} .. {most:<9.1}"
            )?;
        }
        Ok(())
    }
}
