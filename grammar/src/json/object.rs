//! Objects: which members may come, must come, and how much is left when some have come.

use std::sync::Arc;

use crate::json::form::Bounds;
use crate::json::frame::{Bits, Members, Name, Used};
use crate::json::shape::{NEVER, NodeId, Others, ShapeId};
use crate::literals::{LiteralNode, LiteralTrie};

/// Bytes that a name beyond the declared ones is counted with, where none is written yet: two
/// characters, for shorter ones may be taken.
pub(crate) const OTHER_NAME_BYTES: usize = 2;

/// An object's members.
#[derive(Debug)]
pub(crate) struct ObjectShape {
    /// Those declared properties that can occur, in their order.
    pub(crate) properties: Vec<Property>,
    /// Declared names as they are spelled within quotes; indices past `properties` never occur.
    pub(crate) names: Arc<LiteralTrie>,
    pub(crate) others: Others,
    /// Whether such names may come after a declared one.
    pub(crate) others_follow: bool,
    /// Fewest bytes of the value of another name, with what the name must have.
    pub(crate) other_cost: usize,
    /// From the nearest end of another name, at most so many bytes to the end of its value.
    pub(crate) other_rest: usize,
    pub(crate) bounds: Bounds,
    /// Whether declared properties keep their order, and others follow them.
    pub(crate) ordered: bool,
    /// Whether what came decides on what must come.
    pub(crate) has_dependents: bool,
    /// What one of the members must be.
    pub(crate) exception: Option<Exception>,
    /// Of the shape of a member that is the exception: the object that it is one of.
    pub(crate) within: Option<ShapeId>,
}

/// A member that must come: which ones can be it, and what their values are then, a shape of its own says. A member is
/// followed as one that is the exception and as one that need not be, side by side.
#[derive(Debug)]
pub(crate) struct Exception {
    /// The shape of that one member: the object's properties, in their order, and other names.
    pub(crate) shape: ShapeId,
    /// Fewest bytes of each property that is the exception, with a comma. [n_properties]
    pub(crate) costs: Vec<usize>,
    /// The same of a name that is not declared.
    pub(crate) other_cost: usize,
}

/// The cheapest way to an exception that is due.
struct Cheapest {
    /// Bytes beyond those of what must come anyway.
    cost: usize,
    /// The declared property, if it is one.
    property: Option<u32>,
    /// Members beyond those that must come anyway.
    n_more: u32,
}

/// A declared property.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) node: NodeId,
    pub(crate) required: bool,
    /// What must come too if this one does, transitively.
    pub(crate) needs: Vec<u32>,
    /// Bytes of the name as spelled, without quotes.
    pub(crate) n_name_bytes: usize,
    /// Fewest bytes of the member, with a comma.
    pub(crate) cost: usize,
}

impl Members {
    /// Before one more member that is of this shape.
    pub(crate) fn by(&self, shape: ShapeId) -> Self {
        Self {
            shape,
            ..self.clone()
        }
    }

    /// Whether a name beyond the declared ones came.
    pub(crate) fn came(&self, name: &[u8]) -> bool {
        let names = self.used_names();
        names.binary_search_by(|other| (**other).cmp(name)).is_ok()
    }

    /// What is left of the names that came and begin with `start`.
    pub(crate) fn begun(&self, start: &[u8]) -> impl Iterator<Item = &[u8]> {
        let used = self.used_names();
        let first = used.partition_point(|name| **name < *start);
        let from = used[first..].iter();
        from.map_while(move |name| name.strip_prefix(start))
    }

    /// The names beyond the declared ones that came.
    pub(crate) fn used_names(&self) -> &[Arc<[u8]>] {
        self.used.as_ref().map_or(&[], |used| &used.names)
    }

    /// Whether one of these is final.
    pub(crate) fn any_final(&self) -> bool {
        self.used.as_ref().is_some_and(|used| used.any_final)
    }
}

impl ObjectShape {
    /// Before any member.
    pub(crate) fn open(&self, shape: ShapeId) -> Members {
        let mut members = Members {
            shape,
            next: 0,
            seen: Bits::default(),
            n: 0,
            n_due: 0,
            due_cost: 0,
            excepted: false,
            used: None,
        };
        self.count_due(&mut members);
        members
    }

    fn count_due(&self, members: &mut Members) {
        (members.n_due, members.due_cost) = (0, 0);
        for (idx, property) in self.properties.iter().enumerate() {
            if self.is_due(members, idx as u32) {
                members.n_due += 1;
                members.due_cost = members.due_cost.saturating_add(property.cost);
            }
        }
    }

    fn came(&self, members: &Members, idx: u32) -> bool {
        if self.ordered && !self.has_dependents {
            idx < members.next
        } else {
            members.seen.contains(idx)
        }
    }

    /// Whether a declared property must still come.
    fn is_due(&self, members: &Members, idx: u32) -> bool {
        if self.came(members, idx) {
            return false;
        }
        self.properties[idx as usize].required
            || self.has_dependents
                && self.properties.iter().enumerate().any(|(other, property)| {
                    property.needs.contains(&idx) && members.seen.contains(other as u32)
                })
    }

    /// Whether a declared property may come now.
    pub(crate) fn allows(&self, members: &Members, idx: u32) -> bool {
        let Some(property) = self.properties.get(idx as usize) else {
            return false;
        };
        if self.came(members, idx) || self.ordered && idx < members.next || property.cost == NEVER {
            return false;
        }
        if self.ordered && (members.next..idx).any(|skipped| self.is_due(members, skipped)) {
            return false;
        }
        let is_late = |&need: &u32| self.ordered && need < idx && !self.came(members, need);
        if property.needs.iter().any(is_late) {
            return false;
        }
        match self.bounds {
            Bounds { min: 0, max: None } if self.exception.is_none() => true,
            bounds => {
                let after = self.with(members, idx);
                let most = match (self.others_follow, self.ordered) {
                    (false, true) => self.properties.len() as u32 - after.next,
                    (false, false) => self.properties.len() as u32 - after.n,
                    _ => u32::MAX,
                };
                bounds.max.is_none_or(|max| after.n + after.n_due <= max)
                    && after.n.saturating_add(most) >= bounds.min
                    && self.cheapest_exception(&after).is_some()
            }
        }
    }

    /// Whether the exception must still come.
    pub(crate) fn is_exception_due(&self, members: &Members) -> bool {
        self.exception.is_some() && !members.excepted
    }

    /// The cheapest way to the exception that still fits; `None` if there is no way.
    fn cheapest_exception(&self, members: &Members) -> Option<Cheapest> {
        let due = self.exception.as_ref().filter(|_| !members.excepted);
        let Some(exception) = due else {
            return Some(Cheapest {
                cost: 0,
                property: None,
                n_more: 0,
            });
        };
        let declared = self.properties.iter().zip(&exception.costs).zip(0..);
        let open = declared.filter(|&((_, &cost), idx)| {
            cost != NEVER && !self.came(members, idx) && idx >= members.next
        });
        let declared = open.map(|((property, &cost), idx)| {
            let is_due = self.is_due(members, idx);
            Cheapest {
                cost: cost.saturating_sub(if is_due { property.cost } else { 0 }),
                property: Some(idx),
                n_more: u32::from(!is_due),
            }
        });
        let other = Cheapest {
            cost: exception.other_cost,
            property: None,
            n_more: 1,
        };
        let n = members.n + members.n_due;
        let fits = |way: &Cheapest| self.bounds.max.is_none_or(|max| n + way.n_more <= max);
        declared
            .chain([other])
            .filter(|way| way.cost != NEVER && fits(way))
            .min_by_key(|way| way.cost)
    }

    /// Whether a name beyond the declared ones may come now.
    pub(crate) fn allows_other(&self, members: &Members) -> bool {
        !matches!(self.others, Others::None)
            && (!self.ordered || members.n_due == 0)
            && self
                .bounds
                .max
                .is_none_or(|max| members.n + 1 + members.n_due <= max)
            && (!self.is_exception_due(members)
                || self
                    .cheapest_exception(&self.counted_with_other(members))
                    .is_some())
    }

    /// Whether any member may come.
    pub(crate) fn allows_any(&self, members: &Members) -> bool {
        self.allows_other(members)
            || (0..self.properties.len() as u32).any(|idx| self.allows(members, idx))
    }

    /// Whether the object may end.
    pub(crate) fn may_close(&self, members: &Members) -> bool {
        members.n_due == 0 && members.n >= self.bounds.min && !self.is_exception_due(members)
    }

    /// With a declared property.
    pub(crate) fn with(&self, members: &Members, idx: u32) -> Members {
        let was_due = self.is_due(members, idx);
        let mut with = members.clone();
        with.n = self.counted(members.n + 1);
        if self.ordered {
            with.next = idx + 1;
        }
        if !self.ordered || self.has_dependents {
            with.seen.insert(idx);
        }
        if self.has_dependents {
            self.count_due(&mut with);
        } else if was_due {
            with.n_due -= 1;
            with.due_cost = with
                .due_cost
                .saturating_sub(self.properties[idx as usize].cost);
        }
        with
    }

    /// With another name, which has not come, and may be final.
    pub(crate) fn with_other(&self, members: &Members, name: &[u8], is_final: bool) -> Members {
        let used = members.used_names();
        let place = used.partition_point(|other| **other < *name);
        let (before, after) = used.split_at(place);
        let mut with = self.counted_with_other(members);
        with.used = Some(Used {
            names: [before, &[name.into()], after].concat().into(),
            any_final: is_final || members.any_final(),
        });
        with
    }

    /// As if another name had come.
    pub(crate) fn counted_with_other(&self, members: &Members) -> Members {
        Members {
            n: self.counted(members.n + 1),
            next: match self.ordered {
                true => self.properties.len() as u32,
                false => members.next,
            },
            ..members.clone()
        }
    }

    /// Whether a name stands at none of the declared ones.
    pub(crate) fn names_none(&self, name: &Name) -> bool {
        name.declared
            .and_then(|node| self.names.literal(node))
            .is_none()
    }

    /// Counts beyond what any bound asks are alike.
    fn counted(&self, n: u32) -> u32 {
        match self.bounds.max {
            Some(_) => n,
            None => n.min(self.bounds.min),
        }
    }

    /// Declared properties that may come now and whose names pass through `node`.
    pub(crate) fn reachable<'s>(
        &'s self,
        node: LiteralNode,
        members: &'s Members,
    ) -> impl Iterator<Item = u32> + 's {
        let below = self.names.below(node).iter().copied();
        below.filter(|&idx| self.allows(members, idx))
    }

    /// Fewest bytes to the object's end, each member with a comma before it.
    pub(crate) fn cost_after(&self, members: &Members) -> usize {
        let Some(exception) = self.cheapest_exception(members) else {
            return NEVER;
        };
        let n = members.n + members.n_due + exception.n_more;
        let n_more = self.bounds.min.saturating_sub(n) as usize;
        members
            .due_cost
            .saturating_add(exception.cost)
            .saturating_add(self.filling_cost(members, exception.property, n_more))
            .saturating_add(1)
    }

    /// The cheapest members that fill an object up, other than one.
    fn filling_cost(&self, members: &Members, beside: Option<u32>, n_more: usize) -> usize {
        if n_more == 0 {
            return 0;
        }
        let other = self.other_cost.saturating_add(OTHER_NAME_BYTES + 4);
        let open = (0..self.properties.len() as u32).filter(|&idx| {
            !self.came(members, idx)
                && !self.is_due(members, idx)
                && idx >= members.next
                && beside != Some(idx)
        });
        let mut costs: Vec<usize> = open.map(|idx| self.properties[idx as usize].cost).collect();
        costs.sort_unstable();
        (0..n_more)
            .map(|n| costs.get(n).copied().unwrap_or(NEVER).min(other))
            .fold(0, usize::saturating_add)
    }

    /// Fewest bytes of an object, opened and closed.
    pub(crate) fn whole_cost(&self) -> usize {
        let members = self.open(0);
        let rest = self.cost_after(&members);
        let has_members = members.n_due > 0 || self.bounds.min > 0 || self.exception.is_some();
        if rest == NEVER || self.bounds.is_empty() {
            return NEVER;
        }
        if self.bounds.max.is_some_and(|max| members.n_due > max) {
            return NEVER;
        }
        rest + 1 - usize::from(has_members)
    }
}
