//! Leases: what is durable about them, which keys hang on them, and when they end.
//!
//! What would surprise: the moment at which a lease ends is volatile. Applying a command never
//! asks for the time; it only files new leases for the leader's benefit. A leader that takes
//! over gives every lease its time anew.

mod timer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use holm_base::Time;

use crate::outcome::LeaseView;
use crate::refusal::Refusal;
use crate::store::{FactKind, Store};

pub(crate) use timer::Timers;

/// The longest time to live, in seconds.
pub const TTL_MAX: i64 = 9_000_000_000;

/// How many leases a keyspace may hold; every node of a keyspace agrees on it.
pub const LEASES_MAX: usize = 1_000_000;

/// The layout of a lease's fact: version, then granted and remaining seconds.
const FACT_VERSION: u8 = 1;

/// One lease.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Seconds granted.
    pub(crate) ttl: i64,
    /// Seconds that were left at the last checkpoint; 0 if it was renewed since.
    pub(crate) remaining: i64,
    keys: BTreeSet<Bytes>,
    /// When it ends, as the leader sees it.
    pub(crate) ends: Time,
    /// Where the timers hold it, if they do.
    pub(crate) filed: Option<Time>,
    /// Where they hold its next checkpoint.
    pub(crate) checkpoint: Option<Time>,
    /// Whether a checkpoint of it is on its way.
    pub(crate) is_checkpointing: bool,
    /// Whether its end was proposed: it is not renewed any more.
    pub(crate) is_ending: bool,
}

impl Lease {
    pub(crate) fn ttl(&self) -> Duration {
        seconds(self.ttl)
    }

    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    pub(crate) const fn is_shortened(&self) -> bool {
        self.remaining > 0 || self.is_checkpointing
    }
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    table: BTreeMap<i64, Lease>,
}

impl Leases {
    /// Reads the leases of a store, and which keys hang on them: one scan of the index if
    /// there is any lease.
    pub(crate) fn open(store: &Store) -> Self {
        let mut leases = Self::default();
        store.facts(FactKind::Lease, &mut |id, value| {
            let (Ok(id), Some((ttl, remaining))) = (<[u8; 8]>::try_from(id), from_fact(value))
            else {
                return;
            };
            leases.insert(i64::from_le_bytes(id), ttl, remaining);
        });
        if !leases.table.is_empty() {
            let all = crate::range::KeyRange::From(Bytes::new());
            store.root().scan(&all, None, &mut |key, meta| {
                leases.attach(meta.lease, key);
                std::ops::ControlFlow::Continue(())
            });
        }
        leases
    }

    fn insert(&mut self, id: i64, ttl: i64, remaining: i64) {
        let lease = Lease {
            ttl,
            remaining,
            keys: BTreeSet::new(),
            ends: Time::ZERO,
            filed: None,
            checkpoint: None,
            is_checkpointing: false,
            is_ending: false,
        };
        self.table.insert(id, lease);
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// All ids, the lease that ends first first.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let ends = self.table.iter().map(|(id, lease)| (lease.ends, *id));
        let mut ends: Vec<(Time, i64)> = ends.collect();
        ends.sort_unstable();
        ends.into_iter().map(|(_, id)| id).collect()
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.table.contains_key(&id)
    }

    /// Whether less than all its time is on record of a lease, or about to be.
    pub(crate) fn is_shortened(&self, id: i64) -> bool {
        self.table.get(&id).is_some_and(Lease::is_shortened)
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut Lease> {
        self.table.get_mut(&id)
    }

    pub(crate) fn each(&mut self, mut each: impl FnMut(i64, &mut Lease)) {
        for (id, lease) in &mut self.table {
            each(*id, lease);
        }
    }

    /// Creates a lease. The order of the checks is etcd's.
    pub(crate) fn grant(&mut self, store: &mut Store, id: i64, ttl: i64) -> Result<(), Refusal> {
        if ttl > TTL_MAX {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(Refusal::LeaseExists);
        }
        if self.table.len() >= LEASES_MAX {
            return Err(Refusal::Busy);
        }
        self.insert(id, ttl, 0);
        store.set_fact(FactKind::Lease, &id.to_le_bytes(), Some(fact(ttl, 0)));
        Ok(())
    }

    /// Remembers what is left of a lease; an unknown one is no error.
    pub(crate) fn checkpoint(&mut self, store: &mut Store, id: i64, remaining: i64) {
        if let Some(lease) = self.table.get_mut(&id) {
            lease.remaining = remaining;
            lease.is_checkpointing = false;
            let fact = fact(lease.ttl, remaining);
            store.set_fact(FactKind::Lease, &id.to_le_bytes(), Some(fact));
        }
    }

    /// Forgets a lease and gives its keys, sorted.
    pub(crate) fn remove(&mut self, store: &mut Store, id: i64) -> Option<Removed> {
        let lease = self.table.remove(&id)?;
        store.set_fact(FactKind::Lease, &id.to_le_bytes(), None);
        Some(Removed {
            keys: lease.keys,
            filed: lease.filed,
            checkpoint: lease.checkpoint,
        })
    }

    /// Hangs a key on a lease; 0 and unknown ones are ignored.
    pub(crate) fn attach(&mut self, id: i64, key: &[u8]) {
        if id == 0 {
            return;
        }
        if let Some(lease) = self.table.get_mut(&id) {
            // A copy: a slice would keep the whole entry in memory for as long as the lease.
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    /// Takes a key off its lease.
    pub(crate) fn detach(&mut self, id: i64, key: &[u8]) {
        if id == 0 {
            return;
        }
        if let Some(lease) = self.table.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// The keys of a lease, sorted; none if it is unknown.
    pub(crate) fn keys(&self, id: i64) -> Option<&BTreeSet<Bytes>> {
        self.table.get(&id).map(|it| &it.keys)
    }

    pub(crate) fn view(&self, now: Time, id: i64, with_keys: bool) -> LeaseView {
        let Some(lease) = self.table.get(&id) else {
            return LeaseView {
                id,
                ttl: -1,
                granted_ttl: 0,
                keys: Vec::new(),
            };
        };
        let left = lease.ends.since(now).as_secs();
        LeaseView {
            id,
            ttl: i64::try_from(left).unwrap_or(lease.ttl).min(lease.ttl),
            granted_ttl: lease.ttl,
            keys: if with_keys {
                lease.keys.iter().cloned().collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// What is left of a lease that was removed.
#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) keys: BTreeSet<Bytes>,
    pub(crate) filed: Option<Time>,
    pub(crate) checkpoint: Option<Time>,
}

pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

pub(crate) fn fact(ttl: i64, remaining: i64) -> Bytes {
    let mut out = Vec::with_capacity(17);
    out.push(FACT_VERSION);
    out.extend_from_slice(&ttl.to_le_bytes());
    out.extend_from_slice(&remaining.to_le_bytes());
    Bytes::from(out)
}

pub(crate) fn from_fact(fact: &[u8]) -> Option<(i64, i64)> {
    let (version, rest) = fact.split_first()?;
    let (ttl, remaining) = rest.split_at_checked(8)?;
    let ttl = i64::from_le_bytes(ttl.try_into().ok()?);
    let remaining = i64::from_le_bytes(remaining.try_into().ok()?);
    (*version == FACT_VERSION).then_some((ttl, remaining))
}
