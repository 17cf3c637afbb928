//! Sums, products and quotients of lanes. Nothing wraps: what does not fit is a fault (I3).

use std::sync::Arc;

use crate::compare::either_null;
use crate::decimal;
use crate::expression::Arithmetic;
use crate::fault::Fault;
use crate::kind::Kind;
use crate::lane::{Lane, Values};

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
    for (row, (left, right)) in left.iter().zip(right).enumerate() {
        let result = match op {
            Arithmetic::Add => left.checked_add(*right),
            Arithmetic::Subtract => left.checked_sub(*right),
            Arithmetic::Multiply => left.checked_mul(*right),
            Arithmetic::Divide | Arithmetic::Remainder if *right == 0 => {
                fail(row, Fault::DivisionByZero);
                results.push(0);
                continue;
            }
            Arithmetic::Divide => left.checked_div(*right),
            // The remainder by -1 is zero, also of the least integer.
            Arithmetic::Remainder => Some(left.checked_rem(*right).unwrap_or(0)),
        };
        match result.filter(|result| (least..=most).contains(result)) {
            Some(result) => results.push(result),
            None => {
                let what = format!("{left} {} {right}", sign(op));
                fail(row, Fault::overflow(what, kind));
                results.push(0);
            }
        }
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
