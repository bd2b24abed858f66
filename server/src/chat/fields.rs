//! Reading a JSON object field by field, with the path of whatever is wrong.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use serde_json::{Map, Value};

use crate::error::ApiError;

/// An object of the request and where it stands: empty for the body itself, else `messages[2]`.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(value: &'a Value, path: &'a str) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            _ if path.is_empty() => Err(wrong("body", "an object", value)),
            _ => Err(wrong(path, "an object", value)),
        }
    }

    /// The field's path.
    pub(crate) fn at(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, _)| name.as_str())
    }

    /// The field, unless it is missing or null, which clients send alike.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "a boolean", Value::as_bool)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.read(name, "a string", Value::as_str)
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<&'a Vec<Value>>, ApiError> {
        self.read(name, "an array", Value::as_array)
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.read(name, "an object", Value::as_object)
    }

    /// A string that must be there.
    pub(crate) fn required_text(&self, name: &str) -> Result<&'a str, ApiError> {
        self.text(name)?.ok_or_else(|| {
            let at = self.at(name);
            ApiError::invalid(at.clone(), format!("{at} is missing"))
        })
    }

    pub(crate) fn number(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ApiError> {
        self.ranged(name, "a number", Value::as_f64, range)
    }

    pub(crate) fn integer(
        &self,
        name: &str,
        range: impl RangeBounds<i64>,
    ) -> Result<Option<i64>, ApiError> {
        self.ranged(name, "an integer", Value::as_i64, range)
    }

    fn ranged<T: PartialOrd + Display>(
        &self,
        name: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
        range: impl RangeBounds<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.read(name, expected, convert)? else {
            return Ok(None);
        };
        if range.contains(&value) {
            return Ok(Some(value));
        }
        let at = self.at(name);
        let limits = match (range.start_bound(), range.end_bound()) {
            (Bound::Included(low), Bound::Included(high)) => format!("in {low}..={high}"),
            (Bound::Included(low), _) => format!("at least {low}"),
            _ => unreachable!("no field has a greatest value alone"),
        };
        let message = format!("{at} is {value}, it must be {limits}");
        Err(ApiError::invalid(at, message))
    }

    fn read<T>(
        &self,
        name: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        convert(value)
            .map(Some)
            .ok_or_else(|| wrong(&self.at(name), expected, value))
    }
}

/// The value at `path` is of the wrong kind.
pub(crate) fn wrong(path: &str, expected: &str, given: &Value) -> ApiError {
    let given = match given {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction or out of range",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    ApiError::invalid(path, format!("{path} must be {expected}, given {given}"))
}
