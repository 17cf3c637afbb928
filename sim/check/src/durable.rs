//! Nothing acknowledged is missing at the end.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::verdict::Violation;

const JUDGE: &str = "durable";

/// A write that a client was told has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged<K, V> {
    /// Of what.
    pub key: K,
    /// Its number.
    pub revision: u64,
    /// What was written; a deletion is a value of its own.
    pub value: V,
}

/// Holds every acknowledged write against the final state, which names for each key the number
/// and the value of its last write.
///
/// # Errors
///
/// The first write that is neither there nor overwritten by a later one.
pub fn durable<K: Ord + Debug, V: PartialEq + Debug>(
    acknowledged: &[Acknowledged<K, V>],
    last: &BTreeMap<K, (u64, V)>,
) -> Result<(), Violation> {
    for write in acknowledged {
        let (key, revision) = (&write.key, write.revision);
        let place = match last.get(key) {
            None => format!("{key:?} of {revision} is gone"),
            Some((found, _)) if *found < revision => {
                format!("{key:?} is of {found}, and {revision} was acknowledged")
            }
            Some((found, value)) if *found == revision && *value != write.value => {
                format!("{key:?} of {revision} is {value:?}, not {:?}", write.value)
            }
            Some(_) => continue,
        };
        return Err(Violation::new(
            JUDGE,
            "an acknowledged write is there or overwritten",
            place,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(revision: u64, last: Option<(u64, u8)>) -> Result<(), Violation> {
        let key = 'k';
        let value = 7;
        let write = Acknowledged {
            key,
            revision,
            value,
        };
        durable(
            &[write],
            &last.map(|last| (key, last)).into_iter().collect(),
        )
    }

    #[test]
    fn what_is_there_or_overwritten_passes() {
        assert_eq!(judged(3, Some((3, 7))), Ok(()));
        assert_eq!(judged(3, Some((4, 9))), Ok(()));
    }

    #[test]
    fn what_is_gone_old_or_another_is_a_violation() {
        for last in [None, Some((2, 7)), Some((3, 8))] {
            assert_eq!(judged(3, last).unwrap_err().judge, "durable", "{last:?}");
        }
    }
}
