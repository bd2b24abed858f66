//! The characters that an automaton tells apart, and where they lead: what [`crate::runs`] follows.

use foldhash::{HashMap, HashMapExt};
use smallvec::SmallVec;

use crate::json::text::{CLASSES, PLAIN, kind};
use crate::runs::{BEYOND_ASCII, BROKEN, Groups, LEADS, group, group_of_lead};

/// The class of each byte: bytes of one class are neither told apart by an automaton nor by a string.
pub(crate) fn byte_classes(class: impl Fn(u8) -> u16) -> [u8; 256] {
    let mut known: HashMap<(u16, u8), u8> = HashMap::new();
    std::array::from_fn(|byte| {
        let new = known.len() as u8;
        let both = (class(byte as u8), CLASSES[byte]);
        *known.entry(both).or_insert(new)
    })
}

/// A byte of each of these classes.
pub(crate) fn told_apart(class: impl Fn(u8) -> u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (byte, class) in (0..=u8::MAX).zip(byte_classes(class)) {
        // Classes are numbered as they are met.
        if usize::from(class) == bytes.len() {
            bytes.push(byte);
        }
    }
    bytes
}

/// Where the characters lead from a state.
#[derive(Debug)]
pub(crate) struct Targets<S> {
    /// Each state with the groups that have characters which lead to it.
    pub(crate) list: SmallVec<[(S, Groups); 4]>,
    /// Groups with characters that cannot follow, or not as they are.
    pub(crate) dead: Groups,
    /// Groups with characters that can, or might. Those of a group that is dead, too, are not all in the list.
    pub(crate) alive: Groups,
}

/// Bytes that may follow a lead byte.
const MAX_CONTINUATIONS: usize = 3;

/// Bytes that continue a character up to which an automaton that tells them apart is asked where each leads. To one with
/// classes of Unicode's letters nearly all differ: a walk, then, asks for those that tokens have.
const MAX_TOLD_APART: usize = 24;

/// A state within characters, the bounds of the next byte, and the groups of these characters.
type Within<S> = (S, (u8, u8), Groups);

impl<S: Copy + Eq> Targets<S> {
    fn add(&mut self, target: Option<S>, added: Groups) {
        let Some(target) = target else {
            self.dead |= added;
            return;
        };
        self.alive |= added;
        match self.list.iter_mut().find(|known| known.0 == target) {
            Some((_, groups)) => *groups |= added,
            None => self.list.push((target, added)),
        }
    }
}

/// Bytes that stand for all those that an automaton does not tell apart.
#[derive(Clone, Debug)]
pub(crate) struct Alphabet {
    /// An ASCII byte of each class, and the groups that have bytes of it.
    ascii: Vec<(u8, Groups)>,
    /// Likewise of those that begin a character beyond ASCII; UTF-8 itself tells some apart.
    leads: Vec<(u8, Groups)>,
    continuations: Vec<u8>,
}

impl Alphabet {
    /// Of an automaton over the bodies of JSON strings that does not tell bytes of one class apart.
    pub(crate) fn new(class: impl Fn(u8) -> u16) -> Self {
        let class = |byte: u8| (class(byte), kind(byte));
        let ascii = (0..=0x7F).map(|byte| (byte, class(byte), group(byte)));
        let leads = LEADS.into_iter().flatten();
        let leads = leads.map(|byte| (byte, (class(byte), after_lead(byte)), group_of_lead(byte)));
        let mut continuations: Vec<u8> = Vec::new();
        // UTF-8 tells these apart behind some lead bytes (RFC 3629, section 4).
        for range in [0x80..=0x8F, 0x90..=0x9F, 0xA0..=0xBF] {
            let n_before = continuations.len();
            for byte in range {
                let known = &continuations[n_before..];
                if known.iter().all(|&known| class(known) != class(byte)) {
                    continuations.push(byte);
                }
            }
        }
        Self {
            ascii: one_of_each(ascii),
            leads: one_of_each(leads),
            continuations,
        }
    }

    /// Where each character leads from a state.
    pub(crate) fn targets<S: Copy + Eq, E>(
        &self,
        state: S,
        mut step: impl FnMut(S, u8) -> Result<Option<S>, E>,
    ) -> Result<Targets<S>, E> {
        let mut targets = Targets {
            list: SmallVec::new(),
            dead: BROKEN,
            alive: 0,
        };
        for &(byte, groups) in &self.ascii {
            match kind(byte) {
                PLAIN => targets.add(step(state, byte)?, groups),
                _ => targets.add(None, groups),
            }
        }
        self.add_beyond_ascii(state, &mut step, &mut targets)?;
        Ok(targets)
    }

    fn add_beyond_ascii<S: Copy + Eq, E>(
        &self,
        state: S,
        step: &mut impl FnMut(S, u8) -> Result<Option<S>, E>,
        targets: &mut Targets<S>,
    ) -> Result<(), E> {
        // Those with more bytes to come before those with fewer, so that each is complete when it is followed.
        let mut open: [SmallVec<[Within<S>; 8]>; MAX_CONTINUATIONS] = Default::default();
        for &(lead, groups) in &self.leads {
            let Some(next) = step(state, lead)? else {
                targets.dead |= groups;
                continue;
            };
            if self.continuations.len() > MAX_TOLD_APART {
                targets.alive |= BEYOND_ASCII;
                targets.dead |= BEYOND_ASCII;
                return Ok(());
            }
            targets.alive |= groups;
            let (n_left, bounds) = after_lead(lead);
            add_within(&mut open[n_left - 1], (next, bounds, groups));
        }
        for n_left in (0..MAX_CONTINUATIONS).rev() {
            for (state, (low, high), groups) in std::mem::take(&mut open[n_left]) {
                for &byte in &self.continuations {
                    // Of groups of which some can follow and some cannot no more is told.
                    let groups = groups & !targets.dead;
                    if groups == 0 || !(low..=high).contains(&byte) {
                        continue;
                    }
                    match step(state, byte)? {
                        Some(next) if n_left > 0 => {
                            add_within(&mut open[n_left - 1], (next, (0x80, 0xBF), groups));
                        }
                        next => targets.add(next, groups),
                    }
                }
            }
        }
        Ok(())
    }
}

/// A byte of each class, with the groups of all that are of it.
fn one_of_each<K: Copy + Eq>(bytes: impl Iterator<Item = (u8, K, Groups)>) -> Vec<(u8, Groups)> {
    let mut known: Vec<(K, (u8, Groups))> = Vec::new();
    for (byte, class, group) in bytes {
        match known.iter_mut().find(|known| known.0 == class) {
            Some((_, (_, groups))) => *groups |= group,
            None => known.push((class, (byte, group))),
        }
    }
    known.into_iter().map(|(_, byte)| byte).collect()
}

/// Adds a state within characters to a list.
fn add_within<S: Copy + Eq>(open: &mut SmallVec<[Within<S>; 8]>, added: Within<S>) {
    let (state, bounds, groups) = added;
    let mut known = open.iter_mut();
    match known.find(|known| (known.0, known.1) == (state, bounds)) {
        Some((.., known)) => *known |= groups,
        None => open.push(added),
    }
}

/// The bytes that follow a lead byte, and the bounds of the first of them.
pub(crate) fn after_lead(lead: u8) -> (usize, (u8, u8)) {
    match lead {
        0xC2..=0xDF => (1, (0x80, 0xBF)),
        0xE0 => (2, (0xA0, 0xBF)),
        0xED => (2, (0x80, 0x9F)),
        0xE1..=0xEF => (2, (0x80, 0xBF)),
        0xF0 => (3, (0x90, 0xBF)),
        0xF4 => (3, (0x80, 0x8F)),
        _ => (3, (0x80, 0xBF)),
    }
}
