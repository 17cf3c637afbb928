//! From a view to buckets and keys in rising order.

use bytes::Bytes;
use holm_base::Revision;
use holm_bbolt::{WriteError, Writer};
use holm_kv::command::AlarmKind;
use holm_kv::record::{Parts, Record};
use holm_kv::{ChangeKind, StoreError, View};
use holm_runtime::Identity;
use prost::Message;
use serde_json::json;

use super::{
    ALARM, AUTH, AUTH_ENABLED, AUTH_REVISION, CLUSTER, Change, FINISHED, KEY, LEASE, MEMBERS,
    MEMBERS_REMOVED, META, Mark, ROLES, SCHEDULED, SnapshotError, StoredLease, USERS, number,
};
use crate::convert::shown_permission;
use crate::proto::{authpb, etcdserverpb as pb};

/// How many bytes of records are held at a time.
const SLICE_BYTES: usize = 1 << 20;
/// See the module's page.
const CLUSTER_VERSION: &str = "3.5.0";
/// A store that knows this much needs no migration in 3.6, and none before looks at it.
const STORAGE_VERSION: &str = "3.6.0";

/// Gives a writer everything. Twice the same for the same view. Reads all history.
pub(super) fn fill(
    view: &View,
    identity: &Identity,
    writer: &mut Writer<'_>,
) -> Result<(), SnapshotError> {
    writer.bucket(ALARM)?;
    put_all(writer, alarms(view))?;
    writer.bucket(AUTH)?;
    let enabled = [u8::from(view.auth.enabled())];
    put(writer, AUTH_ENABLED, &enabled)?;
    put(writer, AUTH_REVISION, &number(view.auth.revision()))?;
    writer.bucket(ROLES)?;
    put_all(writer, roles(view))?;
    writer.bucket(USERS)?;
    put_all(writer, users(view))?;
    writer.bucket(CLUSTER)?;
    put(writer, b"clusterVersion", CLUSTER_VERSION.as_bytes())?;
    writer.bucket(KEY)?;
    history(view, writer)?;
    writer.bucket(LEASE)?;
    put_all(writer, leases(view))?;
    writer.bucket(MEMBERS)?;
    let member = serde_json::to_vec(&json!({
        "id": identity.node.value(),
        "peerURLs": identity.peer_urls,
        "name": identity.name,
        "clientURLs": identity.client_urls,
    }));
    let member = member.expect("numbers and texts are JSON");
    let id = format!("{:016x}", identity.node.value());
    put(writer, id.as_bytes(), &member)?;
    writer.bucket(MEMBERS_REMOVED)?;
    writer.bucket(META)?;
    meta(view, identity, writer)
}

fn put(writer: &mut Writer<'_>, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    Ok(writer.put(key, value)?)
}

fn put_all(writer: &mut Writer<'_>, mut pairs: Vec<(Bytes, Bytes)>) -> Result<(), SnapshotError> {
    pairs.sort_unstable();
    for (key, value) in pairs {
        writer.put(key, value)?;
    }
    Ok(())
}

fn alarms(view: &View) -> Vec<(Bytes, Bytes)> {
    let alarms = view.alarms.iter().map(|alarm| {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => pb::AlarmType::Nospace,
            AlarmKind::Corrupt => pb::AlarmType::Corrupt,
        };
        let member = pb::AlarmMember {
            member_id: alarm.member,
            alarm: kind.into(),
        };
        (Bytes::from(member.encode_to_vec()), Bytes::new())
    });
    alarms.collect()
}

fn roles(view: &View) -> Vec<(Bytes, Bytes)> {
    let roles = view.auth.roles().filter_map(|name| view.auth.role(name));
    let roles = roles.map(|role| {
        let permissions = role.permissions.iter().map(shown_permission);
        let message = authpb::Role {
            name: Bytes::from(role.name),
            key_permission: permissions.collect(),
        };
        (message.name.clone(), Bytes::from(message.encode_to_vec()))
    });
    roles.collect()
}

fn users(view: &View) -> Vec<(Bytes, Bytes)> {
    let users = view.auth.users().filter_map(|name| {
        let user = view.auth.user(name)?;
        let message = authpb::User {
            name: Bytes::copy_from_slice(name.as_bytes()),
            password: Bytes::copy_from_slice(user.password_hash.as_bytes()),
            roles: user.roles.clone(),
            options: Some(authpb::UserAddOptions {
                no_password: user.no_password,
            }),
        };
        Some((message.name.clone(), Bytes::from(message.encode_to_vec())))
    });
    users.collect()
}

fn leases(view: &View) -> Vec<(Bytes, Bytes)> {
    let mut leases = Vec::with_capacity(view.leases);
    view.each_lease(&mut |id, ttl, remaining| {
        let lease = StoredLease { id, ttl, remaining };
        let key = Bytes::copy_from_slice(&number(id.cast_unsigned()));
        leases.push((key, Bytes::from(lease.encode_to_vec())));
    });
    leases
}

fn history(view: &View, writer: &mut Writer<'_>) -> Result<(), SnapshotError> {
    let (root, mut from) = (&view.root, Revision::ZERO);
    let end = root.revision();
    let mut refused: Option<WriteError> = None;
    while from <= end && refused.is_none() {
        from = root.changes(from, end, SLICE_BYTES, &mut |change| {
            if refused.is_none() {
                refused = add(writer, change).err();
            }
        })?;
    }
    refused.map_or(Ok(()), |error| Err(error.into()))
}

fn add(writer: &mut Writer<'_>, change: holm_kv::Change) -> Result<(), WriteError> {
    let (mark, value) = match change.kind {
        ChangeKind::Put => (Mark::Put, change.record.bytes().clone()),
        ChangeKind::Delete => {
            let parts = Parts {
                key: change.key,
                ..Parts::default()
            };
            (Mark::Delete, Record::encode(&parts).bytes().clone())
        }
    };
    let key = Change {
        main: change.main.value(),
        sub: change.sub,
        mark,
    };
    writer.put(key.encode(), value)
}

fn meta(view: &View, identity: &Identity, writer: &mut Writer<'_>) -> Result<(), SnapshotError> {
    let voters = json!({ "voters": [identity.node.value()], "auto_leave": false });
    put(writer, b"confState", voters.to_string().as_bytes())?;
    let applied = number(view.applied.value());
    put(writer, b"consistent_index", &applied)?;
    let compacted = view.root.compacted().value();
    if compacted > 0 {
        let line = Change {
            main: compacted,
            sub: 0,
            mark: Mark::Put,
        };
        put(writer, FINISHED, &line.encode())?;
        put(writer, SCHEDULED, &line.encode())?;
    }
    put(writer, b"storageVersion", STORAGE_VERSION.as_bytes())?;
    put(writer, b"term", &number(view.term.value()))
}

impl From<StoreError> for SnapshotError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
