//! Masks at the end of a string: heads of tokens up to the quote, then their rests.
//!
//! A string closes in one way, a name in as many as there are values that it may lead to. The rests
//! are tried once for each way, from the first head that goes it.

use smallvec::SmallVec;

use crate::json::context::Found;
use crate::json::frame::{Frame, Name, Stack};
use crate::json::machine::{JsonLanguage, JsonState, Parser};
use crate::json::members::Way;
use crate::{GrammarError, Vocabulary};

/// The heads that close a string in one way; never none.
struct Group {
    way: Way,
    heads: Vec<u32>,
}

/// What a token's rest after the quote comes to.
#[derive(Clone, Copy)]
enum Rest {
    Illegal,
    /// With its bytes to completion, where they are measured.
    Legal(usize),
    /// It depends on the text of the output.
    Undecided,
}

impl JsonLanguage {
    /// Finds the tokens without a backslash that close the top string, whose next quote is no part
    /// of it.
    pub(crate) fn closing_tokens(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let closers = vocabulary.closers();
        for group in self.parser.closing_heads(&stack.top, vocabulary)? {
            let start = state.of(stack.clone());
            let head = closers.head_bytes(group.heads[0]);
            let rests = self.rests(start, head, vocabulary, found.reach.measured)?;
            for head in group.heads {
                for &(rest, token) in closers.tokens(head) {
                    match rests[rest as usize] {
                        Rest::Illegal => {}
                        Rest::Legal(distance) if found.reach.measured => {
                            found.reach.add(token, distance);
                        }
                        Rest::Legal(_) => found.reach.mask.allow(token),
                        Rest::Undecided => found.undecided.push(token),
                    }
                }
            }
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
    ) -> Result<Vec<Rest>, GrammarError> {
        let closers = vocabulary.closers();
        let legal = |language: &Self, state: &JsonState| match measured {
            true => Rest::Legal(language.distance(state)),
            false => Rest::Legal(0),
        };
        let mut closed = start;
        for &byte in head.iter().chain(b"\"") {
            let next = self.step(&closed, byte)?;
            let asked = self.parser.reads.take_text();
            closed = match next.filter(|_| !asked) {
                Some(next) => next,
                None => return Ok(vec![Rest::Undecided; closers.n_rests()]),
            };
        }
        let mut rests = vec![Rest::Illegal; closers.n_rests()];
        rests[0] = legal(self, &closed);
        let mut undecided = Vec::new();
        let tokens = closers.rests();
        self.follow(tokens, closed, &mut undecided, |language, rest, state| {
            rests[rest as usize] = legal(language, state);
        })?;
        for rest in undecided {
            rests[rest as usize] = Rest::Undecided;
        }
        Ok(rests)
    }
}

impl Parser {
    /// The heads after which the top string may close, by the way it does.
    fn closing_heads(
        &mut self,
        top: &Frame,
        vocabulary: &Vocabulary,
    ) -> Result<SmallVec<[Group; 1]>, GrammarError> {
        let mut groups = SmallVec::new();
        let heads = vocabulary.closers().heads();
        match top {
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
                let closers = vocabulary.closers();
                heads.walk_nodes(
                    self,
                    (name.declared, name.other),
                    |parser, &place| parser.name_bytes(members, place),
                    |parser, &place, (_, byte)| parser.step_place(members, place, byte),
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

fn add(groups: &mut SmallVec<[Group; 1]>, way: Way, head: u32) {
    match groups.iter_mut().find(|group| group.way == way) {
        Some(group) => group.heads.push(head),
        None => groups.push(Group {
            way,
            heads: vec![head],
        }),
    }
}
