//! JSON values: equality as JSON Schema has it, and the forms that only they satisfy.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use foldhash::{HashSet, HashSetExt};
use serde_json::{Number, Value};

use crate::json::decimal::OnGrid;
use crate::json::form::{Bounds, FALSE, Form, FormId, Forms, Members, types};

/// Integers up to this magnitude are exact in a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The value with numbers in one form each, so that equal values are identical: `1.0` is `1`.
/// Members are sorted.
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
                Value::Number(Number::from(float as i64))
            }
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            let each = sorted
                .into_iter()
                .map(|(name, v)| (name.clone(), canonical(v)));
            Value::Object(each.collect())
        }
        _ => value.clone(),
    }
}

/// A hash in which equal values agree.
pub(crate) fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => value.hash(&mut hasher),
        _ => canonical(value).hash(&mut hasher),
    }
    hasher.finish()
}

/// Different values, each in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Values {
    /// Each with its hash.
    list: Vec<(Value, u64)>,
    /// Of the values, ascending. Values with equal hashes count as equal.
    hashes: Vec<u64>,
    /// Those of the values, as bits.
    types: u8,
}

impl Hash for Values {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hashes.hash(state);
    }
}

impl Values {
    pub(crate) fn new(values: impl Iterator<Item = Value>) -> Self {
        let mut seen = HashSet::new();
        let each = values.map(|value| {
            let hash = hash(&value);
            (value, hash)
        });
        let list: Vec<(Value, u64)> = each.filter(|&(_, hash)| seen.insert(hash)).collect();
        let mut hashes: Vec<u64> = seen.into_iter().collect();
        hashes.sort_unstable();
        Self {
            types: list
                .iter()
                .fold(0, |types, (value, _)| types | type_of(value)),
            list,
            hashes,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Value> + Clone {
        self.list.iter().map(|(value, _)| value)
    }

    /// The values, each with its hash.
    pub(crate) fn with_hashes(&self) -> &[(Value, u64)] {
        &self.list
    }

    pub(crate) fn contains(&self, value: &Value) -> bool {
        self.contains_hash(hash(value))
    }

    /// Whether a value with this hash is among them.
    pub(crate) fn contains_hash(&self, hash: u64) -> bool {
        self.hashes.binary_search(&hash).is_ok()
    }

    /// The types of the values, as bits.
    pub(crate) fn types(&self) -> u8 {
        self.types
    }
}

/// The values of types that have few.
pub(crate) static CONSTANTS: LazyLock<Values> = LazyLock::new(|| {
    let each = [Value::Null, Value::from(true), Value::from(false)];
    Values::new(each.into_iter())
});

/// The type of a value as a bit.
pub(crate) fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => types::NULL,
        Value::Bool(_) => types::BOOLEAN,
        Value::Object(_) => types::OBJECT,
        Value::Array(_) => types::ARRAY,
        Value::String(_) => types::STRING,
        Value::Number(number) => match number.as_f64() {
            Some(value) if value.fract() == 0.0 => types::INTEGER,
            _ => types::FRACTION,
        },
    }
}

/// What exactly these values satisfy. Arrays and objects are taken apart, so that they may be
/// spelled in any way that their parts may; so are numbers with `any_number`.
pub(crate) fn exactly(forms: &mut Forms, values: &[Value], any_number: bool) -> FormId {
    let mut scalars: Vec<Value> = Vec::new();
    let mut any = Vec::new();
    for value in values {
        match value {
            Value::Array(_) | Value::Object(_) => {
                let parts = one(forms, value, any_number);
                let only = Values::new(std::iter::once(canonical(value)));
                let only = forms.add(Form::Only(Arc::new(only)));
                any.push(forms.and([parts, only]));
            }
            Value::Number(number) if any_number && OnGrid::new(number).exact().is_some() => {
                any.push(one(forms, value, any_number));
            }
            scalar => scalars.push(canonical(scalar)),
        }
    }
    if !scalars.is_empty() {
        any.push(forms.add(Form::Values {
            values: Arc::new(Values::new(scalars.into_iter())),
            negated: false,
        }));
    }
    forms.or(any)
}

fn one(forms: &mut Forms, value: &Value, any_number: bool) -> FormId {
    let each: Vec<FormId> = match value {
        Value::Number(number) => {
            let exact = OnGrid::new(number).exact();
            let kind = forms.types(types::NUMBER);
            let point = forms.add(Form::Range {
                lowest: exact,
                highest: exact,
            });
            vec![kind, point]
        }
        Value::Array(items) => {
            let n = items.len() as u32;
            let prefix = items
                .iter()
                .map(|item| exactly(forms, std::slice::from_ref(item), any_number))
                .collect();
            let bounds = Bounds {
                min: n,
                max: Some(n),
            };
            vec![
                forms.types(types::ARRAY),
                forms.add(Form::NItems(bounds)),
                forms.add(Form::Items { prefix, rest: None }),
            ]
        }
        Value::Object(members) => {
            let mut names = Vec::new();
            for (name, member) in members {
                let form = exactly(forms, std::slice::from_ref(member), any_number);
                names.push((Arc::from(name.as_str()), form));
            }
            let required: Vec<Arc<str>> = names.iter().map(|(name, _)| Arc::clone(name)).collect();
            let kind = forms.types(types::OBJECT);
            let members = forms.add(Form::Members(Members {
                names,
                patterns: Vec::new(),
                rest: Some(FALSE),
            }));
            if required.is_empty() {
                vec![kind, members]
            } else {
                vec![kind, members, forms.add(Form::Required(required))]
            }
        }
        _ => unreachable!("scalars other than numbers are kept as values"),
    };
    forms.and(each)
}
