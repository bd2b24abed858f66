//! Masks at the end of a string: heads of tokens up to the quote, then their rests.
//!
//! A string closes in one way, a name in as many as there are values that it may lead to. The rests
//! are tried once for each way, from the first head that goes it.

use std::convert::Infallible;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::closers::{Closers, Cut};
use crate::json::context::{Found, Known, place};
use crate::json::frame::{Frame, Name, Stack};
use crate::json::machine::{JsonLanguage, JsonState, Parser};
use crate::json::members::Way;
use crate::literals::{LiteralNode, LiteralTrie};
use crate::memo::Reach;
use crate::{GrammarError, TokenMask, Vocabulary};

/// The heads that close a string in one way; never none.
struct Group {
    way: Way,
    heads: Vec<u32>,
}

type Groups = SmallVec<[Group; 1]>;

/// What tokens' rests after the quote come to.
struct Rests {
    legal: Arc<Reach>,
    /// Bytes to completion, where they are measured; else empty. [n_rests]
    distances: Vec<usize>,
    /// Those that depend on the text of the output.
    undecided: TokenMask,
}

impl JsonLanguage {
    /// Finds the tokens of some `cuts` that close the top string, whose next quote is no part of it.
    pub(crate) fn closing_tokens(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        (vocabulary, cuts): (&Vocabulary, &[&Cut]),
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let groups = self.parser.closing_heads(stack, vocabulary.closers())?;
        self.closing_by(&groups, state, stack, (vocabulary, cuts), found)
    }

    /// Finds the tokens that close the top name, among those of other names, of which they have all
    /// before. A declared name is no other one.
    pub(crate) fn closing_declared(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let closers = vocabulary.closers();
        let cut = closers.whole();
        let mut groups = Groups::new();
        let Some((members, node)) = stack.top.as_declared_name() else {
            return Ok(());
        };
        let object = self.parser.tables.object(members.shape);
        for (head, idx) in declared_heads(&object.names, node, closers) {
            let tokens = cut.tokens(head).iter();
            tokens.for_each(|&(_, token)| found.forbid(token));
            if object.allows(members, idx) {
                add(&mut groups, Way::Declared(idx), head);
            }
        }
        self.closing_by(&groups, state, stack, (vocabulary, &[cut]), found)
    }

    /// Finds the tokens that close the top string after some heads.
    fn closing_by(
        &mut self,
        groups: &[Group],
        state: &JsonState,
        stack: &Stack,
        (vocabulary, cuts): (&Vocabulary, &[&Cut]),
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let measured = found.reach.measured;
        for group in groups {
            let has_tokens = |head: &&u32| cuts.iter().any(|cut| !cut.tokens(**head).is_empty());
            let Some(&first) = group.heads.iter().find(has_tokens) else {
                continue;
            };
            let start = state.of(stack.clone());
            let head = vocabulary.closers().head_bytes(first);
            let Rests {
                legal,
                distances,
                undecided,
            } = self.rests(start, head, vocabulary, measured)?;
            let mut heads = TokenMask::new(vocabulary.closers().n_heads());
            heads.allow_all(&group.heads);
            let tokens = |rest: u32| {
                let ending = cuts.iter().flat_map(move |cut| cut.ending(rest));
                ending.filter(|(head, _)| heads.is_allowed(*head))
            };
            for rest in legal.mask.to_list() {
                tokens(rest).for_each(|&(_, token)| match measured {
                    true => found.reach.add(token, distances[rest as usize]),
                    false => found.reach.mask.allow(token),
                });
            }
            let undecided = undecided.iter().flat_map(tokens);
            found.undecided.extend(undecided.map(|&(_, token)| token));
        }
        Ok(())
    }

    /// What each rest comes to after a head and a quote.
    fn rests(
        &mut self,
        start: JsonState,
        head: &[u8],
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Rests, GrammarError> {
        let n_rests = vocabulary.closers().n_rests();
        let mut closed = start;
        for &byte in head.iter().chain(b"\"") {
            let next = self.step(&closed, byte)?;
            let asked = self.parser.reads.take_text();
            closed = match next.filter(|_| !asked) {
                Some(next) => next,
                None => {
                    return Ok(Rests {
                        legal: Arc::new(Reach::over(n_rests, measured)),
                        distances: Vec::new(),
                        undecided: all_of(n_rests, 0..n_rests as u32),
                    });
                }
            };
        }
        match closed.parses.as_slice() {
            [stack] if !measured => {
                let stack = stack.clone().relevant(vocabulary);
                self.known_rests(closed.of(stack.clone()), &stack, vocabulary)
            }
            _ => self.rests_after(closed, vocabulary, measured),
        }
    }

    /// The rests in a state of one stack. They are remembered, for a string is closed from many places
    /// within it, unless they depend on which names came, or on the text.
    fn known_rests(
        &mut self,
        closed: JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
    ) -> Result<Rests, GrammarError> {
        let parser = &self.parser;
        let known = self.masks.rests.get(vocabulary, false, stack, parser);
        if let Some(known) = known {
            self.parser.reads.add(known.reads(), stack);
            return Ok(Rests {
                legal: Arc::clone(known.reach()),
                distances: Vec::new(),
                undecided: TokenMask::new(vocabulary.closers().n_rests()),
            });
        }
        let before = self.parser.reads;
        self.parser.reads.begin(stack);
        let rests = self.rests_after(closed.clone(), vocabulary, false)?;
        let reads = std::mem::replace(&mut self.parser.reads, before);
        let is_own = matches!(stack.top, Frame::Colon { .. });
        if is_own && reads.own_names() {
            // The walk that began in the name knows which of those that came it is.
            return self.rests_after(closed, vocabulary, false);
        }
        self.parser.reads.add(&reads, stack);
        if rests.undecided.is_empty() {
            let known = Known::of(Arc::clone(&rests.legal), stack, reads);
            let parser = &self.parser;
            self.masks.rests.insert(vocabulary, stack, parser, &known);
        }
        Ok(rests)
    }

    /// What each rest comes to in a state.
    fn rests_after(
        &mut self,
        closed: JsonState,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Rests, GrammarError> {
        let closers = vocabulary.closers();
        let mut legal = Reach::over(closers.n_rests(), measured);
        let mut distances = vec![0; if measured { closers.n_rests() } else { 0 }];
        let mut undecided = Vec::new();
        let mut add = |language: &mut Self, rest: u32, state: &JsonState| {
            legal.mask.allow(rest);
            if measured {
                distances[rest as usize] = language.distance(state);
            }
        };
        add(self, 0, &closed);
        self.follow(closers.rests(), closed, &mut undecided, add)?;
        Ok(Rests {
            legal: Arc::new(legal),
            distances,
            undecided: all_of(closers.n_rests(), undecided),
        })
    }
}

/// A set of rests.
fn all_of(n_rests: usize, rests: impl IntoIterator<Item = u32>) -> TokenMask {
    let mut all = TokenMask::new(n_rests);
    rests.into_iter().for_each(|rest| all.allow(rest));
    all
}

impl Parser {
    /// The heads after which the top string may close, if any text may stand before its quote; of a name,
    /// any that is not declared.
    fn free_heads(&mut self, stack: &Stack, closers: &Closers) -> Option<Groups> {
        let mut groups = Groups::new();
        let (way, heads) = match &stack.top {
            Frame::String { shape, body } => {
                let is_free = self.tables.string(*shape).is_free(body);
                (is_free.then_some(Way::End)?, closers.of_texts().to_vec())
            }
            Frame::Name { members, name } => {
                let way = self.free_name(members, name)?;
                let mut heads = closers.of_names().to_vec();
                let object = self.tables.object(members.shape);
                let declared = name
                    .declared
                    .map(|node| declared_heads(&object.names, node, closers));
                for (head, idx) in declared.into_iter().flatten() {
                    self.reads.asked_member(place(stack.outer.as_ref()));
                    heads.retain(|&other| other != head);
                    if object.allows(members, idx) {
                        add(&mut groups, Way::Declared(idx), head);
                    }
                }
                (way, heads)
            }
            _ => return None,
        };
        groups.push(Group { way, heads });
        Some(groups)
    }

    /// The heads after which the top string may close, by the way it does.
    fn closing_heads(&mut self, stack: &Stack, closers: &Closers) -> Result<Groups, GrammarError> {
        if let Some(groups) = self.free_heads(stack, closers) {
            return Ok(groups);
        }
        let mut groups = Groups::new();
        let heads = closers.heads();
        match &stack.top {
            Frame::String { shape, body } => {
                let strings = self.tables.string(*shape);
                let mut automata = self.verdicts.patterns.automata.as_mut_slice();
                if strings.can_close(body, automata) {
                    add(&mut groups, Way::End, 0);
                }
                heads.walk(
                    &mut automata,
                    *body,
                    |automata, body, byte| strings.step(*body, byte, automata),
                    |automata, head, body| {
                        if strings.can_close(body, automata) {
                            add(&mut groups, Way::End, head);
                        }
                    },
                )?;
            }
            Frame::Name { members, name } => {
                if let Some(way) = self.way(members, name) {
                    add(&mut groups, way, 0);
                }
                let place = place(stack.outer.as_ref());
                heads.walk_nodes(
                    self,
                    (name.declared, name.other),
                    |parser, &at| parser.name_bytes(members, at),
                    |parser, &at, (_, byte)| parser.step_place(members, at, place, byte),
                    |parser, head, &(declared, other)| {
                        let mut written = name.written.clone();
                        if other.is_some() {
                            written.extend_from_slice(closers.head_bytes(head));
                        }
                        let name = Name {
                            declared,
                            other,
                            written,
                        };
                        if !parser.tables.object(members.shape).names_none(&name) {
                            parser.reads.asked_member(place);
                        }
                        if let Some(way) = parser.way(members, &name) {
                            add(&mut groups, way, head);
                        }
                    },
                )?;
            }
            _ => unreachable!("only strings and names close with a quote"),
        }
        Ok(groups)
    }
}

/// The heads after which a name that stands at `node` of the declared ones is one of them, with that one.
fn declared_heads(names: &LiteralTrie, node: LiteralNode, closers: &Closers) -> Vec<(u32, u32)> {
    let whole = names.literal(node).map(|idx| (0, idx));
    let mut found: Vec<(u32, u32)> = whole.into_iter().collect();
    let followed: Result<(), Infallible> = closers.heads().walk_nodes(
        &mut found,
        node,
        |_, &node| names.bytes(node),
        |_, &node, (_, byte)| Ok(names.child(node, byte)),
        |found, head, &node| found.extend(names.literal(node).map(|idx| (head, idx))),
    );
    let Ok(()) = followed;
    found
}

fn add(groups: &mut Groups, way: Way, head: u32) {
    match groups.iter_mut().find(|group| group.way == way) {
        Some(group) => group.heads.push(head),
        None => groups.push(Group {
            way,
            heads: vec![head],
        }),
    }
}
