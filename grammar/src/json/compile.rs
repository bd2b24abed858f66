//! From schemas to shapes: every place that an output can reach, pruned of what nothing satisfies.
//!
//! A place is named by the set of forms that hold there, so recursion closes on itself. Its
//! shapes are drafted first; then the fewest bytes of a value are found for every place as a least
//! fixpoint, which leaves an endless cost where no finite value exists; then the drafts are
//! finished without those.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use serde_json::Value;

use crate::json::draft::{self, Draft, StringRules};
use crate::json::expand::{Conjunction, Expander};
use crate::json::finish;
use crate::json::form::{Form, FormId, Members, TRUE, types};
use crate::json::gather::{self, Declared};
use crate::json::interner::Interner;
use crate::json::judge::Judge;
use crate::json::lengths::LengthTables;
use crate::json::patterns::{AutomatonId, Test};
use crate::json::schema::Schemas;
use crate::json::shape::{GuardId, NodeId, ShapeId, Tables};
use crate::json::string::StringShape;
use crate::json::values::{CONSTANTS, Values, type_of};
use crate::json::verdict::Verdicts;
use crate::regex::dfa::DfaState;
use crate::{GrammarError, JsonOptions, KeyOrder, Limits};

/// Compiles a schema to its tables, and what decides on whole values.
pub(crate) fn compile(
    root: &Value,
    options: &JsonOptions,
    limits: &Limits,
) -> Result<(Tables, Verdicts), GrammarError> {
    let schemas = Schemas::new(root, options, limits)?;
    let mut compiler = Compiler {
        schemas,
        expander: Expander::new(limits),
        limits: limits.clone(),
        ordered: options.key_order == KeyOrder::Declared,
        places: HashMap::new(),
        drafted: HashMap::new(),
        pending: Vec::new(),
        drafts: Interner::default(),
        strings: HashMap::new(),
        lengths: LengthTables::default(),
        names: Names::default(),
        declared: HashMap::new(),
        nodes: Vec::new(),
        guards: Vec::new(),
        guard_ids: HashMap::new(),
    };
    let root = compiler.schemas.forms.add(Form::Schema(0));
    let root = compiler.place([root].into_iter().collect());
    while let Some((node, forms)) = compiler.pending.pop() {
        compiler.draft_place(node, &forms)?;
        let n = compiler.nodes.len().max(compiler.schemas.forms.len() / 4);
        if n > limits.schema_nodes {
            return Err(GrammarError::Limit {
                what: "the schema with its combinations".into(),
                limit: "schema_nodes",
                allowed: limits.schema_nodes,
            });
        }
    }
    let tables = finish::finish(&mut compiler, root)?;
    let verdicts = Verdicts::new(compiler.schemas, &tables.guards)?;
    Ok((tables, verdicts))
}

/// A shape of a place, and what is looked at when its value is whole.
pub(crate) type Choice = (ShapeId, Option<GuardId>);

/// What was found at one place.
#[derive(Default)]
struct Found {
    literals: Vec<Literal>,
    strings: Vec<(StringRules, Option<GuardId>)>,
    choices: Vec<Choice>,
}

pub(crate) struct Compiler<'a> {
    pub(crate) schemas: Schemas<'a>,
    expander: Expander,
    pub(crate) limits: Limits,
    pub(crate) ordered: bool,
    places: HashMap<Conjunction, NodeId>,
    /// The choices of places with some alternatives: schemas that say the same at many places are drafted once.
    drafted: HashMap<Vec<Conjunction>, Vec<Choice>>,
    pending: Vec<(NodeId, Conjunction)>,
    pub(crate) drafts: Interner<Draft>,
    /// Satisfiable string drafts, finished.
    pub(crate) strings: HashMap<ShapeId, StringShape>,
    lengths: LengthTables,
    pub(crate) names: Names,
    /// What each `properties` declares, as far as objects were drafted.
    declared: HashMap<FormId, Arc<Declared>>,
    /// Choices of each place. [n_nodes]
    pub(crate) nodes: Vec<Vec<Choice>>,
    pub(crate) guards: Vec<Vec<FormId>>,
    guard_ids: HashMap<Vec<FormId>, GuardId>,
}

impl Compiler<'_> {
    /// The place where all of some forms hold.
    pub(crate) fn place(&mut self, mut forms: Conjunction) -> NodeId {
        forms.retain(|form| *form != TRUE);
        forms.sort_unstable();
        forms.dedup();
        if let Some(&node) = self.places.get(&forms) {
            return node;
        }
        let node = self.nodes.len() as NodeId;
        self.nodes.push(Vec::new());
        self.places.insert(forms.clone(), node);
        self.pending.push((node, forms));
        node
    }

    fn draft_place(&mut self, node: NodeId, forms: &[FormId]) -> Result<(), GrammarError> {
        let alternatives = self.expander.expand(&mut self.schemas, forms)?;
        if let Some(known) = self.drafted.get(&alternatives) {
            self.nodes[node as usize].clone_from(known);
            return Ok(());
        }
        let mut found = Found::default();
        for conjunction in &alternatives {
            self.draft_conjunction(conjunction, &mut found)?;
        }
        let Found {
            mut literals,
            strings,
            mut choices,
        } = found;
        self.draft_strings(strings, &mut choices)?;
        if !literals.is_empty() {
            literals.dedup();
            choices.push((self.intern(Draft::Literals(literals))?, None));
        }
        choices.sort_unstable();
        choices.dedup();
        self.nodes[node as usize].clone_from(&choices);
        self.drafted.insert(alternatives, choices);
        Ok(())
    }

    fn draft_conjunction(
        &mut self,
        conjunction: &Conjunction,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let parts: Vec<Arc<Form>> = conjunction
            .iter()
            .map(|&id| self.schemas.forms.shared(id))
            .collect();
        let mut allowed = types::ALL;
        let mut values: Option<Arc<Values>> = None;
        for part in &parts {
            match &**part {
                Form::Types(types) => allowed &= types,
                Form::Values {
                    values: these,
                    negated: false,
                } => values = Some(Arc::clone(these)),
                _ => {}
            }
        }
        if let Some(values) = &values {
            return self.draft_values(values, allowed, conjunction, found);
        }
        if allowed & CONSTANTS.types() != 0 {
            self.draft_values(&CONSTANTS, allowed, conjunction, found)?;
        }
        let guard = self.guard(conjunction);
        if allowed & types::STRING != 0
            && let Some(rules) = draft::string_tests(&mut self.schemas, &parts)
        {
            found.strings.push((rules, guard));
        }
        if allowed & types::NUMBER != 0 {
            let integer = allowed & types::FRACTION == 0;
            let number = draft::number(&self.schemas, &parts, integer, allowed);
            found.choices.push((self.intern(number)?, guard));
        }
        if allowed & types::ARRAY != 0 {
            let (array, guards) = draft::array(self, &parts);
            let guard = self.guard_with(conjunction, guards);
            found.choices.push((self.intern(array)?, guard));
        }
        if allowed & types::OBJECT != 0
            && let Some((object, guards)) = gather::object(self, conjunction, &parts)?
        {
            let guard = self.guard_with(conjunction, guards);
            found.choices.push((self.intern(object)?, guard));
        }
        Ok(())
    }

    /// Those values of some types that all assertions hold of.
    fn draft_values(
        &mut self,
        values: &Values,
        allowed: u8,
        conjunction: &Conjunction,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        // Of the list itself, and of types, it is known.
        let is_open = |&id: &FormId| match self.schemas.forms.get(id) {
            Form::Types(_) => false,
            Form::Values {
                values: these,
                negated: false,
            } => !std::ptr::eq(&**these, values),
            _ => true,
        };
        let open: Conjunction = conjunction.iter().copied().filter(is_open).collect();
        for (value, hash) in values.with_hashes() {
            if allowed & type_of(value) != 0 && self.holds(&open, value)? {
                let text = value.to_string().into_bytes();
                found.literals.push((text, *hash));
            }
        }
        Ok(())
    }

    /// Strings of one length and guard are one shape, whatever alternatives of tests they pass.
    fn draft_strings(
        &mut self,
        mut strings: Vec<(StringRules, Option<GuardId>)>,
        choices: &mut Vec<Choice>,
    ) -> Result<(), GrammarError> {
        while let Some((rules, guard)) = strings.pop() {
            let (first, bounds) = rules;
            let mut lists = vec![first];
            strings.retain(|((tests, others), other_guard)| {
                let alike = *others == bounds && *other_guard == guard;
                if alike {
                    lists.push(tests.clone());
                }
                !alike
            });
            lists.sort_unstable();
            lists.dedup();
            if let Some(draft) = draft::strings(&mut self.schemas, &lists, bounds)? {
                choices.push((self.intern(draft)?, guard));
            }
        }
        Ok(())
    }

    /// Whether a value satisfies each form.
    pub(crate) fn holds(&mut self, forms: &[FormId], value: &Value) -> Result<bool, GrammarError> {
        for &form in forms {
            if !Judge::new(&mut self.schemas).holds(form, value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tests of names, all of some list of which must pass, and which none of these names passes.
    pub(crate) fn without(
        &mut self,
        tests: Option<&[Vec<Test>]>,
        names: &[NameId],
    ) -> Vec<Vec<Test>> {
        let mut tests = tests.map_or_else(|| vec![Vec::new()], <[_]>::to_vec);
        if !names.is_empty() {
            let texts: Vec<Arc<str>> = names.iter().map(|&name| self.names.text(name)).collect();
            let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
            let any = self.schemas.patterns.literals(&texts);
            tests.iter_mut().for_each(|list| list.push((any, true)));
        }
        tests
    }

    /// The alternatives of a form.
    pub(crate) fn expand(&mut self, forms: &[FormId]) -> Result<Vec<Conjunction>, GrammarError> {
        self.expander.expand(&mut self.schemas, forms)
    }

    fn guard(&mut self, conjunction: &Conjunction) -> Option<GuardId> {
        self.guard_with(conjunction, Vec::new())
    }

    fn guard_with(&mut self, conjunction: &Conjunction, mut forms: Vec<FormId>) -> Option<GuardId> {
        let is_guard = |id: &FormId| matches!(self.schemas.forms.get(*id), Form::Guard { .. });
        forms.extend(conjunction.iter().copied().filter(is_guard));
        if forms.is_empty() {
            return None;
        }
        if let Some(&known) = self.guard_ids.get(&forms) {
            return Some(known);
        }
        let id = self.guards.len() as GuardId;
        self.guard_ids.insert(forms.clone(), id);
        self.guards.push(forms);
        Some(id)
    }

    fn string(
        &mut self,
        pattern: Option<(AutomatonId, DfaState)>,
        bounds: (u32, Option<u32>),
        goes_on: bool,
    ) -> Result<Option<StringShape>, GrammarError> {
        let Some((id, start)) = pattern else {
            return StringShape::new(None, bounds, None, goes_on);
        };
        let automaton = &mut self.schemas.patterns.automata[id as usize];
        let limits = &mut self.limits;
        let table = self.lengths.table((id, start), automaton, bounds, limits);
        StringShape::new(Some((id, automaton, start)), bounds, table, goes_on)
    }

    fn intern(&mut self, draft: Draft) -> Result<ShapeId, GrammarError> {
        let (id, is_new) = self.drafts.add(draft);
        if let Draft::String {
            automaton,
            bounds,
            goes_on,
        } = **self.drafts.get(id)
            && is_new
        {
            let shape = self.string(automaton, (bounds.min, bounds.max), goes_on)?;
            self.strings.extend(shape.map(|shape| (id, shape)));
        }
        Ok(id)
    }

    /// What the members of a form declare.
    pub(crate) fn declared(&mut self, form: FormId, members: &Members) -> Arc<Declared> {
        let names = &mut self.names;
        let declared = self.declared.entry(form);
        Arc::clone(declared.or_insert_with(|| Arc::new(Declared::new(members, names))))
    }
}

/// A value's text and hash.
pub(crate) type Literal = (Vec<u8>, u64);

/// Index of a property's name.
pub(crate) type NameId = u32;

/// The names of all objects' properties.
#[derive(Default)]
pub(crate) struct Names {
    ids: HashMap<Arc<str>, NameId>,
    texts: Vec<Arc<str>>,
    spelled: Vec<Box<[u8]>>,
}

impl Names {
    pub(crate) fn add(&mut self, name: &Arc<str>) -> NameId {
        if let Some(&known) = self.ids.get(name) {
            return known;
        }
        let id = self.spelled.len() as NameId;
        let quoted = Value::from(&**name).to_string();
        self.spelled
            .push(quoted.as_bytes()[1..quoted.len() - 1].into());
        self.ids.insert(Arc::clone(name), id);
        self.texts.push(Arc::clone(name));
        id
    }

    /// The name.
    pub(crate) fn text(&self, name: NameId) -> Arc<str> {
        Arc::clone(&self.texts[name as usize])
    }

    /// The name as it is written, without its quotes.
    pub(crate) fn spelled(&self, name: NameId) -> &[u8] {
        &self.spelled[name as usize]
    }
}

/// The name that is written so.
pub(crate) fn unspelled(spelled: &[u8]) -> Arc<str> {
    let quoted = [b"\"", spelled, b"\""].concat();
    let name: String = serde_json::from_slice(&quoted).expect("the body of a JSON string");
    name.into()
}
