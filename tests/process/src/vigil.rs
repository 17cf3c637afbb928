//! When a lease may end: not before its time to live has passed since it was last renewed.
//!
//! A holder notes when it *sent* what was then acknowledged, so that the earliest end it computes
//! is earlier than any that a server could. Whoever sees the end sees it after it happened. So
//! what is called early here was early, however slow the machine is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the holders know.
#[derive(Clone, Debug, Default)]
pub struct Vigil {
    leases: BTreeMap<i64, Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: Duration,
    /// When the last grant or renewal that was acknowledged was sent.
    renewed: Instant,
    /// Whether its end was asked for.
    is_given_up: bool,
    ended: Option<Instant>,
}

impl Vigil {
    /// Notes a lease that was granted for `ttl`, as asked for at `sent`.
    pub fn granted(&mut self, id: i64, ttl: Duration, sent: Instant) {
        let lease = Lease {
            ttl,
            renewed: sent,
            is_given_up: false,
            ended: None,
        };
        self.leases.insert(id, lease);
    }

    /// Notes a renewal that was acknowledged, as asked for at `sent`.
    pub fn renewed(&mut self, id: i64, ttl: Duration, sent: Instant) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.ttl = ttl;
            lease.renewed = lease.renewed.max(sent);
        }
    }

    /// Notes that its end is about to be asked for.
    pub fn given_up(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.is_given_up = true;
        }
    }

    /// Notes that the lease was seen to have ended by `now`: a key of its own was deleted, or a
    /// renewal was refused.
    ///
    /// # Errors
    ///
    /// It was early, in words.
    pub fn ended(&mut self, id: i64, now: Instant) -> Result<(), String> {
        let Some(lease) = self.leases.get_mut(&id) else {
            return Ok(());
        };
        lease.ended.get_or_insert(now);
        let lived = now.saturating_duration_since(lease.renewed);
        if lease.is_given_up || lived >= lease.ttl {
            return Ok(());
        }
        Err(format!(
            "lease {id} ended {lived:?} after its last renewal, and was good for {:?}",
            lease.ttl
        ))
    }

    /// The leases whose time is up and whose end nobody has seen.
    #[must_use]
    pub fn overdue(&self, now: Instant) -> Vec<i64> {
        let is_overdue = |lease: &Lease| {
            let lived = now.saturating_duration_since(lease.renewed);
            lease.ended.is_none() && lived > lease.ttl
        };
        let leases = self.leases.iter();
        let overdue = leases.filter(|(_, lease)| is_overdue(lease));
        overdue.map(|(id, _)| *id).collect()
    }

    /// How many have been seen to end.
    #[must_use]
    pub fn count_ended(&self) -> usize {
        let ended = |lease: &&Lease| lease.ended.is_some();
        self.leases.values().filter(ended).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(2);

    #[test]
    fn an_early_end_is_seen_and_a_late_one_is_none() {
        let begun = Instant::now();
        let mut vigil = Vigil::default();
        vigil.granted(7, TTL, begun);
        assert_eq!(vigil.clone().ended(7, begun + TTL), Ok(()));
        let early = begun + TTL - Duration::from_millis(1);
        let error = vigil.clone().ended(7, early).unwrap_err();
        assert!(error.contains("lease 7 ended 1.999s after"), "{error}");
        vigil.renewed(7, TTL, begun + Duration::from_secs(1));
        assert!(vigil.clone().ended(7, begun + TTL).is_err(), "renewed");
        vigil.given_up(7);
        assert_eq!(vigil.ended(7, begun + TTL), Ok(()), "asked for");
    }

    #[test]
    fn a_lease_that_does_not_end_is_overdue() {
        let begun = Instant::now();
        let mut vigil = Vigil::default();
        vigil.granted(7, TTL, begun);
        vigil.granted(8, TTL, begun + TTL);
        let late = begun + TTL + Duration::from_secs(1);
        assert_eq!(vigil.overdue(late), [7]);
        assert_eq!(vigil.ended(7, late), Ok(()));
        assert_eq!(vigil.overdue(late), [0_i64; 0]);
        assert_eq!(vigil.count_ended(), 1);
        assert_eq!(vigil.ended(99, late), Ok(()), "nobody's");
    }
}
