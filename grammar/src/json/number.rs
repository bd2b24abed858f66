//! Numbers under bounds: which digits can still lead to an admitted value.
//!
//! A value is an integer count of 10^-17 (the grid), so every comparison is exact. A number has at
//! most 18 digits before the point and 17 after it. Where nothing bounds it, it may carry an
//! exponent of at most three digits, up to which readers hold it as a float; where something does,
//! one of two digits, only if asked for, and only if the value lies on the grid.

use std::convert::Infallible;

use crate::TokenMask;
use crate::json::decimal::{GRID_DIGITS, MAX_VALUE, OnGrid, POWERS};
use crate::runs::group;
use crate::trie::TokenTrie;

const INTEGER_DIGITS: u32 = 18;
/// Numbers below this power of ten are finite as floats; those that are too small are 0.
const FLOAT_EXPONENT: i16 = 308;
/// Whole numbers up to this are exact in a float.
const MAX_EXACT: i128 = 1 << 53;
/// Admitted candidates looked at between excluded ones.
const MAX_CANDIDATES: usize = 64;

/// The distance of a number that cannot be completed.
pub(crate) const NEVER: usize = usize::MAX;

/// What holds of a number. Values in units of the grid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct NumberRules {
    pub(crate) integer: bool,
    pub(crate) lowest: Option<i128>,
    pub(crate) highest: Option<i128>,
    /// It is a multiple of each.
    pub(crate) multiples: Vec<i128>,
    /// It is a multiple of none.
    pub(crate) not_multiples: Vec<i128>,
    /// Ascending values that it is not.
    pub(crate) excluded: Vec<i128>,
    /// An integer may be written with a point, and any number with an exponent.
    pub(crate) any_spelling: bool,
}

/// The numbers that follow some rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NumberShape {
    rules: NumberRules,
    lowest: i128,
    highest: i128,
    /// Free of rules: any exponent is allowed.
    free: bool,
    /// Whether a point may be written.
    pointed: bool,
    /// Step between admitted values of `f` decimals at `f`; `None` if 0 is the only one. [18]
    steps: Vec<Option<i128>>,
}

/// A number in the making: its value so far without the sign, in units of its last digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Number {
    phase: Phase,
    negative: bool,
    value: i128,
    /// Before the point; after it, decimals. In an exponent that nothing bounds, those before the point.
    n_digits: u8,
    exponent: i16,
    exponent_negative: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Start,
    Minus,
    Zero,
    Integer,
    /// After the point; `n_digits` counts decimals.
    Fraction,
    ExponentMark,
    ExponentSign,
    /// After one digit of it, after two.
    Exponent,
    LongExponent,
    ExponentEnd,
}

impl Number {
    /// Before the first byte.
    pub(crate) const START: Self = Self {
        phase: Phase::Start,
        negative: false,
        value: 0,
        n_digits: 0,
        exponent: 0,
        exponent_negative: false,
    };

    fn n_decimals(self) -> u32 {
        u32::from(self.n_digits)
    }

    /// Of a number with an exponent that nothing bounds: whether a float plainly holds it.
    fn is_float(self) -> bool {
        self.exponent_negative || self.exponent + i16::from(self.n_digits) <= FLOAT_EXPONENT
    }
}

impl NumberShape {
    pub(crate) fn new(rules: NumberRules) -> Self {
        let whole = POWERS[GRID_DIGITS as usize];
        let ones = rules.integer.then_some(whole);
        // `None` once the least common multiple is beyond the grid.
        let multiple = rules
            .multiples
            .iter()
            .chain(&ones)
            .try_fold(1_i128, |a, &b| (a / gcd(a, b)).checked_mul(b));
        let step = |n_decimals: u32| {
            let unit = POWERS[(GRID_DIGITS - n_decimals) as usize];
            let multiple = multiple?;
            (unit / gcd(unit, multiple)).checked_mul(multiple)
        };
        let is_bounded = rules.integer
            || rules.lowest.is_some()
            || rules.highest.is_some()
            || !rules.multiples.is_empty()
            || !rules.not_multiples.is_empty()
            || !rules.excluded.is_empty();
        Self {
            lowest: rules.lowest.unwrap_or(-MAX_VALUE),
            highest: rules.highest.unwrap_or(MAX_VALUE),
            free: !is_bounded,
            pointed: !rules.integer || rules.any_spelling,
            steps: (0..=GRID_DIGITS).map(step).collect(),
            rules,
        }
    }

    /// The number after one more byte, if some continuation is admitted.
    pub(crate) fn step(&self, number: Number, byte: u8) -> Option<Number> {
        let next = self.spell(number, byte)?;
        (self.distance(next) != NEVER).then_some(next)
    }

    /// Whether it is plain that all of some tokens go on with a number: digits, wherever it leads within
    /// its bounds.
    pub(crate) fn takes_all(&self, number: Number, tokens: &TokenTrie) -> bool {
        let rules = &self.rules;
        let n_digits = tokens.max_depth() as u32;
        let n_after = number.n_decimals().saturating_add(n_digits);
        let (unit, longest) = match number.phase {
            Phase::Integer if n_after <= INTEGER_DIGITS => (GRID_DIGITS, n_digits),
            Phase::Fraction if n_after <= GRID_DIGITS && !rules.integer => {
                (GRID_DIGITS - number.n_decimals(), 0)
            }
            _ => return false,
        };
        let unit = POWERS[unit as usize];
        let low = number.value * unit;
        let high = (number.value + 1) * unit * POWERS[longest as usize] - 1;
        let is_within = match number.negative {
            true => -high >= self.lowest && -low <= self.highest,
            false => low >= self.lowest && high <= self.highest,
        };
        let is_plain = rules.multiples.is_empty()
            && rules.not_multiples.is_empty()
            && rules.excluded.is_empty();
        tokens.groups() == group(b'0') && is_plain && is_within
    }

    /// Allows those of some tokens that go on with a number.
    pub(crate) fn add_tokens(&self, number: Number, tokens: &TokenTrie, mask: &mut TokenMask) {
        if self.takes_all(number, tokens) {
            return mask.allow_all(tokens.tokens());
        }
        let followed: Result<(), Infallible> = tokens.walk(
            mask,
            number,
            |_, &number, byte| Ok(self.step(number, byte)),
            |mask, token, _| mask.allow(token),
        );
        let Ok(()) = followed;
    }

    /// Whether the number may end here.
    pub(crate) fn is_complete(&self, number: Number) -> bool {
        self.distance(number) == 0
    }

    /// Fewest bytes to an admitted number, or [`NEVER`].
    pub(crate) fn distance(&self, number: Number) -> usize {
        match number.phase {
            Phase::Start | Phase::Minus => b"-0123456789"
                .iter()
                .filter_map(|&byte| self.spell(number, byte))
                .map(|next| self.distance(next).saturating_add(1))
                .min()
                .unwrap_or(NEVER),
            Phase::ExponentMark | Phase::ExponentSign if self.free => 1,
            Phase::Exponent | Phase::LongExponent | Phase::ExponentEnd if self.free => 0,
            Phase::Fraction if self.free => usize::from(number.n_digits == 0),
            Phase::Zero | Phase::Integer if self.free => 0,
            Phase::Fraction => self.fraction_distance(number),
            Phase::Zero => self.integer_distance(number, 0),
            Phase::Integer => {
                self.integer_distance(number, INTEGER_DIGITS - u32::from(number.n_digits))
            }
            Phase::ExponentMark => self.exponents_distance(number, true),
            Phase::ExponentSign => self.exponents_distance(number, false),
            Phase::Exponent => {
                let longer = (0..10).any(|digit| self.admits_exponent(number, Some(digit)));
                match (self.admits_exponent(number, None), longer) {
                    (true, _) => 0,
                    (false, true) => 1,
                    (false, false) => NEVER,
                }
            }
            Phase::LongExponent if self.admits_exponent(number, None) => 0,
            Phase::LongExponent | Phase::ExponentEnd => NEVER,
        }
    }

    /// One more byte by the form of numbers alone.
    fn spell(&self, number: Number, byte: u8) -> Option<Number> {
        let mut next = number;
        let exponents = self.free || self.rules.any_spelling;
        let plain_integer = self.rules.integer && !self.rules.any_spelling;
        next.phase = match (number.phase, byte) {
            (Phase::Start, b'-') => {
                next.negative = true;
                Phase::Minus
            }
            (Phase::Minus, b'0') if plain_integer => return None,
            (Phase::Start | Phase::Minus, b'0') => Phase::Zero,
            (Phase::Start | Phase::Minus, b'1'..=b'9') => Phase::Integer,
            (Phase::Integer, b'0'..=b'9') if u32::from(number.n_digits) < INTEGER_DIGITS => {
                Phase::Integer
            }
            (Phase::Fraction, b'0'..=b'9') if u32::from(number.n_digits) < GRID_DIGITS => {
                Phase::Fraction
            }
            (Phase::Zero | Phase::Integer, b'.') if self.pointed && self.is_exact(number.value) => {
                next.n_digits = 0;
                Phase::Fraction
            }
            (Phase::Zero | Phase::Integer, b'e' | b'E') if exponents => {
                next.n_digits = 0;
                self.at_exponent(&mut next)
            }
            (Phase::Fraction, b'e' | b'E') if exponents && number.n_digits > 0 => {
                self.at_exponent(&mut next)
            }
            (Phase::ExponentMark, b'+' | b'-') => {
                next.exponent_negative = byte == b'-';
                Phase::ExponentSign
            }
            (Phase::ExponentMark | Phase::ExponentSign, b'0'..=b'9') => {
                next.exponent = i16::from(byte - b'0');
                Phase::Exponent
            }
            (Phase::Exponent | Phase::LongExponent, b'0'..=b'9') => {
                next.exponent = number.exponent * 10 + i16::from(byte - b'0');
                match number.phase {
                    Phase::Exponent => Phase::LongExponent,
                    _ if self.free && next.is_float() => Phase::ExponentEnd,
                    _ => return None,
                }
            }
            _ => return None,
        };
        if byte.is_ascii_digit() && matches!(next.phase, Phase::Integer | Phase::Fraction) {
            next.value = number.value * 10 + i128::from(byte - b'0');
            next.n_digits += 1;
        }
        Some(next)
    }

    /// What was written before an exponent matters only where something bounds the number, but for how much it is.
    fn at_exponent(&self, number: &mut Number) -> Phase {
        if self.free {
            let whole = number.value / POWERS[number.n_decimals() as usize];
            number.n_digits = whole.checked_ilog10().map_or(0, |log| log as u8 + 1);
            number.value = 0;
        }
        Phase::ExponentMark
    }

    fn exponents_distance(&self, number: Number, sign_may_come: bool) -> usize {
        let signs = [(false, 0), (true, 1)];
        let of_sign = |&(negative, n_bytes): &(bool, usize)| {
            if !sign_may_come && negative != number.exponent_negative {
                return NEVER;
            }
            let n_bytes = if sign_may_come { n_bytes } else { 0 };
            let with = |exponent| Number {
                exponent,
                exponent_negative: negative,
                ..number
            };
            if (0..10).any(|digit| self.admits_exponent(with(digit), None)) {
                n_bytes + 1
            } else if (10..100).any(|exponent| self.admits_exponent(with(exponent), None)) {
                n_bytes + 2
            } else {
                NEVER
            }
        };
        signs.iter().map(of_sign).min().unwrap_or(NEVER)
    }

    /// Whether the number with its exponent, perhaps one digit longer, is admitted.
    fn admits_exponent(&self, number: Number, digit: Option<i16>) -> bool {
        let magnitude = match digit {
            Some(digit) => i32::from(number.exponent) * 10 + i32::from(digit),
            None => i32::from(number.exponent),
        };
        let exponent = if number.exponent_negative {
            -magnitude
        } else {
            magnitude
        };
        if number.value == 0 {
            return self.admits(0);
        }
        let shift = exponent - number.n_decimals() as i32 + GRID_DIGITS as i32;
        let Some(&power) = POWERS.get(shift.unsigned_abs() as usize) else {
            return false;
        };
        let value = if shift >= 0 {
            number.value.checked_mul(power).filter(|&v| v <= MAX_VALUE)
        } else {
            (number.value % power == 0).then(|| number.value / power)
        };
        let whole = POWERS[GRID_DIGITS as usize];
        value
            .filter(|value| self.is_exact(value / whole))
            .is_some_and(|value| self.admits(if number.negative { -value } else { value }))
    }

    /// Whether readers that hold a number with a point or an exponent as a float still hold this one,
    /// where more is asked of it than an interval.
    fn is_exact(&self, whole: i128) -> bool {
        !self.asks_for_exact() || whole <= MAX_EXACT
    }

    fn asks_for_exact(&self) -> bool {
        self.rules.integer
            || !self.rules.multiples.is_empty()
            || !self.rules.not_multiples.is_empty()
    }

    /// Whether a value of the grid follows the rules.
    fn admits(&self, value: i128) -> bool {
        (self.lowest..=self.highest).contains(&value)
            && self.steps[GRID_DIGITS as usize].map_or(value == 0, |step| value % step == 0)
            && self.is_not_excluded(value)
    }

    fn is_not_excluded(&self, value: i128) -> bool {
        self.rules.excluded.binary_search(&value).is_err()
            && self.rules.not_multiples.iter().all(|of| value % of != 0)
    }

    /// Up to `max_more` further digits before the point, then perhaps decimals.
    fn integer_distance(&self, number: Number, max_more: u32) -> usize {
        let mut nearest = NEVER;
        for n_more in 0..=max_more {
            let unit = POWERS[(GRID_DIGITS + n_more) as usize];
            let interval = (number.value * unit, (number.value + 1) * unit - 1);
            if self.is_beyond(number.negative, interval.0) {
                break;
            }
            let n_decimals = self.fewest_decimals(number.negative, interval, 0);
            let n_bytes = n_decimals.map(|n| (n_more + n + u32::from(n > 0)) as usize);
            nearest = nearest.min(n_bytes.unwrap_or(NEVER));
            if nearest <= n_more as usize {
                break;
            }
        }
        nearest
    }

    /// Whether all numbers of a magnitude, and of any that is greater, are out of bounds.
    fn is_beyond(&self, negative: bool, magnitude: i128) -> bool {
        match negative {
            true => -magnitude < self.lowest,
            false => magnitude > self.highest,
        }
    }

    fn fraction_distance(&self, number: Number) -> usize {
        let n_digits = u32::from(number.n_digits);
        let unit = POWERS[(GRID_DIGITS - n_digits) as usize];
        let interval = (number.value * unit, (number.value + 1) * unit - 1);
        let n_decimals = self.fewest_decimals(number.negative, interval, n_digits.max(1));
        n_decimals.map_or(NEVER, |n| (n - n_digits) as usize)
    }

    /// Fewest decimals, `at_least` some, of an admitted value within an interval of magnitudes.
    fn fewest_decimals(
        &self,
        negative: bool,
        (low, high): (i128, i128),
        at_least: u32,
    ) -> Option<u32> {
        let within = |low: i128, high: i128| {
            let (low, high) = if negative { (-high, -low) } else { (low, high) };
            (low.max(self.lowest), high.min(self.highest))
        };
        let whole = within(low, high);
        if whole.0 > whole.1 {
            return None;
        }
        let pointed = match self.asks_for_exact() {
            true => within(low, high.min((MAX_EXACT + 1) * OnGrid::ONE - 1)),
            false => whole,
        };
        let most = if self.pointed { GRID_DIGITS } else { 0 };
        let mut of_fewer = None;
        (at_least..=most).find(|&n_decimals| {
            let (low, high) = if n_decimals == 0 { whole } else { pointed };
            let step = self.steps[n_decimals as usize];
            // One more decimal admits nothing new in the same interval where the step stays the same.
            if n_decimals > 1 && of_fewer == Some(step) {
                return false;
            }
            of_fewer = Some(step);
            low <= high
                && match step {
                    Some(step) => self.some_multiple(step, low, high),
                    None => low <= 0 && 0 <= high && self.is_not_excluded(0),
                }
        })
    }

    /// Whether a multiple of `step` in the interval is not excluded.
    fn some_multiple(&self, step: i128, low: i128, high: i128) -> bool {
        let is_plain = self.rules.excluded.is_empty() && self.rules.not_multiples.is_empty();
        if is_plain && high - low >= step - 1 {
            return true;
        }
        let last = high.div_euclid(step) * step;
        if is_plain {
            return last >= low;
        }
        if self.rules.not_multiples.iter().any(|of| step % of == 0) {
            return false;
        }
        (0..MAX_CANDIDATES as i128)
            .map(|n| last - n * step)
            .take_while(|&value| value >= low)
            .any(|value| self.is_not_excluded(value))
    }
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
