//! Floats that were written as decimals: an integer over a power of ten. A value is taken only if
//! it comes back with the same bits; so minus zero, NaN and what was never decimal are exceptions.
//! Many sensors give single floats: of those the decimal comes back if it is rounded to one.
//!
//! All of a block is done without a branch, so that the compiler can do several values at once.
//! First it is only asked whether all values come back; which ones do not is asked where some do
//! not.

use crate::BLOCK;

/// The powers that are tried; beyond, a float has no more digits to give.
const POWER_MAX: u8 = 14;
/// Added to a float, this rounds it to a whole number, which stands in the low bits then.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Integers from this on are not rounded so.
const WHOLE_MAX: f64 = 2_251_799_813_685_248.0;
/// One in so many may be an exception.
const EXCEPTION: usize = 16;
/// Values of a block that are looked at to find the power.
const SAMPLE: usize = 32;

const POWERS: [f64; 15] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14,
];
/// Those that are single floats, too.
const SINGLES: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];
/// Integers below two to this are single floats.
const SINGLE_BITS: u32 = 24;

/// What a decimal is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Double,
    Single,
}

impl Precision {
    const fn round(self, value: f64) -> f64 {
        match self {
            Self::Double => value,
            Self::Single => single(value) as f64,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn single(value: f64) -> f32 {
    value as f32
}

/// How values are decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) precision: Precision,
    pub(crate) power: u8,
}

/// A block as decimals.
pub(crate) struct Decimals {
    pub(crate) form: Form,
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

/// The values of integers; `None` if there is no such power.
pub(crate) fn values_of(digits: &[i64], form: Form) -> Option<Vec<f64>> {
    let power = POWERS.get(usize::from(form.power))?;
    // A decoder may be given any integer; as a float it is then another one, and no error.
    let values = digits.iter().map(|digits| *digits as f64 / power);
    Some(match form.precision {
        Precision::Double => values.collect(),
        Precision::Single => values.map(|it| f64::from(single(it))).collect(),
    })
}

/// The integers of all values, if each gives its value back.
fn all_digits(values: &[f64], form: Form, digits: &mut Vec<i64>) -> bool {
    let power = usize::from(form.power);
    let scale = POWERS[power];
    let mut odd = 0;
    digits.clear();
    match (form.precision, SINGLES.get(power)) {
        // Of two integers that are single floats the quotient, rounded once, is what rounding it
        // to a double first gives: a double has more than twice the bits. Four fit where two did.
        (Precision::Single, Some(divisor)) => digits.extend(values.iter().map(|value| {
            let rounded = value * scale + ROUND;
            let again = f64::from(single(rounded - ROUND) / divisor);
            let digits = rounded.to_bits().wrapping_sub(ROUND.to_bits());
            odd |= again.to_bits() ^ value.to_bits();
            odd |= digits.wrapping_add(1 << SINGLE_BITS) >> (SINGLE_BITS + 1);
            digits.cast_signed()
        })),
        (Precision::Double, _) => digits.extend(values.iter().map(|value| {
            let rounded = value * scale + ROUND;
            let again = (rounded - ROUND) / scale;
            odd |= again.to_bits() ^ value.to_bits();
            // It was rounded to a whole number if it has the exponent of what was added.
            odd |= (rounded.to_bits() ^ ROUND.to_bits()) >> 52;
            let digits = rounded.to_bits().wrapping_sub(ROUND.to_bits());
            digits.cast_signed()
        })),
        (Precision::Single, None) => return false,
    }
    odd == 0
}

/// Some of a block's values.
fn sample(values: &[f64]) -> impl Iterator<Item = f64> + Clone {
    let step = (values.len() / SAMPLE).max(1);
    values.iter().copied().step_by(step)
}

/// Whether few enough of these are exceptions.
fn serves(sample: impl Iterator<Item = f64>, form: Form) -> bool {
    let scale = POWERS[usize::from(form.power)];
    let (mut count, mut lost) = (0, 0);
    for value in sample {
        count += 1;
        lost += usize::from(!digits_of(value, scale, form.precision).1);
    }
    lost * EXCEPTION <= count
}

/// The form with the smallest power that serves a block, by a sample of it.
fn form_of(values: &[f64]) -> Option<Form> {
    let is_single = sample(values).all(|it| Precision::Single.round(it).to_bits() == it.to_bits());
    let single = is_single.then_some(Precision::Single);
    let ways = [Some(Precision::Double), single].into_iter().flatten();
    let mut forms =
        ways.flat_map(|precision| (0..=POWER_MAX).map(move |power| Form { precision, power }));
    forms.find(|form| serves(sample(values), *form))
}

/// Whether the form of the block before is the one to begin with: a smaller power does not serve.
fn still_serves(values: &[f64], form: Form) -> bool {
    let smaller = form.power.checked_sub(1);
    let is_too_large = smaller.is_some_and(|power| serves(sample(values), Form { power, ..form }));
    !is_too_large && serves(sample(values), form)
}

/// The block as decimals of the smallest power that serves; `None` where none does. `last` is
/// what served the block before.
pub(crate) fn decimals(values: &[f64], last: &mut Option<Form>) -> Option<Decimals> {
    let kept = last.filter(|form| still_serves(values, *form));
    *last = kept.or_else(|| form_of(values));
    let form = (*last)?;
    let mut digits = Vec::with_capacity(values.len());
    if all_digits(values, form, &mut digits) {
        return Some(Decimals {
            form,
            digits,
            exceptions: Vec::new(),
        });
    }
    let scale = POWERS[usize::from(form.power)];
    digits.resize(values.len(), 0);
    let mut exact = [true; BLOCK];
    for ((value, digits), exact) in values.iter().zip(&mut digits).zip(&mut exact) {
        (*digits, *exact) = digits_of(*value, scale, form.precision);
    }
    let mut found = Decimals {
        form,
        digits,
        exceptions: Vec::new(),
    };
    found.except(values, &exact[..values.len()]);
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
