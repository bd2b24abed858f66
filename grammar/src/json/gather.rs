//! What an object's assertions say of its members, gathered into a draft.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::HashMap;
use serde_json::Value;

use crate::GrammarError;
use crate::json::compile::{Compiler, NameId, Names};
use crate::json::draft::{
    Draft, DraftException, DraftMember, DraftObject, DraftOthers, DraftSet, MAX_NAME_LENGTH,
    string_tests,
};
use crate::json::expand::Conjunction;
use crate::json::form::{Bounds, FALSE, Form, FormId, Members, types};
use crate::json::patterns::{PatternId, Test};
use crate::json::shape::NodeId;

/// Patterns of names of one object of which every set has a place, whether some name matches it or
/// not.
const FEW_NAME_PATTERNS: usize = 2;
/// Patterns of names of one object that are followed while a name is written.
const MAX_NAME_PATTERNS: usize = 60;

/// What a `properties` declares.
#[derive(Debug)]
pub(crate) struct Declared {
    names: Vec<NameId>,
    forms: HashMap<NameId, FormId>,
}

impl Declared {
    pub(crate) fn new(members: &Members, names: &mut Names) -> Self {
        let each = members.names.iter();
        let each: Vec<(NameId, FormId)> =
            each.map(|(name, form)| (names.add(name), *form)).collect();
        Self {
            names: each.iter().map(|&(name, _)| name).collect(),
            forms: each.into_iter().collect(),
        }
    }
}

/// What one assertion says of members, with its declared names at hand.
struct Said<'p> {
    members: &'p Members,
    declared: Arc<Declared>,
}

impl Said<'_> {
    /// Of a member with a declared name.
    fn of_name(
        &self,
        compiler: &mut Compiler<'_>,
        name: NameId,
    ) -> Result<Conjunction, GrammarError> {
        let declared = self.declared.forms.get(&name);
        let mut forms: Conjunction = declared.copied().into_iter().collect();
        for &(pattern, form) in &self.members.patterns {
            let text = compiler.names.text(name);
            if compiler.schemas.patterns.matches(pattern, &text)? {
                forms.push(form);
            }
        }
        Ok(self.or_rest(forms))
    }

    /// Of a member whose name is not declared and matches these patterns.
    fn of_matching(&self, is_matched: impl Fn(PatternId) -> bool) -> Conjunction {
        let matched = self.members.patterns.iter().filter(|(p, _)| is_matched(*p));
        self.or_rest(matched.map(|(_, form)| *form).collect())
    }

    fn or_rest(&self, mut forms: Conjunction) -> Conjunction {
        if forms.is_empty() {
            forms.extend(self.members.rest);
        }
        forms
    }
}

/// What an object's assertions say of its members.
#[derive(Default)]
struct Gathered<'p> {
    order: Vec<NameId>,
    required: HashMap<NameId, bool>,
    members: Vec<Said<'p>>,
    /// What some member each is an exception to.
    exceptions: Vec<Said<'p>>,
    /// Each with what must come with it.
    dependents: Vec<(NameId, Vec<NameId>)>,
    names: Vec<FormId>,
    bounds: Bounds,
}

impl<'p> Gathered<'p> {
    fn new(compiler: &mut Compiler<'_>, conjunction: &[FormId], parts: &'p [Arc<Form>]) -> Self {
        let mut gathered = Self::default();
        for (&id, part) in conjunction.iter().zip(parts) {
            match &**part {
                Form::Members(members) => {
                    let said = gathered.say(compiler, id, members);
                    gathered.members.push(said);
                }
                Form::Exception(members) => {
                    let said = gathered.say(compiler, id, members);
                    gathered.exceptions.push(said);
                    let some = Bounds { min: 1, max: None };
                    gathered.bounds = gathered.bounds.and(some);
                }
                Form::NMembers(bounds) => gathered.bounds = gathered.bounds.and(*bounds),
                Form::Names(form) => gathered.names.push(*form),
                _ => {}
            }
        }
        for part in parts {
            match &**part {
                Form::Required(names) => {
                    for name in names {
                        let name = compiler.names.add(name);
                        gathered.declare(name);
                        gathered.required.insert(name, true);
                    }
                }
                Form::Dependent { name, needs } => {
                    let name = compiler.names.add(name);
                    let needs = needs.iter().map(|need| compiler.names.add(need));
                    let needs: Vec<NameId> = needs.collect();
                    gathered.declare(name);
                    needs.iter().for_each(|&need| gathered.declare(need));
                    gathered.dependents.push((name, needs));
                }
                _ => {}
            }
        }
        gathered
    }

    /// What a form says of members, its names declared.
    fn say(&mut self, compiler: &mut Compiler<'_>, form: FormId, members: &'p Members) -> Said<'p> {
        let declared = compiler.declared(form, members);
        self.required.reserve(declared.names.len());
        declared.names.iter().for_each(|&name| self.declare(name));
        Said { members, declared }
    }

    fn declare(&mut self, name: NameId) {
        if let Entry::Vacant(vacant) = self.required.entry(name) {
            vacant.insert(false);
            self.order.push(name);
        }
    }

    /// Indices of what each name needs with it, transitively.
    fn needs(&self) -> Vec<Vec<u32>> {
        let mut needs: Vec<Vec<u32>> = vec![Vec::new(); self.order.len()];
        if self.dependents.is_empty() {
            return needs;
        }
        let index = |name: &NameId| {
            let found = self.order.iter().position(|other| other == name);
            found.expect("both sides of a dependency are declared") as u32
        };
        for (name, these) in &self.dependents {
            needs[index(name) as usize].extend(these.iter().map(index));
        }
        loop {
            let before = needs.clone();
            for each in &mut needs {
                for &need in &each.clone() {
                    each.extend(&before[need as usize]);
                }
                each.sort_unstable();
                each.dedup();
            }
            if needs == before {
                return needs;
            }
        }
    }
}

/// Objects, and what is left to look at at their end; `None` if there are none.
pub(crate) fn object(
    compiler: &mut Compiler<'_>,
    conjunction: &[FormId],
    parts: &[Arc<Form>],
) -> Result<Option<(Draft, Vec<FormId>)>, GrammarError> {
    let mut gathered = Gathered::new(compiler, conjunction, parts);
    if gathered.bounds.is_empty() {
        return Ok(None);
    }
    let mut guards = Vec::new();
    let names = tests_of_names(
        compiler,
        &gathered.names.clone(),
        &mut gathered,
        &mut guards,
    )?;
    let needs = gathered.needs();
    let mut members = Vec::with_capacity(gathered.order.len());
    for (&name, needs) in gathered.order.iter().zip(needs) {
        let forms = forms_of(compiler, &gathered, name)?;
        members.push(DraftMember {
            name,
            node: compiler.place(forms),
            required: gathered.required[&name],
            needs,
        });
    }
    let others = others(compiler, &gathered, &names, &mut guards)?;
    let exception = exception(compiler, &gathered, &names, &mut guards)?;
    let draft = DraftObject {
        members,
        others,
        bounds: gathered.bounds,
        exception,
    };
    Ok(Some((Draft::Object(draft), guards)))
}

/// The first exception, or all if there is but one member to be them; the others, and those that the rest of the object is
/// too much for, are looked at at its end.
fn exception(
    compiler: &mut Compiler<'_>,
    gathered: &Gathered<'_>,
    names: &NameTests,
    guards: &mut Vec<FormId>,
) -> Result<Option<DraftException>, GrammarError> {
    let mut guarded = gathered.exceptions.as_slice();
    let mut found = None;
    let n_at_once = match gathered.bounds.max {
        Some(1) => guarded.len(),
        _ => guarded.len().min(1),
    };
    let (followed, others) = guarded.split_at(n_at_once);
    if !followed.is_empty()
        && gathered.dependents.is_empty()
        && let Some(draft) = follow_exceptions(compiler, gathered, followed, names)?
    {
        found = Some(draft);
        guarded = others;
    }
    let forms = &mut compiler.schemas.forms;
    guards.extend(
        guarded
            .iter()
            .map(|said| forms.add(Form::Exception(said.members.clone()))),
    );
    Ok(found)
}

/// The places of the member that is all these exceptions; `None` if its names have too many patterns.
fn follow_exceptions(
    compiler: &mut Compiler<'_>,
    gathered: &Gathered<'_>,
    exceptions: &[Said<'_>],
    names: &NameTests,
) -> Result<Option<DraftException>, GrammarError> {
    let all = || gathered.members.iter().chain(exceptions);
    let Some(sets) = Sets::of(compiler, all())? else {
        return Ok(None);
    };
    let mut nodes = Vec::with_capacity(gathered.order.len());
    for &name in &gathered.order {
        let mut forms = forms_of(compiler, gathered, name)?;
        for exception in exceptions {
            let said = exception.of_name(compiler, name)?;
            forms.push(not_all(compiler, said));
        }
        nodes.push(compiler.place(forms));
    }
    let declared = Some(&*gathered.order);
    let others = sets.others((compiler, names, declared), |compiler, is_matched| {
        let said = gathered.members.iter();
        let mut forms: Conjunction = said.flat_map(|said| said.of_matching(is_matched)).collect();
        let each = exceptions.iter();
        forms.extend(each.map(|exception| not_all(compiler, exception.of_matching(is_matched))));
        compiler.place(forms)
    })?;
    Ok(Some(DraftException { nodes, others }))
}

/// That not all of these hold.
fn not_all(compiler: &mut Compiler<'_>, said: Conjunction) -> FormId {
    let all = compiler.schemas.forms.and(said);
    compiler.schemas.forms.not(all)
}

/// What holds of the value of a declared name.
fn forms_of(
    compiler: &mut Compiler<'_>,
    gathered: &Gathered<'_>,
    name: NameId,
) -> Result<Conjunction, GrammarError> {
    let mut forms = Conjunction::new();
    if !gathered.names.is_empty() {
        let value = Value::from(&*compiler.names.text(name));
        if !compiler.holds(&gathered.names, &value)? {
            return Ok([FALSE].into_iter().collect());
        }
    }
    for said in &gathered.members {
        forms.extend(said.of_name(compiler, name)?);
    }
    Ok(forms)
}

/// What was said of names that are not declared.
enum NameTests {
    /// Nothing.
    Free,
    /// All of some list must pass.
    Tests(Vec<Vec<Test>>),
    /// All that there may be were declared.
    Listed,
}

fn tests_of_names(
    compiler: &mut Compiler<'_>,
    names: &[FormId],
    gathered: &mut Gathered<'_>,
    guards: &mut Vec<FormId>,
) -> Result<NameTests, GrammarError> {
    if names.is_empty() {
        return Ok(NameTests::Free);
    }
    let string = compiler.schemas.forms.types(types::STRING);
    let forms: Vec<FormId> = names.iter().copied().chain([string]).collect();
    let mut lists = Vec::new();
    let mut listed = Vec::new();
    for conjunction in compiler.expand(&forms)? {
        let parts: Vec<Arc<Form>> = conjunction
            .iter()
            .map(|&id| compiler.schemas.forms.shared(id))
            .collect();
        if let Some(values) = parts.iter().find_map(|part| part.listed()) {
            for value in values.iter().filter(|value| value.is_string()) {
                if compiler.holds(&conjunction, value)? {
                    listed.extend(value.as_str().map(Arc::<str>::from));
                }
            }
            continue;
        }
        let is_guard = |part: &Arc<Form>| matches!(**part, Form::Guard { .. });
        let Some((mut tests, bounds)) = string_tests(&mut compiler.schemas, &parts) else {
            continue;
        };
        if bounds != Bounds::default() {
            let max = bounds.max.filter(|&max| max <= MAX_NAME_LENGTH);
            if bounds.min > MAX_NAME_LENGTH || max != bounds.max || parts.iter().any(is_guard) {
                guards.extend(
                    names
                        .iter()
                        .map(|&form| compiler.schemas.forms.add(Form::Names(form))),
                );
            }
            let length = compiler
                .schemas
                .patterns
                .length(bounds.min.min(MAX_NAME_LENGTH), max);
            tests.push((length, false));
        }
        tests.sort_unstable();
        lists.push(tests);
    }
    // Listed names are declared, with whatever holds of others.
    for name in &listed {
        gathered.declare(compiler.names.add(name));
    }
    if lists.is_empty() {
        return Ok(NameTests::Listed);
    }
    Ok(NameTests::Tests(lists))
}

/// The patterns of some objects' names, and which of them a name may match together.
struct Sets {
    /// Ascending.
    patterns: Vec<PatternId>,
    /// As bits.
    sets: Vec<u64>,
    /// Whether no name matches another set.
    complete: bool,
}

impl Sets {
    /// `None` if there are too many.
    fn of<'a, 'p: 'a>(
        compiler: &mut Compiler<'_>,
        all: impl Iterator<Item = &'a Said<'p>>,
    ) -> Result<Option<Self>, GrammarError> {
        let patterns = patterns_of(all);
        let sets = match patterns.len() {
            n if n <= FEW_NAME_PATTERNS => Some((0..1 << n).collect()),
            n if n <= MAX_NAME_PATTERNS => compiler.schemas.patterns.sets(&patterns)?,
            _ => None,
        };
        Ok(sets.map(|sets| Self {
            patterns,
            sets,
            complete: true,
        }))
    }

    /// One pattern a name.
    fn of_one<'a, 'p: 'a>(all: impl Iterator<Item = &'a Said<'p>>) -> Self {
        let mut patterns = patterns_of(all);
        patterns.truncate(MAX_NAME_PATTERNS);
        let single = (0..patterns.len()).map(|idx| 1 << idx);
        Self {
            sets: [0].into_iter().chain(single).collect(),
            patterns,
            complete: false,
        }
    }

    /// The names that pass `names`, each with the place that `place` gives for the patterns that it matches. Where one may
    /// be needed beside those `declared`, it is found how short it is.
    fn others(
        self,
        (compiler, names, declared): (&mut Compiler<'_>, &NameTests, Option<&[NameId]>),
        mut place: impl FnMut(&mut Compiler<'_>, &dyn Fn(PatternId) -> bool) -> NodeId,
    ) -> Result<DraftOthers, GrammarError> {
        let tests = match names {
            NameTests::Listed => return Ok(DraftOthers::None),
            NameTests::Tests(lists) if lists.iter().all(|list| !list.is_empty()) => {
                Some(lists.clone())
            }
            NameTests::Free | NameTests::Tests(_) => None,
        };
        if self.patterns.is_empty() && tests.is_none() {
            return Ok(DraftOthers::Any(place(compiler, &|_| false)));
        }
        let lengths = match declared {
            Some(declared) => {
                let tests = compiler.without(tests.as_deref(), declared);
                let patterns = &mut compiler.schemas.patterns;
                patterns.shortest_names(&self.patterns, &self.sets, &tests)?
            }
            None => vec![Some(0); self.sets.len()],
        };
        let mut of_set = |(&matched, n_name_bytes): (&u64, usize)| {
            let is_matched = |pattern: PatternId| {
                let idx = self.patterns.binary_search(&pattern);
                idx.is_ok_and(|idx| matched >> idx & 1 == 1)
            };
            DraftSet {
                matched,
                node: place(compiler, &is_matched),
                n_name_bytes,
            }
        };
        let sets = self.sets.iter().zip(lengths);
        let sets = sets.filter_map(|(set, length)| Some(of_set((set, length?))));
        Ok(DraftOthers::Matching {
            sets: sets.collect(),
            patterns: self.patterns,
            complete: self.complete,
            names: tests,
        })
    }
}

/// The patterns of some objects' names, ascending.
fn patterns_of<'a, 'p: 'a>(all: impl Iterator<Item = &'a Said<'p>>) -> Vec<PatternId> {
    let each = all.flat_map(|said| said.members.patterns.iter().map(|(pattern, _)| *pattern));
    let mut patterns: Vec<PatternId> = each.collect();
    patterns.sort_unstable();
    patterns.dedup();
    patterns
}

fn others(
    compiler: &mut Compiler<'_>,
    gathered: &Gathered<'_>,
    names: &NameTests,
    guards: &mut Vec<FormId>,
) -> Result<DraftOthers, GrammarError> {
    let said = gathered.members.iter();
    let sets = match Sets::of(compiler, said.clone())? {
        Some(sets) => sets,
        None => {
            // The rest is looked at at the end.
            let forms = &mut compiler.schemas.forms;
            let all = said.clone().map(|said| Form::Members(said.members.clone()));
            guards.extend(all.map(|form| forms.add(form)));
            Sets::of_one(said.clone())
        }
    };
    let declared = (gathered.bounds.min > 0).then_some(&*gathered.order);
    sets.others((compiler, names, declared), |compiler, is_matched| {
        let forms = said.clone().flat_map(|said| said.of_matching(is_matched));
        compiler.place(forms.collect())
    })
}
