//! Whether a silent client is still there, and whether one asks too often.
//!
//! The rules are those of gRPC's Go server, which etcd uses: clients are written against them.

use std::time::Duration;

use tokio::time::Instant;

/// Pings that come too soon, and are forgiven until the next answer.
const STRIKES_MAX: u32 = 2;
/// A client without a call in hand should not ping more often than this.
const IDLE_INTERVAL_MIN: Duration = Duration::from_secs(2 * 60 * 60);
/// Where nothing is to be watched.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Counts the pings that come too soon.
#[derive(Debug)]
pub(super) struct Strikes {
    interval_min: Duration,
    last: Option<Instant>,
    count: u32,
}

impl Strikes {
    pub(super) const fn new(interval_min: Duration) -> Self {
        Self {
            interval_min: least(interval_min, NEVER),
            last: None,
            count: 0,
        }
    }

    /// Takes note of a ping; whether it is one too many. Answers that went out since the last
    /// one wipe the slate.
    pub(super) fn ping(&mut self, now: Instant, calls: usize, has_answered: bool) -> bool {
        let last = self.last.replace(now);
        if has_answered {
            self.count = 0;
            return false;
        }
        let interval = if calls > 0 {
            self.interval_min
        } else {
            IDLE_INTERVAL_MIN
        };
        let is_early = last.is_some_and(|it| now < it + interval);
        self.count += u32::from(is_early);
        self.count > STRIKES_MAX
    }
}

/// Asks a client that has been silent for long whether it is there.
pub(super) struct Vigil {
    interval: Duration,
    patience: Duration,
    /// When it was asked, if it has said nothing since.
    asked: Option<Instant>,
}

/// What a look at a client came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// All is well: look again then.
    Again(Instant),
    /// Ask it whether it is there, and look again then.
    Ask(Instant),
    /// It was asked and is gone.
    Gone,
}

impl Vigil {
    /// `interval` of zero asks never.
    pub(super) const fn new(interval: Duration, patience: Duration) -> Self {
        Self {
            interval: least(interval, NEVER),
            patience: least(patience, NEVER),
            asked: None,
        }
    }

    /// When to look first.
    pub(super) fn first(&self) -> Instant {
        let interval = if self.interval.is_zero() {
            NEVER
        } else {
            self.interval
        };
        Instant::now() + interval
    }

    /// Looks at a client that was heard last at `heard`.
    pub(super) fn look(&mut self, heard: Instant) -> Look {
        if self.interval.is_zero() {
            return Look::Again(self.first());
        }
        if self.asked.take().is_some_and(|asked| heard <= asked) {
            return Look::Gone;
        }
        let (now, due) = (Instant::now(), heard + self.interval);
        if now < due {
            return Look::Again(due);
        }
        self.asked = Some(now);
        Look::Ask(now + self.patience)
    }
}

/// Times from a configuration must not overflow the clock.
const fn least(left: Duration, right: Duration) -> Duration {
    if left.as_nanos() < right.as_nanos() {
        left
    } else {
        right
    }
}

/// What a client that pings too often is told, in words that its library looks for.
pub(super) const TOO_MANY_PINGS: &[u8] = b"too_many_pings";

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(5);

    /// How many pings, so far apart, are taken; 10 means all.
    fn taken(apart: Duration, calls: usize, has_answered: bool) -> usize {
        let (mut strikes, mut now) = (Strikes::new(MIN), Instant::now());
        (0..10)
            .take_while(|_| {
                now += apart;
                !strikes.ping(now, calls, has_answered)
            })
            .count()
    }

    #[test]
    fn the_third_ping_that_comes_too_soon_is_one_too_many() {
        assert_eq!(taken(MIN - Duration::from_millis(1), 1, false), 3);
        assert_eq!(taken(MIN, 1, false), 10);
    }

    #[test]
    fn without_calls_there_is_nothing_to_keep_alive() {
        assert_eq!(taken(Duration::from_secs(60), 0, false), 3);
        assert_eq!(taken(IDLE_INTERVAL_MIN, 0, false), 10);
    }

    #[test]
    fn answers_wipe_the_slate() {
        assert_eq!(taken(Duration::ZERO, 1, true), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_asked_and_then_given_up() {
        let second = Duration::from_secs(1);
        let mut vigil = Vigil::new(10 * second, 2 * second);
        let start = Instant::now();
        assert_eq!(vigil.first(), start + 10 * second);
        tokio::time::advance(10 * second).await;
        let heard = start + 3 * second;
        assert_eq!(vigil.look(heard), Look::Again(start + 13 * second));
        tokio::time::advance(3 * second).await;
        assert_eq!(vigil.look(heard), Look::Ask(start + 15 * second));
        tokio::time::advance(2 * second).await;
        let answered = start + 14 * second;
        assert_eq!(vigil.look(answered), Look::Again(start + 24 * second));
        tokio::time::advance(9 * second).await;
        assert!(matches!(vigil.look(answered), Look::Ask(_)), "asked again");
        tokio::time::advance(2 * second).await;
        assert_eq!(vigil.look(answered), Look::Gone, "no answer");
    }
}
