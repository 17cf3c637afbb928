//! From etcd's file, be it Holm's or etcd's own, to a store in the making.
//!
//! What would surprise: members are not taken over. Whoever restores is a new cluster, for the
//! old one may still be there.

use std::ops::ControlFlow;

use bytes::Bytes;
use holm_base::Revision;
use holm_bbolt::{Database, ReadError, Sum, check_sum};
use holm_kv::command::AlarmKind;
use holm_kv::outcome::Alarm;
use holm_kv::record::Record;
use holm_kv::{Restore, RestoreError, Restored, RestoredAuth, UserView};
use holm_machine::Disk;
use prost::Message;

use super::{
    ALARM, AUTH, AUTH_ENABLED, AUTH_REVISION, Change, FINISHED, KEY, LEASE, META, Mark, ROLES,
    SCHEDULED, StoredLease, USERS, from_number,
};
use crate::convert::permission;
use crate::proto::{authpb, etcdserverpb as pb};

/// Why a snapshot could not be read or restored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is no checksum behind the file. What may be done about that the one knows who wanted it.
    #[error(
        "the file has no SHA-256 behind it: it is cut off, or was not saved by `snapshot save`"
    )]
    NoSum,
    /// The file is damaged, or none of etcd's.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A bucket holds something that etcd does not put there.
    #[error("bucket {bucket}, key {key:?}: {found}")]
    Content {
        /// The bucket.
        bucket: String,
        /// The key.
        key: Bytes,
        /// What is wrong.
        found: &'static str,
    },
    /// The file holds no keyspace.
    #[error("the file holds no bucket `key`: it is no database of etcd's version 3")]
    NoKeys,
    /// The new store refused.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// Whether the SHA-256 behind a file must be there and right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumCheck {
    /// It must.
    Demand,
    /// It is not looked at.
    Skip,
}

/// What a snapshot holds, as `etcdctl snapshot status` counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// CRC-32C over all buckets' names, keys and values.
    pub hash: u32,
    /// The newest revision.
    pub revision: i64,
    /// Keys of all buckets; a key's old versions count.
    pub total_keys: u64,
    /// The database's size.
    pub total_bytes: u64,
}

/// A snapshot that was checked.
#[derive(Debug)]
pub struct Import<'a> {
    database: Database<'a>,
    summary: Summary,
}

impl<'a> Import<'a> {
    /// Opens a file, compares its checksum, and reads every page once.
    ///
    /// # Errors
    ///
    /// As [`ImportError`] says.
    pub fn open(disk: &'a dyn Disk, check: SumCheck) -> Result<Self, ImportError> {
        if check == SumCheck::Demand && check_sum(disk)? == Sum::Absent {
            return Err(ImportError::NoSum);
        }
        let database = Database::open(disk)?;
        if !database.buckets().any(|name| name == KEY) {
            return Err(ImportError::NoKeys);
        }
        let summary = summary(&database)?;
        Ok(Self { database, summary })
    }

    /// What is in it.
    #[must_use]
    pub const fn summary(&self) -> Summary {
        self.summary
    }

    /// Puts everything into `restore`; `progress` is told every 1,000 changes how many were
    /// done.
    ///
    /// # Errors
    ///
    /// As [`ImportError`] says; what `restore` has written is then of no use.
    pub fn run(
        &self,
        mut restore: Restore,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Restored, ImportError> {
        let mut done = 0;
        self.each(KEY, &mut |key, value| {
            done += 1;
            if done % 1000 == 0 {
                progress(done);
            }
            change(&mut restore, &key, value)
        })?;
        progress(done);
        self.each(LEASE, &mut |key, value| {
            let lease = StoredLease::decode(value).map_err(|_bad| wrong(LEASE, &key))?;
            restore.lease(lease.id, lease.ttl, lease.remaining);
            Ok(())
        })?;
        self.each(ALARM, &mut |key, _| {
            if let Some(alarm) = alarm(&key).map_err(|_bad| wrong(ALARM, &key))? {
                restore.alarm(alarm);
            }
            Ok(())
        })?;
        restore.auth(self.auth()?)?;
        Ok(restore.finish(Revision::new(self.compacted()?))?)
    }

    fn auth(&self) -> Result<RestoredAuth, ImportError> {
        let mut auth = RestoredAuth::default();
        self.each(AUTH, &mut |key, value| {
            if key == AUTH_ENABLED {
                auth.enabled = value.first() == Some(&1);
            } else if key == AUTH_REVISION {
                let revision = value.first_chunk().ok_or_else(|| wrong(AUTH, &key))?;
                auth.revision = from_number(*revision);
            }
            Ok(())
        })?;
        self.each(ROLES, &mut |key, value| {
            let role = authpb::Role::decode(value).map_err(|_bad| wrong(ROLES, &key))?;
            let permissions = role.key_permission.into_iter().map(permission);
            auth.roles.insert(name(ROLES, &key)?, permissions.collect());
            Ok(())
        })?;
        self.each(USERS, &mut |key, value| {
            let user = authpb::User::decode(value).map_err(|_bad| wrong(USERS, &key))?;
            let view = UserView {
                password_hash: name(USERS, &user.password)?,
                no_password: user.options.is_some_and(|it| it.no_password),
                roles: user.roles,
            };
            auth.users.insert(name(USERS, &key)?, view);
            Ok(())
        })?;
        Ok(auth)
    }

    /// The compaction line. One that was scheduled and not finished is as good as finished:
    /// its reads were refused already.
    fn compacted(&self) -> Result<i64, ImportError> {
        let mut line = 0;
        self.each(META, &mut |key, value| {
            if key == FINISHED || key == SCHEDULED {
                let change = Change::decode(&value).ok_or_else(|| wrong(META, &key))?;
                line = line.max(change.main);
            }
            Ok(())
        })?;
        Ok(line)
    }

    /// Visits a bucket; the first error ends it.
    fn each(
        &self,
        bucket: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let mut outcome = Ok(());
        self.database.read(bucket, &mut |key, value| {
            outcome = visit(key, value);
            if outcome.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        outcome
    }
}

fn summary(database: &Database<'_>) -> Result<Summary, ImportError> {
    let mut summary = Summary {
        total_bytes: database.used_bytes(),
        ..Summary::default()
    };
    // Empty buckets count, in their place among the others.
    let mut names = database.buckets().peekable();
    database.read_all(&mut |entry| {
        while let Some(name) = names.next_if(|name| **name <= entry.bucket) {
            summary.hash = crc32c::crc32c_append(summary.hash, name);
        }
        summary.hash = crc32c::crc32c_append(summary.hash, &entry.key);
        summary.hash = crc32c::crc32c_append(summary.hash, &entry.value);
        summary.total_keys += 1;
        if entry.bucket == KEY
            && let Some(change) = Change::decode(&entry.key)
        {
            summary.revision = change.main;
        }
        ControlFlow::Continue(())
    })?;
    for name in names {
        summary.hash = crc32c::crc32c_append(summary.hash, name);
    }
    Ok(summary)
}

fn change(restore: &mut Restore, key: &Bytes, value: Bytes) -> Result<(), ImportError> {
    let change = Change::decode(key).ok_or_else(|| wrong(KEY, key))?;
    let parts = Record::from_bytes(value).decode();
    let parts = parts.ok_or_else(|| wrong(KEY, key))?;
    match change.mark {
        Mark::Put => restore.put(change.main, change.sub, &parts)?,
        Mark::Delete => {
            let delete = (parts.key, Bytes::new());
            restore.delete(change.main, change.sub, delete)?;
        }
    }
    Ok(())
}

fn alarm(key: &Bytes) -> Result<Option<Alarm>, prost::DecodeError> {
    let member = pb::AlarmMember::decode(key.clone())?;
    let kind = match member.alarm() {
        pb::AlarmType::None => return Ok(None),
        pb::AlarmType::Nospace => AlarmKind::NoSpace,
        pb::AlarmType::Corrupt => AlarmKind::Corrupt,
    };
    Ok(Some(Alarm {
        member: member.member_id,
        kind,
    }))
}

fn name(bucket: &[u8], bytes: &Bytes) -> Result<String, ImportError> {
    match str::from_utf8(bytes) {
        Ok(name) => Ok(name.to_owned()),
        Err(_bad) => Err(wrong(bucket, bytes)),
    }
}

fn wrong(bucket: &[u8], key: &Bytes) -> ImportError {
    ImportError::Content {
        bucket: String::from_utf8_lossy(bucket).into_owned(),
        key: key.clone(),
        found: "it is not what etcd keeps there",
    }
}
