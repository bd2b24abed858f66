//! What an open value may become: the compiled form of schemas.

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::HashMap;
use smallvec::SmallVec;

use crate::bytes::ByteSet;
use crate::json::form::{Bounds, FormId};
use crate::json::frame::{Items, Members};
use crate::json::number::NumberShape;
use crate::json::object::ObjectShape;
use crate::json::patterns::AutomatonId;
use crate::json::string::StringShape;
use crate::literals::LiteralTrie;
use crate::regex::dfa::DfaState;

/// Index of a [`Node`]: a place of the output where some forms hold.
pub(crate) type NodeId = u32;
/// Index of a shape.
pub(crate) type ShapeId = u32;
/// Index of a list of forms that are looked at when a value is whole.
pub(crate) type GuardId = u32;

/// The distance of what cannot be completed.
pub(crate) const NEVER: usize = usize::MAX;

/// A place: the value takes one of the shapes.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) shapes: Vec<(ShapeId, Option<GuardId>)>,
    /// Fewest bytes of a value.
    pub(crate) cost: usize,
    /// The first bytes of values.
    pub(crate) first: ByteSet,
}

/// One kind of value.
#[derive(Debug)]
pub(crate) enum Shape {
    Literals(Literals),
    String(StringShape),
    Number(NumberShape),
    Array(ArrayShape),
    Object(ObjectShape),
}

/// Values by their compact texts.
#[derive(Debug)]
pub(crate) struct Literals {
    pub(crate) trie: LiteralTrie,
    /// Of each value.
    pub(crate) hashes: Vec<u64>,
}

/// Arrays: the first items by place, the rest alike.
#[derive(Debug)]
pub(crate) struct ArrayShape {
    /// The places of item `i`: one for each set of `contains` that it is counted for. [n_prefix,
    /// n_sets]
    pub(crate) prefix: Vec<Vec<NodeId>>,
    /// Of the items after those. [n_sets]
    pub(crate) rest: Vec<NodeId>,
    pub(crate) bounds: Bounds,
    pub(crate) contains: Vec<Bounds>,
    pub(crate) different: bool,
    /// Whether listed values are then excluded once they came, before another is whole.
    pub(crate) excludes: bool,
}

impl ArrayShape {
    /// The items as far as the next bytes depend on them, the text so far aside.
    pub(crate) fn relevant(&self, items: &Items) -> Items {
        let different = items.different.as_ref().filter(|_| self.excludes);
        Items {
            different: different.map(|(hashes, _)| (Arc::clone(hashes), 0)),
            contained: items.contained.clone(),
            ..*items
        }
    }

    /// The places of item `idx`, each with the set of `contains` that it is counted for.
    pub(crate) fn places(&self, idx: u32) -> &[NodeId] {
        self.prefix.get(idx as usize).unwrap_or(&self.rest)
    }

    /// An index that stands for `idx`: without a maximum, items past the prefix and the minimum are
    /// alike.
    pub(crate) fn saturated(&self, idx: u32) -> u32 {
        match self.bounds.max {
            Some(_) => idx,
            None => idx.min(self.bounds.min.max(self.prefix.len() as u32)),
        }
    }

    /// Whether what is still due fits after these items.
    pub(crate) fn can_follow(&self, items: &Items) -> bool {
        let counts = self.contains.iter().zip(&items.contained);
        let fits = |(bounds, &n): (&Bounds, &u32)| bounds.max.is_none_or(|max| n <= max);
        let missing = |(bounds, &n): (&Bounds, &u32)| bounds.min.saturating_sub(n);
        let due = counts.clone().map(missing).max().unwrap_or(0);
        counts.clone().all(fits) && self.bounds.max.is_none_or(|max| items.n + due <= max)
    }

    /// Of the places of one item, the cheapest that counts for one of the `wanted` contains, and of which no other
    /// contains has too many then: which items it counts for, and its bytes.
    fn containing(
        &self,
        places: &[NodeId],
        wanted: usize,
        missing: &[u32],
        contained: &[u32],
        costs: &impl Fn(NodeId) -> usize,
    ) -> Option<(usize, usize)> {
        let of_wanted = missing
            .iter()
            .enumerate()
            .filter(|(idx, _)| wanted >> idx & 1 == 1);
        let n_items = of_wanted.map(|(_, &n)| n).max().unwrap_or(0);
        let fits = |set: usize| {
            self.contains.iter().enumerate().all(|(idx, bounds)| {
                let have = contained.get(idx).copied().unwrap_or(0);
                set >> idx & 1 == 0
                    || missing[idx] > 0
                    || bounds.max.is_none_or(|max| have + n_items <= max)
            })
        };
        let sets = places.iter().enumerate();
        let fitting = sets.filter(|(set, _)| set & wanted != 0 && fits(*set));
        let each = fitting.map(|(set, &node)| (set, costs(node)));
        each.filter(|&(_, cost)| cost < NEVER)
            .min_by_key(|&(_, cost)| cost)
    }

    /// Fewest bytes to the end, bracket included, after `n` items with a comma before each next one.
    pub(crate) fn cost_after(
        &self,
        n: u32,
        contained: &[u32],
        costs: &impl Fn(NodeId) -> usize,
    ) -> usize {
        let cheapest =
            |list: &[NodeId]| list.iter().map(|&node| costs(node)).min().unwrap_or(NEVER);
        let bounds = self.contains.iter().enumerate();
        let mut missing: SmallVec<[u32; 2]> = bounds
            .map(|(idx, bounds)| {
                bounds
                    .min
                    .saturating_sub(contained.get(idx).copied().unwrap_or(0))
            })
            .collect();
        let n_prefix = self.prefix.len();
        let mut total = 1_usize;
        let mut n = n as usize;
        // What must be contained comes after the prefix, which is then gone through; what cannot come there is looked
        // for within it.
        while n < n_prefix && (n < self.bounds.min as usize || missing.iter().any(|&n| n > 0)) {
            let reaches_rest = self.prefix[n..].iter().all(|list| cheapest(list) < NEVER);
            let wanted = (0..missing.len())
                .filter(|&idx| missing[idx] > 0)
                .filter(|&idx| {
                    let rest = self.containing(&self.rest, 1 << idx, &missing, contained, costs);
                    !reaches_rest || rest.is_none()
                })
                .fold(0, |wanted, idx| wanted | 1 << idx);
            let item = match self.containing(&self.prefix[n], wanted, &missing, contained, costs) {
                Some((set, cost)) => {
                    for (idx, missing) in missing.iter_mut().enumerate() {
                        *missing = missing.saturating_sub((set >> idx & 1) as u32);
                    }
                    cost
                }
                None => cheapest(&self.prefix[n]),
            };
            total = total.saturating_add(item.saturating_add(1));
            n += 1;
        }
        for (idx, &n_items) in missing.iter().enumerate().filter(|&(_, &n)| n > 0) {
            let each = self.containing(&self.rest, 1 << idx, &missing, contained, costs);
            let each = each.map_or(NEVER, |(_, cost)| cost).saturating_add(1);
            total = total.saturating_add(each.saturating_mul(n_items as usize));
            n += n_items as usize;
        }
        let n_more = (self.bounds.min as usize).saturating_sub(n);
        if n_more > 0 {
            let each = cheapest(&self.rest).saturating_add(1);
            total = total.saturating_add(each.saturating_mul(n_more));
        }
        total
    }
}

/// Which names that are not declared may come, and what their values are.
#[derive(Debug)]
pub(crate) enum Others {
    None,
    /// Any name.
    Any(NodeId),
    /// Names of an automaton; the set of patterns that a name matches decides on its value.
    Matching {
        automaton: AutomatonId,
        start: DfaState,
        places: HashMap<u64, NodeId>,
        /// Fewest bytes of a value: of the cheapest place, of the dearest.
        values: (usize, usize),
        /// Whether some name is final, the beginning of no other one.
        runs_out: bool,
    },
}

/// All that a schema compiled to, its patterns' automata aside.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) nodes: Vec<Node>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) guards: Vec<Vec<FormId>>,
    pub(crate) root: NodeId,
}

const MISMATCH: &str = "a frame is made from a shape of its own kind";

impl Tables {
    /// Heap bytes, roughly.
    pub(crate) fn n_bytes(&self) -> usize {
        let nodes = self
            .nodes
            .iter()
            .map(|node| size_of::<Node>() + size_of_val(&*node.shapes));
        let shapes = self.shapes.iter().map(|shape| {
            size_of::<Shape>()
                + match shape {
                    Shape::Literals(literals) => {
                        literals.trie.n_bytes() + size_of_val(&*literals.hashes)
                    }
                    Shape::String(strings) => strings.n_bytes(),
                    Shape::Object(object) => {
                        // Shared by alternatives with the same names.
                        object.names.n_bytes() / Arc::strong_count(&object.names)
                            + size_of_val(&*object.properties)
                    }
                    Shape::Array(_) | Shape::Number(_) => 0,
                }
        });
        nodes.sum::<usize>() + shapes.sum::<usize>()
    }

    pub(crate) fn cost(&self, node: NodeId) -> usize {
        self.nodes[node as usize].cost
    }

    pub(crate) fn literals(&self, shape: ShapeId) -> &Literals {
        match &self.shapes[shape as usize] {
            Shape::Literals(literals) => literals,
            _ => unreachable!("{MISMATCH}"),
        }
    }

    pub(crate) fn string(&self, shape: ShapeId) -> &StringShape {
        match &self.shapes[shape as usize] {
            Shape::String(string) => string,
            _ => unreachable!("{MISMATCH}"),
        }
    }

    pub(crate) fn number(&self, shape: ShapeId) -> &NumberShape {
        match &self.shapes[shape as usize] {
            Shape::Number(number) => number,
            _ => unreachable!("{MISMATCH}"),
        }
    }

    pub(crate) fn array(&self, shape: ShapeId) -> &ArrayShape {
        match &self.shapes[shape as usize] {
            Shape::Array(array) => array,
            _ => unreachable!("{MISMATCH}"),
        }
    }

    pub(crate) fn object(&self, shape: ShapeId) -> &ObjectShape {
        match &self.shapes[shape as usize] {
            Shape::Object(object) => object,
            _ => unreachable!("{MISMATCH}"),
        }
    }

    /// The shapes as which one more member of an object may come: the object's own, and that of the exception that is
    /// due. None if none may.
    pub(crate) fn ways_on<'s>(
        &'s self,
        members: &'s Members,
    ) -> impl Iterator<Item = ShapeId> + 's {
        let exception = self.object(members.shape).exception.as_ref();
        let due = exception.filter(|_| !members.excepted);
        let shapes = [members.shape].into_iter().chain(due.map(|due| due.shape));
        shapes.filter(|&shape| self.object(shape).allows_any(members))
    }

    /// The shapes that members of an object may be of: its own, and that of its exception.
    pub(crate) fn shapes_of(&self, shape: ShapeId) -> impl Iterator<Item = ShapeId> + use<> {
        let object = self.object(shape);
        let exception = object.exception.as_ref().map(|exception| exception.shape);
        [Some(shape), exception, object.within]
            .into_iter()
            .flatten()
    }

    /// The object that one more member is of, and its members as they stand before it but for an exception that this
    /// one is.
    pub(crate) fn one_more<'s>(
        &'s self,
        members: &'s Members,
    ) -> (&'s ObjectShape, Cow<'s, Members>) {
        let object = self.object(members.shape);
        match object.within {
            None => (object, Cow::Borrowed(members)),
            Some(shape) => {
                let members = Members {
                    shape,
                    excepted: true,
                    ..members.clone()
                };
                (self.object(shape), Cow::Owned(members))
            }
        }
    }
}
