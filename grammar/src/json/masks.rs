//! Masks of JSON outputs: within a string, what stays inside is told apart from what may leave.
//!
//! A token without a `"` cannot leave a string, so whether it is legal depends on the string alone:
//! its pattern's state, the half-written code point, the length left. Those masks are shared by all
//! strings that agree on that, whatever surrounds them. Only the few tokens with a `"` are tried
//! against the whole stack.

use std::hash::Hash;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use crate::alphabet::{Alphabet, Targets};
use crate::json::context::{ContextMemo, Found, Known};
use crate::json::frame::{Frame, Name, Other, Stack};
use crate::json::machine::{JsonLanguage, JsonState, Parser};
use crate::json::members::{goes_on, object_automaton, step_other};
use crate::json::patterns::AutomatonId;
use crate::json::shape::Others;
use crate::json::string::{Body, InteriorKey, StringShape};
use crate::json::text::{BOUNDARY, Text};
use crate::memo::{MaskMemo, Reach};
use crate::regex::product::Automaton;
use crate::runs::{Followed, Run, Runs, run};
use crate::trie::TokenTrie;
use crate::{GrammarError, TokenId, TokenMask, Vocabulary};

/// The masks found so far for one schema.
#[derive(Debug)]
pub(crate) struct JsonMasks {
    interiors: MaskMemo<Interior>,
    stacks: ContextMemo,
    /// By automaton; `None` is a string without a pattern.
    runs: HashMap<Option<usize>, Runs>,
}

/// What the inside of a string depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interior {
    String(InteriorKey),
    /// A member's name that is none of the declared ones.
    Name(Text),
    /// The same, of an automaton of names.
    Matching(AutomatonId, Other),
}

impl JsonMasks {
    /// Splits the limit between the two memos.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let half = max_bytes / 2;
        Self {
            interiors: MaskMemo::new(half),
            stacks: ContextMemo::new(half),
            runs: HashMap::new(),
        }
    }
}

/// The runs of an automaton.
fn runs_of<'r>(
    runs: &'r mut HashMap<Option<usize>, Runs>,
    automaton: Option<usize>,
    automata: &[Automaton],
) -> &'r mut Runs {
    runs.entry(automaton).or_insert_with(|| {
        Runs::new(match automaton {
            Some(idx) => Alphabet::new(|byte| automata[idx].class(byte)),
            None => Alphabet::new(|_| 0),
        })
    })
}

impl Interior {
    /// Whether it means the same in every constraint.
    fn is_common(&self) -> bool {
        match self {
            Self::String(key) => key.is_common(),
            Self::Name(_) => true,
            Self::Matching(..) => false,
        }
    }
}

/// The part of a stack's mask that depends on the inside of a string alone.
struct Inside {
    reach: Arc<Reach>,
    /// Added to the distances of `reach`, at least and at most, to get those of the whole output.
    offsets: (usize, usize),
}

impl JsonLanguage {
    /// Heap bytes of the shapes, the patterns' automata and the masks.
    pub(crate) fn n_bytes(&self) -> usize {
        let automata = self.parser.verdicts.patterns.automata.iter();
        let masks = self.masks.interiors.n_bytes() + self.masks.stacks.n_bytes();
        let runs = self.masks.runs.values().map(Runs::n_bytes).sum::<usize>();
        masks
            + runs
            + self.parser.tables.n_bytes()
            + automata.map(Automaton::n_bytes).sum::<usize>()
    }

    /// Allows the tokens that some parse can take, if they leave at most `limit` bytes to
    /// completion.
    pub(crate) fn mask(
        &mut self,
        state: &JsonState,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        for stack in &state.parses {
            let plain = match limit {
                usize::MAX => stack.without_used(vocabulary),
                _ => None,
            };
            match plain {
                None => self.parse_mask(state, stack, vocabulary, limit, mask)?,
                Some(plain) => {
                    let mut own = TokenMask::new(vocabulary.n_tokens());
                    self.parse_mask(state, &plain, vocabulary, limit, &mut own)?;
                    self.forbid_used(&stack.top, vocabulary, &mut own)?;
                    mask.union(&own);
                }
            }
        }
        Ok(())
    }

    /// Allows the tokens that one parse can take.
    fn parse_mask(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        if let Some(inside) = self.inside(stack, vocabulary, limit != usize::MAX)? {
            let (low, high) = inside.offsets;
            if limit == usize::MAX || inside.reach.furthest.saturating_add(high) <= limit {
                mask.union(&inside.reach.mask);
            } else if inside.reach.nearest.saturating_add(low) <= limit {
                for tokens in self.staying(&stack.top, vocabulary) {
                    let start = state.of(stack.clone());
                    mask.union(&self.walk(tokens, start, vocabulary, limit)?.mask);
                }
            }
        }
        let known = self.outside(state, stack, vocabulary, limit != usize::MAX)?;
        if limit == usize::MAX || known.furthest(stack) <= limit {
            mask.union(&known.reach().mask);
        } else if known.nearest(stack) <= limit {
            let tokens = self.outside_tokens(stack, vocabulary);
            let start = state.of(stack.clone());
            mask.union(&self.walk(tokens, start, vocabulary, limit)?.mask);
            return Ok(());
        }
        if let Some(tokens) = known.undecided() {
            let start = state.of(stack.clone());
            mask.union(&self.walk(tokens, start, vocabulary, limit)?.mask);
        }
        Ok(())
    }

    /// Forbids what would make a name one that came, of the tokens that [`Stack::without_used`] has.
    fn forbid_used(
        &mut self,
        top: &Frame,
        vocabulary: &Vocabulary,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        let Frame::Name {
            members,
            name:
                Name {
                    other: Some(other),
                    written,
                    ..
                },
        } = top
        else {
            return Ok(());
        };
        let others = &self.parser.tables.object(members.shape).others;
        let automata = self.parser.verdicts.patterns.automata.as_mut_slice();
        let automaton = object_automaton(others);
        for rest in members.begun(written) {
            let closing = [rest, b"\""].concat();
            for &token in vocabulary.quoted().beginning_with(&closing) {
                mask.forbid(token);
            }
            let tokens = vocabulary.unquoted().equal_to(rest);
            if others.run_out() && !tokens.is_empty() {
                let mut ended = Some(*other);
                for &byte in rest {
                    ended = match ended {
                        Some(other) => step_other(automaton, automata, other, byte)?,
                        None => None,
                    };
                }
                let goes_on = match ended {
                    Some(ended) => goes_on(automaton, automata, ended)?,
                    None => false,
                };
                if !goes_on {
                    tokens.iter().for_each(|&token| mask.forbid(token));
                }
            }
        }
        Ok(())
    }

    /// What the stack as a whole must be asked for, with distances if they are `measured`.
    fn outside(
        &mut self,
        state: &JsonState,
        stack: &Stack,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Known, GrammarError> {
        let tables = &self.parser.tables;
        if let Some(known) = self.masks.stacks.get(vocabulary, measured, stack, tables) {
            return Ok(known);
        }
        self.parser.reads.begin(stack);
        let mut found = Found::new(vocabulary, measured);
        let start = || state.of(stack.clone());
        let is_cut = self.cut_at_quote(&stack.top);
        match &stack.top {
            _ if is_cut => self.closing_tokens(state, stack, vocabulary, &mut found)?,
            Frame::String { .. } | Frame::Name { .. } => {
                let tokens = self.outside_tokens(stack, vocabulary);
                self.survey(tokens, start(), &mut found)?;
            }
            _ if measured => self.survey(vocabulary.all(), start(), &mut found)?,
            _ => self.opening_tokens(&start(), vocabulary, &mut found)?,
        }
        if is_cut || self.has_inside(&stack.top) {
            let outer = stack.outer_cost();
            for tokens in self.staying(&stack.top, vocabulary) {
                self.declared_tokens(&stack.top, outer, tokens, &mut found)?;
            }
        }
        let known = Known::new(found, vocabulary, stack);
        let Parser { tables, reads, .. } = &self.parser;
        let stacks = &mut self.masks.stacks;
        stacks.insert(vocabulary, stack, tables, reads, &known);
        Ok(known)
    }

    /// Adds the tokens of a trie that go on with a declared name at the top.
    fn declared_tokens(
        &self,
        top: &Frame,
        outer_cost: usize,
        tokens: &TokenTrie,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let Frame::Name {
            members,
            name: Name {
                declared: Some(node),
                ..
            },
        } = top
        else {
            return Ok(());
        };
        let object = self.parser.tables.object(members.shape);
        tokens.walk_nodes(
            &mut found.reach,
            *node,
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
                reach.add(token, distance.saturating_add(outer_cost));
            },
        )
    }

    /// Adds the tokens that may follow a value's place or end, of those that open a string or a number
    /// where it stays in it by what that value takes.
    fn opening_tokens(
        &mut self,
        start: &JsonState,
        vocabulary: &Vocabulary,
        found: &mut Found,
    ) -> Result<(), GrammarError> {
        let openers = vocabulary.openers();
        self.survey(openers.others(), start.clone(), found)?;
        'prefixes: for (prefix, tails) in openers.each() {
            let mut opened = start.clone();
            for &byte in prefix {
                let next = self.step(&opened, byte)?;
                if self.parser.reads.take_text() {
                    found.undecided.extend(tails.tokens());
                    continue 'prefixes;
                }
                match next {
                    Some(next) => opened = next,
                    None => continue 'prefixes,
                }
            }
            for stack in &opened.parses {
                if !self.stay_within(&stack.top, tails, found)? {
                    self.survey(tails, opened.of(stack.clone()), found)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the tokens of a trie, none of which can leave it, that the top string or number takes; false
    /// if more than these must be asked.
    fn stay_within(
        &mut self,
        top: &Frame,
        tokens: &TokenTrie,
        found: &mut Found,
    ) -> Result<bool, GrammarError> {
        if let Frame::Number { shape, number } = top {
            let numbers = self.parser.tables.number(*shape);
            tokens.walk(
                &mut found.reach.mask,
                *number,
                |_, &number, byte| Ok(numbers.step(number, byte)),
                |mask, token, _| mask.allow(token),
            )?;
            return Ok(true);
        }
        let is_cut = self.cut_at_quote(top);
        if is_cut {
            self.interior(top, tokens, &mut found.reach)?;
            self.declared_tokens(top, 0, tokens, found)?;
        }
        Ok(is_cut)
    }

    /// Adds the tokens of a trie to what was found.
    fn survey(
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
        mut found: impl FnMut(&Self, TokenId, &JsonState),
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

    /// Tokens that leave at most `limit` bytes to completion.
    fn walk(
        &mut self,
        tokens: &TokenTrie,
        start: JsonState,
        vocabulary: &Vocabulary,
        limit: usize,
    ) -> Result<Reach, GrammarError> {
        let mut reach = Reach::new(vocabulary);
        tokens.walk_nodes(
            self,
            start,
            |language, state| language.parser.next_bytes(state),
            |language, state, (_, byte)| language.step(state, byte),
            |language, token, state| {
                let distance = language.distance(state);
                if distance <= limit {
                    reach.add(token, distance);
                }
            },
        )?;
        Ok(reach)
    }

    /// Whether the tokens without a quote are told by the inside of the top string alone. Those of
    /// names that may be used up depend on the names that came, too.
    fn has_inside(&self, top: &Frame) -> bool {
        match top {
            Frame::String { .. } => true,
            Frame::Name { members, name } => {
                let others = &self.parser.tables.object(members.shape).others;
                name.other.is_some() && !(others.run_out() && members.used.is_some())
            }
            _ => false,
        }
    }

    /// Whether what ends the top string can be asked of the two halves of a token. Declared names are
    /// spelled in one way.
    fn cut_at_quote(&self, top: &Frame) -> bool {
        match top {
            Frame::String { body, .. } => !body.text.takes_quote(),
            Frame::Name { members, name } => match (name.other, name.declared) {
                (Some(other), _) => self.has_inside(top) && !other.text.takes_quote(),
                (None, Some(node)) => {
                    let names = &self.parser.tables.object(members.shape).names;
                    names.child(node, b'"').is_none()
                }
                (None, None) => false,
            },
            _ => false,
        }
    }

    /// The tokens that cannot leave the top string. One with a quote can, after a backslash.
    fn staying<'v>(
        &self,
        top: &Frame,
        vocabulary: &'v Vocabulary,
    ) -> impl Iterator<Item = &'v TokenTrie> + use<'v> {
        let escaped = vocabulary.closers().escaped();
        let escaped = self.cut_at_quote(top).then_some(escaped);
        std::iter::once(vocabulary.unquoted()).chain(escaped)
    }

    /// The tokens that a stack as a whole must be asked for.
    fn outside_tokens<'v>(&self, stack: &Stack, vocabulary: &'v Vocabulary) -> &'v TokenTrie {
        if self.has_inside(&stack.top) {
            vocabulary.quoted()
        } else {
            vocabulary.all()
        }
    }

    fn inside(
        &mut self,
        stack: &Stack,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Option<Inside>, GrammarError> {
        if !self.has_inside(&stack.top) {
            return Ok(None);
        }
        let longest = vocabulary.longest();
        let outer = stack.outer.as_ref().map_or(0, |outer| outer.cost);
        let (interior, (low, high)) = match &stack.top {
            Frame::String { shape, body } => {
                let strings = self.parser.tables.string(*shape);
                let key = strings.interior_key(*shape, body, longest);
                (
                    Interior::String(key),
                    strings.interior_offsets(body, longest),
                )
            }
            Frame::Name {
                members,
                name: Name {
                    other: Some(other), ..
                },
            } => {
                let others = &self.parser.tables.object(members.shape).others;
                let interior = match others {
                    Others::Matching { automaton, .. } => Interior::Matching(*automaton, *other),
                    _ => Interior::Name(other.text),
                };
                (interior, self.parser.name_offsets(members))
            }
            _ => return Ok(None),
        };
        let known = if interior.is_common() {
            vocabulary.common().get(vocabulary, interior)
        } else {
            self.masks.interiors.get(vocabulary, interior)
        };
        let reach = match known.filter(|known| known.measured || !measured) {
            Some(known) => known,
            None => {
                let mut found = match measured {
                    true => Reach::new(vocabulary),
                    false => Reach::unmeasured(vocabulary),
                };
                for tokens in self.staying(&stack.top, vocabulary) {
                    self.interior(&stack.top, tokens, &mut found)?;
                }
                let found = Arc::new(found);
                if interior.is_common() {
                    vocabulary.common().insert(vocabulary, interior, &found);
                } else {
                    self.masks.interiors.insert(vocabulary, interior, &found);
                }
                found
            }
        };
        let offsets = (low.saturating_add(outer), high.saturating_add(outer));
        Ok(Some(Inside { reach, offsets }))
    }

    /// Adds the tokens of a trie, which have no quotes, that stay within the top string; of a name that
    /// is not declared.
    fn interior(
        &mut self,
        top: &Frame,
        tokens: &TokenTrie,
        reach: &mut Reach,
    ) -> Result<(), GrammarError> {
        let Parser {
            tables, verdicts, ..
        } = &mut self.parser;
        let automata = verdicts.patterns.automata.as_mut_slice();
        match top {
            Frame::String { shape, body } => {
                let strings = tables.string(*shape);
                let automaton = strings.pattern.map(|(automaton, _)| automaton as usize);
                let place = InString {
                    start: *body,
                    step: |automata: &mut [Automaton], body, byte| {
                        strings.step(body, byte, automata)
                    },
                    run: |automata: &mut [Automaton], runs: &mut Runs, body: Body| {
                        let automaton = automaton.map(|idx| &mut automata[idx]);
                        string_run(strings, automaton, runs, body)
                    },
                    distance: |automata: &[Automaton], body: &Body| {
                        strings.interior_distance(body, automata)
                    },
                };
                let runs = runs_of(&mut self.masks.runs, automaton, automata);
                place.add((automata, runs), tokens, reach)
            }
            Frame::Name {
                members,
                name: Name {
                    other: Some(other), ..
                },
            } => {
                let automaton = object_automaton(&tables.object(members.shape).others);
                let place = InString {
                    start: *other,
                    step: |automata: &mut [Automaton], other, byte| {
                        step_other(automaton, automata, other, byte)
                    },
                    run: |automata: &mut [Automaton], runs: &mut Runs, other: Other| {
                        let automaton = automaton.map(|idx| &mut automata[idx]);
                        match other.text {
                            BOUNDARY => runs.run(other.state, automaton),
                            _ => Ok(Run::NONE),
                        }
                    },
                    distance: |automata: &[Automaton], other: &Other| match automaton {
                        Some(idx) => automata[idx].distance(other.state),
                        None => other.text.distance(),
                    },
                };
                let runs = runs_of(&mut self.masks.runs, automaton, automata);
                place.add((automata, runs), tokens, reach)
            }
            _ => Ok(()),
        }
    }
}

/// A place within a string, how bytes move it on, and what is known of those that may follow.
struct InString<S, F, R, D> {
    start: S,
    step: F,
    run: R,
    distance: D,
}

impl<S, F, R, D> InString<S, F, R, D>
where
    S: Copy + Eq + Hash,
    F: Fn(&mut [Automaton], S, u8) -> Result<Option<S>, GrammarError>,
    R: Fn(&mut [Automaton], &mut Runs, S) -> Result<Run, GrammarError>,
    D: Fn(&[Automaton], &S) -> usize,
{
    /// Adds the tokens of a trie that can be followed from here. Runs know no distances.
    fn add(
        &self,
        mut context: (&mut [Automaton], &mut Runs),
        tokens: &TokenTrie,
        reach: &mut Reach,
    ) -> Result<(), GrammarError> {
        if reach.measured {
            return tokens.walk(
                &mut context.0,
                self.start,
                |automata, &state, byte| (self.step)(automata, state, byte),
                |automata, token, state| reach.add(token, (self.distance)(automata, state)),
            );
        }
        tokens.walk_in_runs(
            &mut context,
            self.start,
            |(automata, _), &state, byte| (self.step)(automata, state, byte),
            |(automata, runs), &state| (self.run)(automata, runs, state),
            &mut reach.mask,
        )
    }
}

/// The longest run from a place in a string.
fn string_run(
    strings: &StringShape,
    automaton: Option<&mut Automaton>,
    runs: &mut Runs,
    body: Body,
) -> Result<Run, GrammarError> {
    if body.text != BOUNDARY {
        return Ok(Run::NONE);
    }
    let Some((state, n_free)) = strings.without_lengths(&body) else {
        let mut counted = Counted {
            strings,
            automaton,
            runs,
        };
        return run(body, &mut counted);
    };
    let run = runs.run(state, automaton)?;
    let n_characters = run.n_characters.min(n_free);
    let is_whole = n_characters == run.n_characters || strings.n_left(&body) == Some(n_free.into());
    Ok(Run {
        n_characters,
        is_exact: run.is_exact && is_whole,
        ..run
    })
}

/// Strings whose length decides, too, what may follow.
struct Counted<'a> {
    strings: &'a StringShape,
    automaton: Option<&'a mut Automaton>,
    runs: &'a mut Runs,
}

impl Followed<Body> for Counted<'_> {
    fn targets(&mut self, body: Body) -> Result<Arc<Targets<Body>>, GrammarError> {
        let of_state = self
            .runs
            .targets(body.state, self.automaton.as_deref_mut())?;
        let automaton = self.automaton.as_deref();
        let targets = self.strings.after_character(&body, &of_state, automaton);
        Ok(Arc::new(targets))
    }

    fn covers(&self, _: Body, _: Body) -> bool {
        false
    }
}
