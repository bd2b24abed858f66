//! The library: functions that a program calls without defining them.

use lmrun_lang::ast::{Expr, ExprKind, Name, Opt, Span, Type, TypeKind};
use serde_json::Value;

use crate::envelope::{ErrorKind, GenRecord};
use crate::machine::{Machine, Outcome};
use crate::operators;
use crate::value::{self, kind};

type Answer = Result<Value, String>;

/// The longest list that `range` makes.
const MAX_RANGE: i64 = 1_000_000;

impl Machine {
    /// Calls a library function.
    pub(crate) async fn call_library(
        &mut self,
        callee: &Name,
        args: &[Expr],
        named: &[Opt],
        span: Span,
    ) -> Outcome<Value> {
        let name = callee.text.as_str();
        match name {
            "format" => return self.format(args, span),
            "scores" | "mass" | "logprob" => return self.ask_record(name, args, span),
            _ => {}
        }
        if let Some(option) = named.first() {
            let message = format!("`{name}` takes its arguments by position");
            return Err(self.fault(ErrorKind::Check, option.name.span, message));
        }
        let given = self.arguments(args, &[]).await?;
        let answer = apply(name, &given.args).map_err(|message| self.no_value(span, message))?;
        self.admit(span, answer)
    }

    /// `format(T)`: a type's description, for a prompt.
    fn format(&self, args: &[Expr], span: Span) -> Outcome<Value> {
        let [
            Expr {
                kind: ExprKind::Name(name),
                span: place,
            },
        ] = args
        else {
            return Err(self.fault(ErrorKind::Check, span, "`format` takes the name of a type"));
        };
        let program = &self.shared.program;
        let name = Name {
            text: name.clone(),
            span: *place,
        };
        let ty = Type {
            kind: TypeKind::Named(name, None),
            span: *place,
        };
        Ok(Value::String(program.describe(&ty)))
    }

    /// What is known of a generation besides its value.
    fn ask_record(&self, what: &str, args: &[Expr], span: Span) -> Outcome<Value> {
        let [
            Expr {
                kind: ExprKind::Name(name),
                span: place,
            },
        ] = args
        else {
            let message = format!("`{what}` takes the name of a generation");
            return Err(self.fault(ErrorKind::Check, span, message));
        };
        let record = self
            .scope
            .find(name)
            .and_then(|binding| binding.record.as_deref());
        let Some(record) = record else {
            let message = format!("`{name}` is not a generation: `{what}` has nothing to tell");
            return Err(self.no_value(*place, message));
        };
        tell(what, record).ok_or_else(|| {
            let message = format!("`{name}` is not a choice: `{what}` has nothing to tell");
            self.no_value(*place, message)
        })
    }
}

fn tell(what: &str, record: &GenRecord) -> Option<Value> {
    match what {
        "scores" => record.scores.clone().map(Value::Object),
        "mass" => record.mass.map(Value::from),
        _ => Some(Value::from(record.logprob)),
    }
}

/// A function of its arguments alone.
fn apply(name: &str, args: &[Value]) -> Answer {
    match (name, args) {
        ("len", [of]) => len(of),
        ("join", [Value::Array(items)]) => Ok(join(items, "")),
        ("join", [Value::Array(items), Value::String(between)]) => Ok(join(items, between)),
        ("split", [Value::String(text), Value::String(at)]) => split(text, at),
        ("trim", [Value::String(text)]) => Ok(text.trim().into()),
        ("upper", [Value::String(text)]) => Ok(text.to_uppercase().into()),
        ("lower", [Value::String(text)]) => Ok(text.to_lowercase().into()),
        ("replace", [Value::String(text), Value::String(old), Value::String(new)]) => {
            replace(text, old, new)
        }
        ("indent", [Value::String(text), by]) => indent(text, by),
        ("string", [of]) => Ok(value::text(of).into()),
        ("int", [of]) => int(of),
        ("float", [of]) => float(of),
        ("json", [Value::String(text)]) => {
            let parsed = serde_json::from_str(text);
            parsed.map_err(|error| format!("{} is not JSON: {error}", value::brief_text(text)))
        }
        ("range", [Value::Number(_)]) => range(0, integer(&args[0])?),
        ("range", [from, to]) => range(integer(from)?, integer(to)?),
        ("keys", [Value::Object(map)]) => Ok(map.keys().cloned().collect()),
        ("values", [Value::Object(map)]) => Ok(map.values().cloned().collect()),
        ("sum", [Value::Array(items)]) => items
            .iter()
            .try_fold(Value::from(0), |sum, item| operators::add(&sum, item)),
        ("min", [Value::Array(items)]) => extreme(name, items, |order| order.is_lt()),
        ("max", [Value::Array(items)]) => extreme(name, items, |order| order.is_gt()),
        ("mode", [Value::Array(items)]) => mode(items),
        ("top", [Value::Object(map)]) => top(map),
        ("abs", [Value::Number(_)]) => match operators::compare(&args[0], &Value::from(0))? {
            std::cmp::Ordering::Less => operators::negate(&args[0]),
            _ => Ok(args[0].clone()),
        },
        ("round", [Value::Number(number)]) => whole(operators::real_of(number).round()),
        _ => Err(refused(name, args)),
    }
}

fn refused(name: &str, args: &[Value]) -> String {
    let known = lmrun_lang::LIBRARY
        .iter()
        .find(|signature| signature.name == name);
    let given: Vec<&str> = args.iter().map(kind).collect();
    let given = if given.is_empty() {
        "nothing".to_owned()
    } else {
        given.join(", ")
    };
    match known {
        None => format!("there is no function `{name}`"),
        Some(signature) => {
            let params: Vec<String> = signature
                .params
                .iter()
                .map(|(name, ty)| format!("{name}: {ty}"))
                .collect();
            format!("`{name}` takes ({}), given {given}", params.join(", "))
        }
    }
}

fn len(of: &Value) -> Answer {
    match of {
        Value::String(text) => Ok(text.chars().count().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        other => Err(format!("{} has no length", kind(other))),
    }
}

fn join(items: &[Value], between: &str) -> Value {
    items
        .iter()
        .map(value::text)
        .collect::<Vec<_>>()
        .join(between)
        .into()
}

fn split(text: &str, at: &str) -> Answer {
    if at.is_empty() {
        return Err("`split` needs a separator that is not empty".into());
    }
    Ok(text.split(at).map(Value::from).collect())
}

fn replace(text: &str, old: &str, new: &str) -> Answer {
    if old.is_empty() {
        return Err("`replace` needs a text to look for".into());
    }
    Ok(text.replace(old, new).into())
}

/// Puts spaces before every line but the first, which stands where the template put it.
fn indent(text: &str, by: &Value) -> Answer {
    const MAX_INDENT: i64 = 64;
    let by = integer(by)?;
    if !(0..=MAX_INDENT).contains(&by) {
        return Err(format!(
            "`indent` takes 0 to {MAX_INDENT} spaces, given {by}"
        ));
    }
    Ok(text
        .replace('\n', &format!("\n{}", " ".repeat(by as usize)))
        .into())
}

fn integer(of: &Value) -> Result<i64, String> {
    of.as_i64()
        .ok_or_else(|| format!("an int is needed here, this is {}", kind(of)))
}

/// A float without a fraction as an int.
fn whole(x: f64) -> Answer {
    // 2^63 itself is one more than the largest int, and the largest float below it is one.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) {
        return Ok(Value::from(x as i64));
    }
    Err(format!("{x} passes the range of an int, 64 bits"))
}

fn int(of: &Value) -> Answer {
    match of {
        Value::Number(number) if number.is_i64() => Ok(of.clone()),
        Value::Number(number) => whole(operators::real_of(number).trunc()),
        Value::String(text) => text
            .trim()
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| format!("{} is not an int", value::brief_text(text))),
        Value::Bool(flag) => Ok(Value::from(i64::from(*flag))),
        other => Err(format!("{} is not an int", kind(other))),
    }
}

fn float(of: &Value) -> Answer {
    let x = match of {
        Value::Number(number) => operators::real_of(number),
        Value::String(text) => text
            .trim()
            .parse::<f64>()
            .map_err(|_| format!("{} is not a float", value::brief_text(text)))?,
        other => return Err(format!("{} is not a float", kind(other))),
    };
    operators::finite(x, || value::brief(of))
}

fn range(from: i64, to: i64) -> Answer {
    let n = to.saturating_sub(from).max(0);
    if n > MAX_RANGE {
        return Err(format!(
            "`range` makes at most {MAX_RANGE} numbers, given {n}"
        ));
    }
    Ok((from..to).map(Value::from).collect())
}

/// The first of the items that no other goes before.
fn extreme(
    name: &str,
    items: &[Value],
    goes_before: impl Fn(std::cmp::Ordering) -> bool,
) -> Answer {
    let (first, rest) = items
        .split_first()
        .ok_or_else(|| format!("`{name}` of an empty list"))?;
    // A single item that has no order is refused like several.
    operators::compare(first, first)?;
    let mut best = first;
    for item in rest {
        if goes_before(operators::compare(item, best)?) {
            best = item;
        }
    }
    Ok(best.clone())
}

/// The most frequent item; of several, the first.
fn mode(items: &[Value]) -> Answer {
    const MAX_ITEMS: usize = 10_000;
    if items.len() > MAX_ITEMS {
        return Err(format!(
            "`mode` takes at most {MAX_ITEMS} items, given {}",
            items.len()
        ));
    }
    let mut counts: Vec<(&Value, usize)> = Vec::new();
    for item in items {
        match counts
            .iter_mut()
            .find(|(known, _)| value::equal(known, item))
        {
            Some((_, count)) => *count += 1,
            None => counts.push((item, 1)),
        }
    }
    let most = counts.iter().map(|&(_, count)| count).max();
    let first = counts.iter().find(|&&(_, count)| Some(count) == most);
    first
        .map(|&(item, _)| item.clone())
        .ok_or_else(|| "`mode` of an empty list".into())
}

/// The key with the largest number; of several, the first.
fn top(map: &serde_json::Map<String, Value>) -> Answer {
    let mut best: Option<(&String, &Value)> = None;
    for (key, item) in map {
        let larger = match best {
            None => operators::compare(item, item).map(|_| true)?,
            Some((_, best)) => operators::compare(item, best)?.is_gt(),
        };
        if larger {
            best = Some((key, item));
        }
    }
    best.map(|(key, _)| Value::from(key.as_str()))
        .ok_or_else(|| "`top` of an empty map".into())
}

#[cfg(test)]
mod tests;
