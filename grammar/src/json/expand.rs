//! Forms resolved into alternatives: sets of assertions that must all hold.
//!
//! A schema that leads back to itself without an open value between admits nothing that way: the
//! language is the least one that satisfies the references. So `{"$ref": "#"}` is empty, and `A =
//! anyOf [A, string]` is `string`.
//!
//! Where the alternatives would be too many, a part of the formula becomes a guard, which is looked
//! at when the value is whole.

use std::sync::Arc;

use crate::json::draft::{MAX_NAME_LENGTH, string_tests};
use crate::json::form::{Bounds, FALSE, Form, FormId, Members, SchemaId, types};
use crate::json::judge::Judge;
use crate::json::overlap::{Beside, Known, Overlap};
use crate::json::patterns::Test;
use crate::json::plain::PlainForms;
use crate::json::schema::Schemas;
use crate::{GrammarError, Limits};
use foldhash::{HashMap, HashMapExt};
use smallvec::{SmallVec, smallvec};

/// Assertions that hold together; ascending. Mostly few.
pub(crate) type Conjunction = SmallVec<[FormId; 6]>;

/// References, `allOf` and `anyOf` within each other at one place.
const MAX_REFERENCES: usize = 256;
/// Alternatives of one place beyond which a part becomes a guard.
pub(super) const MANY: usize = 64;
/// Alternatives of a negation beyond which it becomes a guard.
const MANY_NEGATIVE: usize = 12;
/// Branches of a `oneOf` that are told apart pair by pair.
const MANY_BRANCHES: usize = 64;
/// Steps of one expansion for each alternative allowed; bounds repeated sub-expansions.
const STEPS_AN_ALTERNATIVE: usize = 64;

/// Expands the places of one schema.
#[derive(Debug)]
pub(crate) struct Expander {
    path: Vec<(SchemaId, bool)>,
    n_steps: usize,
    max: usize,
    /// Alternatives of schemas that no reference back was cut in.
    known: HashMap<(SchemaId, bool), Known>,
    /// References back that were cut so far.
    pub(super) n_cut: usize,
    pub(super) beside: Beside,
    plain: PlainForms,
}

impl Expander {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            path: Vec::new(),
            n_steps: 0,
            max: limits.alternatives,
            known: HashMap::new(),
            n_cut: 0,
            beside: Beside::default(),
            plain: PlainForms::default(),
        }
    }

    /// The alternatives at a place where all of `forms` hold.
    pub(crate) fn expand(
        &mut self,
        schemas: &mut Schemas<'_>,
        forms: &[FormId],
    ) -> Result<Vec<Conjunction>, GrammarError> {
        self.n_steps = 0;
        self.beside.truncate(0);
        self.all(schemas, forms)
    }

    fn all(
        &mut self,
        schemas: &mut Schemas<'_>,
        parts: &[FormId],
    ) -> Result<Vec<Conjunction>, GrammarError> {
        let n_beside = self.beside.add(schemas, parts)?;
        // Most parts are assertions, which are one alternative together.
        let mut assertions = Conjunction::new();
        let mut expanded = Vec::new();
        for &part in parts {
            match is_assertion(schemas.forms.get(part)) {
                true => assertions.push(part),
                false => expanded.push((part, self.one(schemas, part)?)),
            }
        }
        self.beside.truncate(n_beside);
        assertions.sort_unstable();
        assertions.dedup();
        self.n_steps += assertions.len();
        let simplified = self.simplified(schemas, assertions)?;
        let mut result: Vec<Conjunction> = simplified.into_iter().collect();
        // Fewest first, so that what they exclude is never multiplied.
        expanded.sort_by_key(|(_, alternatives)| alternatives.len());
        for (part, alternatives) in expanded {
            let guard = Form::Guard {
                form: part,
                negated: false,
            };
            result = self.both_or_guard(schemas, &result, &alternatives, guard)?;
        }
        Ok(result)
    }

    pub(super) fn one(
        &mut self,
        schemas: &mut Schemas<'_>,
        id: FormId,
    ) -> Result<Vec<Conjunction>, GrammarError> {
        self.n_steps += 1;
        if self.n_steps > self.max.saturating_mul(STEPS_AN_ALTERNATIVE) {
            return Err(self.limit(schemas, "alternatives", self.max));
        }
        match &*schemas.forms.shared(id) {
            Form::True => Ok(vec![Conjunction::new()]),
            Form::False => Ok(Vec::new()),
            Form::And(parts) => self.all(schemas, parts),
            Form::Or(parts) | Form::Any(parts) => {
                let mut union = Vec::new();
                for &part in parts {
                    union.extend(self.one(schemas, part)?);
                }
                Ok(distinct(union))
            }
            Form::Mute(form) => self.one(schemas, *form),
            Form::One(parts) => self.exactly_one(schemas, id, parts),
            Form::NotOne(parts) => self.not_one(schemas, id, parts),
            Form::Schema(schema) => self.schema(schemas, *schema, false),
            Form::NotSchema(schema) => self.schema(schemas, *schema, true),
            Form::Guard {
                form,
                negated: true,
            } => self.none_of(schemas, id, *form),
            _ => Ok(self
                .simplified(schemas, smallvec![id])?
                .into_iter()
                .collect()),
        }
    }

    /// A guard against `form`. Against what is said of names it is plain what it asks for: one of those that are
    /// listed, or some member whose name is one of the others.
    fn none_of(
        &mut self,
        schemas: &mut Schemas<'_>,
        guard: FormId,
        form: FormId,
    ) -> Result<Vec<Conjunction>, GrammarError> {
        let Form::Names(names) = *schemas.forms.shared(form) else {
            return Ok(vec![smallvec![guard]]);
        };
        let strings = schemas.forms.types(types::STRING);
        let others = schemas.forms.not(names);
        let mut wanted = Vec::new();
        let mut tests = Vec::new();
        // A name is another value than the object.
        let beside = self.beside.take();
        let names = self.all(schemas, &[strings, others]);
        self.beside.restore(beside);
        for conjunction in names? {
            let shared = |id: FormId| schemas.forms.shared(id);
            let parts: Vec<Arc<Form>> = conjunction.into_iter().map(shared).collect();
            let listed = parts.iter().find_map(|part| part.listed());
            let is_said = |part: &&Arc<Form>| !matches!(***part, Form::Types(_));
            let n_said = parts.iter().filter(is_said).count();
            match listed {
                Some(values) if n_said == 1 => {
                    let strings = values.iter().filter_map(|value| value.as_str());
                    wanted.extend(strings.map(|name| Form::Required(vec![Arc::from(name)])));
                }
                Some(_) => return Ok(vec![smallvec![guard]]),
                None => match name_tests(schemas, &parts) {
                    Some(list) => tests.push(list),
                    None => return Ok(vec![smallvec![guard]]),
                },
            }
        }
        if !tests.is_empty() {
            tests.sort_unstable();
            wanted.push(Form::Exception(Members {
                names: Vec::new(),
                patterns: vec![(schemas.patterns.any_of(&tests), FALSE)],
                rest: None,
            }));
        }
        let each: Vec<FormId> = wanted
            .into_iter()
            .map(|form| schemas.forms.add(form))
            .collect();
        let any = schemas.forms.or(each);
        self.one(schemas, any)
    }

    fn schema(
        &mut self,
        schemas: &mut Schemas<'_>,
        schema: SchemaId,
        negated: bool,
    ) -> Result<Vec<Conjunction>, GrammarError> {
        if self.path.contains(&(schema, negated)) {
            self.n_cut += 1;
            return Ok(Vec::new());
        }
        if let Some(known) = self.known.get(&(schema, negated))
            && let Some(alternatives) = known.beside(&mut self.beside)
        {
            return Ok(alternatives);
        }
        let (n_cut, n_asked) = (self.n_cut, self.beside.n_asked());
        if self.path.len() >= MAX_REFERENCES {
            return Err(self.limit(schemas, "references", MAX_REFERENCES));
        }
        self.path.push((schema, negated));
        let form = schemas.form(schema)?;
        let form = if negated {
            schemas.forms.not(form)
        } else {
            form
        };
        let alternatives = self.one(schemas, form);
        self.path.pop();
        let alternatives = alternatives?;
        if self.n_cut == n_cut {
            let known = self.known.entry((schema, negated)).or_default();
            known.learn(&self.beside, n_asked, &alternatives);
        }
        Ok(alternatives)
    }

    /// Each branch, and none of those others that it may meet beside what holds at the place anyway.
    fn exactly_one(
        &mut self,
        schemas: &mut Schemas<'_>,
        id: FormId,
        parts: &[FormId],
    ) -> Result<Vec<Conjunction>, GrammarError> {
        let mut union = Vec::new();
        if parts.len() > MANY_BRANCHES {
            for &part in parts {
                union.extend(self.one(schemas, part)?);
            }
            let guard = guard(schemas, id, false);
            return self.both(schemas, &distinct(union), &[smallvec![guard]]);
        }
        for (idx, &part) in parts.iter().enumerate() {
            let mut alternatives = self.one(schemas, part)?;
            for (other_idx, &other) in parts.iter().enumerate() {
                if other_idx == idx {
                    continue;
                }
                match self.overlap(schemas, part, other)? {
                    Overlap::None => continue,
                    Overlap::Types(both) => {
                        let others = schemas.forms.types(!both & types::ALL);
                        alternatives = self.both(schemas, &alternatives, &[smallvec![others]])?;
                        continue;
                    }
                    Overlap::Some => {}
                }
                let not = schemas.forms.not(other);
                let negative = self.one(schemas, not)?;
                let guard = Form::Guard {
                    form: other,
                    negated: true,
                };
                let many = alternatives.len() * negative.len() > MANY;
                alternatives = if many || negative.len() > MANY_NEGATIVE {
                    let guard = schemas.forms.add(guard);
                    self.both(schemas, &alternatives, &[smallvec![guard]])?
                } else {
                    self.both(schemas, &alternatives, &negative)?
                };
            }
            union.extend(alternatives);
        }
        Ok(distinct(union))
    }

    /// None of the branches, or two of them.
    fn not_one(
        &mut self,
        schemas: &mut Schemas<'_>,
        id: FormId,
        parts: &[FormId],
    ) -> Result<Vec<Conjunction>, GrammarError> {
        if parts.len() > MANY_NEGATIVE {
            return Ok(vec![smallvec![guard(schemas, id, false)]]);
        }
        let not: Vec<FormId> = parts.iter().map(|&part| schemas.forms.not(part)).collect();
        let mut union = self.all(schemas, &not)?;
        for (idx, &part) in parts.iter().enumerate() {
            for &other in &parts[idx + 1..] {
                if self.overlap(schemas, part, other)? != Overlap::None {
                    union.extend(self.all(schemas, &[part, other])?);
                }
            }
        }
        Ok(distinct(union))
    }

    fn both_or_guard(
        &mut self,
        schemas: &mut Schemas<'_>,
        left: &[Conjunction],
        right: &[Conjunction],
        guard: Form,
    ) -> Result<Vec<Conjunction>, GrammarError> {
        if left.len() > 1 && right.len() > 1 && left.len() * right.len() > self.max {
            let guard = schemas.forms.add(guard);
            return self.both(schemas, left, &[smallvec![guard]]);
        }
        self.both(schemas, left, right)
    }

    pub(super) fn both(
        &mut self,
        schemas: &mut Schemas<'_>,
        left: &[Conjunction],
        right: &[Conjunction],
    ) -> Result<Vec<Conjunction>, GrammarError> {
        if let ([empty], _) | (_, [empty]) = (left, right)
            && empty.is_empty()
        {
            let other = if left.len() == 1 && left[0].is_empty() {
                right
            } else {
                left
            };
            return Ok(other.to_vec());
        }
        let mut result = Vec::with_capacity(left.len() * right.len());
        for a in left {
            for b in right {
                self.n_steps += 1;
                let mut both: Conjunction = a.iter().chain(b).copied().collect();
                both.sort_unstable();
                both.dedup();
                result.extend(self.simplified(schemas, both)?);
            }
        }
        if self.n_steps > self.max.saturating_mul(STEPS_AN_ALTERNATIVE) {
            return Err(self.limit(schemas, "alternatives", self.max));
        }
        Ok(distinct(result))
    }

    /// The assertions without those about types that are excluded; `None` if they plainly contradict.
    fn simplified(
        &mut self,
        schemas: &mut Schemas<'_>,
        mut conjunction: Conjunction,
    ) -> Result<Option<Conjunction>, GrammarError> {
        let mut mask = types::ALL;
        for &id in &conjunction {
            mask &= match schemas.forms.get(id) {
                Form::False => 0,
                Form::Types(types) => *types,
                Form::Values {
                    values,
                    negated: false,
                } => values.types(),
                _ => types::ALL,
            };
        }
        if mask & types::OBJECT != 0 && self.plain.contradict(schemas, &conjunction)? {
            mask &= !types::OBJECT;
        }
        if mask == 0 || !passes(schemas, &conjunction)? {
            return Ok(None);
        }
        conjunction.retain(|id| concerned(schemas.forms.get(*id)) & mask != 0);
        if mask != types::ALL {
            conjunction.push(schemas.forms.types(mask));
        }
        conjunction.sort_unstable();
        conjunction.dedup();
        Ok(Some(conjunction))
    }

    fn limit(&self, schemas: &Schemas<'_>, limit: &'static str, allowed: usize) -> GrammarError {
        let innermost = self.path.last().map_or(0, |&(schema, _)| schema);
        GrammarError::Limit {
            what: format!("#{}", schemas.pointer(innermost)),
            limit,
            allowed,
        }
    }
}

/// Whether the one array or object that a conjunction leaves, if it does, satisfies it.
fn passes(schemas: &mut Schemas<'_>, conjunction: &Conjunction) -> Result<bool, GrammarError> {
    let only = conjunction
        .iter()
        .find_map(|&id| match schemas.forms.get(id) {
            Form::Only(values) => Some(Arc::clone(values)),
            _ => None,
        });
    for value in only.iter().flat_map(|values| values.iter()) {
        for &form in conjunction {
            if !Judge::new(schemas).holds(form, value)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// What a name must pass to satisfy all of `parts`; `None` if that is not told by tests.
fn name_tests(schemas: &mut Schemas<'_>, parts: &[Arc<Form>]) -> Option<Vec<Test>> {
    let is_guard = |part: &Arc<Form>| matches!(**part, Form::Guard { .. });
    let (mut tests, bounds) =
        string_tests(schemas, parts).filter(|_| !parts.iter().any(is_guard))?;
    if bounds.min.max(bounds.max.unwrap_or(0)) > MAX_NAME_LENGTH {
        return None;
    }
    if bounds != Bounds::default() {
        let length = schemas.patterns.length(bounds.min, bounds.max);
        tests.push((length, false));
        tests.sort_unstable();
    }
    Some(tests)
}

fn guard(schemas: &mut Schemas<'_>, form: FormId, negated: bool) -> FormId {
    schemas.forms.add(Form::Guard { form, negated })
}

/// Without repetitions, nor alternatives that say more than another one.
fn distinct(mut alternatives: Vec<Conjunction>) -> Vec<Conjunction> {
    alternatives.sort_unstable();
    alternatives.dedup();
    if !(2..=MANY).contains(&alternatives.len()) {
        return alternatives;
    }
    let says_more = |more: &Conjunction, less: &Conjunction| {
        more.len() > less.len() && less.iter().all(|form| more.binary_search(form).is_ok())
    };
    let kept = alternatives
        .iter()
        .filter(|more| !alternatives.iter().any(|less| says_more(more, less)));
    kept.cloned().collect()
}

/// Whether a form is its own only alternative.
fn is_assertion(form: &Form) -> bool {
    !matches!(
        form,
        Form::True
            | Form::False
            | Form::And(_)
            | Form::Or(_)
            | Form::Any(_)
            | Form::Mute(_)
            | Form::One(_)
            | Form::NotOne(_)
            | Form::Schema(_)
            | Form::NotSchema(_)
            | Form::Guard { negated: true, .. }
    )
}

/// The types of values that an assertion can be false of.
fn concerned(form: &Form) -> u8 {
    match form {
        Form::True | Form::Types(_) => 0,
        Form::Values {
            values,
            negated: true,
        } => values.types(),
        Form::Length(_) | Form::Text { .. } | Form::Format(_) | Form::Regex => types::STRING,
        Form::Range { .. } | Form::Multiple { .. } | Form::Unpointed => types::NUMBER,
        Form::Members(_)
        | Form::Exception(_)
        | Form::Names(_)
        | Form::Required(_)
        | Form::Dependent { .. }
        | Form::NMembers(_) => types::OBJECT,
        Form::Items { .. } | Form::NItems(_) | Form::Contains { .. } | Form::Unique => types::ARRAY,
        _ => types::ALL,
    }
}
