//! What a schema says, as formulas over assertions that each concern one kind of value.
//!
//! An assertion about another kind of value than the one at hand holds. So the negation of an
//! assertion says of which kind the value must be: `not: {minLength: 3}` is "a string of at most
//! two characters". Negation is pushed inward to the assertions when it is asked for; what has no
//! opposite among them becomes a [`Form::Guard`], which is only looked at when the value is whole.
//!
//! Source: JSON Schema draft 2020-12, Core, section 10; Validation, section 6.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use smallvec::SmallVec;

use crate::json::interner::Interner;
use crate::json::patterns::PatternId;
use crate::json::values::Values;

/// Index of a schema that was reached.
pub(crate) type SchemaId = u32;
/// Index of a form. Equal forms have equal indices.
pub(crate) type FormId = u32;

/// Holds of every value.
pub(crate) const TRUE: FormId = 0;
/// Holds of none.
pub(crate) const FALSE: FormId = 1;

/// JSON types as bits. `number` is `INTEGER | FRACTION`.
pub(crate) mod types {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const BOOLEAN: u8 = 2;
    pub(crate) const OBJECT: u8 = 4;
    pub(crate) const ARRAY: u8 = 8;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const INTEGER: u8 = 32;
    pub(crate) const FRACTION: u8 = 64;
    pub(crate) const NUMBER: u8 = INTEGER | FRACTION;
    pub(crate) const ALL: u8 = 127;
}

/// Inclusive bounds of a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    pub(crate) min: u32,
    pub(crate) max: Option<u32>,
}

impl Bounds {
    /// What both allow.
    pub(crate) fn and(self, other: Self) -> Self {
        let max = match (self.max, other.max) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (max, None) | (None, max) => max,
        };
        Self {
            min: self.min.max(other.min),
            max,
        }
    }

    pub(crate) fn contains(self, n: usize) -> bool {
        n >= self.min as usize && self.max.is_none_or(|max| n <= max as usize)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.max.is_some_and(|max| max < self.min)
    }

    /// The counts outside of it.
    fn outside(self) -> Vec<Self> {
        let below = (self.min > 0).then(|| Self {
            min: 0,
            max: Some(self.min - 1),
        });
        let above = self.max.filter(|&max| max < u32::MAX).map(|max| Self {
            min: max + 1,
            max: None,
        });
        below.into_iter().chain(above).collect()
    }
}

/// A formula. Assertions first, then what joins them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    True,
    False,
    /// Of one of these types.
    Types(u8),
    /// One, or none, of these scalars.
    Values {
        values: Arc<Values>,
        negated: bool,
    },
    /// This array or object, as the assertions beside it say: so they can be judged by it at once.
    Only(Arc<Values>),
    /// Characters of a string.
    Length(Bounds),
    Text {
        pattern: PatternId,
        negated: bool,
    },
    /// A format, whose language may be a part of what the standard allows.
    Format(PatternId),
    /// A number on the grid, bounds included.
    Range {
        lowest: Option<i128>,
        highest: Option<i128>,
    },
    /// A number without a point: an integer as draft 4 has it.
    Unpointed,
    /// A string that is itself a regex.
    Regex,
    /// A multiple, or none, of a number on the grid.
    Multiple {
        of: i128,
        negated: bool,
    },
    /// What the values of members must satisfy, by their names.
    Members(Members),
    /// Some member is not as these say.
    Exception(Members),
    /// What every name must satisfy.
    Names(FormId),
    Required(Vec<Arc<str>>),
    /// With `name` these must be there too.
    Dependent {
        name: Arc<str>,
        needs: Vec<Arc<str>>,
    },
    NMembers(Bounds),
    Items {
        prefix: Vec<FormId>,
        rest: Option<FormId>,
    },
    NItems(Bounds),
    Contains {
        form: FormId,
        bounds: Bounds,
    },
    Unique,
    /// Looked at when the value is whole.
    Guard {
        form: FormId,
        negated: bool,
    },
    And(Vec<FormId>),
    /// One or more. What was evaluated is told by the chosen one alone.
    Or(Vec<FormId>),
    /// `anyOf`: as `Or`, but several may tell what they evaluated.
    Any(Vec<FormId>),
    /// Exactly one.
    One(Vec<FormId>),
    /// None, or more than one.
    NotOne(Vec<FormId>),
    /// Tells nothing of what was evaluated.
    Mute(FormId),
    Schema(SchemaId),
    NotSchema(SchemaId),
}

impl Form {
    /// The scalars of which a value is one.
    pub(crate) fn listed(&self) -> Option<Arc<Values>> {
        match self {
            Self::Values {
                values,
                negated: false,
            } => Some(Arc::clone(values)),
            _ => None,
        }
    }
}

/// What `properties`, `patternProperties` and `additionalProperties` of one schema say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Members {
    pub(crate) names: Vec<(Arc<str>, FormId)>,
    pub(crate) patterns: Vec<(PatternId, FormId)>,
    /// Of names that are neither.
    pub(crate) rest: Option<FormId>,
}

/// All forms of a schema.
#[derive(Debug)]
pub(crate) struct Forms {
    forms: Interner<Form>,
    negations: HashMap<FormId, FormId>,
}

impl Forms {
    pub(crate) fn new() -> Self {
        let mut forms = Self {
            forms: Interner::default(),
            negations: HashMap::new(),
        };
        forms.add(Form::True);
        forms.add(Form::False);
        forms
    }

    pub(crate) fn get(&self, id: FormId) -> &Form {
        self.forms.get(id)
    }

    /// The same, for as long as it is needed.
    pub(crate) fn shared(&self, id: FormId) -> Arc<Form> {
        Arc::clone(self.forms.get(id))
    }

    pub(crate) fn len(&self) -> usize {
        self.forms.len()
    }

    pub(crate) fn add(&mut self, form: Form) -> FormId {
        self.forms.add(form).0
    }

    pub(crate) fn and(&mut self, parts: impl IntoIterator<Item = FormId>) -> FormId {
        let mut all: SmallVec<[FormId; 16]> = SmallVec::new();
        let add = |all: &mut SmallVec<_>, part| {
            if !all.contains(&part) {
                all.push(part);
            }
        };
        for part in parts {
            match self.get(part) {
                Form::True => {}
                Form::False => return FALSE,
                Form::And(inner) => inner.iter().for_each(|&part| add(&mut all, part)),
                _ => add(&mut all, part),
            }
        }
        match all.as_slice() {
            [] => TRUE,
            [single] => *single,
            _ => self.add(Form::And(all.into_vec())),
        }
    }

    pub(crate) fn or(&mut self, parts: impl IntoIterator<Item = FormId>) -> FormId {
        let mut any: Vec<FormId> = Vec::new();
        for part in parts {
            match self.get(part) {
                Form::False => {}
                Form::True => return TRUE,
                Form::Or(inner) => any.extend(inner.clone()),
                _ => any.push(part),
            }
        }
        any.sort_unstable();
        any.dedup();
        match any.as_slice() {
            [] => FALSE,
            [single] => *single,
            _ => self.add(Form::Or(any)),
        }
    }

    pub(crate) fn types(&mut self, types: u8) -> FormId {
        match types {
            types::ALL => TRUE,
            0 => FALSE,
            _ => self.add(Form::Types(types)),
        }
    }

    /// `form`, of a value that is of one of `types`.
    fn of(&mut self, types: u8, form: Form) -> FormId {
        let kind = self.types(types);
        let form = self.add(form);
        self.and([kind, form])
    }

    /// No member of this name.
    pub(crate) fn absent(&mut self, name: &Arc<str>) -> FormId {
        self.member(name, FALSE)
    }

    fn member(&mut self, name: &Arc<str>, form: FormId) -> FormId {
        self.add(Form::Members(Members {
            names: vec![(Arc::clone(name), form)],
            patterns: Vec::new(),
            rest: None,
        }))
    }

    /// What holds exactly where `id` does not.
    pub(crate) fn not(&mut self, id: FormId) -> FormId {
        if let Some(&known) = self.negations.get(&id) {
            return known;
        }
        let negation = self.negate(id);
        self.negations.insert(id, negation);
        negation
    }

    fn negate(&mut self, id: FormId) -> FormId {
        match self.get(id).clone() {
            Form::True => FALSE,
            Form::False => TRUE,
            Form::Types(types) => self.types(!types & types::ALL),
            Form::Values { values, negated } => self.add(Form::Values {
                values,
                negated: !negated,
            }),
            Form::Length(bounds) => self.outside(types::STRING, bounds, Form::Length),
            Form::Text { pattern, negated } => {
                let negated = !negated;
                self.of(types::STRING, Form::Text { pattern, negated })
            }
            // The complement of a part of a language is too much.
            Form::Format(_) | Form::Unpointed | Form::Regex => FALSE,
            // What it is not, the assertions beside it say.
            Form::Only(_) => FALSE,
            Form::Range { lowest, highest } => self.not_in_range(lowest, highest),
            Form::Multiple { of, negated } => {
                let negated = !negated;
                self.of(types::NUMBER, Form::Multiple { of, negated })
            }
            Form::Members(members) => self.not_members(&members),
            Form::Exception(members) => self.add(Form::Members(members)),
            Form::Required(names) => {
                let kind = self.types(types::OBJECT);
                let absent: Vec<FormId> = names.iter().map(|name| self.absent(name)).collect();
                let any = self.or(absent);
                self.and([kind, any])
            }
            Form::Dependent { name, needs } => {
                let there = self.of(types::OBJECT, Form::Required(vec![name]));
                let absent: Vec<FormId> = needs.iter().map(|name| self.absent(name)).collect();
                let any = self.or(absent);
                self.and([there, any])
            }
            Form::NMembers(bounds) => self.outside(types::OBJECT, bounds, Form::NMembers),
            Form::Items { prefix, rest } => self.not_items(id, &prefix, rest),
            Form::NItems(bounds) => self.outside(types::ARRAY, bounds, Form::NItems),
            Form::Contains { form, bounds } => self.outside(types::ARRAY, bounds, |bounds| {
                Form::Contains { form, bounds }
            }),
            Form::Names(_) | Form::Unique => {
                let kind = match self.get(id) {
                    Form::Unique => types::ARRAY,
                    _ => types::OBJECT,
                };
                self.of(
                    kind,
                    Form::Guard {
                        form: id,
                        negated: true,
                    },
                )
            }
            Form::Guard { form, negated } => self.add(Form::Guard {
                form,
                negated: !negated,
            }),
            joined => self.negate_joined(joined),
        }
    }

    fn negate_joined(&mut self, form: Form) -> FormId {
        match form {
            Form::And(parts) => {
                let each: Vec<FormId> = parts.iter().map(|&part| self.not(part)).collect();
                self.or(each)
            }
            Form::Or(parts) | Form::Any(parts) => {
                let each: Vec<FormId> = parts.iter().map(|&part| self.not(part)).collect();
                self.and(each)
            }
            Form::One(parts) => self.add(Form::NotOne(parts)),
            Form::NotOne(parts) => self.add(Form::One(parts)),
            Form::Mute(form) => self.not(form),
            Form::Schema(schema) => self.add(Form::NotSchema(schema)),
            Form::NotSchema(schema) => self.add(Form::Schema(schema)),
            _ => unreachable!("assertions are negated one by one"),
        }
    }

    fn outside(&mut self, kind: u8, bounds: Bounds, form: impl Fn(Bounds) -> Form) -> FormId {
        let kind = self.types(kind);
        let outside = bounds.outside();
        let each: Vec<FormId> = outside.into_iter().map(|b| self.add(form(b))).collect();
        let any = self.or(each);
        self.and([kind, any])
    }

    fn not_in_range(&mut self, lowest: Option<i128>, highest: Option<i128>) -> FormId {
        let below = lowest.map(|lowest| Form::Range {
            lowest: None,
            highest: Some(lowest - 1),
        });
        let above = highest.map(|highest| Form::Range {
            lowest: Some(highest + 1),
            highest: None,
        });
        let sides = below.into_iter().chain(above);
        let each: Vec<FormId> = sides.map(|side| self.of(types::NUMBER, side)).collect();
        self.or(each)
    }

    fn not_members(&mut self, members: &Members) -> FormId {
        let mut any = Vec::new();
        for (name, form) in &members.names {
            let not = self.not(*form);
            if not == FALSE {
                continue;
            }
            let there = self.of(types::OBJECT, Form::Required(vec![Arc::clone(name)]));
            let other = self.member(name, not);
            any.push(self.and([there, other]));
        }
        let open = |form: &FormId| *form != TRUE;
        if members.patterns.iter().any(|(_, form)| open(form)) || members.rest.iter().any(open) {
            // What is said of single names has its own alternatives.
            let names = members
                .names
                .iter()
                .map(|(name, _)| (Arc::clone(name), TRUE));
            let exception = Form::Exception(Members {
                names: names.collect(),
                ..members.clone()
            });
            any.push(self.of(types::OBJECT, exception));
        }
        self.or(any)
    }

    fn not_items(&mut self, id: FormId, prefix: &[FormId], rest: Option<FormId>) -> FormId {
        let mut any = Vec::new();
        for (idx, &form) in prefix.iter().enumerate() {
            let not = self.not(form);
            let long = self.of(
                types::ARRAY,
                Form::NItems(Bounds {
                    min: idx as u32 + 1,
                    max: None,
                }),
            );
            let mut before = vec![TRUE; idx];
            before.push(not);
            let items = self.add(Form::Items {
                prefix: before,
                rest: None,
            });
            any.push(self.and([long, items]));
        }
        match rest.map(|rest| (rest, prefix.is_empty())) {
            None | Some((TRUE, _)) => {}
            Some((rest, true)) => {
                let form = self.not(rest);
                let bounds = Bounds { min: 1, max: None };
                any.push(self.of(types::ARRAY, Form::Contains { form, bounds }));
            }
            Some((FALSE, false)) => {
                let min = prefix.len() as u32 + 1;
                any.push(self.of(types::ARRAY, Form::NItems(Bounds { min, max: None })));
            }
            Some((_, false)) => {
                any.push(self.of(
                    types::ARRAY,
                    Form::Guard {
                        form: id,
                        negated: true,
                    },
                ));
            }
        }
        self.or(any)
    }
}
