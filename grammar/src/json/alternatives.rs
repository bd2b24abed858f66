//! Alternatives of an object that differ in one member only, made one.
//!
//! Where branches and negations multiply, most alternatives of a place say the same of all members but one: that it may not
//! come, or what its value is. Together they say that it may be what it is in either, so they are one alternative with the
//! values of both there (the merging of implicants by Quine, A Way to Simplify Truth Functions, 1955). Those that another
//! one covers go, too. Parses of an output are then the fewer, from its beginning on.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use foldhash::{HashMap, HashMapExt};

use crate::json::compile::{Choice, NameId};
use crate::json::draft::{Draft, DraftMember, DraftObject, DraftOthers};
use crate::json::shape::{NEVER, NodeId, ShapeId};

/// Alternatives up to which each is compared with each other one.
const MANY: usize = 64;

/// What was drafted, without what cannot be completed.
pub(crate) struct Places {
    /// The alternatives of each place, ascending. [n_nodes]
    pub(crate) nodes: Vec<Vec<Choice>>,
    /// Fewest bytes of a value. [n_nodes]
    pub(crate) costs: Vec<usize>,
    pub(crate) drafts: Vec<Arc<Draft>>,
}

impl Places {
    /// Merges the alternatives of each place. Places with the values of two are added, at most as many as there are: else
    /// they might be all subsets of the alternatives.
    pub(crate) fn merge(&mut self, ordered: bool) {
        let is_object =
            |&&(draft, _): &&Choice| matches!(*self.drafts[draft as usize], Draft::Object(_));
        let may_merge = |choices: &Vec<Choice>| choices.iter().filter(is_object).count() > 1;
        if !self.nodes.iter().any(may_merge) {
            return;
        }
        let mut merger = Merger::new(self, ordered);
        let mut merged = Vec::with_capacity(merger.places.nodes.len());
        // Those that are added come last, and are merged in their turn.
        while merged.len() < merger.places.nodes.len() {
            merged.push(merger.merge(merged.len()));
        }
        self.nodes = merged;
    }

    /// Which drafts an output can come to. [n_drafts]
    pub(crate) fn used(&self, root: NodeId) -> Vec<bool> {
        let mut used = vec![false; self.drafts.len()];
        let mut is_open = vec![false; self.nodes.len()];
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            for &(draft, _) in &self.nodes[node as usize] {
                if !std::mem::replace(&mut used[draft as usize], true) {
                    self.drafts[draft as usize].each_place(|place| {
                        if !std::mem::replace(&mut is_open[place as usize], true) {
                            open.push(place);
                        }
                    });
                }
            }
        }
        used
    }
}

/// What an alternative says of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Said {
    required: bool,
    /// The place of its value; `None` if it may not come.
    node: Option<NodeId>,
}

/// One alternative.
struct Object {
    choice: Choice,
    draft: Arc<Draft>,
    /// Ascending by name; without those that are as other names, where these are told by no pattern and there is no order.
    said: Vec<(NameId, Said)>,
    /// What is said of names without an entry, if all are alike.
    rest: Option<Said>,
    /// The sum of the hashes of the entries and of all else: that of a part of them is a difference.
    hash: u64,
}

impl Object {
    fn drafted(&self) -> &DraftObject {
        match &*self.draft {
            Draft::Object(object) => object,
            _ => unreachable!("made of an object"),
        }
    }

    /// What is said of a name, if that is known.
    fn said_of(&self, name: NameId) -> Option<Said> {
        match self.said.binary_search_by_key(&name, |entry| entry.0) {
            Ok(place) => Some(self.said[place].1),
            Err(_) => self.rest,
        }
    }

    /// Whether all but the entries is alike.
    fn is_like(&self, other: &Self, ordered: bool) -> bool {
        let (a, b) = (self.drafted(), other.drafted());
        let [own, others] = [a, b].map(|object| object.members.iter().map(|m| m.name));
        self.choice.1 == other.choice.1
            && a.others == b.others
            && a.bounds == b.bounds
            && (!ordered || own.eq(others))
    }

    /// The names of which one says something else than the other.
    fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = NameId> + 'a {
        let own = self.said.iter().map(|entry| entry.0);
        let others = other.said.iter().map(|entry| entry.0);
        let only_theirs = others.filter(|&name| {
            let entry = self.said.binary_search_by_key(&name, |entry| entry.0);
            entry.is_err()
        });
        own.chain(only_theirs)
            .filter(|&name| self.said_of(name) != other.said_of(name))
    }
}

/// Alternatives of one place by their hashes: whole, and without each of their entries, where the name is told and where it
/// is not. Some may be gone.
#[derive(Default)]
struct ByHash(HashMap<(u64, Part), usize>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Whole,
    Without(NameId),
    WithoutAny,
}

impl ByHash {
    fn insert(&mut self, object: &Object, idx: usize) {
        self.0.insert((object.hash, Part::Whole), idx);
        for entry in &object.said {
            let hash = object.hash.wrapping_sub(hash(entry));
            self.0.insert((hash, Part::Without(entry.0)), idx);
            self.0.insert((hash, Part::WithoutAny), idx);
        }
    }

    /// Those that may differ from the object in one name at most.
    fn near<'a>(&'a self, object: &'a Object) -> impl Iterator<Item = usize> + 'a {
        let whole = [Part::Whole, Part::WithoutAny].map(|part| (object.hash, part));
        let parts = object.said.iter().flat_map(|entry| {
            let hash = object.hash.wrapping_sub(hash(entry));
            [Part::Whole, Part::Without(entry.0)].map(|part| (hash, part))
        });
        let keys = whole.into_iter().chain(parts);
        keys.filter_map(|key| self.0.get(&key).copied())
    }
}

fn hash(part: &impl std::hash::Hash) -> u64 {
    FixedState::default().hash_one(part)
}

/// Merges the alternatives of places.
struct Merger<'p> {
    places: &'p mut Places,
    /// Whether members come in the order of their declaration.
    ordered: bool,
    /// The first place with some alternatives.
    known: HashMap<Vec<Choice>, NodeId>,
    /// That of the alternatives of each place. [n_nodes]
    first: Vec<NodeId>,
    drafts: HashMap<Arc<Draft>, ShapeId>,
    max_nodes: usize,
}

impl<'p> Merger<'p> {
    fn new(places: &'p mut Places, ordered: bool) -> Self {
        let mut known = HashMap::with_capacity(places.nodes.len());
        let nodes = places.nodes.iter().zip(0..);
        let first = nodes.map(|(choices, node)| *known.entry(choices.clone()).or_insert(node));
        let first = first.collect();
        Self {
            max_nodes: 2 * places.nodes.len(),
            places,
            ordered,
            known,
            first,
            drafts: HashMap::new(),
        }
    }

    /// The alternatives of a place.
    fn merge(&mut self, node: usize) -> Vec<Choice> {
        let choices = self.places.nodes[node].clone();
        let (mut objects, mut merged) = (Vec::new(), Vec::new());
        for &choice in &choices {
            match self.object(choice) {
                Some(object) => objects.push(object),
                None => merged.push(choice),
            }
        }
        if objects.len() < 2 {
            return choices;
        }
        let objects = self.merge_objects(objects);
        let is_covered = |idx: usize| {
            let covers = |a: usize, b: usize| self.covers(&objects[a], &objects[b]);
            let mut others = (0..objects.len()).filter(|&other| other != idx);
            // Of two that cover each other the first stays.
            others.any(|other| covers(other, idx) && (other < idx || !covers(idx, other)))
        };
        let few = objects.len() <= MANY;
        let kept = (0..objects.len()).filter(|&idx| !few || !is_covered(idx));
        merged.extend(kept.map(|idx| objects[idx].choice));
        merged.sort_unstable();
        merged
    }

    fn merge_objects(&mut self, objects: Vec<Object>) -> Vec<Object> {
        let mut merged: Vec<Option<Object>> = Vec::with_capacity(objects.len());
        let mut by_hash = ByHash::default();
        for mut object in objects {
            loop {
                let union = by_hash.near(&object).find_map(|idx| {
                    let other = merged[idx].as_ref()?;
                    Some((idx, self.union(&object, other)?))
                });
                let Some((idx, union)) = union else { break };
                merged[idx] = None;
                object = union;
            }
            by_hash.insert(&object, merged.len());
            merged.push(Some(object));
        }
        merged.into_iter().flatten().collect()
    }

    /// An alternative, if it is of an object of which each member is told apart from the others.
    fn object(&self, choice: Choice) -> Option<Object> {
        let draft = Arc::clone(&self.places.drafts[choice.0 as usize]);
        let Draft::Object(object) = &*draft else {
            return None;
        };
        let depends = |member: &DraftMember| !member.needs.is_empty();
        if object.exception.is_some() || object.members.iter().any(depends) {
            return None;
        }
        let said = |required, node: NodeId| Said {
            required,
            node: (self.places.costs[node as usize] < NEVER).then(|| self.first[node as usize]),
        };
        let rest = match object.others {
            _ if self.ordered => None,
            DraftOthers::None => Some(Said {
                required: false,
                node: None,
            }),
            DraftOthers::Any(node) => Some(said(false, node)),
            DraftOthers::Matching { .. } => None,
        };
        let each = object.members.iter();
        let each = each.map(|member| (member.name, said(member.required, member.node)));
        let mut said: Vec<_> = each.filter(|entry| Some(entry.1) != rest).collect();
        said.sort_unstable_by_key(|entry| entry.0);
        let base = hash(&(choice.1, &object.others, object.bounds));
        Some(Object {
            hash: said.iter().map(hash).fold(base, u64::wrapping_add),
            said,
            rest,
            choice,
            draft,
        })
    }

    /// What is either of two, if they differ in one name at most, of which both tell.
    fn union(&mut self, a: &Object, b: &Object) -> Option<Object> {
        if !a.is_like(b, self.ordered) {
            return None;
        }
        let mut differences = a.differences(b);
        let difference = differences.next();
        if differences.next().is_some() {
            return None;
        }
        let Some(name) = difference else {
            return self.object(a.choice);
        };
        let (one, other) = (a.said_of(name)?, b.said_of(name)?);
        let node = match (one.node, other.node) {
            (Some(one), Some(other)) => self.either(one, other)?,
            (one, other) => one.or(other)?,
        };
        let mut object = a.drafted().clone();
        let required = one.required && other.required;
        match object.members.iter_mut().find(|m| m.name == name) {
            Some(member) => (member.required, member.node) = (required, node),
            None => object.members.push(DraftMember {
                name,
                node,
                required,
                needs: Vec::new(),
            }),
        }
        let draft = self.draft(Draft::Object(object));
        self.object((draft, a.choice.1))
    }

    /// Whether an alternative admits all that another one does.
    fn covers(&self, a: &Object, b: &Object) -> bool {
        let is_within = |b: NodeId, a: NodeId| {
            let (a, b) = (
                &self.places.nodes[a as usize],
                &self.places.nodes[b as usize],
            );
            b.iter().all(|choice| a.binary_search(choice).is_ok())
        };
        let is_less = |name| match (a.said_of(name), b.said_of(name)) {
            (Some(a), Some(b)) => {
                (b.required || !a.required)
                    && b.node
                        .is_none_or(|b| a.node.is_some_and(|a| a == b || is_within(b, a)))
            }
            _ => false,
        };
        a.is_like(b, self.ordered) && a.differences(b).all(is_less)
    }

    /// The place of the values of two; `None` if there are too many places.
    fn either(&mut self, a: NodeId, b: NodeId) -> Option<NodeId> {
        let both = [a, b].map(|node| self.places.nodes[node as usize].iter().copied());
        let mut choices: Vec<Choice> = both.into_iter().flatten().collect();
        choices.sort_unstable();
        choices.dedup();
        self.join_literals(&mut choices);
        if let Some(&known) = self.known.get(&choices) {
            return Some(known);
        }
        let node = self.places.nodes.len();
        if node >= self.max_nodes {
            return None;
        }
        let costs = &mut self.places.costs;
        costs.push(costs[a as usize].min(costs[b as usize]));
        self.known.insert(choices.clone(), node as NodeId);
        self.first.push(node as NodeId);
        self.places.nodes.push(choices);
        Some(node as NodeId)
    }

    /// Makes one list of several.
    fn join_literals(&mut self, choices: &mut Vec<Choice>) {
        let list = |draft: ShapeId| match &*self.places.drafts[draft as usize] {
            Draft::Literals(values) => Some(values),
            _ => None,
        };
        let lists = choices.iter().filter_map(|choice| list(choice.0));
        if lists.clone().count() < 2 {
            return;
        }
        let mut values: Vec<_> = lists.flatten().cloned().collect();
        values.sort_unstable();
        values.dedup();
        choices.retain(|choice| list(choice.0).is_none());
        choices.push((self.draft(Draft::Literals(values)), None));
        choices.sort_unstable();
    }

    fn draft(&mut self, draft: Draft) -> ShapeId {
        let drafts = &mut self.places.drafts;
        let draft = Arc::new(draft);
        *self.drafts.entry(Arc::clone(&draft)).or_insert_with(|| {
            drafts.push(draft);
            (drafts.len() - 1) as ShapeId
        })
    }
}
