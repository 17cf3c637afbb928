//! Whether a silent client is still there, and whether one asks too often.
//!
//! The rules are those of gRPC's Go server, which etcd uses: clients are written against them.

use std::time::Duration;

use futures_util::FutureExt as _;
use h2::{Ping, PingPong};
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
    ping_pong: Option<PingPong>,
    /// When it was asked, if it has said nothing since.
    asked: Option<Instant>,
}

impl Vigil {
    /// `interval` of zero asks never.
    pub(super) const fn new(
        interval: Duration,
        patience: Duration,
        ping_pong: Option<PingPong>,
    ) -> Self {
        Self {
            interval: least(interval, NEVER),
            patience: least(patience, NEVER),
            ping_pong,
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

    /// Looks at a client that was heard last at `heard`: when to look again, or `None` if it is
    /// gone.
    pub(super) fn look(&mut self, heard: Instant) -> Option<Instant> {
        if self.interval.is_zero() {
            return Some(self.first());
        }
        if self.asked.take().is_some_and(|asked| heard <= asked) {
            return None;
        }
        let (now, due) = (Instant::now(), heard + self.interval);
        if now < due {
            return Some(due);
        }
        if let Some(ping_pong) = &mut self.ping_pong {
            // The answer to an earlier question must be taken before the next is asked.
            drop(std::future::poll_fn(|cx| ping_pong.poll_pong(cx)).now_or_never());
            if let Err(error) = ping_pong.send_ping(Ping::opaque()) {
                tracing::debug!(%error, "a client could not be asked whether it is there");
            }
        }
        self.asked = Some(now);
        Some(now + self.patience)
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

/// The frame that tells a client that it pings too often, and ends the connection.
#[expect(clippy::big_endian_bytes, reason = "the order of HTTP/2")]
pub(super) fn too_many_pings() -> Vec<u8> {
    const TEXT: &[u8] = b"too_many_pings";
    const ENHANCE_YOUR_CALM: u32 = 11;
    const LAST_STREAM: u32 = 0x7fff_ffff;
    let bytes = u8::try_from(8 + TEXT.len()).expect("it is short");
    let head = [0, 0, bytes, 7, 0, 0, 0, 0, 0];
    [
        &head[..],
        &LAST_STREAM.to_be_bytes(),
        &ENHANCE_YOUR_CALM.to_be_bytes(),
        TEXT,
    ]
    .concat()
}

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
        let mut vigil = Vigil::new(10 * second, 2 * second, None);
        let start = Instant::now();
        assert_eq!(vigil.first(), start + 10 * second);
        tokio::time::advance(10 * second).await;
        let heard = start + 3 * second;
        assert_eq!(vigil.look(heard), Some(start + 13 * second));
        tokio::time::advance(3 * second).await;
        assert_eq!(vigil.look(heard), Some(start + 15 * second), "asked");
        tokio::time::advance(2 * second).await;
        let answered = start + 14 * second;
        assert_eq!(vigil.look(answered), Some(start + 24 * second));
        tokio::time::advance(9 * second).await;
        assert!(vigil.look(answered).is_some(), "asked again");
        tokio::time::advance(2 * second).await;
        assert_eq!(vigil.look(answered), None, "no answer");
    }
}
