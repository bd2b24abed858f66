//! Where branches of a `oneOf` meet, beside what holds at their place anyway.
//!
//! Branches are often told apart by a member that is required outside of them: `required: ["kind"]` beside a `oneOf`
//! whose branches each list another `kind`. Negating each branch in each other one would make many alternatives of
//! them, which say no more than the branches do.

use foldhash::HashMap;

use crate::GrammarError;
use crate::json::expand::{Conjunction, Expander, MANY};
use crate::json::form::{Form, FormId, types};
use crate::json::schema::Schemas;

/// References followed to find what holds at a place.
const MAX_DEPTH: usize = 3;

/// The values that satisfy two branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    /// Plainly none.
    None,
    /// Plainly those of some types, whatever else they are.
    Types(u8),
    /// Others, perhaps.
    Some,
}

/// Assertions that hold at a place beside what is being expanded there.
#[derive(Debug, Default)]
pub(super) struct Beside {
    forms: Vec<FormId>,
    /// How often it was asked for them while there were any.
    n_asked: usize,
    /// What was found of two branches beside some assertions.
    overlaps: HashMap<(FormId, FormId, Conjunction), Overlap>,
}

/// The alternatives of a schema.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whatever holds beside it.
    anywhere: Option<Vec<Conjunction>>,
    /// Beside some assertions.
    beside: HashMap<Conjunction, Vec<Conjunction>>,
}

impl Beside {
    /// Adds what is said plainly by parts that hold together, and returns how much there was.
    pub(super) fn add(
        &mut self,
        schemas: &mut Schemas<'_>,
        parts: &[FormId],
    ) -> Result<usize, GrammarError> {
        let n_before = self.forms.len();
        // A part alone tells nothing beside itself.
        if parts.len() > 1 {
            parts
                .iter()
                .try_for_each(|&part| self.add_one(schemas, part, MAX_DEPTH))?;
        }
        Ok(n_before)
    }

    fn add_one(
        &mut self,
        schemas: &mut Schemas<'_>,
        part: FormId,
        depth: usize,
    ) -> Result<(), GrammarError> {
        match &*schemas.forms.shared(part) {
            Form::Types(_) | Form::Required(_) | Form::Members(_) => self.forms.push(part),
            Form::And(parts) if depth > 0 => {
                for &part in parts {
                    self.add_one(schemas, part, depth - 1)?;
                }
            }
            Form::Schema(schema) if depth > 0 => {
                let form = schemas.form(*schema)?;
                self.add_one(schemas, form, depth - 1)?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, n: usize) {
        self.forms.truncate(n);
    }

    /// Leaves nothing, until it is [restored](Self::restore): another value is looked at.
    pub(super) fn take(&mut self) -> Vec<FormId> {
        std::mem::take(&mut self.forms)
    }

    pub(super) fn restore(&mut self, forms: Vec<FormId>) {
        self.forms = forms;
    }

    pub(super) fn n_asked(&self) -> usize {
        self.n_asked
    }

    /// The assertions, ascending.
    fn sorted(&self) -> Conjunction {
        let mut forms = Conjunction::from_slice(&self.forms);
        forms.sort_unstable();
        forms.dedup();
        forms
    }
}

impl Known {
    /// The alternatives beside what holds.
    pub(super) fn beside(&self, beside: &mut Beside) -> Option<Vec<Conjunction>> {
        if let Some(anywhere) = &self.anywhere {
            return Some(anywhere.clone());
        }
        let found = self.beside.get(&beside.sorted())?;
        beside.n_asked += 1;
        Some(found.clone())
    }

    /// Learns them, found after `n_asked` questions what holds beside the schema.
    pub(super) fn learn(&mut self, beside: &Beside, n_asked: usize, alternatives: &[Conjunction]) {
        if beside.n_asked == n_asked {
            self.anywhere = Some(alternatives.to_vec());
        } else {
            self.beside.insert(beside.sorted(), alternatives.to_vec());
        }
    }
}

impl Expander {
    /// Which values plainly satisfy two branches of a `oneOf`.
    pub(super) fn overlap(
        &mut self,
        schemas: &mut Schemas<'_>,
        a: FormId,
        b: FormId,
    ) -> Result<Overlap, GrammarError> {
        let beside = self.beside.sorted();
        self.beside.n_asked += usize::from(!beside.is_empty());
        let key = (a.min(b), a.max(b), beside);
        if let Some(&known) = self.beside.overlaps.get(&key) {
            return Ok(known);
        }
        let n_cut = self.n_cut;
        let (left, right) = (self.one(schemas, a)?, self.one(schemas, b)?);
        let is_whole = self.n_cut == n_cut;
        let found = if left.len() * right.len() > MANY * MANY {
            Overlap::Some
        } else {
            let mut both = self.both(schemas, &left, &right)?;
            if is_whole && !both.is_empty() && both.len() <= MANY {
                both = self.both(schemas, &both, std::slice::from_ref(&key.2))?;
            }
            match both.is_empty() {
                true => Overlap::None,
                false if is_whole => types_of(schemas, &both).map_or(Overlap::Some, Overlap::Types),
                false => Overlap::Some,
            }
        };
        self.beside.overlaps.insert(key, found);
        Ok(found)
    }
}

/// The types of which all values satisfy some alternatives; `None` if these say more.
fn types_of(schemas: &Schemas<'_>, alternatives: &[Conjunction]) -> Option<u8> {
    let of = |conjunction: &Conjunction| match conjunction.as_slice() {
        [] => Some(types::ALL),
        [form] => match schemas.forms.get(*form) {
            Form::Types(types) => Some(*types),
            _ => None,
        },
        _ => None,
    };
    alternatives
        .iter()
        .try_fold(0, |all, alternative| Some(all | of(alternative)?))
}
