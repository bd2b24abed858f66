//! Masks of JSON outputs: within a string, what stays inside is told apart from what may leave.
//!
//! A token without a `"` cannot leave a string, so whether it is legal depends on the string alone:
//! its pattern's state, the half-written code point, the length left. Those masks are shared by all
//! strings that agree on that, whatever surrounds them. Only the few tokens with a `"` are tried
//! against the whole stack.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use crate::json::automaton::Automaton;
use crate::json::context::{ContextMemo, Found, Known};
use crate::json::frame::{Frame, Name, Stack};
use crate::json::inside::Interior;
use crate::json::machine::{JsonLanguage, JsonState};
use crate::json::members::{is_final, object_automaton};
use crate::json::number::Number;
use crate::json::opening::Onward;
use crate::json::shape::ShapeId;
use crate::memo::MaskMemo;
use crate::runs::Runs;
use crate::trie::TokenTrie;
use crate::{GrammarError, TokenId, TokenMask, Vocabulary};

/// The masks found so far for one schema.
#[derive(Debug)]
pub(crate) struct JsonMasks {
    pub(super) interiors: MaskMemo<Interior>,
    stacks: ContextMemo,
    /// Of the tokens alone that leave the string at the top.
    leaving: ContextMemo,
    /// Of what follows a name and its quote: see [`crate::json::closing`].
    pub(super) rests: ContextMemo,
    /// Of the tokens that go on with a number after each prefix: see [`crate::json::opening`].
    pub(super) numbers: MaskMemo<(ShapeId, Number, usize)>,
    /// Of names, which are not many, and so are not forgotten.
    pub(super) onward: Onward,
    /// By automaton; `None` is a string without a pattern.
    pub(super) runs: HashMap<Option<usize>, Runs>,
}

impl JsonMasks {
    /// Splits the limit between the memos.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let share = max_bytes / 8;
        Self {
            interiors: MaskMemo::new(3 * share),
            stacks: ContextMemo::new(5 * share / 2),
            leaving: ContextMemo::new(share / 2),
            rests: ContextMemo::new(share),
            numbers: MaskMemo::new(share),
            onward: Onward::default(),
            runs: HashMap::new(),
        }
    }
}

impl JsonLanguage {
    /// Heap bytes of the shapes, the patterns' automata and the masks.
    pub(crate) fn n_bytes(&self) -> usize {
        let automata = self.parser.verdicts.patterns.automata.iter();
        let masks = self.masks.interiors.n_bytes()
            + self.masks.stacks.n_bytes()
            + self.masks.leaving.n_bytes()
            + self.masks.rests.n_bytes()
            + self.masks.numbers.n_bytes()
            + self.masks.onward.n_bytes()
            + self.parser.nearest.n_bytes();
        let runs = self.masks.runs.values().map(Runs::n_bytes).sum::<usize>();
        masks
            + runs
            + self.parser.tables.n_bytes()
            + automata.map(Automaton::n_bytes).sum::<usize>()
    }

    /// Sets `mask` to the tokens that some parse can take, if they leave at most `limit` bytes to
    /// completion.
    pub(crate) fn mask(
        &mut self,
        state: &JsonState,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        if limit < usize::MAX {
            mask.clear();
            let mut parses = state.parses.iter();
            return parses.try_for_each(|s| self.near_end(state, s, vocabulary, limit, mask));
        }
        let is_any = |stack: &Stack| self.parser.takes_any_text(&stack.top);
        let takes_any = state.parses.len() > 1 && state.parses.iter().any(is_any);
        for (idx, stack) in state.parses.iter().enumerate() {
            let plain = stack.without_used(vocabulary);
            let mut used = match plain {
                Some(_) => self.used_up(&stack.top, vocabulary)?,
                None => Vec::new(),
            };
            // What other parses allow stays allowed.
            used.retain(|&token| idx == 0 || !mask.is_allowed(token));
            let stack = plain.as_ref().unwrap_or(stack);
            let is_covered = takes_any && !self.parser.takes_any_text(&stack.top);
            let known = match is_covered && self.cut_at_quote(&stack.top) {
                true => self.leaving(state, stack, vocabulary)?,
                false => self.outside(state, stack, vocabulary, false)?,
            };
            match idx {
                0 => known.reach().mask.copy_to(mask),
                _ => known.reach().mask.add_to(mask),
            }
            self.decide(known.undecided(), state, stack, limit, mask)?;
            used.into_iter().for_each(|token| mask.forbid(token));
        }
        Ok(())
    }

    /// Allows the tokens that one parse can take, if they leave at most `limit` bytes to completion.
    fn near_end(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        let start = state.of(stack.clone());
        if self.distance(&start) > limit {
            // A string whose surroundings alone are too far is left by a quote.
            let tokens = match stack.top {
                Frame::String { .. } if stack.outer_cost() >= limit => vocabulary.quoted(),
                _ => vocabulary.all(),
            };
            return self.walk(tokens, start, limit, mask);
        }
        if let Some(inside) = self.inside(stack, vocabulary, true)? {
            let (low, high) = inside.offsets;
            if inside.reach.furthest.saturating_add(high) <= limit {
                inside.reach.mask.add_to(mask);
            } else if inside.reach.nearest.saturating_add(low) <= limit {
                for tokens in self.staying(&stack.top, vocabulary) {
                    let start = state.of(stack.clone());
                    self.walk(tokens, start, limit, mask)?;
                }
            }
        }
        let known = self.outside(state, stack, vocabulary, true)?;
        if known.furthest(stack) <= limit {
            known.reach().mask.add_to(mask);
        } else if known.nearest(stack) <= limit {
            let tokens = self.outside_tokens(stack, vocabulary);
            let start = state.of(stack.clone());
            return self.walk(tokens, start, limit, mask);
        }
        self.decide(known.undecided(), state, stack, limit, mask)
    }

    /// Allows those of the tokens that depend on the text of the output.
    fn decide(
        &mut self,
        undecided: Option<&Arc<TokenTrie>>,
        state: &JsonState,
        stack: &Stack,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        match undecided {
            Some(tokens) => self.walk(tokens, state.of(stack.clone()), limit, mask),
            None => Ok(()),
        }
    }

    /// The tokens that would make a name one that came, of those that [`Stack::without_used`] has.
    fn used_up(
        &mut self,
        top: &Frame,
        vocabulary: &Vocabulary,
    ) -> Result<Vec<TokenId>, GrammarError> {
        let mut used = Vec::new();
        let Frame::Name { members, name } = top else {
            return Ok(used);
        };
        let Name {
            other: Some(other),
            written,
            ..
        } = &**name
        else {
            return Ok(used);
        };
        let others = &self.parser.tables.object(members.shape).others;
        let automata = self.parser.verdicts.patterns.automata.as_mut_slice();
        let automaton = object_automaton(others);
        for rest in members.begun(written) {
            let closing = [rest, b"\""].concat();
            used.extend(vocabulary.quoted().beginning_with(&closing));
            let whole = match members.any_final() {
                true => vocabulary.all().equal_to(rest),
                false => &[],
            };
            if !whole.is_empty() && is_final(automaton, automata, *other, rest)? {
                used.extend(whole);
            }
        }
        Ok(used)
    }

    /// What the stack as a whole must be asked for, with distances if they are `measured`; else with the
    /// tokens that stay inside of its top string.
    fn outside(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Known, GrammarError> {
        let parser = &self.parser;
        if let Some(known) = self.masks.stacks.get(vocabulary, measured, stack, parser) {
            return Ok(known);
        }
        let is_cut = self.cut_at_quote(&stack.top);
        let others = match stack.as_other_name().filter(|_| is_cut && !measured) {
            Some(others) => Some(self.outside(state, &others, vocabulary, false)?),
            None => None,
        };
        self.parser.reads.begin(stack);
        let mut found = match &others {
            Some(others) => Found::from(others),
            None => Found::new(vocabulary, measured),
        };
        let start = || state.of(stack.clone());
        match &stack.top {
            _ if let Some(others) = &others => {
                self.parser.reads.add(others.reads(), stack);
                self.closing_declared(state, stack, vocabulary, &mut found)?;
            }
            _ if is_cut => {
                let cut = vocabulary.closers().whole();
                self.closing_tokens(state, stack, (vocabulary, &[cut]), &mut found)?;
            }
            Frame::String { .. } | Frame::Name { .. } => {
                let tokens = self.outside_tokens(stack, vocabulary);
                self.survey(tokens, start(), &mut found)?;
            }
            _ if measured => self.survey(vocabulary.all(), start(), &mut found)?,
            Frame::Number { shape, number } => {
                let numbers = self.parser.tables.number(*shape);
                for tokens in vocabulary.numbers().whole() {
                    numbers.add_tokens(*number, tokens, found.reach.mask.many());
                }
                self.survey(vocabulary.numbers().leaving(), start(), &mut found)?;
                self.after_value(state, stack, vocabulary, &mut found)?;
            }
            _ if self.parser.can_only_end(&stack.top) => {
                self.after_value(state, stack, vocabulary, &mut found)?;
            }
            _ => self.opening_tokens(&start(), vocabulary, &mut found)?,
        }
        if is_cut || self.has_inside(&stack.top) {
            for tokens in self.staying(&stack.top, vocabulary) {
                self.declared_tokens(stack, (vocabulary, tokens), &mut found)?;
            }
        }
        if !measured
            && others.is_none()
            && let Some(inside) = self.inside(stack, vocabulary, false)?
        {
            found.reach.mask.union(&inside.reach.mask);
        }
        let known = Known::new(found, vocabulary, stack, self.parser.reads);
        let parser = &self.parser;
        self.masks.stacks.insert(vocabulary, stack, parser, &known);
        Ok(known)
    }

    /// What a stack with a string at its top must be asked for, but for the tokens that stay in it: another parse's string
    /// takes any text.
    fn leaving(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
    ) -> Result<Known, GrammarError> {
        let (masks, parser) = (&self.masks, &self.parser);
        let known = masks.stacks.get(vocabulary, false, stack, parser);
        let known = known.or_else(|| masks.leaving.get(vocabulary, false, stack, parser));
        if let Some(known) = known {
            return Ok(known);
        }
        self.parser.reads.begin(stack);
        let mut found = Found::new(vocabulary, false);
        let cut = vocabulary.closers().whole();
        self.closing_tokens(state, stack, (vocabulary, &[cut]), &mut found)?;
        let known = Known::new(found, vocabulary, stack, self.parser.reads);
        let parser = &self.parser;
        self.masks.leaving.insert(vocabulary, stack, parser, &known);
        Ok(known)
    }

    /// Adds the tokens that may follow if the top value, which has no closing byte of its own, ends here:
    /// those that may follow what is then at the top.
    fn after_value(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        if !self.parser.may_end(&stack.top) {
            return Ok(());
        }
        let outer = stack.outer.as_ref();
        let links = outer.map_or(&[][..], |outer| &outer.links);
        if links.iter().any(|link| link.frame.asks_for_text()) {
            return self.survey(vocabulary.after_values(), state.of(stack.clone()), found);
        }
        self.parser.reads.ended_into(outer);
        for link in links {
            let around = link.as_stack().relevant(vocabulary);
            let reads = self.parser.reads;
            let known = self.outside(state, &around, vocabulary, false)?;
            self.parser.reads = reads;
            self.parser.reads.add(known.reads(), &around);
            found.add(&known);
        }
        Ok(())
    }

    /// Adds the tokens of a trie to what was found.
    pub(super) fn survey(
        &mut self,
        tokens: &TokenTrie,
        start: JsonState,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let Found { reach, undecided } = found;
        self.follow(
            tokens,
            start,
            undecided,
            |language, token, state| match reach.measured {
                true => reach.add(token, language.distance(state)),
                false => reach.mask.allow(token),
            },
        )
    }

    /// Walks as far as the text of the output is not asked; the tokens beyond are `undecided`.
    pub(crate) fn follow(
        &mut self,
        tokens: &TokenTrie,
        start: JsonState,
        undecided: &mut Vec<TokenId>,
        mut found: impl FnMut(&mut Self, TokenId, &JsonState),
    ) -> Result<(), GrammarError> {
        tokens.walk_nodes(
            self,
            start,
            |language, state| language.parser.next_bytes(state),
            |language, state, (node, byte)| {
                let next = language.step(state, byte)?;
                if language.parser.reads.take_text() {
                    undecided.extend(&tokens.tokens()[tokens.tokens_below(node)]);
                    return Ok(None);
                }
                Ok(next)
            },
            |language, token, state| found(language, token, state),
        )
    }

    /// Allows the tokens that leave at most `limit` bytes to completion. No byte brings the end nearer than by one, so what
    /// is too far for all of a subtree's bytes is not walked.
    fn walk(
        &mut self,
        tokens: &TokenTrie,
        start: JsonState,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        tokens.walk_nodes(
            self,
            start,
            |language, state| language.parser.next_bytes(state),
            |language, state, (node, byte)| {
                let next = language.step(state, byte)?;
                let most = tokens
                    .height(node)
                    .map_or(usize::MAX, |height| limit.saturating_add(height));
                Ok(next.filter(|next| most == usize::MAX || language.distance(next) <= most))
            },
            |language, token, state| {
                if limit == usize::MAX || language.distance(state) <= limit {
                    mask.allow(token);
                }
            },
        )
    }

    /// The tokens that a stack as a whole must be asked for.
    fn outside_tokens<'v>(&self, stack: &Stack, vocabulary: &'v Vocabulary) -> &'v TokenTrie {
        if self.has_inside(&stack.top) {
            vocabulary.quoted()
        } else {
            vocabulary.all()
        }
    }
}
