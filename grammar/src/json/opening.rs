//! Masks where a value may begin: tokens up to what opens a string or a number, then their tails.

use std::convert::Infallible;
use std::sync::Arc;

use foldhash::HashMap;
use smallvec::SmallVec;

use crate::closers::Cut;
use crate::json::context::{Found, place};
use crate::json::frame::{Frame, Name, Stack};
use crate::json::inside::Walked;
use crate::json::machine::{JsonLanguage, JsonState};
use crate::json::number::Number;
use crate::json::shape::{Others, ShapeId};
use crate::literals::{LiteralNode, LiteralTrie};
use crate::memo::Reach;
use crate::openers::Opener;
use crate::trie::TokenTrie;
use crate::{GrammarError, TokenId, Vocabulary};

impl JsonLanguage {
    /// Adds the tokens that may follow a value's place or end: of those that open a string or a number, what
    /// that takes, and what may follow once it is closed. Prefixes that lead to one state (`"` and ` "`) are asked for together.
    pub(super) fn opening_tokens(
        &mut self,
        start: &JsonState,
        vocabulary: &Vocabulary,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let openers = vocabulary.openers();
        self.survey(openers.others(), start.clone(), found)?;
        let mut opened: Vec<(JsonState, Vec<usize>)> = Vec::new();
        for (idx, opener) in openers.each().iter().enumerate() {
            let Some(state) = self.open(start, opener, found)? else {
                continue;
            };
            let is_same = |known: &&mut (JsonState, _)| known.0.parses == state.parses;
            match opened.iter_mut().find(is_same) {
                Some((_, prefixes)) => prefixes.push(idx),
                None => opened.push((state, vec![idx])),
            }
        }
        for (state, prefixes) in opened {
            let prefix = &openers.each()[prefixes[0]].prefix;
            self.parser.rewrite(start, prefix);
            self.opened_tokens(&state, (vocabulary, &prefixes), found)?;
        }
        Ok(())
    }

    /// The state after a prefix, if it can follow and its tokens do not depend on the text of the output; those that do are
    /// undecided.
    fn open(
        &mut self,
        start: &JsonState,
        opener: &Opener,
        found: &mut Found,
    ) -> Result<Option<JsonState>, GrammarError> {
        let mut opened = start.clone();
        for &byte in &opener.prefix {
            let next = self.step(&opened, byte)?;
            if self.parser.reads.take_text() {
                let tails = [&opener.staying, &opener.leaving];
                let tokens = tails.iter().flat_map(|tails| tails.tokens());
                found.undecided.extend(tokens);
                return Ok(None);
            }
            match next {
                Some(next) => opened = next,
                None => return Ok(None),
            }
        }
        Ok(Some(opened))
    }

    /// Adds the tokens of some prefixes, by what may follow them in the state that they lead to.
    fn opened_tokens(
        &mut self,
        opened: &JsonState,
        (vocabulary, prefixes): (&Vocabulary, &[usize]),
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let cuts = vocabulary.closers().tails();
        let cuts: SmallVec<[&Cut; 2]> = prefixes.iter().map(|&idx| &cuts[idx]).collect();
        for stack in &opened.parses {
            let is_cut = self.cut_at_quote(&stack.top);
            for &idx in prefixes {
                let Opener {
                    staying, leaving, ..
                } = &vocabulary.openers().each()[idx];
                if let Frame::Number { shape, number } = stack.top {
                    self.number_tails((shape, number, idx), staying, vocabulary, found);
                } else if is_cut {
                    let tails = Walked::InRuns(staying);
                    self.interior(&stack.top, tails, &mut found.reach)?;
                    self.declared_tokens(stack, (vocabulary, staying), found)?;
                } else {
                    for tails in [staying, leaving] {
                        self.survey(tails, opened.of(stack.clone()), found)?;
                    }
                }
            }
            if is_cut {
                self.closing_tokens(opened, stack, (vocabulary, &cuts), found)?;
            }
        }
        Ok(())
    }

    /// Adds what may follow a prefix with the first characters of a number. It is the same wherever the
    /// number stands.
    fn number_tails(
        &mut self,
        key: (ShapeId, Number, usize),
        tails: &TokenTrie,
        vocabulary: &Vocabulary,
        found: &mut Found,
    ) {
        let (shape, number, _) = key;
        let numbers = self.parser.tables.number(shape);
        if numbers.takes_all(number, tails) {
            let tails = tails.tokens().iter();
            return tails.for_each(|&token| found.reach.mask.allow(token));
        }
        let known = self.masks.numbers.get(vocabulary, key);
        let known = known.unwrap_or_else(|| {
            let mut reach = Reach::new(vocabulary, false);
            numbers.add_tokens(number, tails, reach.mask.many());
            let reach = Arc::new(reach);
            self.masks.numbers.insert(vocabulary, key, &reach);
            reach
        });
        found.reach.mask.union(&known.mask);
    }

    /// Adds the tokens of a trie that go on with a declared name at the top, where they may not go on with
    /// another one, too.
    pub(super) fn declared_tokens(
        &mut self,
        stack: &Stack,
        (vocabulary, tokens): (&Vocabulary, &TokenTrie),
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let Some((members, node)) = stack.top.as_declared_name() else {
            return Ok(());
        };
        let object = self.parser.tables.object(members.shape);
        let is_any = matches!(object.others, Others::Any(_)) && stack.top.is_other_name();
        if is_any && !object.names.is_escaped() && !found.reach.measured {
            return Ok(());
        }
        self.parser.reads.members(place(stack.outer.as_ref()));
        if node == 0 && !found.reach.measured {
            let onward = self.masks.onward.of(&object.names, tokens, vocabulary);
            let open = onward
                .iter()
                .filter(|on| object.reachable(on.1, members).next().is_some());
            open.for_each(|&(token, _)| found.reach.mask.allow(token));
            return Ok(());
        }
        tokens.walk_nodes(
            &mut found.reach,
            node,
            |_, &node| object.names.bytes(node),
            |_, &node, (_, byte)| {
                let next = object.names.child(node, byte);
                Ok(next.filter(|&node| object.reachable(node, members).next().is_some()))
            },
            |reach, token, &node| {
                if !reach.measured {
                    return reach.mask.allow(token);
                }
                let name = Name::declared(node);
                let distance = self.parser.declared_distance(members, &name);
                reach.add(token, distance.saturating_add(stack.outer_cost()));
            },
        )
    }
}

/// Where tokens lead from the beginning of declared names, whichever of these may come: it is asked for each of the
/// objects side by side, and again in each that has other members.
#[derive(Debug, Default)]
pub(super) struct Onward(HashMap<(u64, usize, usize), Ends>);

/// Tokens, each with the node where it ends.
type Ends = Arc<[(TokenId, LiteralNode)]>;

impl Onward {
    /// The tokens of a trie that begin some name.
    fn of(
        &mut self,
        names: &Arc<LiteralTrie>,
        tokens: &TokenTrie,
        vocabulary: &Vocabulary,
    ) -> Ends {
        // Both live, and stay where they are, as long as the constraint and the vocabulary do.
        let key = (
            vocabulary.id(),
            Arc::as_ptr(names) as usize,
            std::ptr::from_ref(tokens) as usize,
        );
        let find = || {
            let mut found = Vec::new();
            let walked: Result<(), Infallible> = tokens.walk_nodes(
                &mut found,
                0,
                |_, &node| names.bytes(node),
                |_, &node, (_, byte)| Ok(names.child(node, byte)),
                |found, token, &node| found.push((token, node)),
            );
            let Ok(()) = walked;
            found.into()
        };
        Arc::clone(self.0.entry(key).or_insert_with(find))
    }

    /// Heap bytes, roughly.
    pub(super) fn n_bytes(&self) -> usize {
        self.0.values().map(|list| size_of_val(&**list)).sum()
    }
}
