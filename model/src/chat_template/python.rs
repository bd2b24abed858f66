//! How Python prints: `str`, `repr`, `json.dumps` and `strftime`, where Jinja on Rust differs.
//!
//! Sources: the Python language reference; `json/encoder.py`; for the calendar, Howard Hinnant's
//! `civil_from_days`.

use std::fmt::Write;

use minijinja::value::{Value as Jinja, ValueKind};
use serde_json::Value;

/// `str(value)`; nothing for an undefined one.
pub(super) fn print(value: &Jinja) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned),
        _ => repr(value),
    }
}

/// `repr(value)`.
fn repr(value: &Jinja) -> String {
    match value.kind() {
        ValueKind::None => "None".into(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<String> = value
                .try_iter()
                .into_iter()
                .flatten()
                .map(|v| repr(&v))
                .collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let items: Vec<String> = keys
                .map(|key| {
                    let item = value.get_item(&key).unwrap_or_default();
                    format!("{}: {}", repr(&key), repr(&item))
                })
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        _ => value.to_string(),
    }
}

/// A string in Python's quotes: single ones, unless only they are inside.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => {
                let code = u32::from(c);
                // Control characters lie below U+0100; writing to a string cannot fail.
                write!(out, "\\x{code:02x}").expect("a string takes all");
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// A float as Python prints it: the shortest digits that read back, an exponent from 1e16 on and
/// below 1e-4.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').expect("the exponent was asked for");
        let exponent: i32 = exponent.parse().expect("an exponent is a whole number");
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = format!("{value}");
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// The options of `json.dumps`.
#[derive(Debug, Default)]
pub(super) struct JsonStyle {
    pub(super) indent: Option<String>,
    pub(super) separators: Option<[String; 2]>,
    pub(super) escapes_non_ascii: bool,
    pub(super) sorts_keys: bool,
}

/// `json.dumps(value)`.
pub(super) fn json(value: &Value, style: &JsonStyle) -> String {
    let mut writer = JsonWriter {
        style,
        out: String::new(),
        depth: 0,
    };
    writer.value(value);
    writer.out
}

struct JsonWriter<'a> {
    style: &'a JsonStyle,
    out: String,
    depth: usize,
}

impl JsonWriter<'_> {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => match number.as_f64() {
                Some(value) if number.is_f64() => self.out.push_str(&float(value)),
                _ => self.out.push_str(&number.to_string()),
            },
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.container(['[', ']'], items.iter(), |writer, item| writer.value(item));
            }
            Value::Object(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                if self.style.sorts_keys {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.container(['{', '}'], entries.into_iter(), |writer, (key, value)| {
                    writer.string(key);
                    let separator = writer.style.separators.as_ref().map_or(": ", |[_, s]| s);
                    writer.out.push_str(separator);
                    writer.value(value);
                });
            }
        }
    }

    fn container<T>(
        &mut self,
        [open, close]: [char; 2],
        items: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.out.push(open);
        let is_empty = items.len() == 0;
        let default = if self.style.indent.is_some() {
            ","
        } else {
            ", "
        };
        let separator = self.style.separators.as_ref().map_or(default, |[s, _]| s);
        self.depth += 1;
        for (idx, item) in items.enumerate() {
            if idx > 0 {
                self.out.push_str(separator);
            }
            self.break_line();
            each(self, item);
        }
        self.depth -= 1;
        if !is_empty {
            self.break_line();
        }
        self.out.push(close);
    }

    fn break_line(&mut self) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            self.out
                .extend(std::iter::repeat_n(indent.as_str(), self.depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.style.escapes_non_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}").expect("a string takes all");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// `strftime` of a moment in UTC, `seconds` after 1970 began. Unknown directives are refused.
pub(super) fn strftime(format: &str, seconds: u64) -> Result<String, String> {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day_of_month) = civil(day);
    let (month_name, day_name) = (MONTHS[month - 1], DAYS[(day as usize + 4) % 7]);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let piece = match chars.next() {
            Some('Y') => format!("{year:04}"),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day_of_month:02}"),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('F') => format!("{year:04}-{month:02}-{day_of_month:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => return Err(format!("strftime_now: unknown directive %{other}")),
            None => return Err("strftime_now: the format ends with %".into()),
        };
        out.push_str(&piece);
    }
    Ok(out)
}

/// Year, month and day of month, the latter two from 1, of a day counted from 1970 on.
fn civil(day: u64) -> (u64, usize, u64) {
    // Eras of 400 years, and years within them, begin on 1 March, so that leap days come last.
    let day = day + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month as usize, day_of_month)
}
