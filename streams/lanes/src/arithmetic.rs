//! Sums, products and quotients of lanes. Nothing wraps: what does not fit is a fault (I3).

use std::sync::Arc;

use crate::compare::either_null;
use crate::decimal;
use crate::expression::Arithmetic;
use crate::fault::Fault;
use crate::kind::Kind;
use crate::lane::{Lane, Values};
use crate::narrow::Narrow;

type Sides = ((Arc<Lane>, Kind), (Arc<Lane>, Kind));

/// Computes row by row; NULL where either side is.
pub(crate) fn compute(
    op: Arithmetic,
    sides: &Sides,
    kind: Kind,
    note: &mut dyn FnMut(usize, Fault),
) -> Lane {
    let ((left, left_kind), (right, right_kind)) = sides;
    let nulls = either_null(left, right);
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls[row]);
    let mut fail = |row: usize, fault: Fault| {
        if !is_null(row) {
            note(row, fault);
        }
    };
    let values = match (left.values(), right.values()) {
        (Values::Int(left), Values::Int(right)) => {
            Values::Int(integers(op, (left, right), kind, &mut fail))
        }
        (Values::Real(left), Values::Real(right)) => Values::Real(floats(op, (left, right), kind)),
        (Values::Wide(left), Values::Wide(right)) => {
            let scales = (scale_of(*left_kind), scale_of(*right_kind));
            Values::Wide(decimals(op, (left, right), scales, (kind, &mut fail)))
        }
        (left, right) => panic!("types are settled before values flow: {left:?}, {right:?}"),
    };
    Lane::new(values, nulls)
}

/// Small numbers by a small constant, with a multiplication in place of a division: exact for
/// dividends and divisors of 32 bits (Lemire, Kaser, Kurz: Faster remainder by direct computation,
/// section 3). `None` where a number is negative or larger. What fits stays in the dividend's type.
pub(crate) fn divide_small(lane: &Lane, by: i64) -> Option<Lane> {
    let by = u64::from(u32::try_from(by).ok().filter(|by| *by > 1)?);
    let inverse = u128::from(u64::MAX / by + 1);
    let quotient = |value: u64| {
        let product = inverse * u128::from(value);
        u64::try_from(product >> 64).expect("the upper half is a word")
    };
    if let Some(Narrow::Ints(values)) = lane.narrow_values() {
        let all = values.iter().fold(0, |all, value| all | *value);
        if all < 0 {
            return None;
        }
        let quotient = |value: &i32| {
            let quotient = quotient(u64::from(value.cast_unsigned()));
            i32::try_from(quotient).expect("it is smaller than the dividend")
        };
        return Some(Lane::narrow(Narrow::Ints(
            values.iter().map(quotient).collect(),
        )));
    }
    let values = lane.ints().filter(|_| lane.nulls().is_none())?;
    let all = values.iter().fold(0, |all, value| all | *value);
    u32::try_from(all).ok()?;
    let quotient = |value: &i64| quotient(value.cast_unsigned()).cast_signed();
    Some(Lane::dense(Values::Int(
        values.iter().map(quotient).collect(),
    )))
}

fn scale_of(kind: Kind) -> u8 {
    kind.decimal().map_or(0, |(_, scale)| scale)
}

fn integers(
    op: Arithmetic,
    (left, right): (&[i64], &[i64]),
    kind: Kind,
    fail: &mut dyn FnMut(usize, Fault),
) -> Vec<i64> {
    let (least, most) = kind.bounds();
    let mut results = Vec::with_capacity(left.len());
    let mut push = |row: usize, sides: (i64, i64), result: Option<i64>| {
        let result = result.filter(|result| (least..=most).contains(result));
        results.push(result.unwrap_or_else(|| {
            let what = format!("{} {} {}", sides.0, sign(op), sides.1);
            fail(row, Fault::overflow(what, kind));
            0
        }));
    };
    let pairs = left.iter().zip(right).enumerate();
    let pairs = pairs.map(|(row, (left, right))| (row, (*left, *right)));
    match op {
        Arithmetic::Add => pairs.for_each(|(row, it)| push(row, it, it.0.checked_add(it.1))),
        Arithmetic::Subtract => pairs.for_each(|(row, it)| push(row, it, it.0.checked_sub(it.1))),
        Arithmetic::Multiply => pairs.for_each(|(row, it)| push(row, it, it.0.checked_mul(it.1))),
        Arithmetic::Divide | Arithmetic::Remainder => {
            return quotients(op, pairs, (least, most), (kind, fail));
        }
    }
    results
}

/// Quotients or remainders.
fn quotients(
    op: Arithmetic,
    pairs: impl Iterator<Item = (usize, (i64, i64))>,
    (least, most): (i64, i64),
    (kind, fail): (Kind, &mut dyn FnMut(usize, Fault)),
) -> Vec<i64> {
    let mut results = Vec::new();
    for (row, (left, right)) in pairs {
        let result = if right == 0 {
            fail(row, Fault::DivisionByZero);
            results.push(0);
            continue;
        } else if op == Arithmetic::Divide {
            left.checked_div(right)
        } else {
            // The remainder by -1 is zero, also of the least integer.
            Some(left.checked_rem(right).unwrap_or(0))
        };
        let result = result.filter(|result| (least..=most).contains(result));
        results.push(result.unwrap_or_else(|| {
            let what = format!("{left} {} {right}", sign(op));
            fail(row, Fault::overflow(what, kind));
            0
        }));
    }
    results
}

const fn sign(op: Arithmetic) -> char {
    match op {
        Arithmetic::Add => '+',
        Arithmetic::Subtract => '-',
        Arithmetic::Multiply => '*',
        Arithmetic::Divide => '/',
        Arithmetic::Remainder => '%',
    }
}

fn floats(op: Arithmetic, (left, right): (&[f64], &[f64]), kind: Kind) -> Vec<f64> {
    let pairs = left.iter().zip(right);
    let mut results: Vec<f64> = match op {
        Arithmetic::Add => pairs.map(|(left, right)| left + right).collect(),
        Arithmetic::Subtract => pairs.map(|(left, right)| left - right).collect(),
        Arithmetic::Multiply => pairs.map(|(left, right)| left * right).collect(),
        Arithmetic::Divide => pairs.map(|(left, right)| left / right).collect(),
        Arithmetic::Remainder => pairs.map(|(left, right)| left % right).collect(),
    };
    if kind == Kind::Float {
        for result in &mut results {
            *result = crate::cast::to_single(*result);
        }
    }
    results
}

fn decimals(
    op: Arithmetic,
    (left, right): (&[i128], &[i128]),
    scales: (u8, u8),
    (kind, fail): (Kind, &mut dyn FnMut(usize, Fault)),
) -> Vec<i128> {
    let (precision, scale) = kind.decimal().unwrap_or((38, 0));
    let mut results = Vec::with_capacity(left.len());
    for (row, (left, right)) in left.iter().zip(right).enumerate() {
        let is_division = matches!(op, Arithmetic::Divide | Arithmetic::Remainder);
        if is_division && *right == 0 {
            fail(row, Fault::DivisionByZero);
            results.push(0);
            continue;
        }
        let result = exact(op, (*left, *right), scales, scale)
            .filter(|result| decimal::fits(*result, precision));
        results.push(result.unwrap_or_else(|| {
            fail(
                row,
                Fault::overflow(format!("a decimal {} another", sign(op)), kind),
            );
            0
        }));
    }
    results
}

/// One operation on decimals; `None` if a step of it is beyond 128 bits.
fn exact(
    op: Arithmetic,
    (left, right): (i128, i128),
    (left_scale, right_scale): (u8, u8),
    scale: u8,
) -> Option<i128> {
    let widest = left_scale.max(right_scale);
    let aligned = || {
        Some((
            decimal::scale_up(left, widest - left_scale)?,
            decimal::scale_up(right, widest - right_scale)?,
        ))
    };
    let (value, from) = match op {
        Arithmetic::Add => {
            let (left, right) = aligned()?;
            (left.checked_add(right)?, widest)
        }
        Arithmetic::Subtract => {
            let (left, right) = aligned()?;
            (left.checked_sub(right)?, widest)
        }
        Arithmetic::Multiply => (left.checked_mul(right)?, left_scale + right_scale),
        Arithmetic::Divide => {
            let up = scale + right_scale;
            let left = if up >= left_scale {
                decimal::scale_up(left, up - left_scale)?
            } else {
                left
            };
            return Some(decimal::divide(left, right));
        }
        Arithmetic::Remainder => {
            let (left, right) = aligned()?;
            (left.checked_rem(right)?, widest)
        }
    };
    decimal::rescale(value, from, scale, 38)
}
