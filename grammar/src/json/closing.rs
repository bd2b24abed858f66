//! Masks at the end of a string: heads of tokens up to the quote, then their rests.
//!
//! A string closes in one way, a name in as many as there are values that it may lead to. The rests
//! are tried once for each way, from the first head that goes it.

use smallvec::SmallVec;

use crate::json::frame::{Frame, Stack};
use crate::json::machine::{JsonLanguage, JsonState, Parser};
use crate::json::members::Way;
use crate::memo::Reach;
use crate::{GrammarError, Vocabulary};

/// The heads that close a string in one way; never none.
struct Group {
    way: Way,
    heads: Vec<u32>,
}

impl JsonLanguage {
    /// The tokens without a backslash that close the top string, whose next quote is no part of it,
    /// with distances if they are `measured`. `None` if what follows depends on the text of the
    /// string: the heads then differ in more than the way they go.
    pub(crate) fn closing_reach(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Option<Reach>, GrammarError> {
        let closers = vocabulary.closers();
        let mut reach = match measured {
            true => Reach::new(vocabulary),
            false => Reach::unmeasured(vocabulary),
        };
        for group in self.parser.closing_heads(&stack.top, vocabulary)? {
            let bytes = closers.head_bytes(group.heads[0]).iter();
            let mut closed = state.of(stack.clone());
            for &byte in bytes.chain(b"\"") {
                match self.step(&closed, byte)? {
                    Some(next) => closed = next,
                    None => return Ok(None),
                }
            }
            let rests = self.rests(closed, vocabulary, measured)?;
            if self.parser.reads.text {
                return Ok(None);
            }
            for head in group.heads {
                for &(rest, token) in closers.tokens(head) {
                    match rests[rest as usize] {
                        Some(distance) if measured => reach.add(token, distance),
                        Some(_) => reach.mask.allow(token),
                        None => {}
                    }
                }
            }
        }
        Ok(Some(reach))
    }

    /// What each rest leaves to completion, 0 if that is not `measured`; `None` if it is not legal.
    fn rests(
        &mut self,
        closed: JsonState,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Vec<Option<usize>>, GrammarError> {
        let closers = vocabulary.closers();
        let mut rests = vec![None; closers.n_rests()];
        let distance = |language: &Self, state: &JsonState| match measured {
            true => language.distance(state),
            false => 0,
        };
        rests[0] = Some(distance(self, &closed));
        closers.rests().walk(
            self,
            closed,
            |language, state, byte| language.step(state, byte),
            |language, rest, state| rests[rest as usize] = Some(distance(language, state)),
        )?;
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
                heads.walk(
                    self,
                    name.clone(),
                    |parser, name, byte| parser.step_name(members, name, byte),
                    |parser, head, name| {
                        if let Some(way) = parser.way(members, name) {
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
