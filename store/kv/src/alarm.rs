//! Raised alarms, and the node's own watch over its space.
//!
//! What would surprise: an alarm that the node raised goes away by itself once there has been
//! space for five seconds; one that came through the API waits for the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::Time;

use crate::command::{AlarmKind, Command};
use crate::outcome::Alarm;
use crate::refusal::Refusal;
use crate::store::{FactKind, Sizes, Store};

/// How long there must have been space before the node clears its alarm.
const CLEAR_AFTER: Duration = Duration::from_secs(5);

/// How often the node looks at its space while something changes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// After how long a proposal that was never applied is made again.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// How far from the limits the node must be before it counts as having space again.
const SLACK: u64 = 64 << 20;

/// How many alarms may be raised at once, those of the node itself apart; every node of a
/// keyspace agrees on it. A member has two at most, but nobody checks who is a member.
pub(crate) const ALARMS_MAX: usize = 64;

/// All raised alarms, each with whether the node raised it by itself.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    raised: BTreeMap<(AlarmKind, u64), bool>,
}

impl Alarms {
    pub(crate) fn open(store: &Store) -> Self {
        let mut raised = BTreeMap::new();
        store.facts(FactKind::Alarm, &mut |id, value| {
            if let Some(alarm) = from_id(id) {
                raised.insert(alarm, value.as_ref() == b"\x01");
            }
        });
        Self { raised }
    }

    pub(crate) fn has(&self, kind: AlarmKind) -> bool {
        let members = (kind, 0)..=(kind, u64::MAX);
        self.raised.range(members).next().is_some()
    }

    pub(crate) fn list(&self) -> Arc<[Alarm]> {
        let alarm = |&(kind, member): &(AlarmKind, u64)| Alarm { member, kind };
        self.raised.keys().map(alarm).collect()
    }

    /// Raises. One that was raised through the API stays the API's. Beyond the limit only
    /// what a node raises itself is taken.
    pub(crate) fn raise(
        &mut self,
        store: &mut Store,
        alarm: Alarm,
        by_node: bool,
    ) -> Result<(), Refusal> {
        let id = (alarm.kind, alarm.member);
        let is_full = self.raised.len() >= ALARMS_MAX && !self.raised.contains_key(&id);
        if is_full && !by_node {
            return Err(Refusal::Busy);
        }
        let by_node = by_node && self.raised.get(&id).copied().unwrap_or(true);
        self.raised.insert(id, by_node);
        let value = Bytes::copy_from_slice(&[u8::from(by_node)]);
        store.set_fact(FactKind::Alarm, &to_id(id), Some(value));
        Ok(())
    }

    /// Writes a raised alarm that comes from elsewhere into a store that nobody has open.
    pub(crate) fn restore(store: &mut Store, alarm: Alarm) {
        let value = Bytes::from_static(&[0]);
        store.set_fact(
            FactKind::Alarm,
            &to_id((alarm.kind, alarm.member)),
            Some(value),
        );
    }

    /// Clears; whether it was raised. The node clears only what is the node's.
    pub(crate) fn clear(&mut self, store: &mut Store, alarm: Alarm, by_node: bool) -> bool {
        let id = (alarm.kind, alarm.member);
        match self.raised.get(&id) {
            None => false,
            Some(false) if by_node => false,
            Some(_) => {
                self.raised.remove(&id);
                store.set_fact(FactKind::Alarm, &to_id(id), None);
                true
            }
        }
    }

    fn is_own(&self, kind: AlarmKind, member: u64) -> Option<bool> {
        self.raised.get(&(kind, member)).copied()
    }
}

fn to_id((kind, member): (AlarmKind, u64)) -> [u8; 9] {
    let mut id = [0; 9];
    id[0] = match kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    };
    id[1..].copy_from_slice(&member.to_le_bytes());
    id
}

fn from_id(id: &[u8]) -> Option<(AlarmKind, u64)> {
    let (kind, member) = id.split_first()?;
    let kind = match kind {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        _ => return None,
    };
    Some((kind, u64::from_le_bytes(member.try_into().ok()?)))
}

/// The node's watch over its space.
#[derive(Debug)]
pub(crate) struct Space {
    quota: u64,
    free_min: u64,
    member: u64,
    looked: Option<Time>,
    /// Whether something was applied since.
    is_stale: bool,
    roomy_since: Option<Time>,
    proposed: Option<Time>,
}

impl Space {
    pub(crate) const fn new(quota: u64, free_min: u64, member: u64) -> Self {
        Self {
            quota,
            free_min,
            member,
            looked: None,
            is_stale: false,
            roomy_since: None,
            proposed: None,
        }
    }

    /// What to propose now, if anything. Asks for the disk's free bytes ten times a second at most.
    pub(crate) fn due(
        &mut self,
        now: Time,
        alarms: &Alarms,
        sizes: impl FnOnce() -> Sizes,
        free: impl FnOnce() -> u64,
    ) -> Option<Command> {
        if self.looked.is_some_and(|at| at + LOOK_EVERY > now) {
            return None;
        }
        self.looked = Some(now);
        self.is_stale = false;
        if self.proposed.is_some_and(|at| at + LOST_AFTER > now) {
            return None;
        }
        let (sizes, free) = (sizes(), free());
        let own = alarms.is_own(AlarmKind::NoSpace, self.member);
        if own.is_none() {
            self.roomy_since = None;
            let is_short = self.is_short(&sizes, free);
            return is_short.then(|| self.propose(now, true));
        }
        if !self.is_roomy(&sizes, free) {
            self.roomy_since = None;
            return None;
        }
        let since = *self.roomy_since.get_or_insert(now);
        let is_over = own == Some(true) && since + CLEAR_AFTER <= now;
        is_over.then(|| self.propose(now, false))
    }

    fn propose(&mut self, now: Time, raise: bool) -> Command {
        self.proposed = Some(now);
        Command::Alarm {
            raise,
            member: self.member,
            kind: AlarmKind::NoSpace,
            by_node: true,
        }
    }

    fn is_short(&self, sizes: &Sizes, free: u64) -> bool {
        sizes.full || sizes.retained_bytes.value() > self.quota || free < self.floor(sizes)
    }

    fn is_roomy(&self, sizes: &Sizes, free: u64) -> bool {
        // A small quota would never be left behind by so much.
        let slack = SLACK.min(self.quota / 32);
        !sizes.full
            && sizes.retained_bytes.value() <= self.quota - slack
            && free >= self.floor(sizes).saturating_add(SLACK)
    }

    /// How much must be free: what was configured, and room for another checkpoint.
    const fn floor(&self, sizes: &Sizes) -> u64 {
        if self.free_min == 0 {
            return 0;
        }
        self.free_min.saturating_add(sizes.checkpoint_bytes.value())
    }

    /// An alarm command was applied, or the node's proposal was not taken.
    pub(crate) const fn settled(&mut self) {
        self.proposed = None;
        self.roomy_since = None;
    }

    /// Something was applied: look again when it is time.
    pub(crate) const fn applied(&mut self) {
        self.is_stale = true;
    }

    /// When to look again: soon while the node's alarm is raised or something was applied.
    pub(crate) fn wake_at(&self, alarms: &Alarms) -> Option<Time> {
        let own = alarms.is_own(AlarmKind::NoSpace, self.member);
        let is_wanted = self.is_stale || own == Some(true);
        is_wanted.then(|| self.looked.map_or(Time::ZERO, |at| at + LOOK_EVERY))
    }
}

#[cfg(test)]
mod tests {
    use holm_base::ByteCount;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn space() -> Space {
        Space::new(2 << 30, 256 * MIB, 7)
    }

    fn sizes(retained: u64, checkpoint: u64) -> Sizes {
        Sizes {
            retained_bytes: ByteCount::new(retained),
            checkpoint_bytes: ByteCount::new(checkpoint),
            ..Sizes::default()
        }
    }

    #[test]
    fn the_next_checkpoint_must_fit_beside_what_is_kept_free() {
        let space = space();
        assert!(!space.is_short(&sizes(0, 0), 256 * MIB));
        assert!(space.is_short(&sizes(0, 0), 256 * MIB - 1));
        assert!(!space.is_short(&sizes(0, 100 * MIB), 356 * MIB));
        assert!(space.is_short(&sizes(0, 100 * MIB), 356 * MIB - 1));
    }

    #[test]
    fn there_is_room_again_64_mebibytes_above_either_limit() {
        let space = space();
        assert!(space.is_roomy(&sizes(0, 100 * MIB), 420 * MIB));
        assert!(!space.is_roomy(&sizes(0, 100 * MIB), 420 * MIB - 1));
        let quota = 2 << 30;
        assert!(space.is_short(&sizes(quota + 1, 0), u64::MAX));
        assert!(space.is_roomy(&sizes(quota - 64 * MIB, 0), u64::MAX));
        assert!(!space.is_roomy(&sizes(quota - 64 * MIB + 1, 0), u64::MAX));
    }

    #[test]
    fn it_is_looked_ten_times_a_second_and_cleared_after_five_seconds() {
        let (mut space, mut alarms) = (space(), Alarms::default());
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        let mut due = |alarms: &Alarms, ms, free| {
            let sizes = || sizes(0, 0);
            space.due(at(ms), alarms, sizes, || free).is_some()
        };
        assert!(!due(&alarms, 0, 256 * MIB));
        assert!(!due(&alarms, 99, 0), "not looked yet");
        assert!(due(&alarms, 100, 0));
        alarms.raised.insert((AlarmKind::NoSpace, 7), true);
        space.settled();
        let mut due = |ms, free| {
            let sizes = || sizes(0, 0);
            space.due(at(ms), &alarms, sizes, || free).is_some()
        };
        assert!(!due(1_000, 320 * MIB));
        assert!(!due(3_000, 320 * MIB - 1), "the five seconds begin anew");
        assert!(!due(4_000, 320 * MIB));
        assert!(!due(8_999, 320 * MIB));
        assert!(due(9_100, 320 * MIB));
    }
}
