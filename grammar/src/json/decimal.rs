//! Decimal numbers of a schema on the grid of 10^-17, exactly or rounded to a chosen side.

use serde_json::Number;

/// Decimals of the grid.
pub(crate) const GRID_DIGITS: u32 = 17;
/// The largest magnitude in units of the grid: 18 digits before the point.
pub(crate) const MAX_VALUE: i128 = POWERS[35] - 1;

/// Powers of ten. [36]
pub(crate) const POWERS: [i128; 36] = {
    let mut powers = [1; 36];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// The neighbours of a number on the grid; equal if it lies on it. Beyond the grid both are
/// `MAX_VALUE + 1` or its negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnGrid {
    pub(crate) floor: i128,
    pub(crate) ceil: i128,
}

impl OnGrid {
    /// 1 in units of the grid.
    pub(crate) const ONE: i128 = POWERS[GRID_DIGITS as usize];

    /// Reads the number's shortest decimal spelling.
    pub(crate) fn new(number: &Number) -> Self {
        let (negative, digits, shift) = parts(number);
        let magnitude = Self::shifted(digits, shift);
        if negative {
            Self {
                floor: -magnitude.ceil,
                ceil: -magnitude.floor,
            }
        } else {
            magnitude
        }
    }

    /// The value where it lies on the grid and within its range.
    pub(crate) fn exact(self) -> Option<i128> {
        (self.floor == self.ceil && self.floor.abs() <= MAX_VALUE).then_some(self.floor)
    }

    fn shifted(digits: i128, shift: i64) -> Self {
        let beyond = Self {
            floor: MAX_VALUE + 1,
            ceil: MAX_VALUE + 1,
        };
        let Some(&power) = POWERS.get(shift.unsigned_abs() as usize) else {
            return match (digits, shift > 0) {
                (0, _) => Self { floor: 0, ceil: 0 },
                (_, true) => beyond,
                (_, false) => Self { floor: 0, ceil: 1 },
            };
        };
        if shift < 0 {
            let floor = digits / power;
            return Self {
                floor,
                ceil: floor + i128::from(digits % power != 0),
            };
        }
        match digits.checked_mul(power) {
            Some(value) if value <= MAX_VALUE => Self {
                floor: value,
                ceil: value,
            },
            _ => beyond,
        }
    }
}

/// Whether a number, on the grid or not, is a multiple of so many of the grid's units.
pub(crate) fn is_multiple(number: &Number, of: i128) -> bool {
    let (_, digits, shift) = parts(number);
    if shift >= 0 {
        // `of` has at most 35 digits, so that ten times a rest fits.
        return (0..shift).fold(digits % of, |rest, _| rest * 10 % of) == 0;
    }
    match POWERS.get(shift.unsigned_abs() as usize) {
        Some(power) => digits % power == 0 && digits / power % of == 0,
        None => digits == 0,
    }
}

/// Whether a number is negative, its digits, and by how many zeros they are its magnitude in units of the
/// grid.
fn parts(number: &Number) -> (bool, i128, i64) {
    let text = number.to_string();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{decimals}").parse().unwrap_or(MAX_VALUE);
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let shift = exponent - decimals.len() as i64 + i64::from(GRID_DIGITS);
    (negative, digits, shift)
}
