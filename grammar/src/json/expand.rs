//! `anyOf`, `allOf` and `$ref` resolved: the alternative sets of schemas whose own keywords must
//! all hold at a place.
//!
//! A schema that leads back to itself without an open value between admits nothing that way: the
//! language is the least one that satisfies the references. So `{"$ref": "#"}` is empty, and `A =
//! anyOf [A, string]` is `string`.

use crate::json::schema::{SchemaId, Schemas};
use crate::{GrammarError, Limits};

/// Ids of schemas whose own keywords hold together; ascending.
pub(crate) type Conjunction = Vec<SchemaId>;

/// References, `allOf` and `anyOf` within each other at one place.
const MAX_REFERENCES: usize = 256;
/// Steps of one expansion for each alternative allowed; bounds repeated sub-expansions.
const STEPS_AN_ALTERNATIVE: usize = 16;

/// Expands the places of one document.
pub(crate) struct Expander<'a> {
    schemas: &'a Schemas<'a>,
    path: Vec<SchemaId>,
    n_steps: usize,
    max: usize,
}

impl<'a> Expander<'a> {
    pub(crate) fn new(schemas: &'a Schemas<'a>, limits: &Limits) -> Self {
        Self {
            schemas,
            path: Vec::new(),
            n_steps: 0,
            max: limits.alternatives,
        }
    }

    /// The alternatives at a place where all of `ids` hold.
    pub(crate) fn expand(&mut self, ids: &[SchemaId]) -> Result<Vec<Conjunction>, GrammarError> {
        self.n_steps = 0;
        let mut result = vec![Vec::new()];
        for &id in ids {
            let alternatives = self.one(id)?;
            result = self.both(&result, &alternatives, id)?;
        }
        result.sort_unstable();
        result.dedup();
        Ok(result)
    }

    fn one(&mut self, id: SchemaId) -> Result<Vec<Conjunction>, GrammarError> {
        if self.path.contains(&id) {
            return Ok(Vec::new());
        }
        self.n_steps += 1;
        if self.path.len() >= MAX_REFERENCES {
            return Err(self.limit(id, "references", MAX_REFERENCES));
        }
        if self.n_steps > self.max.saturating_mul(STEPS_AN_ALTERNATIVE) {
            return Err(self.limit(id, "alternatives", self.max));
        }
        self.path.push(id);
        let schema = self.schemas.get(id);
        let mut result = vec![if schema.asserts { vec![id] } else { Vec::new() }];
        for &part in schema.reference.iter().chain(&schema.all_of) {
            let alternatives = self.one(part)?;
            result = self.both(&result, &alternatives, id)?;
        }
        if let Some(branches) = &schema.any_of {
            let mut union = Vec::new();
            for &branch in branches {
                union.extend(self.one(branch)?);
            }
            union.sort_unstable();
            union.dedup();
            result = self.both(&result, &union, id)?;
        }
        self.path.pop();
        Ok(result)
    }

    fn both(
        &self,
        left: &[Conjunction],
        right: &[Conjunction],
        id: SchemaId,
    ) -> Result<Vec<Conjunction>, GrammarError> {
        if left.len().saturating_mul(right.len()) > self.max {
            return Err(self.limit(id, "alternatives", self.max));
        }
        let mut result = Vec::with_capacity(left.len() * right.len());
        for a in left {
            for b in right {
                let mut both: Conjunction = a.iter().chain(b).copied().collect();
                both.sort_unstable();
                both.dedup();
                result.push(both);
            }
        }
        Ok(result)
    }

    fn limit(&self, id: SchemaId, limit: &'static str, allowed: usize) -> GrammarError {
        let what = format!("#{}", self.schemas.get(id).pointer);
        GrammarError::Limit {
            what,
            limit,
            allowed,
        }
    }
}
