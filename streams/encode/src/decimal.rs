//! Floats that were written as decimals: an integer over a power of ten. A value is taken only if
//! it comes back with the same bits; so minus zero, NaN and what was never decimal are exceptions.
//! Many sensors give single floats: of those the decimal comes back if it is rounded to one.
//!
//! All of a block is done without a branch, so that the compiler can do several values at once.

use crate::BLOCK;

/// The powers that are tried; beyond, a float has no more digits to give.
const POWER_MAX: u8 = 14;
/// Added to a float, this rounds it to a whole number, which stands in the low bits then.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Integers from this on are not rounded so.
const WHOLE_MAX: f64 = 2_251_799_813_685_248.0;
/// One in so many may be an exception.
const EXCEPTION: usize = 16;

const POWERS: [f64; 15] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14,
];

/// What a decimal is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Double,
    Single,
}

impl Precision {
    #[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
    const fn round(self, value: f64) -> f64 {
        match self {
            Self::Double => value,
            Self::Single => (value as f32) as f64,
        }
    }
}

/// A block as decimals.
pub(crate) struct Decimals {
    pub(crate) precision: Precision,
    pub(crate) power: u8,
    pub(crate) digits: Vec<i64>,
    /// Where a value is none, and its bits.
    pub(crate) exceptions: Vec<(u16, u64)>,
}

/// The integer of a value at a power, and whether it gives the same bits back.
fn digits_of(value: f64, scale: f64, precision: Precision) -> (i64, bool) {
    let rounded = value * scale + ROUND;
    let whole = rounded - ROUND;
    // Minus zero has no integer: this makes it another one than its value.
    let again = precision.round((whole + 0.0) / scale);
    let digits = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let is_exact = again.to_bits() == value.to_bits() && whole.abs() < WHOLE_MAX;
    (digits.cast_signed(), is_exact)
}

/// The value of an integer at a power.
pub(crate) fn value_of(digits: i64, power: u8, precision: Precision) -> Option<f64> {
    let power = POWERS.get(usize::from(power))?;
    // A decoder may be given any integer; as a float it is then another one, and no error.
    Some(precision.round(digits as f64 / power))
}

/// The block as decimals of the smallest power that serves; `None` where none does.
pub(crate) fn decimals(values: &[f64]) -> Option<Decimals> {
    const SAMPLE: usize = 32;
    let step = (values.len() / SAMPLE).max(1);
    let sample: Vec<f64> = values.iter().copied().step_by(step).collect();
    let serves = |(precision, power): &(Precision, u8)| {
        let scale = POWERS[usize::from(*power)];
        let lost = sample
            .iter()
            .filter(|value| !digits_of(**value, scale, *precision).1);
        lost.count() * EXCEPTION <= sample.len()
    };
    let is_single = sample
        .iter()
        .all(|value| Precision::Single.round(*value).to_bits() == value.to_bits());
    let single = is_single.then_some(Precision::Single);
    let ways = [Some(Precision::Double), single].into_iter().flatten();
    let mut ways = ways.flat_map(|precision| (0..=POWER_MAX).map(move |power| (precision, power)));
    let (precision, power) = ways.find(serves)?;
    let scale = POWERS[usize::from(power)];
    let mut digits = vec![0; values.len()];
    let mut exact = [true; BLOCK];
    for ((value, digits), exact) in values.iter().zip(&mut digits).zip(&mut exact) {
        (*digits, *exact) = digits_of(*value, scale, precision);
    }
    let mut found = Decimals {
        precision,
        power,
        digits,
        exceptions: Vec::new(),
    };
    let exact = &exact[..values.len()];
    if exact.iter().any(|is_exact| !is_exact) {
        found.except(values, exact);
    }
    (found.exceptions.len() * EXCEPTION <= values.len()).then_some(found)
}

impl Decimals {
    fn except(&mut self, values: &[f64], exact: &[bool]) {
        let mut before = 0;
        for (place, (value, is_exact)) in values.iter().zip(exact).enumerate() {
            if *is_exact {
                before = self.digits[place];
            } else {
                let at = u16::try_from(place).expect("a block is smaller");
                self.exceptions.push((at, value.to_bits()));
                // In the place of an exception stands the one before: it needs no further bits.
                self.digits[place] = before;
            }
        }
    }
}
