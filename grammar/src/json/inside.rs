//! The inside of strings: which tokens stay there, by the string alone.
//!
//! A string without a length is its pattern's state, one with a length that state and a count. Words
//! are taken by what is known of either ([`crate::runs`]); the others are walked, byte by byte.

use std::hash::Hash;
use std::sync::Arc;

use foldhash::HashMap;

use crate::alphabet::Targets;
use crate::json::automaton::Automaton;
use crate::json::frame::{Frame, Other, Stack};
use crate::json::machine::{JsonLanguage, Parser};
use crate::json::members::{object_automaton, step_other};
use crate::json::patterns::AutomatonId;
use crate::json::shape::Others;
use crate::json::string::{Body, InteriorKey, StringShape};
use crate::json::text::{BOUNDARY, Text};
use crate::memo::Reach;
use crate::runs::{ENDLESS, Followed, Run, Runs, run};
use crate::trie::TokenTrie;
use crate::{GrammarError, Vocabulary};

/// What the inside of a string depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interior {
    String(InteriorKey),
    /// A member's name that is none of the declared ones.
    Name(Text),
    /// The same, of an automaton of names.
    Matching(AutomatonId, Other),
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
pub(super) struct Inside {
    pub(super) reach: Arc<Reach>,
    /// Added to the distances of `reach`, at least and at most, to get those of the whole output.
    pub(super) offsets: (usize, usize),
}

/// The runs of an automaton.
fn runs_of<'r>(
    runs: &'r mut HashMap<Option<usize>, Runs>,
    automaton: Option<usize>,
    automata: &[Automaton],
) -> &'r mut Runs {
    runs.entry(automaton)
        .or_insert_with(|| Runs::new(|byte| automaton.map_or(0, |idx| automata[idx].class(byte))))
}

impl JsonLanguage {
    /// Whether the tokens without a quote are told by the inside of the top string alone. Those of
    /// a name depend on the final ones that came, too.
    pub(super) fn has_inside(&self, top: &Frame) -> bool {
        match top {
            Frame::String { .. } => true,
            Frame::Name { members, name } => name.other.is_some() && !members.any_final(),
            _ => false,
        }
    }

    /// Whether what ends the top string can be asked of the two halves of a token. Declared names are
    /// spelled in one way.
    pub(super) fn cut_at_quote(&self, top: &Frame) -> bool {
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
    pub(super) fn staying<'v>(
        &self,
        top: &Frame,
        vocabulary: &'v Vocabulary,
    ) -> impl Iterator<Item = &'v TokenTrie> + use<'v> {
        let escaped = vocabulary.closers().escaped();
        let escaped = self.cut_at_quote(top).then_some(escaped);
        vocabulary.unquoted().iter().chain(escaped)
    }

    /// What is known of the inside of the top string, if it has one.
    pub(super) fn inside(
        &mut self,
        stack: &Stack,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Option<Inside>, GrammarError> {
        if !self.has_inside(&stack.top) {
            return Ok(None);
        }
        let longest = vocabulary.longest();
        let outer = stack.outer_cost();
        let (interior, (low, high)) = match &stack.top {
            Frame::String { shape, body } => {
                let strings = self.parser.tables.string(*shape);
                let automata = &self.parser.verdicts.patterns.automata;
                let (inside, place) = strings.inside(body, measured);
                let key = inside.interior_key(*shape, &place, longest, automata);
                (
                    Interior::String(key),
                    strings.interior_offsets(body, longest),
                )
            }
            Frame::Name { members, name } if let Some(other) = name.other => {
                let others = &self.parser.tables.object(members.shape).others;
                let interior = match others {
                    Others::Matching { automaton, .. } => Interior::Matching(*automaton, other),
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
                let mut found = self.find_inside(&stack.top, vocabulary, measured)?;
                found.mask.share();
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

    /// Finds the tokens that stay in the top string.
    fn find_inside(
        &mut self,
        top: &Frame,
        vocabulary: &Vocabulary,
        measured: bool,
    ) -> Result<Reach, GrammarError> {
        let mut found = Reach::new(vocabulary, measured);
        let is_of_words = !measured && self.is_of_words(top);
        let is_searched = !measured && self.searched(top, vocabulary, &mut found)?;
        let [plain, ..] = vocabulary.unquoted();
        for tokens in self.staying(top, vocabulary) {
            let walked = match std::ptr::eq(tokens, plain) {
                true if is_searched => continue,
                true if is_of_words => Walked::Bytewise(vocabulary.folded()),
                false if is_searched || is_of_words => Walked::Bytewise(tokens),
                _ => Walked::InRuns(tokens),
            };
            self.interior(top, walked, &mut found)?;
        }
        Ok(found)
    }

    /// Whether the next character of the top string leads to the same place whichever visible one it is, and so on, and
    /// runs are long to find.
    fn is_of_words(&self, top: &Frame) -> bool {
        let automata = &self.parser.verdicts.patterns.automata;
        let (text, automaton) = match top {
            Frame::String { shape, body } => {
                let (strings, body) = self.parser.tables.string(*shape).inside(body, false);
                let automaton = strings.pattern.map(|(automaton, _)| automaton as usize);
                (body.text, automaton)
            }
            Frame::Name { members, name } => {
                let others = &self.parser.tables.object(members.shape).others;
                let text = name.other.map_or(BOUNDARY, |other| other.text);
                (text, object_automaton(others))
            }
            _ => return false,
        };
        text == BOUNDARY && automaton.is_some_and(|automaton| automata[automaton].is_of_words())
    }

    /// Adds the tokens of a trie, none of which can leave it, that the top string takes; of a name, where it
    /// is not declared.
    pub(super) fn interior(
        &mut self,
        top: &Frame,
        tokens: Walked<'_>,
        reach: &mut Reach,
    ) -> Result<(), GrammarError> {
        let Parser {
            tables, verdicts, ..
        } = &mut self.parser;
        let automata = verdicts.patterns.automata.as_mut_slice();
        match top {
            Frame::String { shape, body } => {
                let (strings, start) = tables.string(*shape).inside(body, reach.measured);
                let automaton = strings.pattern.map(|(automaton, _)| automaton as usize);
                let place = InString {
                    start,
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
            Frame::Name { members, name } if let Some(start) = name.other => {
                let automaton = object_automaton(&tables.object(members.shape).others);
                let place = InString {
                    start,
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

/// How the tokens of a trie are followed.
#[derive(Clone, Copy)]
pub(super) enum Walked<'v> {
    InRuns(&'v TokenTrie),
    /// Without runs, for their trie is small.
    Bytewise(&'v TokenTrie),
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
        tokens: Walked<'_>,
        reach: &mut Reach,
    ) -> Result<(), GrammarError> {
        let (tokens, in_runs) = match tokens {
            Walked::InRuns(tokens) => (tokens, true),
            Walked::Bytewise(tokens) => (tokens, false),
        };
        if reach.measured {
            return tokens.walk(
                &mut context.0,
                self.start,
                |automata, &state, byte| (self.step)(automata, state, byte),
                |automata, token, state| reach.add(token, (self.distance)(automata, state)),
            );
        }
        let classes = *context.1.classes;
        tokens.walk_in_runs(
            &mut context,
            (self.start, &classes),
            |(automata, _), &state, byte| (self.step)(automata, state, byte),
            |(automata, runs), &state| match in_runs {
                true => (self.run)(automata, runs, state),
                false => Ok(Run::NONE),
            },
            &mut reach.mask,
        )
    }
}

/// The longest run from a place in a string.
fn string_run(
    strings: &StringShape,
    mut automaton: Option<&mut Automaton>,
    runs: &mut Runs,
    body: Body,
) -> Result<Run, GrammarError> {
    if body.text != BOUNDARY {
        return Ok(Run::NONE);
    }
    // How long a way can be is known of the states that the run has met.
    let of_pattern = runs.run(body.state, automaton.as_deref_mut())?;
    let found = match strings.n_without_lengths(&body, automaton.as_deref()) {
        0 => {
            let mut counted = Counted {
                strings,
                automaton,
                runs,
            };
            run(body, &mut counted)?
        }
        n_free => Run {
            n_characters: of_pattern.n_characters.min(n_free),
            ..of_pattern
        },
    };
    let n_left = strings.n_left(&body).unwrap_or(u32::MAX);
    let most = found.most.min(n_left.min(ENDLESS.into()) as u8);
    Ok(Run { most, ..found })
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
        let automaton = self.automaton.as_deref_mut();
        let targets = self.strings.after_character(&body, &of_state, automaton)?;
        Ok(Arc::new(targets))
    }

    fn covers(&self, _: Body, _: Body) -> bool {
        false
    }
}
