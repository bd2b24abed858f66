//! Objects in the making: which names may come, what they lead to, and how far their ends are.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::GrammarError;
use crate::bytes::ByteSet;
use crate::json::automaton::Automaton;
use crate::json::context::place;
use crate::json::frame::{Frame, Members, Name, Other, Outer, Stack};
use crate::json::machine::{Parser, Parses};
use crate::json::shape::{NEVER, NodeId, Others};
use crate::json::text::BOUNDARY;
use crate::literals::LiteralNode;
use crate::regex::dfa::DfaState;

/// What a closing quote leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The end of a value.
    End,
    /// The value of a declared property.
    Declared(u32),
    /// The value of another name.
    Other(NodeId),
}

/// Where a name stands among the declared ones, and as one of its own.
pub(crate) type NamePlace = (Option<LiteralNode>, Option<Other>);

impl Parser {
    pub(crate) fn step_object(
        &mut self,
        top: &Frame,
        outer: Option<&Arc<Outer>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        let stack = |top| Stack {
            top,
            outer: outer.cloned(),
        };
        match (top, byte) {
            (Frame::ObjectOpen(shape), _) => {
                let object = self.tables.object(*shape);
                let members = object.open(*shape);
                match byte {
                    b'}' if object.may_close(&members) => self.finished(outer, next),
                    b'"' => {
                        let ways = self.tables.ways_on(&members);
                        next.extend(ways.map(|way| stack(self.open_name(&members.by(way)))));
                    }
                    _ => {}
                }
            }
            (Frame::Object(members), b'}')
                if self.tables.object(members.shape).may_close(members) =>
            {
                self.finished(outer, next);
            }
            (Frame::Object(members), b',') => {
                let space = self.spaced;
                let due = |way| Frame::MemberDue {
                    members: members.by(way),
                    space,
                };
                next.extend(self.tables.ways_on(members).map(due).map(stack));
            }
            (
                Frame::MemberDue {
                    members,
                    space: true,
                },
                b' ',
            ) => {
                let (members, space) = (members.clone(), false);
                next.push(stack(Frame::MemberDue { members, space }));
            }
            (Frame::MemberDue { members, .. }, b'"') => {
                next.push(stack(self.open_name(members)));
            }
            (Frame::Name { members, name }, _) => {
                let longer = self.step_in_name(members, name, place(outer), byte)?;
                next.extend(longer.map(stack));
            }
            (Frame::Colon { members, value }, b':') => {
                self.reads.asked_member(place(outer));
                let cost = self.tables.object(members.shape).cost_after(members);
                let object = Frame::Object(members.clone());
                let (node, space) = (*value, self.spaced);
                next.push(Stack {
                    top: Frame::Start { node, space },
                    outer: Some(Outer::one(object, outer.cloned(), cost)),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// The bytes that may come in a name.
    pub(crate) fn name_bytes(&self, members: &Members, (declared, other): NamePlace) -> ByteSet {
        if other.is_some() {
            return ByteSet::ALL;
        }
        let names = &self.tables.object(members.shape).names;
        let declared = declared.map(|node| names.bytes(node));
        declared.unwrap_or_default().union(ByteSet::of(b"\""))
    }

    /// A quote continues a name exactly where a backslash is before it; elsewhere it ends the name.
    fn step_in_name(
        &mut self,
        members: &Members,
        name: &Name,
        place: u32,
        byte: u8,
    ) -> Result<Option<Frame>, GrammarError> {
        Ok(match self.step_name(members, name, place, byte)? {
            Some(name) => Some(Frame::Name {
                members: members.clone(),
                name: Box::new(name),
            }),
            None if byte == b'"' => {
                self.reads.closed_name(place);
                if !self.tables.object(members.shape).names_none(name) {
                    self.reads.members(place);
                }
                if name.other.is_some() {
                    self.reads.name(place, members);
                }
                let is_final = name.other.is_some() && self.is_final(members, &name.written)?;
                self.close_name(members, name, is_final)
            }
            None => None,
        })
    }

    pub(crate) fn open_name(&self, members: &Members) -> Frame {
        let object = self.tables.object(members.shape);
        let start = match object.others {
            Others::Matching { start, .. } => start,
            _ => 0,
        };
        let other = object.allows_other(members).then(|| Other::at(start));
        let name = Name {
            declared: (!object.names.is_empty()).then_some(0),
            other,
            written: SmallVec::new(),
        };
        Frame::Name {
            members: members.clone(),
            name: Box::new(name),
        }
    }

    /// A name one byte on in the object at `place`; `None` where none goes on so, or where it came already and
    /// can only end.
    pub(crate) fn step_name(
        &mut self,
        members: &Members,
        name: &Name,
        place: u32,
        byte: u8,
    ) -> Result<Option<Name>, GrammarError> {
        let next = self.step_place(members, (name.declared, name.other), place, byte)?;
        let Some((declared, mut other)) = next else {
            return Ok(None);
        };
        let mut written = name.written.clone();
        written.push(byte);
        let object = self.tables.object(members.shape);
        if let Some(next) = other
            && members.any_final()
        {
            self.reads.name(place, members);
            let automata = self.verdicts.patterns.automata.as_mut_slice();
            let is_reachable = |node| object.reachable(node, members).next().is_some();
            if members.came(&written)
                && is_final(object_automaton(&object.others), automata, next, &[])?
            {
                self.reads.members(place);
                if !declared.is_some_and(is_reachable) {
                    return Ok(None);
                }
                other = None;
            }
        }
        if other.is_none() {
            written.clear();
        }
        Ok(Some(Name {
            declared,
            other,
            written,
        }))
    }

    /// The place of a name one byte on, whatever names came, in the object at `place`.
    pub(crate) fn step_place(
        &mut self,
        members: &Members,
        (declared, other): NamePlace,
        place: u32,
        byte: u8,
    ) -> Result<Option<NamePlace>, GrammarError> {
        let object = self.tables.object(members.shape);
        let automata = self.verdicts.patterns.automata.as_mut_slice();
        let other = match other {
            None => None,
            Some(other) => step_other(object_automaton(&object.others), automata, other, byte)?,
        };
        let mut declared = declared.and_then(|node| object.names.child(node, byte));
        if let (Some(node), None) = (declared, other) {
            self.reads.members(place);
            declared = declared.filter(|_| object.reachable(node, members).next().is_some());
        }
        let is_dead = declared.is_none() && other.is_none();
        Ok((!is_dead).then_some((declared, other)))
    }

    /// What the name leads to if it ends here; `None` if it may not.
    pub(crate) fn way(&self, members: &Members, name: &Name) -> Option<Way> {
        let object = self.tables.object(members.shape);
        if let Some(idx) = name.declared.and_then(|node| object.names.literal(node)) {
            return object.allows(members, idx).then_some(Way::Declared(idx));
        }
        let other = name.other.filter(|other| other.text == BOUNDARY)?;
        let value = self.other_value(&object.others, other.state)?;
        (!members.came(&name.written)).then_some(Way::Other(value))
    }

    /// What a name leads to whatever follows that makes it none of the declared ones, if nothing else is
    /// asked of it.
    pub(crate) fn free_name(&self, members: &Members, name: &Name) -> Option<Way> {
        match (&self.tables.object(members.shape).others, name.other) {
            (Others::Any(value), Some(other)) if other.text == BOUNDARY => {
                members.used.is_none().then_some(Way::Other(*value))
            }
            _ => None,
        }
    }

    /// Whether a name that is not declared is final, in an object or its exception.
    fn is_final(&mut self, members: &Members, name: &[u8]) -> Result<bool, GrammarError> {
        let automata = self.verdicts.patterns.automata.as_mut_slice();
        for shape in self.tables.shapes_of(members.shape) {
            let others = &self.tables.object(shape).others;
            if let Others::Matching {
                start, runs_out, ..
            } = *others
                && runs_out
                && is_final(object_automaton(others), automata, Other::at(start), name)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The frame after the closing quote, if the name may end here.
    fn close_name(&self, members: &Members, name: &Name, is_final: bool) -> Option<Frame> {
        let object = self.tables.object(members.shape);
        let (whole, before) = self.tables.one_more(members);
        Some(match self.way(members, name)? {
            Way::Declared(idx) => Frame::Colon {
                members: whole.with(&before, idx),
                value: object.properties[idx as usize].node,
            },
            Way::Other(value) => Frame::Colon {
                members: whole.with_other(&before, &name.written, is_final),
                value,
            },
            Way::End => unreachable!("a name leads to a value"),
        })
    }

    /// The place of the value of a name that is not declared.
    pub(crate) fn other_value(&self, others: &Others, state: DfaState) -> Option<NodeId> {
        match others {
            Others::None => None,
            Others::Any(node) => Some(*node),
            Others::Matching {
                automaton, places, ..
            } => {
                let automaton = &self.verdicts.patterns.automata[*automaton as usize];
                automaton
                    .is_accepting(state)
                    .then(|| places.get(&automaton.marks(state)).copied())?
            }
        }
    }

    /// From within a name to the object's end, by the nearest declared name.
    pub(crate) fn declared_distance(&self, members: &Members, name: &Name) -> usize {
        let object = self.tables.object(members.shape);
        let Some(node) = name.declared else {
            return usize::MAX;
        };
        let (whole, before) = self.tables.one_more(members);
        let depth = object.names.depth(node) as usize;
        let through = |idx: u32| {
            let property = &object.properties[idx as usize];
            let value = self.tables.cost(property.node);
            let rest = whole.cost_after(&whole.with(&before, idx));
            value
                .saturating_add(property.n_name_bytes - depth + 2)
                .saturating_add(rest)
        };
        object
            .reachable(node, members)
            .map(through)
            .min()
            .unwrap_or(usize::MAX)
    }

    /// From within a name to the object's end, by a name that is not declared and has not come.
    pub(crate) fn other_distance(&mut self, members: &Members, name: &Name) -> usize {
        let Some(other) = name.other else {
            return usize::MAX;
        };
        let (whole, before) = self.tables.one_more(members);
        let rest = whole.cost_after(&whole.counted_with_other(&before));
        let mut written = name.written.clone();
        let nearest = self.nearest_free(members, &mut written, (name.declared, Some(other)), NEVER);
        nearest.saturating_add(rest).saturating_add(2)
    }
}

/// Index of the automaton of an object's names, if there is one.
pub(crate) fn object_automaton(others: &Others) -> Option<usize> {
    match others {
        Others::Matching { automaton, .. } => Some(*automaton as usize),
        _ => None,
    }
}

/// Whether a name that is not declared, and goes on with `rest`, can be no longer one.
pub(crate) fn is_final(
    automaton: Option<usize>,
    automata: &mut [Automaton],
    mut other: Other,
    rest: &[u8],
) -> Result<bool, GrammarError> {
    for &byte in rest {
        match step_other(automaton, automata, other, byte)? {
            Some(next) => other = next,
            None => return Ok(false),
        }
    }
    for byte in 0..=u8::MAX {
        if step_other(automaton, automata, other, byte)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A name that is not declared, one byte on.
pub(crate) fn step_other(
    automaton: Option<usize>,
    automata: &mut [Automaton],
    other: Other,
    byte: u8,
) -> Result<Option<Other>, GrammarError> {
    let Some(text) = other.text.step_canonical(byte) else {
        return Ok(None);
    };
    let state = match automaton {
        None => 0,
        Some(idx) => match automata[idx].step(other.state, byte)? {
            Some(state) => state,
            None => return Ok(None),
        },
    };
    Ok(Some(Other { text, state }))
}
