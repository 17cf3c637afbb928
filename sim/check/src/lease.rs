//! A lease lives as long as it was promised, and its keys go with it, all at once.

use std::time::Duration;

use holm_base::Time;

use crate::verdict::Violation;

const JUDGE: &str = "lease";

/// Clocks may be this much apart in their pace: one part in so many.
const PACE: u32 = 1_000;

/// What was seen of one lease. Times are an onlooker's, with a perfect clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lived {
    /// When it was asked for.
    pub asked: Time,
    /// How long it lives if nobody keeps it alive.
    pub ttl: Duration,
    /// When success of granting or renewing it was asked for, and answered.
    pub kept: Vec<(Time, Time)>,
    /// The last moment at which it may have been kept alive, answered or not.
    pub maybe_kept: Time,
    /// When somebody first asked for its end.
    pub revoked: Option<Time>,
    /// When somebody was told that there is no such lease.
    pub missed: Vec<Time>,
    /// When a revision removed its keys, and whether it removed them all.
    pub gone: Vec<(Time, bool)>,
    /// When it was first known to have ended.
    pub ended: Option<Time>,
    /// Whether it was seen to end later than it may.
    pub is_late: bool,
}

impl Lived {
    /// One that was just asked for.
    #[must_use]
    pub const fn new(asked: Time, ttl: Duration) -> Self {
        Self {
            asked,
            ttl,
            kept: Vec::new(),
            maybe_kept: asked,
            revoked: None,
            missed: Vec::new(),
            gone: Vec::new(),
            ended: None,
            is_late: false,
        }
    }

    /// Whether somebody was told that it is there, and nobody that it is not.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        !self.kept.is_empty() && self.ended.is_none() && self.missed.is_empty()
    }

    /// Until when it surely lives, as far as was promised before `end`.
    fn promised(&self, end: Time) -> Option<(Time, Time)> {
        let before = self.kept.iter().filter(|(asked, _)| *asked < end);
        let last = before.map(|(asked, _)| *asked).max()?;
        Some((last, last + (self.ttl - self.ttl / PACE)))
    }
}

/// Judges a lease: that it did not end before its time, unless somebody asked for that; that its
/// keys went together; that it did not end too late.
///
/// # Errors
///
/// The first of these that does not hold.
pub fn lease(id: i64, lived: &Lived) -> Result<(), Violation> {
    let broken = |rule, place| Err(Violation::new(JUDGE, rule, place));
    let ends = lived.gone.iter().map(|(at, _)| *at);
    for end in ends.chain(lived.missed.iter().copied()) {
        if lived.revoked.is_some_and(|revoked| revoked < end) {
            continue;
        }
        if let Some((kept, until)) = lived.promised(end)
            && end < until
        {
            let place = format!("lease {id} was kept at {kept:?} until {until:?}, ended {end:?}");
            return broken("a lease lives as long as was promised", place);
        }
    }
    if let Some((at, _)) = lived.gone.iter().find(|(_, is_whole)| !is_whole) {
        let place = format!("lease {id} at {at:?}");
        return broken("a lease takes its keys along, all at once", place);
    }
    if lived.is_late {
        return broken(
            "a lease ends when its time is up",
            format!("lease {id}: {lived:?}"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn lived(kept: &[(u64, u64)]) -> Lived {
        let mut lived = Lived::new(at(1), Duration::from_secs(5));
        lived.kept = kept
            .iter()
            .map(|(asked, told)| (at(*asked), at(*told)))
            .collect();
        lived
    }

    fn rule(lived: &Lived) -> Option<&'static str> {
        lease(7, lived).err().map(|violation| violation.rule)
    }

    #[test]
    fn a_lease_that_ends_in_its_time_passes() {
        let mut one = lived(&[(1, 2), (4, 5)]);
        one.gone.push((at(9), true));
        one.missed.push(at(10));
        assert_eq!(rule(&one), None);
        let mut revoked = lived(&[(1, 2)]);
        revoked.revoked = Some(at(2));
        revoked.gone.push((at(3), true));
        assert_eq!(rule(&revoked), None, "somebody asked for it");
        let mut unknown = lived(&[]);
        unknown.gone.push((at(2), true));
        assert_eq!(rule(&unknown), None, "nobody was promised anything");
    }

    #[test]
    fn each_rule_has_a_lease_that_breaks_it() {
        let early = "a lease lives as long as was promised";
        let mut one = lived(&[(1, 2), (4, 5)]);
        one.gone.push((at(8), true));
        assert_eq!(rule(&one), Some(early));
        let mut missed = lived(&[(1, 2)]);
        missed.missed.push(at(5));
        assert_eq!(rule(&missed), Some(early));
        let mut torn = lived(&[(1, 2)]);
        torn.gone.push((at(7), false));
        assert_eq!(
            rule(&torn),
            Some("a lease takes its keys along, all at once")
        );
        let mut late = lived(&[(1, 2)]);
        late.is_late = true;
        assert_eq!(rule(&late), Some("a lease ends when its time is up"));
    }

    #[test]
    fn a_promise_made_after_the_end_is_not_held_against_it() {
        let mut one = lived(&[(1, 2), (9, 10)]);
        one.gone.push((at(7), true));
        assert_eq!(rule(&one), None);
    }
}
