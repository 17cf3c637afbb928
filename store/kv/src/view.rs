//! What readers see: one published state of the keyspace and all that belongs to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use holm_base::{Op, Revision, Term};

use crate::auth::AuthState;
use crate::checkpoint::Fact;
use crate::command::{AlarmKind, Range, Txn};
use crate::counts::Counts;
use crate::hash::Hash;
use crate::index::Index;
use crate::island::{IslandView, MetLine};
use crate::lease;
use crate::outcome::{Alarm, Outcome, RangeOutcome};
use crate::read::{self, Selection};
use crate::refusal::Refusal;
use crate::root::Root;
use crate::store::{self, FactKind, Sizes};
use crate::txn;
use crate::upkeep::Background;

/// One published state. It never changes; it is as old as its `applied` op.
#[derive(Clone, Debug)]
pub struct View {
    /// The keys and their versions.
    pub root: Root,
    /// Users, roles and whether they are enforced.
    pub auth: Arc<AuthState>,
    /// The raised alarms, ordered by kind and member.
    pub alarms: Arc<[Alarm]>,
    /// What the cluster remembers, by name.
    pub cluster: Arc<BTreeMap<String, Bytes>>,
    /// The op that this state includes.
    pub applied: Op,
    /// The newest term known: that op's, or the one that this node has come to lead in since.
    pub term: Term,
    /// What the store takes up.
    pub sizes: Sizes,
    /// How the work beside the engine goes.
    pub background: Background,
    /// What was done since this node began to lead.
    pub counts: Counts,
    /// How many leases there are.
    pub leases: usize,
    /// What the island has taken in, if the keyspace is local-first.
    pub island: Option<IslandView>,
    pub(crate) facts: Index<Fact>,
}

impl View {
    /// The newest revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.root.revision()
    }

    /// Whether an alarm of this kind is raised, by whomever.
    #[must_use]
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|it| it.kind == kind)
    }

    /// Selects the versions that a request asks for, without reading their records: those
    /// come from [`Root::read_many`]. O(log n + selected) for a current range in key order,
    /// O(keys in the range) otherwise; sorting by value reads all values.
    ///
    /// # Errors
    ///
    /// [`Refusal::FutureRevision`], [`Refusal::Compacted`], or [`Refusal::Corrupt`] while
    /// sorting by value.
    pub fn select(&self, range: &Range) -> Result<Selection, Refusal> {
        read::select(&self.root, range, self.moment(range.revision)?)
    }

    /// Selects and reads. Everything is in memory at once: for small ranges.
    ///
    /// # Errors
    ///
    /// As [`View::select`], and [`Refusal::Corrupt`] if a record is damaged.
    pub fn read(&self, range: &Range) -> Result<RangeOutcome, Refusal> {
        read::outcome(&self.root, range, self.moment(range.revision)?)
    }

    /// Answers a transaction that only reads; it needs no log. Nothing is checked about users.
    ///
    /// # Errors
    ///
    /// As [`View::read`].
    ///
    /// # Panics
    ///
    /// If the transaction writes: see [`Txn::is_read_only`].
    pub fn read_txn(&self, txn: &Txn) -> Result<Outcome, Refusal> {
        assert!(txn.is_read_only(), "writing transactions are proposed");
        txn::run_reads(&self.root, txn)
    }

    /// Which concurrent writes met at the island, behind a number and at most so many, each with
    /// its number; and the number of the oldest that is kept. O(what is kept).
    #[must_use]
    pub fn conflicts(&self, after: Option<u64>, most: usize) -> (Vec<MetLine>, u64) {
        crate::island::behind(&self.facts, after, most)
    }

    /// Hashes history up to a revision, 0 for all, as etcd does. O(history).
    ///
    /// # Errors
    ///
    /// As [`View::read`].
    pub fn hash_kv(&self, revision: i64) -> Result<Hash, Refusal> {
        crate::hash::hash(&self.root, revision)
    }

    /// Visits all leases: id, granted seconds, and those that were left at the lease's last
    /// checkpoint, 0 if it was renewed since. O(leases), no I/O.
    pub fn each_lease(&self, each: &mut dyn FnMut(i64, i64, i64)) {
        store::scan_facts(&self.facts, FactKind::Lease, &mut |id, value| {
            if let (Ok(id), Some((ttl, left))) = (id.try_into(), lease::from_fact(value)) {
                each(i64::from_le_bytes(id), ttl, left);
            }
        });
    }

    fn moment(&self, revision: i64) -> Result<Option<Revision>, Refusal> {
        read::check_revision(&self.root, revision)?;
        let is_now = revision <= 0 || revision == self.root.revision().value();
        Ok((!is_now).then(|| Revision::new(revision)))
    }
}

/// Where readers find the newest published [`View`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    newest: Arc<Mutex<Arc<View>>>,
}

impl Reader {
    pub(crate) fn new(view: View) -> Self {
        Self {
            newest: Arc::new(Mutex::new(Arc::new(view))),
        }
    }

    /// The newest published state. Costs an uncontended lock and a reference count.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&newest)
    }

    pub(crate) fn publish(&self, view: View) {
        let view = Arc::new(view);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let older = std::mem::replace(&mut *newest, view);
        drop(newest);
        // The last holder frees the nodes that only this view pinned: not under the lock.
        drop(older);
    }
}
