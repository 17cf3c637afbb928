//! The leader's timers: which leases end when, and what to propose about it.
//!
//! What would surprise: a renewal only changes a number. The lease stays filed where it was and
//! is filed anew when its old moment comes. Moments are rounded up to a tenth of a second, so
//! that leases which end together are proposed together.

use std::collections::BTreeSet;
use std::time::Duration;

use holm_base::{Term, Time};

use super::{Leases, Removed, seconds};
use crate::command::Command;
use crate::refusal::Refusal;

/// How many leases one entry may end or checkpoint.
const LEASES_PER_ENTRY: usize = 1_000;

/// How many keys the leases of one entry may hold together, unless it is a single lease.
const KEYS_PER_ENTRY: usize = 10_000;

/// How many such entries may be on their way.
const ENTRIES_MAX: usize = 4;

/// After how long an entry that was never applied is proposed again.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// The grain of time.
const TICK_NANOS: u64 = 100_000_000;

/// What the leader of a keyspace knows about its leases' time. Without a leader it is empty.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// The term in which this node leads.
    term: Option<Term>,
    election_timeout: Duration,
    checkpoint_interval: Duration,
    /// Each lease whose end is not proposed, once.
    ends: BTreeSet<(Time, i64)>,
    /// Leases that live long enough to be checkpointed.
    checkpoints: BTreeSet<(Time, i64)>,
    /// Renewed leases whose checkpoint is still on record.
    renewed: BTreeSet<i64>,
    /// Proposed and not yet applied.
    ending: Vec<(Time, Vec<i64>)>,
    /// When a checkpoint was proposed that is not yet applied.
    checkpointing: Option<Time>,
    /// Until when nothing is proposed, because the last proposal was not taken.
    pause: Time,
}

impl Timers {
    pub(crate) fn new(election_timeout: Duration, checkpoint_interval: Duration) -> Self {
        Self {
            election_timeout,
            checkpoint_interval,
            ..Self::default()
        }
    }

    pub(crate) const fn election_timeout(&self) -> Duration {
        self.election_timeout
    }

    /// Takes over: each lease gets what was left at its last checkpoint, or all its time, and
    /// an election timeout on top.
    pub(crate) fn lead(&mut self, leases: &mut Leases, now: Time, term: Term) {
        *self = Self::new(self.election_timeout, self.checkpoint_interval);
        self.term = Some(term);
        let extra = self.election_timeout;
        leases.each(|id, lease| {
            let left = if lease.remaining > 0 {
                seconds(lease.remaining)
            } else {
                lease.ttl()
            };
            lease.ends = now + left + extra;
            (lease.filed, lease.checkpoint) = (None, None);
            (lease.is_ending, lease.is_checkpointing) = (false, false);
            self.file(id, lease, now);
        });
    }

    /// Leads no longer: knows nothing of any lease's time.
    pub(crate) fn follow(&mut self, leases: &mut Leases) {
        *self = Self::new(self.election_timeout, self.checkpoint_interval);
        leases.each(|_, lease| {
            (lease.filed, lease.checkpoint) = (None, None);
            (lease.is_ending, lease.is_checkpointing) = (false, false);
        });
    }

    /// Starts a new lease's time.
    pub(crate) fn granted(&mut self, leases: &mut Leases, now: Time, id: i64) {
        if self.term.is_some()
            && let Some(lease) = leases.get_mut(id)
        {
            lease.ends = now + lease.ttl();
            self.file(id, lease, now);
        }
    }

    fn file(&mut self, id: i64, lease: &mut super::Lease, now: Time) {
        let at = ceil(lease.ends);
        lease.filed = Some(at);
        self.ends.insert((at, id));
        if lease.ttl() > self.checkpoint_interval {
            let at = self.checkpoint_at(now, id);
            lease.checkpoint = Some(at);
            self.checkpoints.insert((at, id));
        }
    }

    /// Forgets a lease that is gone.
    pub(crate) fn removed(&mut self, id: i64, removed: &Removed) {
        if let Some(at) = removed.filed {
            self.ends.remove(&(at, id));
        }
        if let Some(at) = removed.checkpoint {
            self.checkpoints.remove(&(at, id));
        }
        self.renewed.remove(&id);
    }

    /// Renews.
    pub(crate) fn renew(
        &mut self,
        leases: &mut Leases,
        now: Time,
        id: i64,
    ) -> Result<i64, Refusal> {
        if self.term.is_none() {
            return Err(Refusal::Busy);
        }
        let lease = leases.get_mut(id).ok_or(Refusal::LeaseNotFound)?;
        if lease.is_ending || lease.ends <= now {
            return Err(Refusal::LeaseNotFound);
        }
        lease.ends = now + lease.ttl();
        if lease.is_shortened() {
            self.renewed.insert(id);
        }
        Ok(lease.ttl)
    }

    /// What to propose now, if anything.
    pub(crate) fn due(&mut self, leases: &mut Leases, now: Time) -> Option<Command> {
        let term = self.term?;
        if now < self.pause {
            return None;
        }
        self.give_up_lost(leases, now);
        let ids = self.take_ended(leases, now);
        if !ids.is_empty() {
            self.ending.push((now, ids.clone()));
            return Some(Command::LeaseExpire { term, ids });
        }
        let remaining = self.take_checkpoints(leases, now);
        if remaining.is_empty() {
            return None;
        }
        self.checkpointing = Some(now);
        Some(Command::LeaseCheckpoint { remaining })
    }

    fn take_ended(&mut self, leases: &mut Leases, now: Time) -> Vec<i64> {
        let (mut ids, mut keys) = (Vec::new(), 0);
        if self.ending.len() >= ENTRIES_MAX {
            return ids;
        }
        while let Some(&(at, id)) = self.ends.first() {
            if at > now || ids.len() >= LEASES_PER_ENTRY {
                break;
            }
            let Some(lease) = leases.get_mut(id) else {
                self.ends.pop_first();
                continue;
            };
            if lease.ends > now {
                self.ends.pop_first();
                lease.filed = Some(ceil(lease.ends));
                self.ends.insert((ceil(lease.ends), id));
                continue;
            }
            keys += lease.keys();
            if keys > KEYS_PER_ENTRY && !ids.is_empty() {
                break;
            }
            self.ends.pop_first();
            lease.filed = None;
            lease.is_ending = true;
            ids.push(id);
        }
        ids
    }

    fn take_checkpoints(&mut self, leases: &mut Leases, now: Time) -> Vec<(i64, i64)> {
        let mut remaining = Vec::new();
        if self.checkpointing.is_some() {
            return remaining;
        }
        while remaining.len() < LEASES_PER_ENTRY
            && let Some(id) = self.renewed.pop_first()
        {
            if leases.contains(id) {
                remaining.push((id, 0));
            }
        }
        while remaining.len() < LEASES_PER_ENTRY
            && let Some(&(at, id)) = self.checkpoints.first()
            && at <= now
        {
            self.checkpoints.pop_first();
            if let Some(lease) = leases.get_mut(id) {
                let left = i64::try_from(lease.ends.since(now).as_secs()).unwrap_or(lease.ttl);
                remaining.push((id, left.clamp(1, lease.ttl)));
                let next = self.checkpoint_at(now, id);
                (lease.checkpoint, lease.is_checkpointing) = (Some(next), true);
                self.checkpoints.insert((next, id));
            }
        }
        remaining
    }

    /// Spreads the checkpoints of leases that were filed together.
    fn checkpoint_at(&self, now: Time, id: i64) -> Time {
        let spread = Duration::from_millis(id.cast_unsigned() % 16 * 100);
        ceil(now + self.checkpoint_interval + spread)
    }

    /// An expiry was applied.
    pub(crate) fn expiry_applied(&mut self, ids: &[i64]) {
        if let Some(at) = self.ending.iter().position(|(_, it)| it == ids) {
            self.ending.remove(at);
        }
    }

    /// A checkpoint was applied.
    pub(crate) const fn checkpoint_applied(&mut self) {
        self.checkpointing = None;
    }

    /// What was due last was not taken: it comes again.
    pub(crate) fn refused(&mut self, leases: &mut Leases, command: &Command, now: Time) {
        if let Command::LeaseExpire { ids, .. } = command {
            self.pause = now + Duration::from_nanos(TICK_NANOS);
            self.expiry_applied(ids);
            self.revive(leases, ids, self.pause);
        }
        if let Command::LeaseCheckpoint { remaining } = command {
            self.pause = now + Duration::from_nanos(TICK_NANOS);
            self.checkpointing = None;
            let cleared = remaining.iter().filter(|(_, left)| *left == 0);
            self.renewed.extend(cleared.map(|(id, _)| *id));
        }
    }

    /// Ends that were proposed long ago were lost on the way.
    fn give_up_lost(&mut self, leases: &mut Leases, now: Time) {
        while let Some(at) = self
            .ending
            .iter()
            .position(|(at, _)| *at + LOST_AFTER <= now)
        {
            let (_, ids) = self.ending.remove(at);
            self.revive(leases, &ids, now);
        }
        if self.checkpointing.is_some_and(|at| at + LOST_AFTER <= now) {
            self.checkpointing = None;
        }
    }

    /// Files leases whose end was not applied. They stay ended for renewals.
    fn revive(&mut self, leases: &mut Leases, ids: &[i64], at: Time) {
        for &id in ids {
            if let Some(lease) = leases.get_mut(id) {
                let at = ceil(at);
                lease.filed = Some(at);
                self.ends.insert((at, id));
            }
        }
    }

    /// When [`Timers::due`] will have something because time passed.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.term?;
        let ends = if self.ending.len() < ENTRIES_MAX {
            self.ends.first().map(|(at, _)| *at)
        } else {
            None
        };
        let checkpoint = match self.checkpointing {
            Some(_) => None,
            None if !self.renewed.is_empty() => Some(Time::ZERO),
            None => self.checkpoints.first().map(|(at, _)| *at),
        };
        let lost = self.ending.iter().map(|(at, _)| *at + LOST_AFTER).min();
        let next = [ends, checkpoint, lost].into_iter().flatten().min();
        next.map(|at| at.max(self.pause))
    }
}

fn ceil(at: Time) -> Time {
    let ticks = at.nanos().div_ceil(TICK_NANOS);
    Time::from_nanos(ticks.saturating_mul(TICK_NANOS))
}
