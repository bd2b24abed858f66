//! Runs: how far any text of some characters keeps an automaton alive.
//!
//! Most tokens are words, and most patterns take words whole or not at all. So a mask is found
//! without visiting each word: characters are put into groups that patterns seldom tell apart, each
//! token says of which groups it is, and a state says how many characters of which groups it takes
//! in any order. Only what is not settled so is walked, token by token.

use smallvec::SmallVec;

/// A set of groups of characters, one bit each.
pub(crate) type Groups = u64;

/// Bytes that are no whole character: no run takes them.
pub(crate) const BROKEN: Groups = 1 << 63;
/// All characters beyond ASCII, whole.
const BEYOND_ASCII: Groups = 1 << 62;

/// Characters that are counted; a run of as many has no end.
pub(crate) const ENDLESS: u8 = u8::MAX;
/// Characters up to which a run is followed: few tokens are longer.
const MAX_FOLLOWED: u8 = 24;

/// Text of at most `n_characters` out of `groups` can always be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) groups: Groups,
    pub(crate) n_characters: u8,
}

impl Run {
    /// No text at all.
    pub(crate) const NONE: Self = Self {
        groups: 0,
        n_characters: 0,
    };

    pub(crate) fn takes(self, groups: Groups, n_characters: u8) -> bool {
        groups & !self.groups == 0 && n_characters <= self.n_characters
    }
}

/// The group of an ASCII character: letters and digits by what patterns name (hexadecimal digits
/// apart), each other one by itself.
pub(crate) fn group(byte: u8) -> Groups {
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

/// Roughly how many tokens some groups have a part in.
fn weight(groups: Groups) -> u32 {
    let weight = |groups: Groups, each: u32| groups.count_ones() * each;
    weight(groups & 0b11, 100)
        + weight(groups & 0b1100, 20)
        + weight(groups & BEYOND_ASCII, 40)
        + weight(groups, 1)
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
    /// Of an automaton that does not tell bytes of one class apart.
    pub(crate) fn new(class: impl Fn(u8) -> u16) -> Self {
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

    /// The longest run from a state, of the groups that lead to one state together.
    pub(crate) fn run<S: Copy + Eq, E>(
        &self,
        start: S,
        mut step: impl FnMut(S, u8) -> Result<Option<S>, E>,
    ) -> Result<Run, E> {
        let mut targets: SmallVec<[(Option<S>, Groups); 4]> = SmallVec::new();
        let mut add = |target, added| match targets.iter_mut().find(|known| known.0 == target) {
            Some((_, groups)) => *groups |= added,
            None => targets.push((target, added)),
        };
        for &(byte, groups) in &self.ascii {
            add(step(start, byte)?, groups);
        }
        add(self.target_beyond_ascii(start, &mut step)?, BEYOND_ASCII);
        // What a group's characters lead to apart, it does not lead to.
        let mut best = None;
        for (idx, &(target, groups)) in targets.iter().enumerate() {
            let others = targets
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != idx);
            let groups = others.fold(groups, |groups, (_, other)| groups & !other.1);
            if let Some(target) = target
                && best.is_none_or(|(_, most)| weight(groups) > weight(most))
            {
                best = Some((target, groups));
            }
        }
        let Some((mut state, groups)) = best.filter(|(_, groups)| *groups != 0) else {
            return Ok(Run::NONE);
        };
        let mut passed: SmallVec<[S; 8]> = SmallVec::from_elem(start, 1);
        while !passed.contains(&state) {
            let n_characters = passed.len() as u8;
            let next = match n_characters {
                MAX_FOLLOWED => None,
                _ => self.common_target(state, groups, &mut step)?,
            };
            let Some(next) = next else {
                return Ok(Run {
                    groups,
                    n_characters,
                });
            };
            passed.push(state);
            state = next;
        }
        Ok(Run {
            groups,
            n_characters: ENDLESS,
        })
    }

    /// Where all characters of some groups lead; `None` if they part or some lead nowhere.
    fn common_target<S: Copy + Eq, E>(
        &self,
        state: S,
        groups: Groups,
        step: &mut impl FnMut(S, u8) -> Result<Option<S>, E>,
    ) -> Result<Option<S>, E> {
        let mut common = match groups & BEYOND_ASCII {
            0 => None,
            _ => match self.target_beyond_ascii(state, step)? {
                None => return Ok(None),
                target => target,
            },
        };
        for &(byte, _) in self.ascii.iter().filter(|(_, held)| held & groups != 0) {
            let target = step(state, byte)?;
            if target.is_none() || common.is_some_and(|common| target != Some(common)) {
                return Ok(None);
            }
            common = target;
        }
        Ok(common)
    }

    /// Where all characters beyond ASCII lead; `None` if they part or some lead nowhere.
    fn target_beyond_ascii<S: Copy + Eq, E>(
        &self,
        state: S,
        step: &mut impl FnMut(S, u8) -> Result<Option<S>, E>,
    ) -> Result<Option<S>, E> {
        let mut common = None;
        // States within a character, with the bytes that are still to come; the first of these is
        // bounded by the lead.
        let mut open: Vec<(S, usize, (u8, u8))> = Vec::new();
        for &lead in &self.leads {
            let Some(next) = step(state, lead)? else {
                return Ok(None);
            };
            let (n_left, bounds) = after_lead(lead);
            if !open.contains(&(next, n_left, bounds)) {
                open.push((next, n_left, bounds));
            }
        }
        let mut idx = 0;
        while let Some(&(state, n_left, (low, high))) = open.get(idx) {
            idx += 1;
            let within = |byte: &&u8| (low..=high).contains(*byte);
            for &byte in self.continuations.iter().filter(within) {
                let Some(next) = step(state, byte)? else {
                    return Ok(None);
                };
                let after = (next, n_left - 1, (0x80, 0xBF));
                if n_left > 1 {
                    if !open.contains(&after) {
                        open.push(after);
                    }
                } else if *common.get_or_insert(next) != next {
                    return Ok(None);
                }
            }
        }
        Ok(common)
    }
}

/// The bytes that follow a lead byte, and the bounds of the first of them.
fn after_lead(lead: u8) -> (usize, (u8, u8)) {
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

/// For each byte of a text, the groups of what stands from there on and how many characters it has;
/// `BROKEN` is among them if that does not consist of whole characters.
pub(crate) fn measure(text: &[u8]) -> Vec<(Groups, u8)> {
    let mut measures = vec![(0, 0); text.len() + 1];
    for start in (0..text.len()).rev() {
        let n_bytes = match text[start] {
            0..=0x7F => 1,
            lead @ 0xC2..=0xF4 => 1 + after_lead(lead).0,
            _ => usize::MAX,
        };
        let end = start.saturating_add(n_bytes);
        let character = text.get(start..end).and_then(|c| str::from_utf8(c).ok());
        measures[start] = match character {
            None => (BROKEN, 0),
            Some(_) => {
                let (groups, n_characters) = measures[end];
                let own = if n_bytes == 1 {
                    group(text[start])
                } else {
                    BEYOND_ASCII
                };
                (groups | own, u8::saturating_add(n_characters, 1))
            }
        };
    }
    measures.truncate(text.len());
    measures
}
