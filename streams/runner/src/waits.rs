//! How long live streams waited for their turns: counted by length, a quarter of a power of two each.

use std::time::Duration;

/// Lengths that are told apart: up to 2^41 nanoseconds, which is half an hour.
const LENGTHS: usize = 160;

/// How long those waited who waited. It counts from when a site began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    counts: [u64; LENGTHS],
    most: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            counts: [0; LENGTHS],
            most: Duration::ZERO,
        }
    }
}

impl Waits {
    pub(crate) fn add(&mut self, wait: Duration) {
        let place = place(wait).min(LENGTHS - 1);
        self.counts[place] += 1;
        self.most = self.most.max(wait);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest.
    #[must_use]
    pub const fn most(&self) -> Duration {
        self.most
    }

    /// So many of a hundred waited no longer than this, which is a fifth too long at most.
    #[must_use]
    pub fn at(&self, hundredths: u64) -> Duration {
        let wanted = (self.count() * hundredths).div_ceil(100);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return end(place).min(self.most);
            }
        }
        Duration::ZERO
    }
}

/// Four lengths for each power of two of nanoseconds; the first are shorter than a nanosecond.
fn place(wait: Duration) -> usize {
    let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).max(4);
    let power = nanos.ilog2();
    let quarter = (nanos >> (power - 2)) & 3;
    usize::try_from(u64::from(power - 2) * 4 + quarter).expect("there are 256 at most")
}

/// Where a length ends.
fn end(place: usize) -> Duration {
    let place = u64::try_from(place).expect("there are few");
    Duration::from_nanos((5 + place % 4) << (place / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_to_a_fifth() {
        let mut waits = Waits::default();
        assert_eq!(waits.at(99), Duration::ZERO);
        for micros in 1..=1_000 {
            waits.add(Duration::from_micros(micros));
        }
        assert_eq!(
            (waits.count(), waits.most()),
            (1_000, Duration::from_millis(1))
        );
        for (hundredths, micros) in [(50, 500), (99, 990), (100, 1_000)] {
            let found = waits.at(hundredths).as_micros();
            assert!(
                (micros..=micros * 5 / 4).contains(&found),
                "{hundredths}: {found}"
            );
        }
        for nanos in [0, 1, 5, 7, 8, 1 << 20, u64::MAX] {
            let wait = Duration::from_nanos(nanos);
            assert!(end(place(wait)) > wait || nanos == u64::MAX, "{nanos}");
        }
    }
}
