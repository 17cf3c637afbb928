//! Latencies in buckets: 128 to each doubling, so a quantile is within 1 % of the truth.

/// Buckets to a doubling.
const STEPS: u64 = 128;
/// The bits that choose among them.
const STEP_BITS: u32 = 7;
/// Doublings that are told apart.
const DOUBLINGS: u64 = 64 - 7;

/// Counted spans of nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Empty until something is counted.
    counts: Vec<u32>,
    count: u64,
    sum: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, nanos: u64) {
        if self.counts.is_empty() {
            let size = usize::try_from(STEPS * (DOUBLINGS + 1)).expect("it is small");
            self.counts.resize(size, 0);
        }
        self.counts[bucket(nanos)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(nanos);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
        } else {
            for (own, more) in self.counts.iter_mut().zip(&other.counts) {
                *own += more;
            }
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The mean; `None` of nothing.
    pub(crate) fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count)
    }

    /// The value below which so many thousandths lie; `None` of nothing.
    pub(crate) fn quantile(&self, per_mille: u32) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let wanted = (self.count * u64::from(per_mille)).div_ceil(1_000).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|&count| {
            seen += u64::from(count);
            seen >= wanted
        });
        found.map(middle)
    }
}

fn bucket(nanos: u64) -> usize {
    let doubling = (64 - nanos.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let within = nanos >> doubling;
    let at = u64::from(doubling) * STEPS + within;
    usize::try_from(at).expect("buckets are few")
}

/// The middle of a bucket.
fn middle(at: usize) -> u64 {
    let at = u64::try_from(at).expect("buckets are few");
    let doubling = (at / STEPS).saturating_sub(1);
    let within = at - doubling * STEPS;
    (within << doubling) + ((1 << doubling) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_spans_are_exact_and_large_ones_within_a_hundredth() {
        for nanos in [0, 1, 127, 128, 255, 256, 1_000, 31_900_000, u64::MAX / 3] {
            let near = middle(bucket(nanos));
            assert!(near.abs_diff(nanos) <= nanos / 100, "{nanos}: {near}");
        }
    }

    #[test]
    fn quantiles_and_means_are_those_of_what_was_counted() {
        let (mut left, mut right) = (Histogram::default(), Histogram::default());
        for nanos in 1..=50 {
            left.add(nanos);
            right.add(nanos + 50);
        }
        left.merge(&right);
        assert_eq!(left.quantile(500), Some(50));
        assert_eq!(left.quantile(990), Some(99));
        assert_eq!(left.mean(), Some(50));
        assert_eq!(Histogram::default().quantile(500), None);
    }
}
