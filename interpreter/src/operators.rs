//! Operators on values. Whole numbers stay whole and never wrap; messages name the operands' kinds.

use std::cmp::Ordering;

use lmrun_lang::ast::BinaryOp;
use serde_json::{Number, Value};

use crate::value::{self, kind};

type Answer = Result<Value, String>;

/// An infix operator whose both sides are evaluated.
pub(crate) fn binary(op: BinaryOp, left: &Value, right: &Value) -> Answer {
    match op {
        BinaryOp::Add => add(left, right),
        BinaryOp::Subtract => arithmetic("-", left, right, i64::checked_sub, |a, b| a - b),
        BinaryOp::Multiply => arithmetic("*", left, right, i64::checked_mul, |a, b| a * b),
        BinaryOp::Divide => divide(left, right),
        BinaryOp::Remainder => remainder(left, right),
        BinaryOp::Equal => Ok(Value::Bool(value::equal(left, right))),
        BinaryOp::NotEqual => Ok(Value::Bool(!value::equal(left, right))),
        BinaryOp::Less => compare(left, right).map(|order| Value::Bool(order.is_lt())),
        BinaryOp::LessEqual => compare(left, right).map(|order| Value::Bool(order.is_le())),
        BinaryOp::Greater => compare(left, right).map(|order| Value::Bool(order.is_gt())),
        BinaryOp::GreaterEqual => compare(left, right).map(|order| Value::Bool(order.is_ge())),
        BinaryOp::In => contains(left, right),
        BinaryOp::Coalesce | BinaryOp::Or | BinaryOp::And | BinaryOp::Matches => {
            unreachable!("the evaluator decides these by their left side")
        }
    }
}

/// `a + b`: a sum, or strings or lists one after the other.
pub(crate) fn add(left: &Value, right: &Value) -> Answer {
    match (left, right) {
        (Value::String(a), Value::String(b)) => Ok(Value::String(format!("{a}{b}"))),
        (Value::Array(a), Value::Array(b)) => {
            Ok(Value::Array(a.iter().chain(b).cloned().collect()))
        }
        _ => arithmetic("+", left, right, i64::checked_add, |a, b| a + b),
    }
}

/// `-x`
pub(crate) fn negate(operand: &Value) -> Answer {
    match operand {
        Value::Number(_) => arithmetic("-", &Value::from(0), operand, i64::checked_sub, |a, b| {
            a - b
        }),
        other => Err(format!("`-` takes a number, this is {}", kind(other))),
    }
}

/// `!x`
pub(crate) fn not(operand: &Value) -> Answer {
    match operand {
        Value::Bool(flag) => Ok(Value::Bool(!flag)),
        other => Err(format!("`!` takes a bool, this is {}", kind(other))),
    }
}

/// `base[index]`: an item of a list (from the end where negative), a character of a string, a member of a map.
pub(crate) fn index(base: &Value, index: &Value) -> Answer {
    match (base, index) {
        (Value::Array(items), Value::Number(number)) => {
            Ok(items[position(number, items.len(), "list")?].clone())
        }
        (Value::String(text), Value::Number(number)) => {
            let at = position(number, text.chars().count(), "string")?;
            Ok(Value::String(text.chars().skip(at).take(1).collect()))
        }
        (Value::Object(map), Value::String(key)) => map
            .get(key)
            .cloned()
            .ok_or_else(|| format!("the map has no key {}", value::brief_text(key))),
        _ => Err(format!(
            "{} cannot be indexed with {}",
            kind(base),
            kind(index)
        )),
    }
}

fn position(number: &Number, len: usize, what: &str) -> Result<usize, String> {
    let given = number
        .as_i64()
        .ok_or_else(|| format!("an index must be an int, this is {number}"))?;
    let from_start = if given < 0 {
        given.checked_add_unsigned(len as u64)
    } else {
        Some(given)
    };
    from_start
        .and_then(|at| usize::try_from(at).ok())
        .filter(|&at| at < len)
        .ok_or_else(|| format!("index {given} is outside a {what} of {len}"))
}

fn arithmetic(
    sign: &str,
    left: &Value,
    right: &Value,
    whole: impl Fn(i64, i64) -> Option<i64>,
    real: impl Fn(f64, f64) -> f64,
) -> Answer {
    let (Value::Number(a), Value::Number(b)) = (left, right) else {
        return Err(format!(
            "`{sign}` does not apply to {} and {}",
            kind(left),
            kind(right)
        ));
    };
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => whole(a, b)
            .map(Value::from)
            .ok_or_else(|| format!("{a} {sign} {b} passes the range of an int, 64 bits")),
        _ => finite(real(real_of(a), real_of(b)), || format!("{a} {sign} {b}")),
    }
}

fn divide(left: &Value, right: &Value) -> Answer {
    let (Value::Number(a), Value::Number(b)) = (left, right) else {
        return Err(format!(
            "`/` does not apply to {} and {}",
            kind(left),
            kind(right)
        ));
    };
    if real_of(b) == 0.0 {
        return Err(format!("{a} / {b} divides by zero"));
    }
    finite(real_of(a) / real_of(b), || format!("{a} / {b}"))
}

fn remainder(left: &Value, right: &Value) -> Answer {
    if matches!(right, Value::Number(b) if real_of(b) == 0.0) {
        return Err("`%` divides by zero".into());
    }
    arithmetic("%", left, right, i64::checked_rem_euclid, f64::rem_euclid)
}

/// A number as a float; whole numbers beyond 2^53 lose their last digits.
pub(crate) fn real_of(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

/// A float, if it is a number that JSON can hold.
pub(crate) fn finite(x: f64, what: impl FnOnce() -> String) -> Answer {
    Number::from_f64(x)
        .map(Value::Number)
        .ok_or_else(|| format!("{} is not a finite number", what()))
}

/// The order of two numbers or two strings.
pub(crate) fn compare(left: &Value, right: &Value) -> Result<Ordering, String> {
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => real_of(a).partial_cmp(&real_of(b)),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.ok_or_else(|| format!("{} and {} have no order", kind(left), kind(right)))
}

fn contains(item: &Value, within: &Value) -> Answer {
    let found = match (item, within) {
        (item, Value::Array(items)) => items.iter().any(|other| value::equal(item, other)),
        (Value::String(key), Value::Object(map)) => map.contains_key(key),
        (Value::String(part), Value::String(text)) => text.contains(part.as_str()),
        _ => {
            return Err(format!(
                "`in` does not apply to {} and {}",
                kind(item),
                kind(within)
            ));
        }
    };
    Ok(Value::Bool(found))
}

#[cfg(test)]
mod tests;
