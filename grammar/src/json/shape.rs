//! What an open value may become: the compiled form of schemas.

use crate::json::number::NumberShape;
use crate::json::string::StringShape;
use crate::literals::{LiteralNode, LiteralTrie};

/// Index of a [`Node`]: a place of the output where some set of schemas holds.
pub(crate) type NodeId = u32;
/// Index of a shape.
pub(crate) type ShapeId = u32;

/// The distance of what cannot be completed.
pub(crate) const NEVER: usize = usize::MAX;

/// A place: the value takes one of the shapes.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) shapes: Vec<ShapeId>,
    /// Fewest bytes of a value.
    pub(crate) cost: usize,
}

/// One kind of value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Values by their compact texts.
    Literals(LiteralTrie),
    String(StringShape),
    Number(NumberShape),
    Array(ArrayShape),
    Object(ObjectShape),
}

/// Arrays: the first items by place, the rest alike.
#[derive(Debug)]
pub(crate) struct ArrayShape {
    pub(crate) prefix: Vec<NodeId>,
    /// `None` where no item may follow the prefix.
    pub(crate) rest: Option<NodeId>,
    pub(crate) min: u32,
    pub(crate) max: Option<u32>,
    /// After `i` items, fewest bytes of the prefix's items still due, each with a comma before it.
    /// [n_prefix + 1]
    pub(crate) costs: Vec<usize>,
    pub(crate) rest_cost: usize,
}

impl ArrayShape {
    /// The place of item `idx`, if there may be one.
    pub(crate) fn item(&self, idx: u32) -> Option<NodeId> {
        if self.max.is_some_and(|max| idx >= max) {
            return None;
        }
        self.prefix.get(idx as usize).copied().or(self.rest)
    }

    /// An index that stands for `idx`: without a maximum, items past the prefix and the minimum are
    /// alike.
    pub(crate) fn saturated(&self, idx: u32) -> u32 {
        match self.max {
            Some(_) => idx,
            None => idx.min(self.min.max(self.prefix.len() as u32)),
        }
    }

    /// Fewest bytes to the end, bracket included, after `n_items` items.
    pub(crate) fn cost_after(&self, n_items: u32) -> usize {
        let n_prefix = self.prefix.len();
        let n_due = self.min.saturating_sub(n_items.max(n_prefix as u32)) as usize;
        let rest = n_due.saturating_mul(self.rest_cost.saturating_add(1));
        let prefix = self.costs.get(n_items as usize).copied().unwrap_or(0);
        prefix
            .saturating_add(if n_due > 0 { rest } else { 0 })
            .saturating_add(1)
    }
}

/// Objects: declared properties in their order, then others.
#[derive(Debug)]
pub(crate) struct ObjectShape {
    /// Those that can occur; their indices are their order.
    pub(crate) properties: Vec<Property>,
    /// Declared names as they are spelled within quotes; indices past `properties` never occur.
    pub(crate) names: LiteralTrie,
    /// The place of values of other names, if there may be any.
    pub(crate) additional: Option<NodeId>,
    /// For each `next`, the first required index from it, or `n_properties`. [n_properties + 1]
    pub(crate) next_required: Vec<u32>,
    /// For each `next`, fewest bytes of the members still required, each with a comma before it.
    /// [n_properties + 1]
    pub(crate) required_costs: Vec<usize>,
    /// For each `next`, fewest bytes of a declared member and what is required after it.
    /// [n_properties + 1]
    pub(crate) member_costs: Vec<usize>,
}

/// A declared property.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) node: NodeId,
    pub(crate) required: bool,
    /// Bytes of the name as spelled, without quotes.
    pub(crate) n_name_bytes: usize,
}

impl ObjectShape {
    /// Whether names that are not declared may come once `next` is the next declared property.
    pub(crate) fn additional_at(&self, next: u32) -> Option<NodeId> {
        self.additional
            .filter(|_| self.next_required[next as usize] as usize == self.properties.len())
    }

    /// The last declared property that may come at `next`, one past it.
    pub(crate) fn end(&self, next: u32) -> u32 {
        (self.next_required[next as usize] + 1).min(self.properties.len() as u32)
    }

    /// Declared properties that may come at `next` and whose names pass through `node`.
    pub(crate) fn reachable(&self, node: LiteralNode, next: u32) -> &[u32] {
        let below = self.names.below(node);
        let from = below.partition_point(|&idx| idx < next);
        let to = below.partition_point(|&idx| idx < self.end(next));
        &below[from..to]
    }
}

/// All that a schema compiled to, its patterns' automata aside.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) nodes: Vec<Node>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) root: NodeId,
}

const MISMATCH: &str = "a frame is made from a shape of its own kind";

impl Tables {
    pub(crate) fn literals(&self, shape: ShapeId) -> &LiteralTrie {
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
}
