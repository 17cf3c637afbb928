//! Building a store from another's history: revisions, versions and facts as they were there.
//!
//! What would surprise: nothing here is decided. A command works out a key's create revision
//! and version; a restore takes them from the record, for what they count from may be
//! compacted away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{Op, Revision, Term, Time};
use holm_machine::Folder;

use crate::alarm::Alarms;
use crate::auth::{AuthState, UserView};
use crate::command::Permission;
use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::frame::RecordKind;
use crate::history::Slot;
use crate::job::Job;
use crate::layout::{count, narrow};
use crate::lease;
use crate::outcome::Alarm;
use crate::record::Parts;
use crate::store::{FactKind, Sizes, Store, SweepProgress};

/// How much becomes one command of the new store.
const COMMAND_BYTES: u64 = 1 << 20;
/// How many steps of a sweep are done at a time.
const SWEEP_SLICE: usize = 4096;
/// How far the restore's own clock goes on with each job, so that none waits for time to pass.
const STEP: Duration = Duration::from_secs(2);

/// Why a change cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It does not come behind the one before, or not behind the first revision.
    #[error("restore revision {main}, change {sub}: it is not above the one before it")]
    Order {
        /// Its revision.
        main: i64,
        /// Which change of that revision it is.
        sub: u32,
    },
    /// Its record is none of that revision.
    #[error("restore revision {main}, change {sub}: its record says otherwise")]
    Record {
        /// Its revision.
        main: i64,
        /// Which change of that revision it is.
        sub: u32,
    },
    /// A user or a role holds more than is kept.
    #[error(
        "restore {name}: it holds more than {} bytes",
        crate::auth::AUTH_BYTES_MAX
    )]
    AuthTooLarge {
        /// Which one.
        name: String,
    },
    /// The folder holds a store already.
    #[error("restore into a store: it is not empty")]
    NotEmpty,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Users, roles and whether they are enforced, as another keyspace had them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredAuth {
    /// Whether users are enforced.
    pub enabled: bool,
    /// How often users and roles were changed.
    pub revision: u64,
    /// Users by name.
    pub users: BTreeMap<String, UserView>,
    /// Roles' permissions by name.
    pub roles: BTreeMap<String, Vec<Permission>>,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The newest op of the new store. Its log must go on behind it.
    pub applied: Op,
    /// The newest revision.
    pub revision: Revision,
    /// The compacted revision.
    pub compacted: Revision,
    /// What the new store takes up.
    pub sizes: Sizes,
}

/// A store in the making. Changes come in order of their revisions, then facts, then
/// [`Restore::finish`]. Holds as much unwritten as the configuration allows, whatever the size.
#[derive(Debug)]
pub struct Restore {
    store: Store,
    last: (i64, u32),
    bytes: u64,
    now: Time,
    /// The op and term that all of it is to be the state at; else each command is one.
    at: Option<(Op, Term)>,
    /// What the sequencer is to find beside it, if it is known before the end.
    sequencer: Option<Bytes>,
}

impl Restore {
    /// Begins in an empty folder.
    ///
    /// # Errors
    ///
    /// [`RestoreError::NotEmpty`], or the store's.
    pub fn new(folder: Arc<dyn Folder>, config: StoreConfig) -> Result<Self, RestoreError> {
        let store = Store::open(folder, config)?;
        if store.applied().value() > 0 {
            return Err(RestoreError::NotEmpty);
        }
        Ok(Self {
            store,
            last: (1, u32::MAX),
            bytes: 0,
            now: Time::ZERO,
            at: None,
            sequencer: None,
        })
    }

    /// Begins in an empty folder what is to be the state of a group at an op and its term, with
    /// what the sequencer is to find beside it. [`Restore::finish`] ends it.
    ///
    /// # Errors
    ///
    /// As [`Restore::new`].
    pub fn in_group(
        folder: Arc<dyn Folder>,
        config: StoreConfig,
        at: (Op, Term),
        sequencer: Bytes,
    ) -> Result<Self, RestoreError> {
        let restore = Self::at(folder, config, at)?;
        let sequencer = Some(sequencer);
        Ok(Self {
            sequencer,
            ..restore
        })
    }

    /// Begins in an empty folder what is to be the state at an op and its term. Until it is
    /// sealed, no op is complete.
    pub(crate) fn at(
        folder: Arc<dyn Folder>,
        config: StoreConfig,
        at: (Op, Term),
    ) -> Result<Self, RestoreError> {
        let restore = Self::new(folder, config)?;
        let at = Some(at);
        Ok(Self { at, ..restore })
    }

    /// A version of a key, with all that its record said.
    ///
    /// # Errors
    ///
    /// As [`RestoreError`] says; the restore is then of no use.
    pub fn put(&mut self, main: i64, sub: u32, parts: &Parts) -> Result<(), RestoreError> {
        let is_sane = parts.modified == main && parts.version > 0 && parts.create > 0;
        if !is_sane || parts.create > main {
            return Err(RestoreError::Record { main, sub });
        }
        self.turn_to(main, sub)?;
        self.write(RecordKind::Put, sub, parts);
        Ok(())
    }

    /// A key's end, and at an island the mark of the update that it was.
    ///
    /// # Errors
    ///
    /// As [`Restore::put`].
    pub fn delete(
        &mut self,
        main: i64,
        sub: u32,
        (key, mark): (Bytes, Bytes),
    ) -> Result<(), RestoreError> {
        self.turn_to(main, sub)?;
        self.store.dead.push_back((main, key.clone()));
        let parts = Parts {
            key,
            modified: main,
            mark,
            ..Parts::default()
        };
        self.write(RecordKind::Delete, sub, &parts);
        Ok(())
    }

    fn write(&mut self, kind: RecordKind, sub: u32, parts: &Parts) {
        let previous = self.store.root.index.get(&parts.key).copied();
        let (place, record) = self.store.write(kind, parts);
        let slot = Slot {
            modified: parts.modified,
            create: parts.create,
            version: parts.version,
            lease: parts.lease,
            older: 0,
            sub,
            place,
            bytes: narrow(record.bytes().len()),
        };
        self.store.enter(&parts.key, slot, previous);
        self.bytes += count(record.bytes().len());
    }

    /// Makes a revision and its next change the ones at hand; there may be gaps before both.
    fn turn_to(&mut self, main: i64, sub: u32) -> Result<(), RestoreError> {
        if (main, sub) <= self.last || sub == u32::MAX || main == i64::MAX {
            return Err(RestoreError::Order { main, sub });
        }
        if main != self.last.0 {
            self.end_revision();
            if self.bytes >= COMMAND_BYTES {
                self.end_command()?;
            }
            self.store.root.revision = main - 1;
        }
        self.store.subs = sub;
        self.last = (main, sub);
        Ok(())
    }

    const fn end_revision(&mut self) {
        self.store.root.revision = self.last.0;
        self.store.subs = 0;
    }

    fn end_command(&mut self) -> Result<(), RestoreError> {
        if self.at.is_some() {
            self.store.end_part();
        } else {
            let op = self.store.applied().next();
            self.store.end_command(op, Term::new(1));
        }
        self.bytes = 0;
        self.work()
    }

    /// A fact, by its whole key. Comes behind all changes.
    pub(crate) fn fact(&mut self, key: &[u8], value: &Bytes) -> Result<(), RestoreError> {
        self.end_revision();
        if self.bytes >= COMMAND_BYTES {
            self.end_command()?;
        }
        self.bytes += count(key.len() + value.len());
        self.store.set_fact_at(key, Some(value.clone()));
        Ok(())
    }

    /// All is here: it is the state at its op, at this revision, compacted to this one, and the
    /// sequencer finds this beside it.
    pub(crate) fn seal(
        &mut self,
        (revision, compacted): (Revision, Revision),
        sequencer: Bytes,
    ) -> Result<(), RestoreError> {
        self.end_revision();
        let (last, sub) = self.last;
        let is_sane = last <= revision.value() && compacted <= revision;
        let Some((op, term)) = self.at.filter(|(op, _)| is_sane && *op > Op::ZERO) else {
            return Err(RestoreError::Order { main: last, sub });
        };
        self.store.root.revision = revision.value();
        if compacted > Revision::ZERO {
            self.store.compact(compacted);
        }
        self.store.end_command(op, term);
        self.store.set_sequencer(sequencer);
        Ok(())
    }

    /// Does a slice of what is due on the disk once it is sealed; whether that was all, and the
    /// store is durable and has a checkpoint.
    pub(crate) fn settle(&mut self) -> Result<bool, RestoreError> {
        if self.store.sweep(SWEEP_SLICE) == SweepProgress::More {
            return Ok(false);
        }
        self.store.hurry();
        let Some(job) = self.store.next_job(self.now) else {
            return Ok(true);
        };
        self.run(job)?;
        Ok(false)
    }

    /// The store, to be used from the beginning of the user's own time.
    pub(crate) fn into_store(self) -> Store {
        let mut store = self.store;
        store.begin_anew();
        store
    }

    /// Does what is due on the disk.
    fn work(&mut self) -> Result<(), RestoreError> {
        while let Some(job) = self.store.next_job(self.now) {
            self.run(job)?;
        }
        self.now = self.now + STEP;
        Ok(())
    }

    fn run(&mut self, job: Job) -> Result<(), RestoreError> {
        self.now = self.now + STEP;
        self.store.finish(job.run())?;
        if self.store.sizes().full {
            return Err(full().into());
        }
        Ok(())
    }

    /// A lease: its granted seconds, and those that were left at its last checkpoint.
    pub fn lease(&mut self, id: i64, ttl: i64, remaining: i64) {
        let fact = lease::fact(ttl, remaining);
        self.store
            .set_fact(FactKind::Lease, &id.to_le_bytes(), Some(fact));
    }

    /// A raised alarm.
    pub fn alarm(&mut self, alarm: Alarm) {
        Alarms::restore(&mut self.store, alarm);
    }

    /// Users and roles.
    ///
    /// # Errors
    ///
    /// [`RestoreError::AuthTooLarge`].
    pub fn auth(&mut self, auth: RestoredAuth) -> Result<(), RestoreError> {
        let auth = AuthState::restore(auth);
        if let Some(name) = auth.too_large() {
            return Err(RestoreError::AuthTooLarge { name });
        }
        auth.save_all(&mut self.store);
        Ok(())
    }

    /// Ends it: `compacted` is the compaction line, below which nothing is kept that it does
    /// not keep. The store is durable and has a checkpoint.
    ///
    /// # Errors
    ///
    /// As [`RestoreError`] says.
    pub fn finish(mut self, compacted: Revision) -> Result<Restored, RestoreError> {
        self.end_revision();
        // What lay above the line may be deleted and gone.
        let revision = self.last.0.max(compacted.value());
        self.store.root.revision = revision;
        if compacted > Revision::ZERO {
            self.store.compact(compacted);
        }
        if let (Some((op, term)), Some(words)) = (self.at, self.sequencer.take()) {
            self.store.end_command(op, term);
            self.store.set_sequencer(words);
        } else {
            self.end_command()?;
        }
        while self.store.sweep(SWEEP_SLICE) == SweepProgress::More {}
        self.store.hurry();
        self.work()?;
        Ok(Restored {
            applied: self.store.applied(),
            revision: self.store.root().revision(),
            compacted: self.store.root().compacted(),
            sizes: self.store.sizes(),
        })
    }
}

fn full() -> StoreError {
    StoreError::Disk {
        attempted: "restore a store".to_owned(),
        source: holm_machine::DiskError::Full {
            attempted: "allocate a file".to_owned(),
        },
    }
}
