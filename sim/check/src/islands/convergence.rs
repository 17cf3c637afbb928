//! Once all links are back and everything has arrived, all islands show the same.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::verdict::Violation;

const JUDGE: &str = "convergence";

/// Holds what islands show in the end against each other, by their names.
///
/// # Errors
///
/// The first key that two of them show differently.
pub fn convergence<K: Ord + Debug, V: PartialEq + Debug>(
    states: &[(String, BTreeMap<K, V>)],
) -> Result<(), Violation> {
    let Some(((first, expected), others)) = states.split_first() else {
        return Ok(());
    };
    for (other, found) in others {
        for key in expected.keys().chain(found.keys()) {
            let (here, there) = (expected.get(key), found.get(key));
            if here != there {
                let place = format!("{key:?} is {here:?} at {first} and {there:?} at {other}");
                let rule = "all islands come to show the same";
                return Err(Violation::new(JUDGE, rule, place));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(states: &[&[(u8, &str)]]) -> bool {
        let names = ["a", "b", "c"];
        let states = states.iter().zip(names);
        let states: Vec<_> = states
            .map(|(all, name)| (name.to_owned(), all.iter().copied().collect()))
            .collect();
        convergence(&states).is_ok()
    }

    #[test]
    fn equal_states_pass() {
        assert!(judged(&[&[(1, "x"), (2, "y")], &[(1, "x"), (2, "y")]]));
        assert!(judged(&[]));
    }

    #[test]
    fn another_value_and_a_missing_key_are_violations() {
        assert!(!judged(&[&[(1, "x")], &[(1, "x")], &[(1, "y")]]));
        assert!(!judged(&[&[(1, "x")], &[(1, "x"), (2, "y")]]), "too many");
        assert!(!judged(&[&[(1, "x"), (2, "y")], &[(1, "x")]]), "too few");
    }
}
