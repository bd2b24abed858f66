//! Runs: how far any text of some characters keeps an automaton alive.
//!
//! Most tokens are words, and most patterns take words whole or not at all. So a mask is found
//! without visiting each word: characters are put into groups that patterns seldom tell apart, each
//! token says of which groups it is, and a state says how many characters of which groups it takes
//! in any order. Only what is not settled so is walked, token by token.

use std::hash::Hash;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use smallvec::SmallVec;

use crate::GrammarError;
use crate::alphabet::{Alphabet, Targets, after_lead, byte_classes};
use crate::json::automaton::Automaton;
use crate::regex::dfa::DfaState;

/// A set of groups of characters, one bit each.
pub(crate) type Groups = u64;

/// Bytes that are no characters: no run takes them.
pub(crate) const BROKEN: Groups = 1 << 63;

/// The lead bytes of characters beyond ASCII by groups: what classes of Unicode take whole or not at all, more or less, as
/// are Greek, Cyrillic, Chinese and Korean letters.
pub(crate) const LEADS: [RangeInclusive<u8>; 18] = [
    0xC2..=0xC2,
    0xC3..=0xC3,
    0xC4..=0xC5,
    0xC6..=0xCB,
    0xCC..=0xCF,
    0xD0..=0xD1,
    0xD2..=0xDF,
    0xE0..=0xE0,
    0xE1..=0xE1,
    0xE2..=0xE2,
    0xE3..=0xE3,
    0xE4..=0xE4,
    0xE5..=0xE9,
    0xEA..=0xEA,
    0xEB..=0xEC,
    0xED..=0xED,
    0xEE..=0xEF,
    0xF0..=0xF4,
];
/// The group of the first of [`LEADS`]; the others' follow it.
const FIRST_LEAD: Groups = 1 << 43;
/// All characters beyond ASCII, whole.
pub(crate) const BEYOND_ASCII: Groups = FIRST_LEAD * ((1 << LEADS.len()) - 1);

/// Characters that stand for themselves: all but quotes, backslashes and control characters.
const PLAIN: Groups = {
    let (mut groups, mut byte) = (BEYOND_ASCII, b' ');
    while byte < 0x80 {
        if byte != b'"' && byte != b'\\' {
            groups |= group(byte);
        }
        byte += 1;
    }
    groups
};

/// Characters that are counted; a run of as many has no end.
pub(crate) const ENDLESS: u8 = u8::MAX;
/// Characters up to which a run is followed: few tokens are longer.
pub(crate) const MAX_FOLLOWED: u8 = 24;
/// New states after a character up to which it is: making a state can be costly.
const MAX_NEW_STATES: usize = 4;
/// States in all up to which none is left out.
const MAX_STATES: usize = 16;
/// Bytes of bookkeeping for each state that was looked at.
const STATE_BYTES: usize = 160;

/// Text of at most `n_characters` out of `groups` can always be continued. Other text without an escape may be *open*, if it
/// has characters that are `alive` beside these. Else it dies if it has more than `most` characters, or at most
/// `n_characters`, one of which is not of the `groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) groups: Groups,
    pub(crate) n_characters: u8,
    pub(crate) alive: Groups,
    pub(crate) most: u8,
}

impl Run {
    /// No text at all.
    pub(crate) const NONE: Self = Self {
        groups: 0,
        n_characters: 0,
        alive: PLAIN,
        most: ENDLESS,
    };

    /// Whether it tells of each text out of `groups` with at most so many characters if that dies; of `ENDLESS` ones, however
    /// long it is.
    pub(crate) fn tells(self, groups: Groups, n_characters: u8) -> bool {
        (n_characters <= self.n_characters || self.n_characters == self.most)
            && !self.is_open(groups)
    }

    /// Whether all text out of `groups` dies that has so many characters.
    pub(crate) fn ends(self, groups: Groups, n_characters: u8) -> bool {
        n_characters > self.most && !self.is_open(groups)
    }

    /// Whether text out of `groups` may go on though it is not of the run's own.
    pub(crate) fn is_open(self, groups: Groups) -> bool {
        groups & (self.alive & !self.groups | group(b'\\')) != 0
    }

    pub(crate) fn takes(self, groups: Groups, n_characters: u8) -> bool {
        groups & !self.groups == 0 && n_characters <= self.n_characters
    }
}

/// The group of an ASCII character: letters and digits by what patterns name (hexadecimal digits
/// apart), each other one by itself.
pub(crate) const fn group(byte: u8) -> Groups {
    1 << match byte {
        b'a'..=b'f' => 0,
        b'g'..=b'z' => 1,
        b'A'..=b'F' => 2,
        b'G'..=b'Z' => 3,
        b'0'..=b'9' => 4,
        b' '..=b'/' => 5 + byte - b' ',
        b':'..=b'@' => 21 + byte - b':',
        b'['..=b'`' => 28 + byte - b'[',
        b'{'..=0x7F => 34 + byte - b'{',
        b'\t' => 39,
        b'\n' => 40,
        b'\r' => 41,
        0..=0x1F => 42,
        0x80..=0xFF => return BROKEN,
    }
}

/// [`group`] of each byte.
pub(crate) static GROUPS: [Groups; 256] = {
    let (mut groups, mut byte) = ([0; 256], 0);
    while byte < groups.len() {
        groups[byte] = group(byte as u8);
        byte += 1;
    }
    groups
};

/// The group of a character beyond ASCII.
pub(crate) fn group_of_lead(lead: u8) -> Groups {
    let place = LEADS.iter().position(|leads| leads.contains(&lead));
    place.map_or(BROKEN, |place| FIRST_LEAD << place)
}

/// Roughly how many tokens some groups have a part in.
fn weight(groups: Groups) -> u32 {
    let weight = |groups: Groups, each: u32| groups.count_ones() * each;
    weight(groups & 0b11, 100)
        + weight(groups & 0b1100, 20)
        + weight(groups & BEYOND_ASCII, 2)
        + weight(groups, 1)
}

/// An automaton as runs are found in it.
pub(crate) trait Followed<S> {
    /// Where characters lead from a state.
    fn targets(&mut self, state: S) -> Result<Arc<Targets<S>>, GrammarError>;

    /// Whether all that may follow `other` plainly may follow `state`, too.
    fn covers(&self, state: S, other: S) -> bool;
}

/// The longest run from a state: of all the groups that can follow, or of those that lead to one
/// state together if these go further.
pub(crate) fn run<S: Copy + Eq, F: Followed<S>>(
    start: S,
    automaton: &mut F,
) -> Result<Run, GrammarError> {
    let first = automaton.targets(start)?;
    let all = run_of(Groups::MAX, start, automaton)?;
    if all.tells(PLAIN, ENDLESS) || all.n_characters >= MAX_FOLLOWED {
        return Ok(all);
    }
    let together = first.list.iter().map(|&(target, groups)| {
        let others = first.list.iter();
        let others = others.filter(|other| other.0 != target && !automaton.covers(other.0, target));
        others.fold(groups & !first.dead, |groups, other| groups & !other.1)
    });
    let together = together.max_by_key(|&groups| weight(groups)).unwrap_or(0);
    let together = run_of(together, start, automaton)?;
    Ok(match together.n_characters > all.n_characters {
        true => together,
        false => all,
    })
}

/// The longest run from a state out of `groups`. Those of which little is lost are left out where
/// they would end it. What covers a state that is followed need not be followed itself (antichains:
/// De Wulf, Doyen, Henzinger, Raskin, CAV 2006), but then it is not known what dies: if some text might, and states are few,
/// all are followed for that.
fn run_of<S: Copy + Eq, F: Followed<S>>(
    mut groups: Groups,
    start: S,
    automaton: &mut F,
) -> Result<Run, GrammarError> {
    groups &= !automaton.targets(start)?.dead;
    let found = loop {
        match follow(groups, start, automaton, true)? {
            ControlFlow::Break(run) => break run,
            ControlFlow::Continue(others) => groups = others,
        }
    };
    if found.alive == PLAIN && found.groups & PLAIN != PLAIN {
        let all = follow(found.groups, start, automaton, false)?;
        if let ControlFlow::Break(all) = all
            && all.n_characters == found.n_characters
        {
            return Ok(all);
        }
    }
    Ok(found)
}

/// The longest run from a state out of `groups`, which all can follow it, `leaving_out` states that cover another one; or, if
/// a few of the groups should rather be left out, as well as what only they lead to, the other groups.
fn follow<S: Copy + Eq, F: Followed<S>>(
    groups: Groups,
    start: S,
    automaton: &mut F,
    leaving_out: bool,
) -> Result<ControlFlow<Run, Groups>, GrammarError> {
    if groups == 0 {
        return Ok(ControlFlow::Break(Run::NONE));
    }
    let mut seen: SmallVec<[S; 16]> = SmallVec::from_elem(start, 1);
    let mut n_done = 0;
    // The groups with characters that lead on from what was followed, whether all was, and whether a
    // state comes again after more characters.
    let (mut alive, mut all_followed, mut comes_back) = (0, true, false);
    // The characters of the run, and whether all text out of `groups` ends with them.
    let (n_characters, ends) = 'followed: {
        for n_characters in 0..MAX_FOLLOWED {
            let (level, n_reached) = (n_done, seen.len());
            while n_done < n_reached {
                let after = automaton.targets(seen[n_done])?;
                let dying = after.dead & groups;
                if weight(dying) * 4 > weight(groups) {
                    let mut ends = all_followed && !comes_back;
                    for &state in &seen[level..n_reached] {
                        let next = automaton.targets(state)?.alive;
                        ends &= next & groups == 0;
                        alive |= next;
                    }
                    break 'followed (n_characters, ends);
                }
                if dying != 0 {
                    return Ok(ControlFlow::Continue(groups & !dying));
                }
                alive |= after.alive;
                for &(target, of) in &after.list {
                    if of & groups == 0 {
                        continue;
                    }
                    if let Some(place) = seen.iter().position(|&known| known == target) {
                        comes_back |= place < n_reached;
                        continue;
                    }
                    let is_covered = |&known: &S| automaton.covers(target, known);
                    if leaving_out && seen.iter().any(is_covered) {
                        all_followed = false;
                    } else {
                        seen.push(target);
                    }
                }
                n_done += 1;
            }
            match seen.len() - n_reached {
                // No state is new, so none ever will be.
                0 => break 'followed (ENDLESS, false),
                n_new if n_new > MAX_NEW_STATES || !leaving_out && seen.len() > MAX_STATES => {
                    break 'followed (n_characters + 1, false);
                }
                _ => {}
            }
        }
        (MAX_FOLLOWED, false)
    };
    Ok(ControlFlow::Break(Run {
        groups,
        n_characters,
        alive: if all_followed { alive } else { PLAIN },
        most: if ends { n_characters } else { ENDLESS },
    }))
}

/// The runs of one automaton as far as they were asked for.
#[derive(Debug)]
pub(crate) struct Runs {
    alphabet: Alphabet,
    /// Bytes of one class lead to the same places in a string, from everywhere.
    pub(crate) classes: Box<[u8; 256]>,
    targets: HashMap<DfaState, Arc<Targets<DfaState>>>,
    runs: HashMap<DfaState, Run>,
}

/// An automaton with what is known of it.
struct Remembered<'a> {
    automaton: Option<&'a mut Automaton>,
    runs: &'a mut Runs,
}

impl Followed<DfaState> for Remembered<'_> {
    fn targets(&mut self, state: DfaState) -> Result<Arc<Targets<DfaState>>, GrammarError> {
        self.runs.targets(state, self.automaton.as_deref_mut())
    }

    fn covers(&self, state: DfaState, other: DfaState) -> bool {
        let automaton = self.automaton.as_ref();
        automaton.is_some_and(|automaton| automaton.covers(state, other))
    }
}

impl Runs {
    /// Of an automaton that does not tell bytes of one class apart.
    pub(crate) fn new(class: impl Fn(u8) -> u16) -> Self {
        Self {
            classes: Box::new(byte_classes(&class)),
            alphabet: Alphabet::new(class),
            targets: HashMap::new(),
            runs: HashMap::new(),
        }
    }

    /// Heap bytes, roughly.
    pub(crate) fn n_bytes(&self) -> usize {
        (self.targets.len() + self.runs.len()) * STATE_BYTES
    }

    /// The longest run from a state of the automaton, or where there is none.
    pub(crate) fn run(
        &mut self,
        state: DfaState,
        automaton: Option<&mut Automaton>,
    ) -> Result<Run, GrammarError> {
        if let Some(&known) = self.runs.get(&state) {
            return Ok(known);
        }
        let runs = &mut *self;
        let found = run(state, &mut Remembered { automaton, runs })?;
        self.runs.insert(state, found);
        Ok(found)
    }

    /// Where characters lead from a state of the automaton; where there is none, always on.
    pub(crate) fn targets(
        &mut self,
        state: DfaState,
        automaton: Option<&mut Automaton>,
    ) -> Result<Arc<Targets<DfaState>>, GrammarError> {
        if let Some(known) = self.targets.get(&state) {
            return Ok(Arc::clone(known));
        }
        let found = match automaton {
            Some(automaton) => self
                .alphabet
                .targets(state, |state, byte| automaton.step(state, byte))?,
            None => self.alphabet.targets(state, |state, _| Ok(Some(state)))?,
        };
        let found = Arc::new(found);
        self.targets.insert(state, Arc::clone(&found));
        Ok(found)
    }
}

/// Whether a text consists of whole characters that stand for themselves in a string.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    let stands_for_itself = |byte: &u8| *byte >= 0x80 || PLAIN & group(*byte) != 0;
    str::from_utf8(text).is_ok() && text.iter().all(stands_for_itself)
}

/// For each byte of a text, the groups of what stands from there on and how many characters it has;
/// `BROKEN` is among them if that does not consist of characters, and their number is then the greatest.
/// The last may be cut short: where each of its group can follow, so can a part of one.
pub(crate) fn measure(text: &[u8]) -> Vec<(Groups, u8)> {
    let mut measures = vec![(0, 0); text.len() + 1];
    for start in (0..text.len()).rev() {
        let n_bytes = match text[start] {
            0..=0x7F => 1,
            lead @ 0xC2..=0xF4 => 1 + after_lead(lead).0,
            _ => usize::MAX,
        };
        let end = start.saturating_add(n_bytes).min(text.len());
        let is_character = match str::from_utf8(&text[start..end]) {
            Ok(_) => true,
            Err(error) => error.error_len().is_none(),
        };
        measures[start] = match is_character {
            false => (BROKEN, ENDLESS),
            true => {
                let (groups, n_characters) = measures[end];
                let own = if n_bytes == 1 {
                    group(text[start])
                } else {
                    group_of_lead(text[start])
                };
                (groups | own, u8::saturating_add(n_characters, 1))
            }
        };
    }
    measures.truncate(text.len());
    measures
}
