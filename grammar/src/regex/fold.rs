//! Patterns of words and white space, which tell no visible characters apart.
//!
//! To such a pattern a hundred thousand tokens are a few thousand: in each, one visible character stands for all.
//! The patterns are over JSON's spelling, whose escapes tell characters apart; but within an escape no token begins that
//! has none itself.

use regex_automata::nfa::thompson::{NFA, State, Transition};

/// What stands for each visible character.
const FOLDED: u8 = b'x';

/// Visible ASCII characters that stand for themselves in a string, one bit each.
const VISIBLE: u128 = between(b'!', b'~') & !(1 << b'"') & !(1 << b'\\');

/// Bytes that follow a backslash, but for `u`, which four digits follow.
const ESCAPED: &[u8] = b"\"\\/bfnrt";

/// The same text to a pattern that takes visible characters alike.
pub(crate) fn folded(text: &[u8]) -> Vec<u8> {
    let is_visible = |byte: u8| byte.is_ascii() && VISIBLE >> byte & 1 == 1;
    let fold = |&byte: &u8| if is_visible(byte) { FOLDED } else { byte };
    text.iter().map(fold).collect()
}

/// Whether visible characters all lead to the same places in strings, from wherever one stands for itself.
pub(crate) fn takes_visible_alike(nfa: &NFA) -> bool {
    let mut open = vec![(nfa.start_anchored(), Place::BOUNDARY)];
    // By state, one bit for each place.
    let mut seen = vec![0_u8; nfa.states().len()];
    while let Some((id, place)) = open.pop() {
        let seen = &mut seen[id.as_usize()];
        if *seen >> place.0 & 1 == 1 {
            continue;
        }
        *seen |= 1 << place.0;
        let transitions = match nfa.state(id) {
            State::ByteRange { trans } => std::slice::from_ref(trans),
            State::Sparse(sparse) => &*sparse.transitions,
            State::Union { alternates } => {
                open.extend(alternates.iter().map(|&next| (next, place)));
                continue;
            }
            State::BinaryUnion { alt1, alt2 } => {
                open.extend([(*alt1, place), (*alt2, place)]);
                continue;
            }
            State::Look { next, .. } | State::Capture { next, .. } => {
                open.push((*next, place));
                continue;
            }
            State::Match { .. } | State::Fail => continue,
            State::Dense(_) => return false,
        };
        if place == Place::BOUNDARY && !are_alike(transitions) {
            return false;
        }
        for transition in transitions {
            let next = transition.next;
            open.extend(place.after(transition).map(|place| (next, place)));
        }
    }
    true
}

/// Whether of some transitions those on visible characters are all, or none, and lead to one state.
fn are_alike(transitions: &[Transition]) -> bool {
    let on_visible = |transition: &Transition| between(transition.start, transition.end) & VISIBLE;
    let mut visible = transitions.iter().filter(|one| on_visible(one) != 0);
    let Some(first) = visible.next() else {
        return true;
    };
    let all = visible.try_fold(on_visible(first), |all, other| {
        (other.next == first.next).then_some(all | on_visible(other))
    });
    all == Some(VISIBLE)
}

/// The ASCII bytes from one to another.
const fn between(start: u8, end: u8) -> u128 {
    if start > 0x7F {
        return 0;
    }
    let end = if end > 0x7F { 0x7F } else { end };
    (u128::MAX >> (0x7F - end)) & (u128::MAX << start)
}

/// A place in a string: between characters or in one beyond ASCII, before so many digits of an escape, or after a backslash.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(u8);

impl Place {
    const BOUNDARY: Self = Self(0);
    const N_DIGITS: u8 = 4;
    const ESCAPE: Self = Self(5);

    /// The places after the bytes of a transition.
    fn after(self, transition: &Transition) -> impl Iterator<Item = Self> {
        let bytes = transition.start..=transition.end;
        let has = |byte: &u8| bytes.contains(byte);
        let places = match self {
            Self::BOUNDARY => [
                has(&b'\\').then_some(Self::ESCAPE),
                (bytes != (b'\\'..=b'\\')).then_some(Self::BOUNDARY),
            ],
            Self::ESCAPE => [
                has(&b'u').then_some(Self(Self::N_DIGITS)),
                ESCAPED.iter().any(has).then_some(Self::BOUNDARY),
            ],
            Self(n_digits) => [Some(Self(n_digits - 1)), None],
        };
        places.into_iter().flatten()
    }
}
