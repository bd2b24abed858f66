//! Numbers with their suffixes: `8k`, `2.5m`, `10s`, `250ms`, `2min`.

use crate::ast::{Literal, Number};

/// Reads a number as the grammar took it; the message says why it is none.
pub(super) fn parse(text: &str) -> Result<Literal, String> {
    let (mantissa, suffix) = split(text);
    let digits = mantissa.replace('_', "");
    let is_whole = !digits.contains(['.', 'e', 'E']);
    match suffix {
        "" if is_whole => whole(text, digits.parse::<i64>().ok()),
        "" => float(text, &digits).map(|value| Literal::Number(Number::Float(value))),
        "k" => scaled(text, &digits, is_whole, 1_000),
        "m" => scaled(text, &digits, is_whole, 1_000_000),
        "ms" => duration(text, &digits, 1.0),
        "s" => duration(text, &digits, 1_000.0),
        "min" => duration(text, &digits, 60_000.0),
        _ => Err(format!(
            "`{suffix}` is no number's suffix; there are k, m, ms, s and min"
        )),
    }
}

/// The number proper and its suffix.
fn split(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes
            .get(at)
            .is_some_and(|b| b.is_ascii_digit() || *b == b'_')
        {
            at += 1;
        }
        at
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    text.split_at(end)
}

fn whole(text: &str, value: Option<i64>) -> Result<Literal, String> {
    value
        .map(|value| Literal::Number(Number::Int(value)))
        .ok_or_else(|| {
            format!(
                "`{text}` is larger than the largest whole number, {}",
                i64::MAX
            )
        })
}

fn float(text: &str, digits: &str) -> Result<f64, String> {
    digits
        .parse::<f64>()
        .ok()
        .filter(|value| value.is_finite())
        .ok_or_else(|| format!("`{text}` is no finite number"))
}

fn scaled(text: &str, digits: &str, is_whole: bool, factor: i64) -> Result<Literal, String> {
    if is_whole {
        let value = digits
            .parse::<i64>()
            .ok()
            .and_then(|value| value.checked_mul(factor));
        return whole(text, value);
    }
    let value = float(text, digits)? * factor as f64;
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return whole(text, Some(value as i64));
    }
    Ok(Literal::Number(Number::Float(value)))
}

fn duration(text: &str, digits: &str, unit: f64) -> Result<Literal, String> {
    let milliseconds = float(text, digits)? * unit;
    if milliseconds.fract() != 0.0 || milliseconds > 9e15 {
        return Err(format!("`{text}` is no whole number of milliseconds"));
    }
    Ok(Literal::Duration(milliseconds as u64))
}
