//! The JSON parser: a byte moves each parse of the output on, and a parse that no value can
//! complete is dropped at once.
//!
//! The text is compact: no white space. Members come in declared order, optional ones may be left
//! out, and names that are not declared come after the declared ones and never twice.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;
use smallvec::SmallVec;

use crate::json::compile::compile;
use crate::json::frame::{Frame, Link, Members, Name, Stack};
use crate::json::masks::JsonMasks;
use crate::json::number::Number;
use crate::json::shape::{NodeId, Shape, ShapeId, Tables};
use crate::json::text::BOUNDARY;
use crate::regex::dfa::Dfa;
use crate::{GrammarError, JsonOptions, Limits};

/// The parses of one output that are still possible, all different; never empty.
pub(crate) type Parses = SmallVec<[Stack; 1]>;

/// A compiled schema with its patterns' automata and the masks found so far.
#[derive(Debug)]
pub(crate) struct JsonLanguage {
    pub(crate) parser: Parser,
    pub(crate) masks: JsonMasks,
}

/// Moves parses on.
#[derive(Debug)]
pub(crate) struct Parser {
    pub(crate) tables: Tables,
    pub(crate) dfas: Vec<Dfa>,
    max_parses: usize,
    max_open: usize,
    max_steps: usize,
    n_steps: usize,
}

impl JsonLanguage {
    pub(crate) fn new(
        schema: &Value,
        _options: &JsonOptions,
        limits: &Limits,
    ) -> Result<Self, GrammarError> {
        let (tables, dfas) = compile(schema, limits)?;
        let parser = Parser {
            tables,
            dfas,
            max_parses: limits.parses,
            max_open: limits.open_values,
            max_steps: limits.mask_steps,
            n_steps: 0,
        };
        Ok(Self {
            parser,
            masks: JsonMasks::new(limits.mask_bytes),
        })
    }

    /// The empty output.
    pub(crate) fn start(&self) -> Parses {
        let top = Frame::Start(self.parser.tables.root);
        SmallVec::from_buf([Stack { top, outer: None }])
    }

    /// Grants the work of one operation.
    pub(crate) fn refuel(&mut self) {
        self.parser.n_steps = 0;
        self.parser.dfas.iter_mut().for_each(Dfa::refuel);
    }

    /// The parses after one more byte; `None` if none is left.
    pub(crate) fn step(
        &mut self,
        parses: &Parses,
        byte: u8,
    ) -> Result<Option<Parses>, GrammarError> {
        self.parser.step(parses, byte)
    }

    /// Whether some parse is whole.
    pub(crate) fn is_complete(&self, parses: &Parses) -> bool {
        parses.iter().any(|stack| match &stack.top {
            Frame::Done => true,
            top => stack.outer.is_none() && self.parser.may_end(top),
        })
    }

    /// Fewest bytes to a whole text.
    pub(crate) fn distance(&self, parses: &Parses) -> usize {
        self.parser.distance(parses)
    }
}

impl Parser {
    /// The parses after one more byte; `None` if none is left.
    pub(crate) fn step(
        &mut self,
        parses: &[Stack],
        byte: u8,
    ) -> Result<Option<Parses>, GrammarError> {
        let mut next = Parses::new();
        for stack in parses {
            self.step_stack(&stack.top, stack.outer.as_ref(), byte, &mut next)?;
        }
        if next.len() > 1 {
            self.deduplicate(&mut next)?;
        }
        self.n_steps += 1 + next.len();
        if self.n_steps > self.max_steps {
            return Err(over("a mask", "mask_steps", self.max_steps));
        }
        Ok(if next.is_empty() { None } else { Some(next) })
    }

    /// Fewest bytes to a whole text.
    pub(crate) fn distance(&self, parses: &[Stack]) -> usize {
        let distance = |stack: &Stack| {
            let outer = stack.outer.as_ref().map_or(0, |outer| outer.cost);
            self.frame_distance(&stack.top).saturating_add(outer)
        };
        parses.iter().map(distance).min().unwrap_or(usize::MAX)
    }

    /// What a name that is not declared leaves to the object's end beyond its half-written code
    /// point: at least, at most.
    pub(crate) fn name_offsets(&self, members: &Members) -> (usize, usize) {
        let value = self
            .tables
            .object(members.shape)
            .additional_at(members.next);
        let cost = value.map_or(0, |value| self.tables.nodes[value as usize].cost);
        // A declared name that this one might still become can be nearer, by any measure.
        (0, cost.saturating_add(5))
    }

    fn deduplicate(&self, parses: &mut Parses) -> Result<(), GrammarError> {
        let mut distinct = Parses::new();
        for stack in parses.drain(..) {
            if !distinct.contains(&stack) {
                distinct.push(stack);
            }
        }
        *parses = distinct;
        if parses.len() > self.max_parses {
            return Err(over("the output", "parses", self.max_parses));
        }
        Ok(())
    }

    fn step_stack(
        &mut self,
        top: &Frame,
        outer: Option<&Arc<Link>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        match top {
            Frame::Done => Ok(()),
            Frame::Start(node) => self.begin(*node, outer, byte, next),
            Frame::Literal { .. } | Frame::Number { .. } => match self.continued(top, byte) {
                Some(top) => {
                    next.push(Stack {
                        top,
                        outer: outer.cloned(),
                    });
                    Ok(())
                }
                None => self.end_and_step(top, outer, byte, next),
            },
            Frame::String { shape, body } => {
                let strings = self.tables.string(*shape);
                if byte == b'"' && body.text == BOUNDARY {
                    if strings.can_close(body, &self.dfas) {
                        next.push(closed(outer));
                    }
                } else if let Some(body) = strings.step(*body, byte, &mut self.dfas)? {
                    let top = Frame::String {
                        shape: *shape,
                        body,
                    };
                    next.push(Stack {
                        top,
                        outer: outer.cloned(),
                    });
                }
                Ok(())
            }
            Frame::ArrayOpen(shape) => self.step_array(*shape, 0, true, outer, byte, next),
            Frame::Array { shape, n_items } => {
                self.step_array(*shape, *n_items, false, outer, byte, next)
            }
            Frame::ObjectOpen(_)
            | Frame::MemberDue(_)
            | Frame::Name { .. }
            | Frame::Colon { .. }
            | Frame::Object(_) => self.step_object(top, outer, byte, next),
        }
    }

    /// A value without a closing byte, one byte on.
    fn continued(&self, top: &Frame, byte: u8) -> Option<Frame> {
        match *top {
            Frame::Literal { shape, node } => {
                let node = self.tables.literals(shape).child(node, byte)?;
                Some(Frame::Literal { shape, node })
            }
            Frame::Number { shape, number } => {
                let number = self.tables.number(shape).step(number, byte)?;
                Some(Frame::Number { shape, number })
            }
            _ => None,
        }
    }

    /// The first byte of a value.
    fn begin(
        &mut self,
        node: NodeId,
        outer: Option<&Arc<Link>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        for &shape in &self.tables.nodes[node as usize].shapes {
            let top = match &self.tables.shapes[shape as usize] {
                Shape::Literals(trie) => trie
                    .child(0, byte)
                    .map(|node| Frame::Literal { shape, node }),
                Shape::String(strings) => (byte == b'"').then(|| Frame::String {
                    shape,
                    body: strings.open(),
                }),
                Shape::Number(numbers) => numbers
                    .step(Number::START, byte)
                    .map(|number| Frame::Number { shape, number }),
                Shape::Array(_) => (byte == b'[').then_some(Frame::ArrayOpen(shape)),
                Shape::Object(_) => (byte == b'{').then_some(Frame::ObjectOpen(shape)),
            };
            let Some(top) = top else { continue };
            if outer.is_some_and(|outer| outer.depth as usize >= self.max_open) {
                return Err(over("the output", "open_values", self.max_open));
            }
            next.push(Stack {
                top,
                outer: outer.cloned(),
            });
        }
        Ok(())
    }

    /// A byte that does not continue the top value, which ends if it may; the byte is then the
    /// outer value's.
    fn end_and_step(
        &mut self,
        top: &Frame,
        outer: Option<&Arc<Link>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        match outer {
            Some(link) if self.may_end(top) => {
                self.step_stack(&link.frame, link.outer.as_ref(), byte, next)
            }
            _ => Ok(()),
        }
    }

    /// Whether a value without a closing byte of its own is whole.
    fn may_end(&self, top: &Frame) -> bool {
        match top {
            Frame::Literal { shape, node } => self.tables.literals(*shape).literal(*node).is_some(),
            Frame::Number { shape, number } => self.tables.number(*shape).is_complete(*number),
            _ => false,
        }
    }

    fn step_array(
        &mut self,
        shape: ShapeId,
        n_items: u32,
        open: bool,
        outer: Option<&Arc<Link>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        let array = self.tables.array(shape);
        if byte == b']' {
            if n_items >= array.min {
                next.push(closed(outer));
            }
            return Ok(());
        }
        let Some(item) = array.item(n_items) else {
            return Ok(());
        };
        if !open && byte != b',' {
            return Ok(());
        }
        let n_items = array.saturated(n_items + 1);
        let cost = array.cost_after(n_items);
        let frame = Frame::Array { shape, n_items };
        if !open {
            let link = Arc::new(Link::new(frame, outer.cloned(), cost));
            next.push(Stack {
                top: Frame::Start(item),
                outer: Some(link),
            });
            return Ok(());
        }
        let link = Arc::new(Link::new(frame, outer.cloned(), cost));
        self.begin(item, Some(&link), byte, next)
    }

    fn step_object(
        &self,
        top: &Frame,
        outer: Option<&Arc<Link>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        let stack = |top| Stack {
            top,
            outer: outer.cloned(),
        };
        match (top, byte) {
            (Frame::ObjectOpen(shape), _) => {
                let members = Members {
                    shape: *shape,
                    next: 0,
                    used: None,
                };
                match byte {
                    b'}' if self.may_close(&members) => next.push(closed(outer)),
                    b'"' if self.member_may_follow(&members) => {
                        next.push(stack(self.open_name(&members)));
                    }
                    _ => {}
                }
            }
            (Frame::Object(members), b'}') if self.may_close(members) => next.push(closed(outer)),
            (Frame::Object(members), b',') if self.member_may_follow(members) => {
                next.push(stack(Frame::MemberDue(members.clone())));
            }
            (Frame::MemberDue(members), b'"') => next.push(stack(self.open_name(members))),
            // A quote continues a name exactly where a backslash is before it; elsewhere it ends
            // the name.
            (Frame::Name { members, name }, _) => match self.step_name(members, *name, byte) {
                Some(name) => next.push(stack(Frame::Name {
                    members: members.clone(),
                    name,
                })),
                None if byte == b'"' => next.extend(self.close_name(members, *name).map(stack)),
                None => {}
            },
            (Frame::Colon { members, value }, b':') => {
                let cost =
                    self.tables.object(members.shape).required_costs[members.next as usize] + 1;
                let link = Link::new(Frame::Object(members.clone()), outer.cloned(), cost);
                next.push(Stack {
                    top: Frame::Start(*value),
                    outer: Some(Arc::new(link)),
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn may_close(&self, members: &Members) -> bool {
        let object = self.tables.object(members.shape);
        object.next_required[members.next as usize] as usize == object.properties.len()
    }

    fn member_may_follow(&self, members: &Members) -> bool {
        let object = self.tables.object(members.shape);
        (members.next as usize) < object.properties.len()
            || object.additional_at(members.next).is_some()
    }

    fn open_name(&self, members: &Members) -> Frame {
        let object = self.tables.object(members.shape);
        let name = Name {
            declared: (!object.names.is_empty()).then_some(0),
            text: object.additional_at(members.next).map(|_| BOUNDARY),
            hash: DefaultHasher::new().finish(),
        };
        Frame::Name {
            members: members.clone(),
            name,
        }
    }

    fn step_name(&self, members: &Members, name: Name, byte: u8) -> Option<Name> {
        let object = self.tables.object(members.shape);
        let text = name.text.and_then(|text| text.step_canonical(byte));
        let declared = name
            .declared
            .and_then(|node| object.names.child(node, byte))
            .filter(|&node| text.is_some() || !object.reachable(node, members.next).is_empty());
        if text.is_none() && declared.is_none() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (name.hash, byte).hash(&mut hasher);
        Some(Name {
            declared,
            text,
            hash: hasher.finish(),
        })
    }

    /// The frame after the closing quote, if the name may end here.
    fn close_name(&self, members: &Members, name: Name) -> Option<Frame> {
        let object = self.tables.object(members.shape);
        if let Some(idx) = name.declared.and_then(|node| object.names.literal(node)) {
            let due = members.next..object.end(members.next);
            let members = Members {
                next: idx + 1,
                ..members.clone()
            };
            let value = object.properties.get(idx as usize)?.node;
            return due
                .contains(&idx)
                .then_some(Frame::Colon { members, value });
        }
        let value = object
            .additional_at(members.next)
            .filter(|_| name.text == Some(BOUNDARY))?;
        let used = members.used.as_deref().unwrap_or_default();
        if used.contains(&name.hash) {
            return None;
        }
        let used = Some(used.iter().copied().chain([name.hash]).collect());
        let next = object.properties.len() as u32;
        Some(Frame::Colon {
            members: Members {
                shape: members.shape,
                next,
                used,
            },
            value,
        })
    }

    /// Fewest bytes to the end of the top value.
    fn frame_distance(&self, top: &Frame) -> usize {
        let cost = |node: &NodeId| self.tables.nodes[*node as usize].cost;
        match top {
            Frame::Start(node) => cost(node),
            Frame::Literal { shape: id, node } => {
                self.tables.literals(*id).distance(*node) as usize
            }
            Frame::String { shape: id, body } => {
                self.tables.string(*id).distance(body, &self.dfas) + 1
            }
            Frame::Number { shape: id, number } => self.tables.number(*id).distance(*number),
            Frame::ArrayOpen(id) => {
                let array = self.tables.array(*id);
                array.cost_after(0) - usize::from(array.min > 0)
            }
            Frame::Array { shape, n_items } => self.tables.array(*shape).cost_after(*n_items),
            Frame::ObjectOpen(id) => {
                let object = self.tables.object(*id);
                let required = object.required_costs[0];
                required + 1 - usize::from(required > 0)
            }
            Frame::Object(members) => {
                self.tables.object(members.shape).required_costs[members.next as usize] + 1
            }
            Frame::MemberDue(members) => {
                let object = self.tables.object(members.shape);
                let declared = object.member_costs[members.next as usize].saturating_add(1);
                let Frame::Name { name, .. } = self.open_name(members) else {
                    unreachable!("{MISMATCH}")
                };
                declared.min(self.additional_distance(members, name).saturating_add(1))
            }
            Frame::Name { members, name } => self
                .declared_distance(members, *name)
                .min(self.additional_distance(members, *name)),
            Frame::Colon { members, value } => {
                let rest = self.tables.object(members.shape).required_costs[members.next as usize];
                cost(value).saturating_add(rest + 2)
            }
            Frame::Done => 0,
        }
    }

    /// From within a name to the object's end, by the nearest declared name.
    fn declared_distance(&self, members: &Members, name: Name) -> usize {
        let object = self.tables.object(members.shape);
        let Some(node) = name.declared else {
            return usize::MAX;
        };
        let through = |&idx: &u32| {
            let property = &object.properties[idx as usize];
            let value = self.tables.nodes[property.node as usize].cost;
            let rest = property.n_name_bytes - object.names.depth(node) as usize + 3;
            value.saturating_add(rest + object.required_costs[idx as usize + 1])
        };
        object
            .reachable(node, members.next)
            .iter()
            .map(through)
            .min()
            .unwrap_or(usize::MAX)
    }

    /// From within a name to the object's end, by a name that is not declared: this one, or one a
    /// byte longer, or, where those are all taken or a code point is half written, one longer by
    /// two.
    fn additional_distance(&self, members: &Members, name: Name) -> usize {
        let object = self.tables.object(members.shape);
        let (Some(value), Some(text)) = (object.additional_at(members.next), name.text) else {
            return usize::MAX;
        };
        let closes = |name: Name| {
            name.declared
                .and_then(|node| object.names.literal(node))
                .is_none()
                && name.text == Some(BOUNDARY)
                && self.close_name(members, name).is_some()
        };
        let longer = |byte| self.step_name(members, name, byte).is_some_and(closes);
        let n_more = if text != BOUNDARY {
            text.distance() + 2
        } else if closes(name) {
            0
        } else if (0x20..0x7F).any(longer) {
            1
        } else {
            2
        };
        self.tables.nodes[value as usize]
            .cost
            .saturating_add(n_more + 3)
    }
}

const MISMATCH: &str = "a frame is made from a shape of its own kind";

/// The stack once its top value has closed.
fn closed(outer: Option<&Arc<Link>>) -> Stack {
    match outer {
        Some(link) => Stack {
            top: link.frame.clone(),
            outer: link.outer.clone(),
        },
        None => Stack {
            top: Frame::Done,
            outer: None,
        },
    }
}

fn over(what: &str, limit: &'static str, allowed: usize) -> GrammarError {
    GrammarError::Limit {
        what: what.into(),
        limit,
        allowed,
    }
}
