//! How long to wait before dialling again: doubling, with jitter, a second at most.

use std::time::Duration;

use holm_base::Prng;

/// The longest wait. A cut link is tried so often for as long as it is cut.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The first wait.
const WAIT_MIN: Duration = Duration::from_millis(50);

/// Waits between tries.
#[derive(Debug)]
pub(crate) struct Backoff {
    random: Prng,
    next: Duration,
}

impl Backoff {
    /// Waits that begin short; equal seeds wait equally long.
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            random: Prng::new(seed),
            next: WAIT_MIN,
        }
    }

    /// Begins with short waits again: the last try has gone well.
    pub(crate) const fn reset(&mut self) {
        self.next = WAIT_MIN;
    }

    /// The next wait: between a half and the whole of a span that doubles, so that nodes that
    /// lost their links at one moment do not dial at one moment.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(WAIT_MAX);
        let half = u64::try_from((whole / 2).as_nanos()).unwrap_or(u64::MAX);
        whole / 2 + Duration::from_nanos(self.random.below(half + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_differ_between_nodes() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..8).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        let (one, other) = (waits(1), waits(2));
        assert_ne!(one, other);
        for (index, wait) in one.iter().enumerate() {
            let whole = (WAIT_MIN * (1 << index)).min(WAIT_MAX);
            assert!(*wait >= whole / 2 && *wait <= whole, "{index}: {wait:?}");
        }
        let mut backoff = Backoff::new(1);
        backoff.wait();
        backoff.reset();
        assert!(backoff.wait() <= WAIT_MIN);
    }
}
