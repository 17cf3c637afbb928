//! What was seen of leases: who kept which alive until when, and when their keys went.
//!
//! Times are true virtual ones. A lease lives at least from the moment that a grant or renewal
//! was *asked* for its time to live, if that was answered with success; it may live from the
//! moment that the answer came. What goes between the two breaks no rule.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_base::Time;
use holm_check::{Lived, Violation, lease};

use super::Run;
use crate::calls::{Change, Key};
use crate::scenario::{Check, Purpose, Scenario};
use crate::site::{LeaseCall, LeaseReply};

/// How many keys hang on leases.
pub(crate) const LEASED_KEYS: u32 = 4;

/// How much later than promised a healthy keyspace may let a lease end, besides elections.
const SLACK: Duration = Duration::from_secs(1);

/// All leases of a run.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    /// Whether anybody asks for leases.
    pub(crate) is_used: bool,
    is_judged: bool,
    is_timed: bool,
    election_timeout: Duration,
    /// The first key that hangs on a lease.
    pub(crate) first_key: Key,
    known: BTreeMap<i64, Lived>,
    /// Which lease a write hangs its key on.
    of_mark: BTreeMap<u64, i64>,
    /// Which lease a key hangs on now.
    of_key: BTreeMap<Key, i64>,
    next_id: i64,
    /// When something last happened that may keep a lease alive longer.
    disturbed: Time,
    /// How many faults last.
    faults: u32,
}

impl Leases {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let is_used = scenario.clients.iter().any(|one| one.mix.0[5] > 0);
        let keys = scenario.clients.iter().map(|one| one.keys.count);
        Self {
            is_used,
            is_judged: scenario.judges(Check::Lease),
            is_timed: scenario.purpose == Purpose::Timed,
            election_timeout: Duration::from_nanos(scenario.keyspace.election_timeout),
            first_key: keys.max().unwrap_or(0),
            known: BTreeMap::new(),
            of_mark: BTreeMap::new(),
            of_key: BTreeMap::new(),
            next_id: 1,
            disturbed: Time::ZERO,
            faults: 0,
        }
    }

    /// How long a lease may live beyond its time, at most.
    fn slack(&self) -> Duration {
        self.election_timeout * 3 + SLACK
    }

    /// A new lease is asked for.
    pub(super) fn grant(&mut self, now: Time, ttl: i64) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        let seconds = u64::try_from(ttl).unwrap_or(1);
        let lived = Lived::new(now, Duration::from_secs(seconds));
        self.known.insert(id, lived);
        id
    }

    /// Leases of which it is not known that they have ended, oldest first.
    pub(super) fn alive(&self) -> Vec<i64> {
        let alive = self.known.iter().filter(|(_, one)| one.is_alive());
        alive.map(|(id, _)| *id).collect()
    }

    /// A write will hang its key on a lease.
    pub(super) fn attach(&mut self, mark: u64, lease: i64) {
        self.of_mark.insert(mark, lease);
    }

    /// Somebody asks about a lease.
    pub(super) fn asked(&mut self, now: Time, call: LeaseCall) {
        if let LeaseCall::Revoke { id } = call
            && let Some(one) = self.known.get_mut(&id)
        {
            one.revoked.get_or_insert(now);
        }
    }

    /// Somebody heard something about a lease; nothing, if nobody knows what came of it.
    pub(super) fn heard(
        &mut self,
        (asked, now): (Time, Time),
        call: LeaseCall,
        reply: Option<LeaseReply>,
    ) {
        let id = match call {
            LeaseCall::Grant { id, .. }
            | LeaseCall::Renew { id }
            | LeaseCall::Revoke { id }
            | LeaseCall::TimeToLive { id } => id,
        };
        let Some(one) = self.known.get_mut(&id) else {
            return;
        };
        match (call, reply) {
            (
                LeaseCall::Grant { .. } | LeaseCall::Renew { .. },
                Some(LeaseReply::Granted { .. } | LeaseReply::Renewed { .. }),
            ) => {
                one.kept.push((asked, now));
                one.maybe_kept = one.maybe_kept.max(now);
            }
            // It may have been kept alive, and may be so later still.
            (LeaseCall::Grant { .. } | LeaseCall::Renew { .. }, None) => {
                one.maybe_kept = one.maybe_kept.max(now + self.election_timeout * 2);
            }
            (LeaseCall::Revoke { .. }, Some(LeaseReply::Revoked)) => {
                one.ended.get_or_insert(now);
            }
            (LeaseCall::Grant { .. }, Some(_)) => {
                // It was never there.
                self.known.remove(&id);
            }
            // Its time is up, but its end may not have been applied yet, and may get lost with its leader.
            (LeaseCall::Renew { .. }, Some(LeaseReply::Missing)) => one.missed.push(now),
            (_, Some(LeaseReply::Missing)) => {
                one.missed.push(now);
                one.ended.get_or_insert(now);
            }
            (_, Some(_) | None) => {}
        }
    }

    /// A revision was applied for the first time anywhere. Gives the keys that a lease took
    /// along, if that is what it was.
    pub(super) fn learn(&mut self, now: Time, change: &Change) -> Option<Vec<Key>> {
        if !self.is_used {
            return None;
        }
        let mut gone = Vec::new();
        for touch in &change.touches {
            if touch.key < self.first_key {
                continue;
            }
            if touch.is_delete {
                gone.push(touch.key);
            } else if let Some(lease) = self.of_mark.get(&touch.mark) {
                self.of_key.insert(touch.key, *lease);
            }
        }
        if gone.is_empty() {
            return None;
        }
        let lease = self.of_key.get(&gone[0]).copied();
        let held = self.of_key.iter().filter(|(_, of)| Some(**of) == lease);
        let held: Vec<Key> = held.map(|(key, _)| *key).collect();
        for key in &gone {
            self.of_key.remove(key);
        }
        if let Some(one) = lease.and_then(|lease| self.known.get_mut(&lease)) {
            one.ended.get_or_insert(now);
            let is_whole = held == gone;
            one.gone.push((now, is_whole));
            let since = self.disturbed.max(one.maybe_kept);
            let is_quiet = self.is_timed && self.faults == 0;
            let bound = since + one.ttl + self.election_timeout * 3 + SLACK;
            one.is_late |= is_quiet && now > bound && one.revoked.is_none();
        }
        Some(gone)
    }

    /// A leader was elected, a node ended, a fault began or ended.
    pub(super) fn disturb(&mut self, now: Time) {
        self.disturbed = now;
    }

    pub(super) fn fault(&mut self, now: Time, begins: bool) {
        self.disturb(now);
        self.faults = if begins {
            self.faults + 1
        } else {
            self.faults.saturating_sub(1)
        };
    }

    /// When all leases must have ended.
    fn all_ended_by(&self, healed: Time) -> Time {
        let since = |one: &Lived| healed.max(self.disturbed).max(one.maybe_kept) + one.ttl;
        let alive = self.known.values().filter(|one| one.ended.is_none());
        let last = alive.map(since).max();
        last.map_or(healed, |at| at + self.slack())
    }

    /// Whether a lease may yet end by itself.
    pub(super) fn are_awaited(&self, now: Time, healed: Time) -> bool {
        self.is_judged && self.is_used && now <= self.all_ended_by(healed)
    }
}

impl Run<'_> {
    /// Judges leases: none may have died early, none may have outlived its time.
    pub(super) fn judge_leases(&self) -> Option<Violation> {
        let leases = &self.leases;
        if !leases.is_judged || !leases.is_used {
            return None;
        }
        for (id, one) in &leases.known {
            if let Err(violation) = lease(*id, one) {
                return Some(violation);
            }
        }
        let healed = self.healed?;
        if self.world.now() <= leases.all_ended_by(healed) {
            return None;
        }
        let site = self.leader().and_then(|leader| self.world.node(leader))?;
        let left = site.holding().leases;
        let (id, _) = left.first()?;
        Some(Violation {
            judge: "lease",
            rule: "a lease ends when its time is up",
            place: format!(
                "lease {id} is there, and all were to end by {:?}: {:?}",
                leases.all_ended_by(healed),
                leases.known.get(id)
            ),
        })
    }
}
