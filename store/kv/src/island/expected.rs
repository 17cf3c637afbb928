//! Updates that are on their way through the log, as they were read before that: they need not be
//! read and hashed again.
//!
//! What would surprise: nothing hangs on it. One that was let go, or that came to the log by
//! another node, is read when it comes.

use std::collections::VecDeque;

use bytes::Bytes;
use holm_local_first::Sealed;

/// How many are kept.
const EXPECTED_MAX: usize = 16_384;
/// How many bytes of them are kept. As much as several of the longest updates: more than that is
/// not on its way at once.
const BYTES_MAX: usize = 32 << 20;

/// Those that are expected, the next one first.
#[derive(Debug, Default)]
pub(super) struct Expected {
    updates: VecDeque<Sealed>,
    bytes: usize,
}

impl Expected {
    /// One more is on its way; if they are too many, or too long, the first are let go.
    pub(super) fn push(&mut self, update: Sealed) {
        self.bytes += update.bytes.len();
        self.updates.push_back(update);
        while self.updates.len() > EXPECTED_MAX || self.bytes > BYTES_MAX {
            drop(self.pop());
        }
    }

    fn pop(&mut self) -> Option<Sealed> {
        let first = self.updates.pop_front()?;
        self.bytes -= first.bytes.len();
        Some(first)
    }

    /// The one with these bytes. What was expected before it comes no more.
    pub(super) fn find(&mut self, bytes: &Bytes) -> Option<Sealed> {
        while let Some(read) = self.pop() {
            if read.bytes == *bytes {
                return Some(read);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use holm_local_first::{Chain, Change, Dot, Hlc, Slot, Update, Vector};

    use super::*;

    fn update(seq: u64, value: &Bytes) -> Sealed {
        let slot = Slot::new(1).expect("it is not 0");
        let mut deps = Vector::new();
        deps.raise(slot, seq - 1);
        let update = Update {
            dot: Dot { slot, seq },
            epoch: 1,
            hlc: Hlc::new(seq),
            deps: deps.clone(),
            prev: Chain::default(),
            is_reissued: false,
            changes: vec![Change::Put {
                key: Bytes::new(),
                lease: 0,
                value: value.clone(),
            }],
        };
        Sealed::new(update, &deps)
    }

    #[test]
    fn what_is_expected_is_found_in_order_and_what_is_passed_over_is_let_go() {
        let mut expected = Expected::default();
        let all: Vec<Sealed> = (1..=4).map(|seq| update(seq, &Bytes::new())).collect();
        all.iter().for_each(|it| expected.push(it.clone()));
        assert_eq!(expected.find(&all[1].bytes), Some(all[1].clone()));
        assert_eq!(expected.find(&all[0].bytes), None, "it was passed over");
        assert_eq!((expected.updates.len(), expected.bytes), (0, 0));
    }

    #[test]
    fn as_many_are_kept_as_may_be() {
        let mut expected = Expected::default();
        let last = u64::try_from(EXPECTED_MAX).expect("it is small") + 1;
        (1..=last).for_each(|seq| expected.push(update(seq, &Bytes::new())));
        assert_eq!(expected.updates.len(), EXPECTED_MAX);
        assert_eq!(expected.updates[0].update.dot.seq, 2, "the first went");
    }

    #[test]
    fn long_ones_are_bounded_by_their_bytes() {
        let mut expected = Expected::default();
        let value = Bytes::from(vec![0; 3 << 20]);
        (1..=30).for_each(|seq| expected.push(update(seq, &value)));
        assert_eq!(expected.updates.len(), 10, "{}", expected.bytes);
        assert!(expected.bytes <= BYTES_MAX);
        let kept: usize = expected.updates.iter().map(|it| it.bytes.len()).sum();
        assert_eq!(kept, expected.bytes);
    }
}
