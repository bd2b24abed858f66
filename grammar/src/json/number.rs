//! Numbers under bounds: which digits can still lead to a value of the interval.
//!
//! A value is an integer count of 10^-17 (the grid), so every comparison is exact. A number has at
//! most 18 digits before the point and 17 after it. A number without bounds may also carry an
//! exponent of at most two digits; a bounded one and an integer may not. `-0` is not an integer
//! here.

use crate::json::decimal::{GRID_DIGITS, MAX_VALUE, POWERS};

const INTEGER_DIGITS: u32 = 18;
const EXPONENT_DIGITS: u8 = 2;

/// The distance of a number that cannot be completed.
pub(crate) const NEVER: usize = usize::MAX;

/// The numbers of an interval, of a kind, that are multiples of something. Values in units of the
/// grid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NumberShape {
    integer: bool,
    lowest: i128,
    highest: i128,
    /// Free of bounds and multiples: exponents are allowed.
    free: bool,
    /// Step between admitted values of `f` decimals at `f`; `None` if 0 is the only one. [18]
    steps: Vec<Option<i128>>,
}

/// A number in the making: its value so far without the sign, in units of its last digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Number {
    phase: Phase,
    negative: bool,
    value: i128,
    n_digits: u8,
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
    Exponent,
}

impl Number {
    /// Before the first byte.
    pub(crate) const START: Self = Self {
        phase: Phase::Start,
        negative: false,
        value: 0,
        n_digits: 0,
    };
}

impl NumberShape {
    /// `lowest` and `highest` included; `multiple` is positive.
    pub(crate) fn new(
        integer: bool,
        lowest: Option<i128>,
        highest: Option<i128>,
        multiple: Option<i128>,
    ) -> Self {
        let step = |n_decimals: u32| {
            let unit = POWERS[(GRID_DIGITS - n_decimals) as usize];
            match multiple {
                None => Some(unit),
                Some(multiple) => (unit / gcd(unit, multiple)).checked_mul(multiple),
            }
        };
        Self {
            integer,
            free: !integer && lowest.is_none() && highest.is_none() && multiple.is_none(),
            lowest: lowest.unwrap_or(-MAX_VALUE),
            highest: highest.unwrap_or(MAX_VALUE),
            steps: (0..=GRID_DIGITS).map(step).collect(),
        }
    }

    /// The number after one more byte, if some continuation lies in the interval.
    pub(crate) fn step(&self, number: Number, byte: u8) -> Option<Number> {
        let next = self.spell(number, byte)?;
        (self.distance(next) != NEVER).then_some(next)
    }

    /// Whether the number may end here.
    pub(crate) fn is_complete(&self, number: Number) -> bool {
        self.distance(number) == 0
    }

    /// Fewest bytes to a number of the interval, or [`NEVER`].
    pub(crate) fn distance(&self, number: Number) -> usize {
        match number.phase {
            Phase::Start | Phase::Minus => b"-0123456789"
                .iter()
                .filter_map(|&byte| self.spell(number, byte))
                .map(|next| self.distance(next).saturating_add(1))
                .min()
                .unwrap_or(NEVER),
            Phase::ExponentMark | Phase::ExponentSign => 1,
            Phase::Exponent => 0,
            Phase::Fraction if self.free => usize::from(number.n_digits == 0),
            Phase::Zero | Phase::Integer if self.free => 0,
            Phase::Fraction => self.fraction_distance(number),
            Phase::Zero => self.integer_distance(number, 0),
            Phase::Integer => {
                self.integer_distance(number, INTEGER_DIGITS - u32::from(number.n_digits))
            }
        }
    }

    /// One more byte by the form of numbers alone.
    fn spell(&self, number: Number, byte: u8) -> Option<Number> {
        let mut next = number;
        next.phase = match (number.phase, byte) {
            (Phase::Start, b'-') => {
                next.negative = true;
                Phase::Minus
            }
            (Phase::Minus, b'0') if self.integer => return None,
            (Phase::Start | Phase::Minus, b'0') => Phase::Zero,
            (Phase::Start | Phase::Minus, b'1'..=b'9') => Phase::Integer,
            (Phase::Integer, b'0'..=b'9') if u32::from(number.n_digits) < INTEGER_DIGITS => {
                Phase::Integer
            }
            (Phase::Fraction, b'0'..=b'9') if u32::from(number.n_digits) < GRID_DIGITS => {
                Phase::Fraction
            }
            (Phase::Zero | Phase::Integer, b'.') if !self.integer => {
                next.n_digits = 0;
                Phase::Fraction
            }
            (Phase::Zero | Phase::Integer, b'e' | b'E') if self.free => Phase::ExponentMark,
            (Phase::Fraction, b'e' | b'E') if self.free && number.n_digits > 0 => {
                Phase::ExponentMark
            }
            (Phase::ExponentMark, b'+' | b'-') => Phase::ExponentSign,
            (Phase::ExponentMark | Phase::ExponentSign, b'0'..=b'9') => {
                (next.value, next.n_digits) = (0, 1);
                Phase::Exponent
            }
            (Phase::Exponent, b'0'..=b'9') if number.n_digits < EXPONENT_DIGITS => {
                next.n_digits += 1;
                Phase::Exponent
            }
            _ => return None,
        };
        if byte.is_ascii_digit() && matches!(next.phase, Phase::Integer | Phase::Fraction) {
            next.value = number.value * 10 + i128::from(byte - b'0');
            next.n_digits += 1;
        }
        Some(next)
    }

    /// Up to `max_more` further digits before the point, then perhaps decimals.
    fn integer_distance(&self, number: Number, max_more: u32) -> usize {
        let mut nearest = NEVER;
        for n_more in 0..=max_more {
            let unit = POWERS[(GRID_DIGITS + n_more) as usize];
            let interval = (number.value * unit, (number.value + 1) * unit - 1);
            let n_decimals = self.fewest_decimals(number.negative, interval, 0);
            let n_bytes = n_decimals.map(|n| (n_more + n + u32::from(n > 0)) as usize);
            nearest = nearest.min(n_bytes.unwrap_or(NEVER));
            if nearest <= n_more as usize {
                break;
            }
        }
        nearest
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
        let (low, high) = if negative { (-high, -low) } else { (low, high) };
        let (low, high) = (low.max(self.lowest), high.min(self.highest));
        if low > high {
            return None;
        }
        let most = if self.integer { 0 } else { GRID_DIGITS };
        (at_least..=most).find(|&n_decimals| match self.steps[n_decimals as usize] {
            Some(step) => high.div_euclid(step) * step >= low,
            None => low <= 0 && 0 <= high,
        })
    }
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
