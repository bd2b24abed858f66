//! The JSON parser: a byte moves each parse of the output on, and a parse that no value can
//! complete is dropped at once.
//!
//! White space stands where the options allow it, and is never mandatory. A name never comes twice
//! in an object.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde_json::Value;
use smallvec::SmallVec;

use crate::bytes::ByteSet;
use crate::json::automaton::Automaton;
use crate::json::compile::compile;
use crate::json::context::Reads;
use crate::json::frame::{Frame, Items, Link, Members, Outer, Stack};
use crate::json::masks::JsonMasks;
use crate::json::nearest::NearestValues;
use crate::json::number::Number;
use crate::json::shape::{GuardId, NodeId, Shape, Tables};
use crate::json::text::BOUNDARY;
use crate::json::values::hash;
use crate::json::verdict::Verdicts;
use crate::{GrammarError, JsonOptions, Limits, Whitespace};

/// Parses up to which tops are compared with each other, and not hashed.
const FEW_PARSES: usize = 8;

/// The parses of one output that are still possible, all different; never empty.
pub(crate) type Parses = SmallVec<[Stack; 1]>;

/// Where an output stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JsonState {
    pub(crate) parses: Parses,
    /// Bytes of the output, where they are kept.
    n_bytes: u32,
}

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
    pub(crate) verdicts: Verdicts,
    /// The output's bytes, as far as the state at hand goes; only kept where something asks for them.
    text: Vec<u8>,
    keeps_text: bool,
    /// What the walk under way has looked at.
    pub(crate) reads: Reads,
    pub(crate) spaced: bool,
    /// How far the ends of values are from within names.
    pub(crate) nearest: NearestValues,
    max_parses: usize,
    max_open: usize,
    max_steps: usize,
    n_steps: usize,
}

impl JsonLanguage {
    pub(crate) fn new(
        schema: &Value,
        options: &JsonOptions,
        limits: &Limits,
    ) -> Result<Self, GrammarError> {
        let (tables, verdicts) = compile(schema, options, limits)?;
        let is_different = |shape: &Shape| matches!(shape, Shape::Array(a) if a.different);
        let parser = Parser {
            keeps_text: !tables.guards.is_empty() || tables.shapes.iter().any(is_different),
            tables,
            verdicts,
            text: Vec::new(),
            reads: Reads::default(),
            nearest: NearestValues::default(),
            spaced: options.whitespace == Whitespace::Spaced,
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
    pub(crate) fn start(&self) -> JsonState {
        let node = self.parser.tables.root;
        let top = Frame::Start { node, space: false };
        JsonState {
            parses: SmallVec::from_buf([Stack {
                top,
                outer: Some(Outer::end()),
            }]),
            n_bytes: 0,
        }
    }

    /// Whether the bytes of the output are needed.
    pub(crate) fn keeps_text(&self) -> bool {
        self.parser.keeps_text
    }

    /// Grants the work of one operation on an output whose bytes are `text`.
    pub(crate) fn begin(&mut self, text: &[u8]) {
        let parser = &mut self.parser;
        parser.n_steps = 0;
        parser
            .verdicts
            .patterns
            .automata
            .iter_mut()
            .for_each(Automaton::refuel);
        if parser.keeps_text {
            parser.text.clear();
            parser.text.extend_from_slice(text);
        }
    }

    /// The state after one more byte; `None` if no parse is left. States are visited depth first:
    /// those bytes of the output that are kept are the state's own.
    pub(crate) fn step(
        &mut self,
        state: &JsonState,
        byte: u8,
    ) -> Result<Option<JsonState>, GrammarError> {
        let parses = self.parser.step(&state.parses, state.n_bytes, byte)?;
        Ok(parses.map(|parses| JsonState {
            parses,
            n_bytes: state.n_bytes + u32::from(self.parser.keeps_text),
        }))
    }

    /// Whether some parse is whole.
    pub(crate) fn is_complete(&mut self, state: &JsonState) -> bool {
        let parser = &mut self.parser;
        parser.truncate(state.n_bytes);
        state.parses.iter().any(|stack| {
            if stack.top == Frame::Done {
                return true;
            }
            let mut ended = Parses::new();
            let links = stack.outer.iter().flat_map(|outer| &outer.links);
            parser.may_end(&stack.top)
                && links
                    .map(|link| parser.close(link, &mut ended))
                    .all(|closed| closed.is_ok())
                && ended.iter().any(|stack| stack.top == Frame::Done)
        })
    }

    /// Fewest bytes to a whole text.
    pub(crate) fn distance(&mut self, state: &JsonState) -> usize {
        self.parser.distance(&state.parses)
    }
}

impl JsonState {
    /// The state of a part of the parses.
    pub(crate) fn of(&self, stack: Stack) -> Self {
        Self {
            parses: SmallVec::from_buf([stack]),
            n_bytes: self.n_bytes,
        }
    }
}

impl Parser {
    fn truncate(&mut self, n_bytes: u32) {
        if self.keeps_text {
            self.text.truncate(n_bytes as usize);
        }
    }

    /// Makes the kept bytes of the output those of a state and some more.
    pub(crate) fn rewrite(&mut self, state: &JsonState, more: &[u8]) {
        if self.keeps_text {
            self.truncate(state.n_bytes);
            self.text.extend_from_slice(more);
        }
    }

    /// The parses after one more byte than `n_bytes`; `None` if none is left.
    fn step(
        &mut self,
        parses: &[Stack],
        n_bytes: u32,
        byte: u8,
    ) -> Result<Option<Parses>, GrammarError> {
        self.truncate(n_bytes);
        let mut next = Parses::with_capacity(parses.len());
        for stack in parses {
            self.step_stack(&stack.top, stack.outer.as_ref(), byte, &mut next)?;
        }
        if self.keeps_text {
            self.text.push(byte);
            self.close_finished(&mut next)?;
        }
        self.n_steps += 1 + next.len();
        if next.len() > 1 {
            self.merge(&mut next)?;
        }
        if self.n_steps > self.max_steps {
            return Err(over("a mask", "mask_steps", self.max_steps));
        }
        Ok(if next.is_empty() { None } else { Some(next) })
    }

    /// Fewest bytes to a whole text.
    pub(crate) fn distance(&mut self, parses: &[Stack]) -> usize {
        let distance = |stack: &Stack| {
            self.frame_distance(&stack.top)
                .saturating_add(stack.outer_cost())
        };
        parses.iter().map(distance).min().unwrap_or(usize::MAX)
    }

    /// What a name that is not declared leaves to the object's end beyond its half-written code
    /// point: at least, at most.
    pub(crate) fn name_offsets(&self, members: &Members) -> (usize, usize) {
        let object = self.tables.object(members.shape);
        let (whole, before) = self.tables.one_more(members);
        let most = object.other_rest.saturating_add(whole.cost_after(&before));
        // A declared name that this one might still become can be nearer, by any measure.
        (0, most.saturating_add(5))
    }

    /// Makes one stack of those with equal tops.
    fn merge(&self, parses: &mut Parses) -> Result<(), GrammarError> {
        let places = places_of_tops(parses);
        let n_merged = places.iter().max().map_or(0, |last| last + 1);
        if n_merged < parses.len() {
            let mut merged = Parses::with_capacity(n_merged);
            let mut same: SmallVec<[(usize, Stack); 1]> = SmallVec::new();
            for (stack, place) in parses.drain(..).zip(places) {
                match place == merged.len() {
                    true => merged.push(stack),
                    false => same.push((place, stack)),
                }
            }
            same.sort_by_key(|(place, _)| *place);
            let mut same = same.into_iter().peekable();
            while let Some(&(place, _)) = same.peek() {
                let alike = std::iter::from_fn(|| same.next_if(|(other, _)| *other == place));
                merged[place].unite(alike.map(|(_, stack)| stack));
            }
            *parses = merged;
        }
        if parses.len() > self.max_parses {
            return Err(over("the output", "parses", self.max_parses));
        }
        Ok(())
    }

    fn step_stack(
        &mut self,
        top: &Frame,
        outer: Option<&Arc<Outer>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        if !self.bytes_after(top).contains(byte) {
            return Ok(());
        }
        let stack = |top| Stack {
            top,
            outer: outer.cloned(),
        };
        match top {
            Frame::Done | Frame::Guard { .. } => Ok(()),
            Frame::Start { node, space: true } if byte == b' ' => {
                let (node, space) = (*node, false);
                next.push(stack(Frame::Start { node, space }));
                Ok(())
            }
            Frame::Start { node, .. } => self.begin_anywhere(*node, outer, byte, next),
            Frame::Literal { .. } | Frame::Number { .. } => match self.continued(top, byte) {
                Some(top) => {
                    next.push(stack(top));
                    Ok(())
                }
                None => self.end_and_step(top, outer, byte, next),
            },
            Frame::String { shape, body } => {
                let strings = self.tables.string(*shape);
                let automata = &mut self.verdicts.patterns.automata;
                if byte == b'"' && body.text == BOUNDARY {
                    if strings.can_close(body, automata) {
                        self.finished(outer, next);
                    }
                } else if let Some(body) = strings.step(*body, byte, automata)? {
                    let shape = *shape;
                    next.push(stack(Frame::String { shape, body }));
                }
                Ok(())
            }
            Frame::ArrayOpen(items) => self.step_array(items, true, outer, byte, next),
            Frame::Array(items) => self.step_array(items, false, outer, byte, next),
            Frame::ObjectOpen(_)
            | Frame::MemberDue { .. }
            | Frame::Name { .. }
            | Frame::Colon { .. }
            | Frame::Object(_) => self.step_object(top, outer, byte, next),
        }
    }

    /// Whether the top is a string that any text may go on with.
    pub(crate) fn takes_any_text(&self, top: &Frame) -> bool {
        match top {
            Frame::String { shape, body } => self.tables.string(*shape).takes_any(body),
            _ => false,
        }
    }

    /// The bytes that may come next in some parse, as far as is seen at a glance: most are refused so.
    pub(crate) fn next_bytes(&self, state: &JsonState) -> ByteSet {
        let tops = state
            .parses
            .iter()
            .map(|stack| self.bytes_after(&stack.top));
        tops.fold(ByteSet::default(), ByteSet::union)
    }

    fn bytes_after(&self, top: &Frame) -> ByteSet {
        const ENDS: ByteSet = ByteSet::of(b",]}");
        match top {
            Frame::Done | Frame::Guard { .. } => ByteSet::default(),
            Frame::Start { node, space } => {
                let mut first = self.tables.nodes[*node as usize].first;
                if *space {
                    first.insert(b' ');
                }
                first
            }
            Frame::Literal { shape, node, .. } => {
                self.tables.literals(*shape).trie.bytes(*node).union(ENDS)
            }
            Frame::Number { .. } => ByteSet::of(b"0123456789.eE+-").union(ENDS),
            Frame::Array(_) => ByteSet::of(b",]"),
            Frame::ObjectOpen(_) => ByteSet::of(b"\"}"),
            Frame::MemberDue { .. } => ByteSet::of(b"\" "),
            Frame::Name { members, name } => self.name_bytes(members, (name.declared, name.other)),
            Frame::Colon { .. } => ByteSet::of(b":"),
            Frame::Object(_) => ByteSet::of(b",}"),
            Frame::ArrayOpen(items) => {
                let places = self.tables.array(items.shape).places(items.n).iter();
                let first = places.map(|&place| self.tables.nodes[place as usize].first);
                first.fold(ByteSet::of(b"]"), ByteSet::union)
            }
            Frame::String { .. } => ByteSet::ALL,
        }
    }

    /// A value without a closing byte, one byte on.
    fn continued(&self, top: &Frame, byte: u8) -> Option<Frame> {
        match top {
            Frame::Literal { shape, node, used } => {
                let literals = self.tables.literals(*shape);
                let node = literals.trie.child(*node, byte)?;
                if let Some(used) = used {
                    let mut below = literals.trie.below(node).iter();
                    below.find(|&&idx| !used.contains(&literals.hashes[idx as usize]))?;
                }
                Some(Frame::Literal {
                    shape: *shape,
                    node,
                    used: used.clone(),
                })
            }
            Frame::Number { shape, number } => {
                let number = self.tables.number(*shape).step(*number, byte)?;
                let shape = *shape;
                Some(Frame::Number { shape, number })
            }
            _ => None,
        }
    }

    /// The first byte of a value, wherever it stands.
    fn begin_anywhere(
        &mut self,
        node: NodeId,
        outer: Option<&Arc<Outer>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        let links = outer.map_or(&[][..], |outer| &outer.links);
        if links
            .iter()
            .all(|link| self.excluded(&link.frame).is_none())
        {
            return self.begin(node, outer, None, byte, next);
        }
        self.reads.ended_into(outer);
        for link in links {
            let one = Outer::of(SmallVec::from_buf([link.clone()]));
            let used = self.excluded(&link.frame).cloned();
            self.begin(node, Some(&one), used.as_ref(), byte, next)?;
        }
        Ok(())
    }

    /// The listed values that an item of this array must not become.
    fn excluded<'f>(&self, frame: &'f Frame) -> Option<&'f Arc<[u64]>> {
        match frame {
            Frame::Array(items) if self.tables.array(items.shape).excludes => {
                items.different.as_ref().map(|(hashes, _)| hashes)
            }
            _ => None,
        }
    }

    /// The first byte of a value that must not become one of those `used`.
    fn begin(
        &mut self,
        node: NodeId,
        outer: Option<&Arc<Outer>>,
        used: Option<&Arc<[u64]>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        for &(shape, guard) in &self.tables.nodes[node as usize].shapes {
            let top = match &self.tables.shapes[shape as usize] {
                Shape::Literals(_) => {
                    let (node, used) = (0, used.cloned());
                    self.continued(&Frame::Literal { shape, node, used }, byte)
                }
                Shape::String(strings) => (byte == b'"').then(|| Frame::String {
                    shape,
                    body: strings.open(),
                }),
                Shape::Number(numbers) => numbers
                    .step(Number::START, byte)
                    .map(|number| Frame::Number { shape, number }),
                Shape::Array(array) => (byte == b'[').then(|| {
                    Frame::ArrayOpen(Items {
                        shape,
                        n: 0,
                        contained: SmallVec::from_elem(0, array.contains.len()),
                        different: array.different.then(|| (Arc::from([]), 0)),
                    })
                }),
                Shape::Object(_) => (byte == b'{').then_some(Frame::ObjectOpen(shape)),
            };
            let Some(top) = top else { continue };
            if outer.is_some_and(|outer| outer.depth as usize >= self.max_open) {
                return Err(over("the output", "open_values", self.max_open));
            }
            let outer = match guard {
                None => outer.cloned(),
                Some(guard) => {
                    let start = self.text.len() as u32;
                    let frame = Frame::Guard { guard, start };
                    Some(Outer::one(frame, outer.cloned(), 0))
                }
            };
            next.push(Stack { top, outer });
        }
        Ok(())
    }

    /// A byte that does not continue the top value, which ends if it may; the byte is then the
    /// outer value's.
    fn end_and_step(
        &mut self,
        top: &Frame,
        outer: Option<&Arc<Outer>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        if !ends_value(byte) || !self.may_end(top) {
            return Ok(());
        }
        self.reads.ended_into(outer);
        for link in outer.iter().flat_map(|outer| &outer.links) {
            if !link.frame.asks_for_text() {
                self.step_stack(&link.frame, link.outer.as_ref(), byte, next)?;
                continue;
            }
            let mut ended = Parses::new();
            self.close(link, &mut ended)?;
            for stack in ended {
                self.step_stack(&stack.top, stack.outer.as_ref(), byte, next)?;
            }
        }
        Ok(())
    }

    /// Whether a literal is whole and no other begins with it.
    pub(crate) fn can_only_end(&self, top: &Frame) -> bool {
        match top {
            Frame::Literal { shape, node, .. } => self.tables.literals(*shape).trie.is_leaf(*node),
            _ => false,
        }
    }

    /// Whether a value without a closing byte of its own is whole.
    pub(crate) fn may_end(&self, top: &Frame) -> bool {
        match top {
            Frame::Literal { shape, node, .. } => {
                self.tables.literals(*shape).trie.literal(*node).is_some()
            }
            Frame::Number { shape, number } => self.tables.number(*shape).is_complete(*number),
            _ => false,
        }
    }

    /// The stacks once a value within `link` has ended, where the text up to here passes what is
    /// around it.
    fn close(&mut self, link: &Link, next: &mut Parses) -> Result<(), GrammarError> {
        let top = match &link.frame {
            Frame::Guard { guard, start } => {
                if self.passes(*guard, *start)? {
                    for link in link.outer.iter().flat_map(|outer| &outer.links) {
                        self.close(link, next)?;
                    }
                }
                return Ok(());
            }
            Frame::Array(items) if items.different.is_some() => match self.with_different(items) {
                Some(items) => Frame::Array(items),
                None => return Ok(()),
            },
            frame => frame.clone(),
        };
        let outer = link.outer.clone();
        next.push(Stack { top, outer });
        Ok(())
    }

    /// Ends what a closing byte has ended, now that the byte is part of the text.
    fn close_finished(&mut self, parses: &mut Parses) -> Result<(), GrammarError> {
        let asks = |stack: &Stack| matches!(stack.top, Frame::Guard { .. });
        if !parses.iter().any(asks) {
            return Ok(());
        }
        let mut closed = Parses::new();
        for stack in parses.drain(..) {
            if !asks(&stack) {
                closed.push(stack);
                continue;
            }
            for link in stack.outer.iter().flat_map(|outer| &outer.links) {
                self.close(link, &mut closed)?;
            }
        }
        *parses = closed;
        Ok(())
    }

    fn passes(&mut self, guard: GuardId, start: u32) -> Result<bool, GrammarError> {
        self.reads.text();
        let forms = &self.tables.guards[guard as usize];
        self.verdicts.hold(forms, &self.text[start as usize..])
    }

    /// An array of different items after one more; `None` if that is like one before.
    fn with_different(&mut self, items: &Items) -> Option<Items> {
        self.reads.text();
        let (hashes, start) = items.different.as_ref()?;
        let item: Value = serde_json::from_slice(&self.text[*start as usize..]).ok()?;
        let hash = hash(&item);
        if hashes.contains(&hash) {
            return None;
        }
        let hashes = hashes.iter().copied().chain([hash]).collect();
        Some(Items {
            different: Some((hashes, 0)),
            ..items.clone()
        })
    }

    fn step_array(
        &mut self,
        items: &Items,
        open: bool,
        outer: Option<&Arc<Outer>>,
        byte: u8,
        next: &mut Parses,
    ) -> Result<(), GrammarError> {
        let array = self.tables.array(items.shape);
        let may_close = items.n >= array.bounds.min
            && array
                .contains
                .iter()
                .zip(&items.contained)
                .all(|(b, &n)| n >= b.min);
        if byte == b']' {
            if may_close {
                self.finished(outer, next);
            }
            return Ok(());
        }
        if array.bounds.max.is_some_and(|max| items.n >= max) || (!open && byte != b',') {
            return Ok(());
        }
        let cost = |node: NodeId| self.tables.cost(node);
        let mut begun: SmallVec<[(NodeId, Arc<Outer>); 1]> = SmallVec::new();
        for (set, &place) in array.places(items.n).iter().enumerate() {
            if cost(place) == usize::MAX {
                continue;
            }
            let mut after = items.clone();
            after.n = array.saturated(items.n + 1);
            for (idx, (count, bounds)) in
                after.contained.iter_mut().zip(&array.contains).enumerate()
            {
                *count += (set >> idx & 1) as u32;
                if bounds.max.is_none() {
                    *count = (*count).min(bounds.min);
                }
            }
            if !array.can_follow(&after) {
                continue;
            }
            if let Some((_, start)) = &mut after.different {
                *start = self.text.len() as u32 + u32::from(!open);
            }
            let rest = array.cost_after(after.n, &after.contained, &cost);
            if rest == usize::MAX {
                continue;
            }
            begun.push((place, Outer::one(Frame::Array(after), outer.cloned(), rest)));
        }
        for (node, outer) in begun {
            if open {
                self.begin_anywhere(node, Some(&outer), byte, next)?;
            } else {
                let space = self.spaced;
                next.push(Stack {
                    top: Frame::Start { node, space },
                    outer: Some(outer),
                });
            }
        }
        Ok(())
    }

    /// The stacks once a value within `outer` has ended. What asks for the value's text is left to be
    /// done once the closing byte is part of it: a guard's frame on top says so.
    pub(crate) fn finished(&mut self, outer: Option<&Arc<Outer>>, next: &mut Parses) {
        self.reads.ended_into(outer);
        let mut asking = SmallVec::new();
        for link in outer.iter().flat_map(|outer| &outer.links) {
            if link.frame.asks_for_text() {
                asking.push(link.clone());
            } else {
                next.push(link.as_stack());
            }
        }
        if !asking.is_empty() {
            let (guard, start) = (GuardId::MAX, 0);
            next.push(Stack {
                top: Frame::Guard { guard, start },
                outer: Some(Outer::of(asking)),
            });
        }
    }

    /// Fewest bytes to the end of the top value.
    fn frame_distance(&mut self, top: &Frame) -> usize {
        let tables = &self.tables;
        let cost = |node: NodeId| tables.cost(node);
        match top {
            Frame::Start { node, .. } => cost(*node),
            Frame::Literal {
                shape: id, node, ..
            } => self.tables.literals(*id).trie.distance(*node) as usize,
            Frame::String { shape: id, body } => {
                let automata = &self.verdicts.patterns.automata;
                self.tables
                    .string(*id)
                    .distance(body, automata)
                    .saturating_add(1)
            }
            Frame::Number { shape: id, number } => self.tables.number(*id).distance(*number),
            Frame::ArrayOpen(items) => {
                let array = self.tables.array(items.shape);
                let has_items = array.bounds.min > 0 || array.contains.iter().any(|b| b.min > 0);
                let rest = array.cost_after(0, &items.contained, &cost);
                rest.saturating_sub(usize::from(has_items))
            }
            Frame::Array(items) => {
                let array = self.tables.array(items.shape);
                array.cost_after(items.n, &items.contained, &cost)
            }
            Frame::ObjectOpen(id) => self.tables.object(*id).whole_cost().saturating_sub(1),
            Frame::Object(members) => self.tables.object(members.shape).cost_after(members),
            Frame::MemberDue { members, .. } => {
                let opened = self.open_name(members);
                self.frame_distance(&opened).saturating_add(1)
            }
            Frame::Name { members, name } => self
                .declared_distance(members, name)
                .min(self.other_distance(members, name)),
            Frame::Colon { members, value } => {
                let rest = self.tables.object(members.shape).cost_after(members);
                cost(*value).saturating_add(rest).saturating_add(1)
            }
            Frame::Guard { .. } | Frame::Done => 0,
        }
    }
}

/// For each stack the place of its top among the different tops, which are numbered as they are met. [n_parses]
fn places_of_tops(parses: &[Stack]) -> SmallVec<[usize; FEW_PARSES]> {
    // The first stack of each.
    let mut firsts: SmallVec<[&Stack; FEW_PARSES]> = SmallVec::new();
    let mut known: HashMap<u64, usize, FixedState> = HashMap::default();
    let are_few = parses.len() <= FEW_PARSES;
    let mut places = SmallVec::with_capacity(parses.len());
    for stack in parses {
        let is_like = |first: &&Stack| first.top == stack.top;
        let place = match are_few {
            true => firsts.iter().position(is_like),
            false => {
                let hash = FixedState::default().hash_one(&stack.top);
                let place = *known.entry(hash).or_insert(firsts.len());
                // One with another's hash stays apart, which is as right.
                Some(place).filter(|&place| firsts.get(place).is_some_and(is_like))
            }
        };
        places.push(place.unwrap_or(firsts.len()));
        if place.is_none() {
            firsts.push(stack);
        }
    }
    places
}

/// Whether the byte follows a value that has no closing byte of its own.
pub(crate) fn ends_value(byte: u8) -> bool {
    matches!(byte, b',' | b']' | b'}')
}

fn over(what: &str, limit: &'static str, allowed: usize) -> GrammarError {
    GrammarError::Limit {
        what: what.into(),
        limit,
        allowed,
    }
}
