//! Masks where a value may begin: tokens up to what opens a string or a number, then their tails.

use std::convert::Infallible;
use std::sync::Arc;

use foldhash::HashMap;

use crate::json::context::{Found, place};
use crate::json::frame::{Frame, Name, Stack};
use crate::json::inside::Walked;
use crate::json::machine::{JsonLanguage, JsonState};
use crate::json::number::Number;
use crate::json::shape::{Others, ShapeId};
use crate::literals::{LiteralNode, LiteralTrie};
use crate::memo::Reach;
use crate::trie::TokenTrie;
use crate::{GrammarError, TokenId, Vocabulary};

impl JsonLanguage {
    /// Adds the tokens that may follow a value's place or end: of those that open a string or a number, what
    /// that takes, and what may follow once it is closed.
    pub(super) fn opening_tokens(
        &mut self,
        start: &JsonState,
        vocabulary: &Vocabulary,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let openers = vocabulary.openers();
        self.survey(openers.others(), start.clone(), found)?;
        let openers = openers.each().iter().zip(vocabulary.closers().tails());
        'prefixes: for (prefix_idx, (opener, cut)) in openers.enumerate() {
            let tails = [&opener.staying, &opener.leaving];
            let mut opened = start.clone();
            for &byte in &opener.prefix {
                let next = self.step(&opened, byte)?;
                if self.parser.reads.take_text() {
                    let tokens = tails.iter().flat_map(|tails| tails.tokens());
                    found.undecided.extend(tokens);
                    continue 'prefixes;
                }
                match next {
                    Some(next) => opened = next,
                    None => continue 'prefixes,
                }
            }
            for stack in &opened.parses {
                if let Frame::Number { shape, number } = stack.top {
                    let key = (shape, number, prefix_idx);
                    self.number_tails(key, &opener.staying, vocabulary, found);
                } else if self.cut_at_quote(&stack.top) {
                    let staying = Walked::InRuns(&opener.staying);
                    self.interior(&stack.top, staying, &mut found.reach)?;
                    self.declared_tokens(stack, (vocabulary, &opener.staying), found)?;
                    self.closing_tokens(&opened, stack, (vocabulary, cut), found)?;
                } else {
                    for tails in tails {
                        self.survey(tails, opened.of(stack.clone()), found)?;
                    }
                }
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
