//! The characters that an automaton tells apart, and where they lead: what [`crate::runs`] follows.

use foldhash::{HashMap, HashMapExt};
use smallvec::SmallVec;

use crate::json::text::{CLASSES, PLAIN, kind};
use crate::runs::{BEYOND_ASCII, BROKEN, Groups, group};

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
    /// Groups with characters that can. Those of a group that is dead, too, are not all in the list.
    pub(crate) alive: Groups,
}

/// A state within a character, the bytes that are still to come, and the bounds of the first of them.
type Within<S> = (S, usize, (u8, u8));

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
    leads: Vec<u8>,
    continuations: Vec<u8>,
}

impl Alphabet {
    /// Of an automaton over the bodies of JSON strings that does not tell bytes of one class apart.
    pub(crate) fn new(class: impl Fn(u8) -> u16) -> Self {
        let class = |byte: u8| (class(byte), kind(byte));
        let mut ascii: Vec<(u8, Groups)> = Vec::new();
        for byte in 0..=0x7F {
            match ascii
                .iter_mut()
                .find(|(known, _)| class(*known) == class(byte))
            {
                Some((_, groups)) => *groups |= group(byte),
                None => ascii.push((byte, group(byte))),
            }
        }
        // UTF-8 itself tells these apart (RFC 3629, section 4).
        let ranges = [
            0x80..=0x8F,
            0x90..=0x9F,
            0xA0..=0xBF,
            0xC2..=0xDF,
            0xE0..=0xE0,
            0xE1..=0xEC,
            0xED..=0xED,
            0xEE..=0xEF,
            0xF0..=0xF0,
            0xF1..=0xF3,
            0xF4..=0xF4,
        ];
        let mut beyond: Vec<u8> = Vec::new();
        for range in ranges {
            let n_before = beyond.len();
            for byte in range {
                if beyond[n_before..].iter().all(|&b| class(b) != class(byte)) {
                    beyond.push(byte);
                }
            }
        }
        let leads = beyond.partition_point(|&byte| byte < 0xC2);
        Self {
            ascii,
            leads: beyond.split_off(leads),
            continuations: beyond,
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
        let mut open: SmallVec<[Within<S>; 8]> = SmallVec::new();
        // Once some can follow and some cannot, no more is told; the last ones are the likeliest to die.
        for &lead in self.leads.iter().rev() {
            match step(state, lead)? {
                None => targets.add(None, BEYOND_ASCII),
                Some(next) => {
                    targets.alive |= BEYOND_ASCII;
                    let (n_left, bounds) = after_lead(lead);
                    if !open.contains(&(next, n_left, bounds)) {
                        open.push((next, n_left, bounds));
                    }
                }
            }
            if targets.dead & targets.alive & BEYOND_ASCII != 0 {
                return Ok(());
            }
        }
        if targets.dead & BEYOND_ASCII != 0 {
            return Ok(());
        }
        let mut idx = 0;
        while let Some(&(state, n_left, (low, high))) = open.get(idx) {
            idx += 1;
            let within = |byte: &&u8| (low..=high).contains(*byte);
            for &byte in self.continuations.iter().filter(within) {
                let next = step(state, byte)?;
                match next {
                    Some(next) if n_left > 1 => {
                        let after = (next, n_left - 1, (0x80, 0xBF));
                        if !open.contains(&after) {
                            open.push(after);
                        }
                    }
                    next => targets.add(next, BEYOND_ASCII),
                }
            }
        }
        Ok(())
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
