//! Floats that were written as decimals: an integer over a power of ten. A value is taken only if
//! it comes back with the same bits; so minus zero, NaN and what was never decimal are exceptions.

/// The powers that are tried; beyond, a float has no more digits to give.
const POWER_MAX: u8 = 14;
/// Integers beyond this are not exact in a float.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// One in so many may be an exception.
const EXCEPTION: usize = 16;

const POWERS: [f64; 15] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14,
];

/// A block as decimals.
pub(crate) struct Decimals {
    pub(crate) power: u8,
    pub(crate) digits: Vec<i64>,
    /// Where a value is none, and its bits.
    pub(crate) exceptions: Vec<(u16, u64)>,
}

/// The integer of a value at a power, if it gives the same bits back.
fn digits_of(value: f64, power: u8) -> Option<i64> {
    let scaled = (value * POWERS[usize::from(power)]).round_ties_even();
    if scaled.is_nan() || scaled.abs() >= EXACT_MAX {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is whole and within 53 bits"
    )]
    let digits = scaled as i64;
    (value_of(digits, power)?.to_bits() == value.to_bits()).then_some(digits)
}

/// The value of an integer at a power.
pub(crate) fn value_of(digits: i64, power: u8) -> Option<f64> {
    let power = POWERS.get(usize::from(power))?;
    // A decoder may be given any integer; as a float it is then another one, and no error.
    Some(digits as f64 / power)
}

/// The block as decimals of the smallest power that serves; `None` where none does.
pub(crate) fn decimals(values: &[f64]) -> Option<Decimals> {
    const SAMPLE: usize = 32;
    let step = (values.len() / SAMPLE).max(1);
    let sample: Vec<f64> = values.iter().copied().step_by(step).collect();
    let serves = |power: &u8| {
        let lost = sample
            .iter()
            .filter(|value| digits_of(**value, *power).is_none());
        lost.count() * EXCEPTION <= sample.len()
    };
    let power = (0..=POWER_MAX).find(serves)?;
    let mut found = Decimals {
        power,
        digits: Vec::with_capacity(values.len()),
        exceptions: Vec::new(),
    };
    let mut before = 0;
    for (at, value) in values.iter().enumerate() {
        if let Some(digits) = digits_of(*value, power) {
            before = digits;
        } else {
            let at = u16::try_from(at).expect("a block is smaller");
            found.exceptions.push((at, value.to_bits()));
        }
        // In the place of an exception stands the one before: it needs no further bits.
        found.digits.push(before);
    }
    (found.exceptions.len() * EXCEPTION <= values.len()).then_some(found)
}
