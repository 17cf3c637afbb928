//! Order among values, comparisons of lanes, and LIKE.

use std::cmp::Ordering;

use crate::lane::{Lane, Values};
use crate::narrow::for_integers;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`.
    Equal,
    /// `<>`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
}

impl Comparison {
    /// Whether an order satisfies it.
    #[must_use]
    pub const fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    /// How SQL writes it.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// The order of two floats: NaN is above all and equal to itself, zeros are equal.
pub(crate) fn order_reals(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right)
        .unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

/// The order of two rows of lanes of one shape; neither may be NULL.
///
/// # Panics
///
/// If the shapes differ.
#[must_use]
pub fn order(left: &Lane, at: usize, right: &Lane, row: usize) -> Ordering {
    match (left.values(), right.values()) {
        (Values::Bool(left), Values::Bool(right)) => left[at].cmp(&right[row]),
        (Values::Int(left), Values::Int(right)) => left[at].cmp(&right[row]),
        (Values::Wide(left), Values::Wide(right)) => left[at].cmp(&right[row]),
        (Values::Real(left), Values::Real(right)) => order_reals(left[at], right[row]),
        (Values::Text(left), Values::Text(right)) => left.at(at).cmp(right.at(row)),
        (left, right) => panic!("types are settled before values flow: {left:?}, {right:?}"),
    }
}

/// A loop for each comparison, which the compiler makes of vectors.
fn integers<T: Ord>(comparison: Comparison, pairs: impl Iterator<Item = (T, T)>) -> Vec<bool> {
    match comparison {
        Comparison::Equal => pairs.map(|(left, right)| left == right).collect(),
        Comparison::NotEqual => pairs.map(|(left, right)| left != right).collect(),
        Comparison::Less => pairs.map(|(left, right)| left < right).collect(),
        Comparison::LessOrEqual => pairs.map(|(left, right)| left <= right).collect(),
        Comparison::Greater => pairs.map(|(left, right)| left > right).collect(),
        Comparison::GreaterOrEqual => pairs.map(|(left, right)| left >= right).collect(),
    }
}

/// Compares a lane of integers with one number; `None` if it is a lane of others.
pub(crate) fn compare_with(comparison: Comparison, left: &Lane, right: i64) -> Option<Lane> {
    let narrow = left.narrow_values();
    let narrow = narrow.and_then(|narrow| {
        for_integers!(narrow, values => {
            // A number that no such integer is equal to is compared with wide ones.
            let right = right.try_into().ok()?;
            integers(comparison, values.iter().map(|left| (*left, right)))
        })
    });
    let wide = || {
        let values = left.ints()?;
        Some(integers(
            comparison,
            values.iter().map(|left| (*left, right)),
        ))
    };
    let truths = narrow.or_else(wide)?;
    let nulls = left.nulls().map(<[bool]>::to_vec);
    Some(Lane::new(Values::Bool(truths), nulls))
}

/// Compares two lanes row by row; NULL where either is.
pub(crate) fn compare(comparison: Comparison, left: &Lane, right: &Lane) -> Lane {
    let truths: Vec<bool> = match (left.values(), right.values()) {
        (Values::Int(left), Values::Int(right)) => {
            let pairs = left.iter().zip(right);
            integers(comparison, pairs.map(|(left, right)| (*left, *right)))
        }
        (Values::Real(left), Values::Real(right)) => left
            .iter()
            .zip(right)
            .map(|(left, right)| comparison.holds(order_reals(*left, *right)))
            .collect(),
        _ => (0..left.len())
            .map(|row| comparison.holds(order(left, row, right, row)))
            .collect(),
    };
    Lane::new(Values::Bool(truths), either_null(left, right))
}

/// The rows of two lanes where one is NULL.
pub(crate) fn either_null(left: &Lane, right: &Lane) -> Option<Vec<bool>> {
    match (left.nulls(), right.nulls()) {
        (None, None) => None,
        (Some(nulls), None) | (None, Some(nulls)) => Some(nulls.to_vec()),
        (Some(left), Some(right)) => Some(
            left.iter()
                .zip(right)
                .map(|(left, right)| *left || *right)
                .collect(),
        ),
    }
}

/// A pattern of LIKE, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Letter(char),
    One,
    Any,
}

impl Pattern {
    /// `%` is any text, `_` one letter; the escape letter takes the next as it is.
    #[must_use]
    pub fn new(text: &str, escape: Option<char>) -> Self {
        let mut letters = text.chars();
        let mut parts = Vec::new();
        while let Some(letter) = letters.next() {
            parts.push(match letter {
                letter if Some(letter) == escape => Part::Letter(letters.next().unwrap_or(letter)),
                '%' => Part::Any,
                '_' => Part::One,
                letter => Part::Letter(letter),
            });
        }
        Self { parts }
    }

    /// Whether a text matches; linear but for each `%`, without recursion.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let letters: Vec<char> = text.chars().collect();
        let (mut at, mut part) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < letters.len() {
            match self.parts.get(part) {
                Some(Part::Any) => {
                    retry = Some((at, part));
                    part += 1;
                    continue;
                }
                Some(Part::One) => {
                    at += 1;
                    part += 1;
                    continue;
                }
                Some(Part::Letter(letter)) if *letter == letters[at] => {
                    at += 1;
                    part += 1;
                    continue;
                }
                Some(Part::Letter(_)) | None => {}
            }
            let Some((from, any)) = retry else {
                return false;
            };
            at = from + 1;
            retry = Some((at, any));
            part = any + 1;
        }
        self.parts[part..].iter().all(|part| *part == Part::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_sql_says() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("%b%", "abc", true),
            ("_", "", false),
            ("_b_", "abc", true),
            ("%a%a%", "banana", true),
            ("%x%", "banana", false),
            ("a\\%", "a%", true),
            ("a\\%", "ab", false),
            ("%ana", "banana", true),
        ] {
            assert_eq!(
                Pattern::new(pattern, Some('\\')).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn nan_is_above_all() {
        assert_eq!(order_reals(f64::NAN, f64::INFINITY), Ordering::Greater);
        assert_eq!(order_reals(f64::NAN, f64::NAN), Ordering::Equal);
        assert_eq!(order_reals(-0.0, 0.0), Ordering::Equal);
    }
}
