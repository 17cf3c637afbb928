//! One direction of a link: how long a message takes, and whether it arrives at all.

use holm_base::Time;

use crate::quantiles::Quantiles;
use crate::tape::{Place, Tape};

const DELAY: Place = Place::new("link.delay");
const LOSS: Place = Place::new("link.loss");
const DUPLICATE: Place = Place::new("link.duplicate");
const FLIP: Place = Place::new("link.flip");

/// What a link does to messages, in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// How long a message is under way. Drawn for each on its own, so messages overtake.
    pub delay: Quantiles,
    /// Whether a message may overtake another. A stream does not let it.
    pub overtaking: Overtaking,
    /// How many of a million messages are lost.
    pub loss_per_million: u32,
    /// How many of a million arrive twice.
    pub duplicate_per_million: u32,
    /// How many of a million arrive with a flipped bit.
    pub flip_per_million: u32,
    /// How many bytes a second it carries; `None` is any number.
    pub bytes_per_second: Option<u64>,
    /// How many nanoseconds of backlog it queues before it loses what comes.
    pub queue_nanos: u64,
}

/// Whether messages of one link keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overtaking {
    /// Each takes its own time.
    Allowed,
    /// None arrives before an earlier one.
    Forbidden,
}

impl LinkSpec {
    /// A link that takes exactly so long and does nothing else.
    #[must_use]
    pub fn plain(delay_nanos: i64) -> Self {
        Self {
            delay: Quantiles::fixed(delay_nanos),
            overtaking: Overtaking::Allowed,
            loss_per_million: 0,
            duplicate_per_million: 0,
            flip_per_million: 0,
            bytes_per_second: None,
            queue_nanos: 0,
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It never arrives.
    Lost,
    /// It arrives then.
    Arrives {
        at: Time,
        /// And once more then.
        again: Option<Time>,
        /// This bit of it is inverted.
        flipped: Option<u32>,
    },
}

/// A link as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    spec: LinkSpec,
    cuts: u32,
    slow_nanos: u64,
    /// When the last byte of its backlog has left.
    free_at: Time,
    last_arrival: Time,
}

impl Link {
    pub(crate) const fn new(spec: LinkSpec) -> Self {
        Self {
            spec,
            cuts: 0,
            slow_nanos: 0,
            free_at: Time::ZERO,
            last_arrival: Time::ZERO,
        }
    }

    /// Cuts count, so that two faults may cut the same link and each mend its own.
    pub(crate) const fn cut(&mut self) {
        self.cuts += 1;
    }

    pub(crate) const fn mend(&mut self) {
        self.cuts = self.cuts.saturating_sub(1);
    }

    pub(crate) const fn is_cut(&self) -> bool {
        self.cuts > 0
    }

    pub(crate) fn may_overtake(&self) -> bool {
        self.spec.overtaking == Overtaking::Allowed
    }

    /// Delays everything by so much more from now on.
    pub(crate) const fn slow(&mut self, nanos: u64) {
        self.slow_nanos = nanos;
    }

    /// No faults from now on: it carries, in its ordinary time.
    pub(crate) const fn heal(&mut self) {
        self.cuts = 0;
        self.slow_nanos = 0;
        self.spec.loss_per_million = 0;
        self.spec.duplicate_per_million = 0;
        self.spec.flip_per_million = 0;
    }

    #[inline(always)]
    pub(crate) fn send(&mut self, now: Time, bytes: u64, tape: &mut Tape) -> Passage {
        if self.cuts > 0 || tape.chance(LOSS, self.spec.loss_per_million) {
            return Passage::Lost;
        }
        let Some(left) = self.leave(now, bytes) else {
            return Passage::Lost;
        };
        let at = self.arrive(left, tape);
        let again = tape
            .chance(DUPLICATE, self.spec.duplicate_per_million)
            .then(|| self.arrive(left, tape));
        let flipped = tape.chance(FLIP, self.spec.flip_per_million).then(|| {
            let bits = u32::try_from(bytes.saturating_mul(8)).unwrap_or(u32::MAX);
            tape.choose(FLIP, bits.max(1))
        });
        Passage::Arrives { at, again, flipped }
    }

    /// When the last byte has left this end; `None` if the queue is full.
    #[inline]
    fn leave(&mut self, now: Time, bytes: u64) -> Option<Time> {
        let Some(rate) = self.spec.bytes_per_second else {
            return Some(now);
        };
        let start = self.free_at.max(now);
        if start.nanos() - now.nanos() > self.spec.queue_nanos {
            return None;
        }
        let takes = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let takes = u64::try_from(takes).unwrap_or(u64::MAX);
        self.free_at = Time::from_nanos(start.nanos().saturating_add(takes));
        Some(self.free_at)
    }

    #[inline]
    fn arrive(&mut self, left: Time, tape: &mut Tape) -> Time {
        let delay = self.spec.delay.delay(DELAY, tape) + self.slow_nanos;
        let at = Time::from_nanos(left.nanos().saturating_add(delay));
        match self.spec.overtaking {
            Overtaking::Allowed => at,
            Overtaking::Forbidden => {
                self.last_arrival = self.last_arrival.max(at);
                self.last_arrival
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantiles::Distribution;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    fn arrival(link: &mut Link, now: u64, bytes: u64, tape: &mut Tape) -> Option<u64> {
        match link.send(at(now), bytes, tape) {
            Passage::Lost => None,
            Passage::Arrives { at, .. } => Some(at.nanos()),
        }
    }

    #[test]
    fn a_full_queue_loses_and_an_empty_one_carries_at_its_rate() {
        let mut link = Link::new(LinkSpec {
            bytes_per_second: Some(1_000_000_000),
            queue_nanos: 150,
            ..LinkSpec::plain(10)
        });
        let tape = &mut Tape::normal();
        assert_eq!(arrival(&mut link, 0, 100, tape), Some(110));
        assert_eq!(arrival(&mut link, 0, 100, tape), Some(210));
        assert_eq!(
            arrival(&mut link, 0, 100, tape),
            None,
            "200 ns wait already"
        );
        assert_eq!(arrival(&mut link, 60, 100, tape), Some(310));
    }

    #[test]
    fn independent_delays_overtake_and_a_stream_forbids_it() {
        let spec = LinkSpec {
            delay: Quantiles::of(&Distribution::Uniform(0, 1_000)),
            ..LinkSpec::plain(0)
        };
        let arrivals = |overtaking| {
            let mut link = Link::new(LinkSpec {
                overtaking,
                ..spec.clone()
            });
            let mut tape = Tape::fresh(3);
            let sent = (0..100).map(|now| arrival(&mut link, now, 1, &mut tape));
            sent.map(|at| at.expect("nothing is lost"))
                .collect::<Vec<_>>()
        };
        assert!(!arrivals(Overtaking::Allowed).is_sorted());
        assert!(arrivals(Overtaking::Forbidden).is_sorted());
    }

    #[test]
    fn losses_duplicates_and_flips_come_as_often_as_asked() {
        let mut link = Link::new(LinkSpec {
            loss_per_million: 100_000,
            duplicate_per_million: 200_000,
            flip_per_million: 300_000,
            ..LinkSpec::plain(1)
        });
        let mut tape = Tape::fresh(1);
        let mut seen = [0_u32; 3];
        for now in 0..10_000 {
            match link.send(at(now), 8, &mut tape) {
                Passage::Lost => seen[0] += 1,
                Passage::Arrives { again, flipped, .. } => {
                    seen[1] += u32::from(again.is_some());
                    seen[2] += u32::from(flipped.is_some());
                    assert!(flipped.is_none_or(|bit| bit < 64));
                }
            }
        }
        assert!((900..1_100).contains(&seen[0]), "{seen:?}");
        assert!((1_600..2_000).contains(&seen[1]), "{seen:?}");
        assert!((2_500..2_900).contains(&seen[2]), "{seen:?}");
    }

    #[test]
    fn two_cuts_need_two_mendings_and_healing_needs_none() {
        let mut link = Link::new(LinkSpec::plain(1));
        let tape = &mut Tape::normal();
        link.cut();
        link.cut();
        link.mend();
        assert_eq!(arrival(&mut link, 0, 1, tape), None);
        link.mend();
        assert_eq!(arrival(&mut link, 0, 1, tape), Some(1));
        link.cut();
        link.slow(5);
        link.heal();
        assert_eq!(arrival(&mut link, 0, 1, tape), Some(1));
    }
}
