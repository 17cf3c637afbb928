//! The engine's own half: takes changes, keeps the index, hands out jobs.
//!
//! What would surprise: this first form keeps everything in memory and writes nothing, so a
//! store that is opened again is empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{ByteCount, ClusterId, GroupId, Op, Revision, Term, Time};
use holm_machine::{DiskError, Folder};

use crate::job::{Job, JobDone};
use crate::record::{Parts, Record};
use crate::root::{Change, ChangeKind, Meta, Root};

/// How a [`Store`] lays out its files and when it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The cluster that the files belong to; another's files are refused.
    pub cluster: ClusterId,
    /// The group that the files belong to; another's files are refused.
    pub group: GroupId,
    /// How large a segment file is.
    pub segment_bytes: ByteCount,
    /// How much may wait before a flush is due.
    pub flush_bytes: ByteCount,
    /// How long anything may wait before a flush is due.
    pub flush_after: Duration,
    /// How much may wait before [`Store::must_wait`] says so.
    pub unflushed_bytes_max: ByteCount,
    /// How much must have been written since the last checkpoint for the next to be due.
    pub checkpoint_bytes_min: ByteCount,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cluster: ClusterId::ZERO,
            group: GroupId::ZERO,
            segment_bytes: ByteCount::new(64 << 20),
            flush_bytes: ByteCount::new(4 << 20),
            flush_after: Duration::from_secs(1),
            unflushed_bytes_max: ByteCount::new(16 << 20),
            checkpoint_bytes_min: ByteCount::new(64 << 20),
        }
    }
}

/// Why the store could not be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Stored bytes are not what was written.
    #[error("{file} is damaged at byte {at}: {found}")]
    Damaged {
        /// The file's name within the store's folder.
        file: String,
        /// Where in it.
        at: ByteCount,
        /// What was wrong there.
        found: String,
    },
    /// The folder holds something that is no store, or another's.
    #[error("{file} does not belong to this store: {found}")]
    Foreign {
        /// The file's name within the store's folder.
        file: String,
        /// What it is.
        found: String,
    },
    /// A newer release wrote this.
    #[error("directory holds kv format {found}, this holm reads {reads}: use a newer holm")]
    Newer {
        /// The format found.
        found: u16,
        /// The newest that this code reads.
        reads: u16,
    },
    /// The disk refused. Unless it was [`DiskError::Full`] while allocating a file, the store
    /// must not be used any more.
    #[error("{attempted}")]
    Disk {
        /// What was attempted.
        attempted: String,
        /// Why it failed.
        source: DiskError,
    },
}

/// A version to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewVersion<'a> {
    /// The key.
    pub key: &'a Bytes,
    /// Its value.
    pub value: &'a Bytes,
    /// The lease it shall hang on; 0 for none.
    pub lease: i64,
}

/// What a put did.
#[derive(Clone, Debug)]
pub struct Put {
    /// The version that it replaced, if the key was there.
    pub previous: Option<Meta>,
    /// The version that it made.
    pub meta: Meta,
    /// The new version's message.
    pub record: Record,
}

/// What a delete did.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The version that it took away.
    pub previous: Meta,
    /// The revision that the delete belongs to.
    pub main: Revision,
    /// Which change of that revision it is.
    pub sub: u32,
    /// The delete's message: the key and its modification revision only.
    pub record: Record,
}

/// The tables beside the keys: small, durable, held in memory, changed with the same frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactKind {
    /// A lease; the id is the lease's.
    Lease,
    /// The state of access control.
    Auth,
    /// A user; the id is the name.
    User,
    /// A role; the id is the name.
    Role,
    /// A raised alarm.
    Alarm,
    /// What the cluster agreed on: members, version.
    Cluster,
    /// An option of the keyspace; the id is its name.
    Option,
    /// A window of requests already answered.
    Window,
}

/// How far the work behind a compaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepProgress {
    /// Nothing is left to drop.
    Done,
    /// Call again.
    More,
}

/// What the store takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all files.
    pub file_bytes: ByteCount,
    /// Bytes of the records that are still needed.
    pub retained_bytes: ByteCount,
    /// Live keys.
    pub keys: u64,
    /// Old versions and deletes that are still readable.
    pub old_versions: u64,
    /// Bytes that wait for a flush.
    pub unflushed_bytes: ByteCount,
    /// Whether the last attempt to allocate a file found the disk full. The store goes on
    /// until its reserve is used up; the next successful allocation clears it.
    pub full: bool,
}

/// All keys, their versions and the facts of one keyspace.
///
/// One thread owns it and makes all changes; readers hold [`Root`]s.
#[derive(Debug)]
pub struct Store {
    root: Root,
    facts: BTreeMap<(FactKind, Vec<u8>), Bytes>,
    changes: u32,
    applied: Op,
    term: Term,
}

impl Store {
    /// Opens the store in `folder`, or makes one if it is empty: reads the newest checkpoint,
    /// then the frames behind it.
    ///
    /// # Errors
    ///
    /// As [`StoreError`] says. Nothing is changed on disk if a file is damaged or foreign.
    pub fn open(_folder: Arc<dyn Folder>, _config: StoreConfig) -> Result<Self, StoreError> {
        Ok(Self {
            root: Root {
                keys: Arc::default(),
                log: Arc::default(),
                revision: Revision::new(1),
                compacted: Revision::ZERO,
            },
            facts: BTreeMap::new(),
            changes: 0,
            applied: Op::ZERO,
            term: Term::ZERO,
        })
    }

    /// The working state; it sees the changes of the command in hand.
    ///
    /// Its `revision()` moves at [`Store::end_revision`].
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// The state as it is now, to be held by readers. Call it between commands only. Costs a
    /// few reference counts; the nodes that later changes touch are then copied once.
    #[must_use]
    pub fn snapshot(&self) -> Root {
        self.root.clone()
    }

    /// Writes a version of a key, as part of revision `root().revision() + 1`. No I/O.
    pub fn put(&mut self, put: NewVersion<'_>) -> Put {
        let previous = self.root.get(put.key);
        let main = self.root.revision.next();
        let parts = Parts {
            key: put.key.clone(),
            create: previous.map_or(main, |it| it.create).value(),
            modified: main.value(),
            version: previous.map_or(0, |it| it.version) + 1,
            value: put.value.clone(),
            lease: put.lease,
        };
        let record = Record::encode(&parts);
        let meta = self.add(ChangeKind::Put, &parts, &record);
        Put {
            previous,
            meta,
            record,
        }
    }

    /// Takes a key away, as part of revision `root().revision() + 1`. `None`, and nothing is
    /// changed, if it does not live. No I/O.
    pub fn delete(&mut self, key: &Bytes) -> Option<Deleted> {
        let previous = self.root.get(key)?;
        let parts = Parts {
            key: key.clone(),
            modified: self.root.revision.next().value(),
            ..Parts::default()
        };
        let record = Record::encode(&parts);
        let meta = self.add(ChangeKind::Delete, &parts, &record);
        Some(Deleted {
            previous,
            main: meta.modified,
            sub: meta.sub,
            record,
        })
    }

    fn add(&mut self, kind: ChangeKind, parts: &Parts, record: &Record) -> Meta {
        let meta = Meta {
            create: Revision::new(parts.create),
            modified: Revision::new(parts.modified),
            sub: self.changes,
            version: parts.version,
            lease: parts.lease,
            record_bytes: u32::try_from(record.bytes().len()).expect("requests are bounded"),
            location: self.root.log.len(),
        };
        Arc::make_mut(&mut self.root.log).push(Change {
            main: meta.modified,
            sub: meta.sub,
            kind,
            key: parts.key.clone(),
            record: record.clone(),
        });
        Arc::make_mut(&mut self.root.keys)
            .entry(parts.key.clone())
            .or_default()
            .push((meta, kind));
        self.changes += 1;
        meta
    }

    /// Makes the changes since the last call one revision, if there were any. A command may
    /// hold several.
    pub const fn end_revision(&mut self) {
        if self.changes > 0 {
            self.root.revision = self.root.revision.next();
            self.changes = 0;
        }
    }

    /// Sets a fact, or removes it. Durable with the command in hand; takes no revision.
    pub fn set_fact(&mut self, kind: FactKind, id: &[u8], value: Option<Bytes>) {
        match value {
            Some(value) => self.facts.insert((kind, id.to_vec()), value),
            None => self.facts.remove(&(kind, id.to_vec())),
        };
    }

    /// A fact's value.
    #[must_use]
    pub fn fact(&self, kind: FactKind, id: &[u8]) -> Option<Bytes> {
        self.facts.get(&(kind, id.to_vec())).cloned()
    }

    /// Visits all facts of a kind in order of their ids.
    pub fn facts(&self, kind: FactKind, each: &mut dyn FnMut(&[u8], &Bytes)) {
        for ((found, id), value) in &self.facts {
            if *found == kind {
                each(id, value);
            }
        }
    }

    /// Moves the line below which nothing can be read, as part of the command in hand. What
    /// lies below is dropped by [`Store::sweep`] and given back to the disk by jobs.
    ///
    /// # Panics
    ///
    /// If the line would move backwards or past the current revision: the caller checks.
    pub fn compact(&mut self, revision: Revision) {
        assert!(
            revision >= self.root.compacted && revision <= self.root.revision,
            "the line moves forward, up to now"
        );
        self.root.compacted = revision;
    }

    /// Drops at most `limit` old versions or deleted keys from the index.
    pub const fn sweep(&mut self, _limit: usize) -> SweepProgress {
        SweepProgress::Done
    }

    /// Ends the command: its changes, facts and `op` become durable together or not at all.
    ///
    /// # Panics
    ///
    /// If a revision is open, or `op` does not rise.
    pub fn end_command(&mut self, op: Op, term: Term) {
        assert!(self.changes == 0, "end_revision comes first");
        assert!(op > self.applied, "ops rise");
        self.applied = op;
        self.term = term;
    }

    /// The op of the last command that ended.
    #[must_use]
    pub const fn applied(&self) -> Op {
        self.applied
    }

    /// The op through which a restart needs no log. The log may be cut up to here.
    #[must_use]
    pub const fn durable_op(&self) -> Op {
        Op::ZERO
    }

    /// The term of the last command that ended.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// The next piece of work, if any is due: at most one of each kind is under way. Call it
    /// between commands, after each batch and when [`Store::job_at`] is due.
    pub const fn next_job(&mut self, _now: Time) -> Option<Job> {
        None
    }

    /// When [`Store::next_job`] will have something because time passed.
    #[must_use]
    pub const fn job_at(&self) -> Option<Time> {
        None
    }

    /// Takes note of what a job did. Call it between commands.
    ///
    /// # Errors
    ///
    /// The disk failed: the store must not be used any more. A full disk is no such error; see
    /// [`Sizes::full`].
    pub fn finish(&mut self, _done: JobDone) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether so much waits for the disk that no further command should be applied until a
    /// flush has finished.
    #[must_use]
    pub const fn must_wait(&self) -> bool {
        false
    }

    /// What the store takes up. O(number of segments).
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            keys: u64::try_from(self.root.keys.len()).expect("a count fits"),
            ..Sizes::default()
        }
    }
}
