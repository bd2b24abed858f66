//! The options of `gen` and of `model .. with (..)`: names, ranges, meaning.

use lmrun_engine::Sampling;
use serde_json::Value;

use crate::value;

/// The most stop strings of one generation.
const MAX_STOPS: usize = 16;
/// The most alternatives told with each token.
const MAX_LOGPROBS: u64 = 20;

/// How to generate, as the program says.
#[derive(Debug, Clone, Default)]
pub(crate) struct GenOptions {
    pub(crate) max_tokens: Option<usize>,
    pub(crate) min_tokens: usize,
    /// Greedy unless the program says otherwise. Its seed is set for each generation.
    pub(crate) sampling: Sampling,
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Vec<String>,
    pub(crate) n_top_logprobs: usize,
    pub(crate) heal: Heal,
}

/// Whether a generation may take back the end of the text before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Heal {
    #[default]
    Auto,
    Off,
}

impl Heal {
    /// From the option's value.
    ///
    /// # Errors
    /// What the option takes.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("auto") => Ok(Self::Auto),
            Some("off") => Ok(Self::Off),
            _ => Err(format!(
                "`heal` is \"auto\" or \"off\", given {}",
                value::brief(value)
            )),
        }
    }
}

impl GenOptions {
    /// Sets an option.
    ///
    /// # Errors
    /// An unknown name, or a value outside the option's range, with both.
    pub(crate) fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let sampling = &mut self.sampling;
        match name {
            "max_tokens" => self.max_tokens = Some(whole(name, value, 1, 1 << 24)? as usize),
            "min_tokens" => self.min_tokens = whole(name, value, 0, 1 << 24)? as usize,
            "temperature" => sampling.temperature = real(name, value, 0.0, 100.0)?,
            "top_p" => sampling.top_p = real(name, value, 0.0, 1.0)?,
            "top_k" => sampling.top_k = whole(name, value, 0, 1 << 24)? as usize,
            "min_p" => sampling.min_p = real(name, value, 0.0, 1.0)?,
            "repetition_penalty" => sampling.repetition_penalty = real(name, value, 0.01, 100.0)?,
            "presence_penalty" => sampling.presence_penalty = real(name, value, -100.0, 100.0)?,
            "frequency_penalty" => sampling.frequency_penalty = real(name, value, -100.0, 100.0)?,
            "seed" => self.seed = Some(whole(name, value, 0, i64::MAX as u64)?),
            "logprobs" => {
                self.n_top_logprobs = match value {
                    Value::Bool(wanted) => usize::from(*wanted),
                    other => whole(name, other, 0, MAX_LOGPROBS)? as usize,
                };
            }
            "stop" => self.stop = stops(value)?,
            "heal" => self.heal = Heal::read(value)?,
            _ => return Err(format!("`gen` has no option `{name}`")),
        }
        Ok(())
    }
}

/// A whole number within its range.
pub(crate) fn whole(name: &str, value: &Value, low: u64, high: u64) -> Result<u64, String> {
    value
        .as_u64()
        .filter(|n| (low..=high).contains(n))
        .ok_or_else(|| {
            format!(
                "`{name}` is a whole number from {low} to {high}, given {}",
                value::brief(value)
            )
        })
}

fn real(name: &str, value: &Value, low: f64, high: f64) -> Result<f32, String> {
    let x = value.as_f64().filter(|x| (low..=high).contains(x));
    x.map(|x| x as f32).ok_or_else(|| {
        format!(
            "`{name}` is a number from {low} to {high}, given {}",
            value::brief(value)
        )
    })
}

fn stops(value: &Value) -> Result<Vec<String>, String> {
    let given = match value {
        Value::String(stop) => vec![stop.clone()],
        Value::Array(stops) => stops
            .iter()
            .map(|stop| stop.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    if given.is_empty() || given.len() > MAX_STOPS || given.iter().any(String::is_empty) {
        return Err(format!(
            "`stop` is a text or a list of 1 to {MAX_STOPS}, none empty; given {}",
            value::brief(value)
        ));
    }
    Ok(given)
}

#[cfg(test)]
mod tests;
