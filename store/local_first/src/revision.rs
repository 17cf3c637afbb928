//! The revisions of one island: dense in time instead of in number.
//!
//! ```text
//!  62                   22 21   14 13      0
//!  | ms since 2026-01-01  | slot  | count  |    41 + 8 + 14 bits, to 2095
//! ```
//!
//! Two islands never issue the same number, and each issues rising ones whatever its clock does.
//! What would surprise: counts 0 and 16,383 are never issued. Clients ask for the revision after
//! a list and for the one before an event, and both must stay within the slot.

use holm_base::Revision;

use crate::vector::Slot;

const COUNT_BITS: u32 = 14;
const SLOT_BITS: u32 = 8;
/// The highest count that is issued.
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 2;
/// Milliseconds that fit: until the year 2095.
const MS_MAX: u64 = (1 << 41) - 1;
/// 2026-01-01T00:00:00Z in milliseconds of Unix time: where revisions count from.
pub const EPOCH_UNIX_MS: u64 = 1_767_225_600_000;

/// A revision taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    ms: u64,
    slot: Slot,
    count: u64,
}

impl Stamp {
    /// Where a slot begins that was given out at a moment: no revision is issued there.
    ///
    /// A moment before 2026 counts as its beginning, one after 2095 as its end.
    #[must_use]
    pub fn since(slot: Slot, unix_ms: u64) -> Self {
        let ms = unix_ms.saturating_sub(EPOCH_UNIX_MS).min(MS_MAX);
        Self { ms, slot, count: 0 }
    }

    /// The next one, for a log entry that was stamped with `unix_ms`. No clock can lower it.
    ///
    /// # Panics
    ///
    /// If the numbers are used up, in the year 2095 at the earliest.
    #[must_use]
    pub fn next(self, unix_ms: u64) -> Self {
        let now = Self::since(self.slot, unix_ms);
        let (ms, count) = if now.ms > self.ms {
            (now.ms, 1)
        } else if self.count < COUNT_MAX {
            (self.ms, self.count + 1)
        } else {
            (self.ms + 1, 1)
        };
        assert!(ms <= MS_MAX, "revisions are used up");
        Self { ms, count, ..self }
    }

    /// Where its island goes on under another slot that begins at a moment: behind this.
    #[must_use]
    pub fn moved(self, slot: Slot, unix_ms: u64) -> Self {
        let since = Self::since(slot, unix_ms);
        let ms = since.ms.max(self.ms + 1);
        assert!(ms <= MS_MAX, "revisions are used up");
        Self { ms, ..since }
    }

    /// The number that clients see.
    #[must_use]
    pub fn revision(self) -> Revision {
        let slot = u64::from(self.slot.value());
        let bits = (self.ms << (COUNT_BITS + SLOT_BITS)) | (slot << COUNT_BITS) | self.count;
        Revision::new(i64::try_from(bits).expect("63 bits"))
    }

    /// Takes a number apart; none if no slot can have issued it or one beside it.
    #[must_use]
    pub fn of(revision: Revision) -> Option<Self> {
        let bits = u64::try_from(revision.value()).ok()?;
        let slot = (bits >> COUNT_BITS) & ((1 << SLOT_BITS) - 1);
        Some(Self {
            ms: bits >> (COUNT_BITS + SLOT_BITS),
            slot: Slot::new(u8::try_from(slot).ok()?)?,
            count: bits & ((1 << COUNT_BITS) - 1),
        })
    }

    /// Whose it is.
    #[must_use]
    pub const fn slot(self) -> Slot {
        self.slot
    }
}

/// What a client's revision is to an island.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Its own, or what a client makes of its own by adding or taking one.
    Ours,
    /// Another island's, or from before this one had its slot.
    Foreign,
}

/// Says whose a revision is, at the island whose slot begins at `since`. Revisions of etcd's
/// own small numbers (0 and 1 among them) are foreign.
#[must_use]
pub fn whose(revision: Revision, since: Stamp) -> Whose {
    match Stamp::of(revision) {
        Some(stamp) if stamp.slot == since.slot && stamp.ms >= since.ms => Whose::Ours,
        Some(_) | None => Whose::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: u64 = EPOCH_UNIX_MS + 1_000;

    fn first() -> Stamp {
        Stamp::since(Slot::new(2).expect("it is not 0"), FROM)
    }

    #[test]
    fn no_clock_lowers_a_revision() {
        let mut stamp = first();
        let mut before = stamp.revision();
        for unix_ms in [FROM, FROM + 5, 0, FROM + 4, u64::MAX / 4, 0, FROM + 9] {
            stamp = stamp.next(unix_ms.min(EPOCH_UNIX_MS + MS_MAX - 9));
            assert!(stamp.revision() > before, "{stamp:?}");
            before = stamp.revision();
            assert_eq!(Stamp::of(before), Some(stamp));
        }
    }

    #[test]
    fn a_full_millisecond_spills_into_the_next_and_neighbours_stay_in_the_slot() {
        let mut stamp = first();
        for _ in 0..40_000 {
            stamp = stamp.next(FROM);
            let revision = stamp.revision().value();
            for beside in [revision - 1, revision + 1] {
                assert_eq!(whose(Revision::new(beside), first()), Whose::Ours);
            }
        }
        assert_eq!(
            stamp.ms, 1_002,
            "40,000 are two milliseconds full and a bit"
        );
    }

    #[test]
    fn what_others_issued_is_foreign() {
        let later = Stamp::since(first().slot, FROM + 1);
        let other = Stamp::since(Slot::new(3).expect("it is not 0"), FROM).next(FROM);
        assert_eq!(whose(first().next(FROM).revision(), first()), Whose::Ours);
        for revision in [first().next(FROM).revision(), other.revision()] {
            assert_eq!(whose(revision, later), Whose::Foreign);
        }
        for small in [-1, 0, 1, 77] {
            assert_eq!(whose(Revision::new(small), first()), Whose::Foreign);
        }
    }
}
