//! The table, row by row, as clients compare it; written out apart from the table itself.

use std::collections::BTreeMap;

use holm_base::Revision;

use super::*;

/// Code's number, and texts without their common beginning.
const EXPECTED: &[(u16, &[&str])] = &[
    (
        2,
        &[
            "too many requests",
            "re-configuration failed due to not enough started members",
            "request timed out, leader transfer took too long",
            "unknown method",
        ],
    ),
    (
        3,
        &[
            "key is not provided",
            "key not found",
            "value is provided",
            "lease is provided",
            "too many operations in txn request",
            "txn request reads more than 64 MiB",
            "duplicate key given in txn request",
            "invalid sort option",
            "request is too large",
            "authentication failed, invalid user ID or password",
            "revision of auth store is old",
            "user name is empty",
            "role name is empty",
            "permission not given",
            "invalid auth management",
            "given member URLs are invalid",
            "wrong downgrade target version format",
            "invalid downgrade target version",
        ],
    ),
    (5, &["requested lease not found", "member not found"]),
    (7, &["permission denied"]),
    (8, &["mvcc: database space exceeded"]),
    (
        9,
        &[
            "this keyspace is local-first: it cannot promise mutual exclusion; use a linearizable keyspace",
            "this site takes no writes of the keyspace any more: ask another of its sites",
            "lease already exists",
            "root user does not exist",
            "root user does not have root role",
            "user name already exists",
            "user name not found",
            "role name already exists",
            "role name not found",
            "role is not granted to the user",
            "permission is not granted to the role",
            "user or role holds too much: its limit is 1 MiB",
            "authentication is not enabled",
            "not leader",
            "bad leader transferee",
            "can only promote a learner member",
            "Peer URLs already exists",
            "member ID already exist",
            "can only promote a learner member which is in sync with leader",
            "too many learner members in cluster",
            "too many voting members in cluster: the limit is 7",
            "no inflight downgrade job",
        ],
    ),
    (
        11,
        &[
            "mvcc: required revision has been compacted",
            "mvcc: required revision is a future revision",
            "too large lease TTL",
        ],
    ),
    (
        14,
        &[
            "no leader",
            "leader changed",
            "request timed out",
            "request timed out, possibly due to previous leader failure",
            "unhealthy cluster",
            "rpc not supported for learner",
            "server stopped",
        ],
    ),
    (12, &["users of a local-first keyspace are not built yet"]),
    (15, &["corrupt cluster"]),
    (16, &["invalid auth token"]),
];

#[test]
fn each_row_has_the_code_and_text_that_clients_know() {
    let mut rows: BTreeMap<String, u16> = BTreeMap::new();
    for &(code, texts) in EXPECTED {
        for text in texts {
            rows.insert(format!("etcdserver: {text}"), code);
        }
    }
    for &(name, code, text) in TABLE {
        assert_eq!(rows.remove(text), Some(code.number()), "{name}: {text}");
    }
    assert!(rows.is_empty(), "rows that the table lacks: {rows:?}");
}

#[test]
fn each_refusal_of_the_engine_has_its_row() {
    let revision = Revision::new(1);
    let cases = [
        (Refusal::KeyNotFound, "key not found"),
        (Refusal::LeaseNotFound, "requested lease not found"),
        (Refusal::LeaseExists, "lease already exists"),
        (Refusal::LeaseTtlTooLarge, "too large lease TTL"),
        (
            Refusal::Compacted {
                compacted: revision,
            },
            "mvcc: required revision has been compacted",
        ),
        (
            Refusal::FutureRevision { current: revision },
            "mvcc: required revision is a future revision",
        ),
        (Refusal::NoSpace, "mvcc: database space exceeded"),
        (Refusal::TooLarge, "request is too large"),
        (Refusal::ReadsTooMuch, "txn request reads more than 64 MiB"),
        (Refusal::Busy, "too many requests"),
        (Refusal::Stalled, "request timed out"),
        (Refusal::TimedOut, "request timed out"),
        (Refusal::NoLeader, "no leader"),
        (Refusal::LeaderChanged, "leader changed"),
        (
            Refusal::Corrupt {
                place: "1.seg".to_owned(),
            },
            "corrupt cluster",
        ),
        (Refusal::Stopped, "server stopped"),
        (Refusal::PermissionDenied, "permission denied"),
        (
            Refusal::AuthTooLarge,
            "user or role holds too much: its limit is 1 MiB",
        ),
        (Refusal::AuthOldRevision, "revision of auth store is old"),
        (Refusal::RootUserNotExist, "root user does not exist"),
        (
            Refusal::RootRoleNotGranted,
            "root user does not have root role",
        ),
        (Refusal::UserExists, "user name already exists"),
        (Refusal::UserNotFound, "user name not found"),
        (Refusal::UserEmpty, "user name is empty"),
        (Refusal::RoleExists, "role name already exists"),
        (Refusal::RoleNotFound, "role name not found"),
        (Refusal::RoleEmpty, "role name is empty"),
        (Refusal::RoleNotGranted, "role is not granted to the user"),
        (
            Refusal::PermissionNotGranted,
            "permission is not granted to the role",
        ),
        (Refusal::PermissionNotGiven, "permission not given"),
        (Refusal::InvalidAuthManagement, "invalid auth management"),
        (Refusal::AuthNotEnabled, "authentication is not enabled"),
        (
            Refusal::AuthFailed,
            "authentication failed, invalid user ID or password",
        ),
    ];
    cases.into_iter().for_each(has_its_row);
}

#[test]
fn each_refusal_of_an_island_has_its_row() {
    let cases = [
        (
            Refusal::NoMutualExclusion,
            "this keyspace is local-first: it cannot promise mutual exclusion; use a linearizable keyspace",
        ),
        (
            Refusal::NoUsers,
            "users of a local-first keyspace are not built yet",
        ),
        (
            Refusal::Ended,
            "this site takes no writes of the keyspace any more: ask another of its sites",
        ),
    ];
    cases.into_iter().for_each(has_its_row);
}

fn has_its_row((refusal, text): (Refusal, &str)) {
    let status = Status::from(refusal);
    assert_eq!(status.message(), format!("etcdserver: {text}"));
    assert!(TABLE.contains(&find(&status)), "{status}");
}

fn find(status: &Status) -> (&'static str, Code, &'static str) {
    let row = TABLE.iter().find(|row| row.2 == status.message());
    *row.expect("each refusal's text stands in the table")
}
