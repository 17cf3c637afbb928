//! What stands before a write at apply: users and their permissions, alarms, the quota.

use std::time::Duration;

use bytes::Bytes;
use holm_kv::command::{
    Access, AlarmKind, AuthChange, Caller, Command, Compare, CompareResult, CompareTarget,
    DeleteRange, Permission, Put, Range, Txn, TxnOp,
};
use holm_kv::outcome::Outcome;
use holm_kv::{Config, Refusal};

use crate::dumb::site::Site;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn put(key: &'static str) -> Put {
    Put {
        key: bytes(key),
        value: bytes("v"),
        ..Put::default()
    }
}

fn user_add(name: &str) -> AuthChange {
    AuthChange::UserAdd {
        name: name.to_owned(),
        password_hash: "hash".to_owned(),
        no_password: false,
    }
}

fn grant_role(user: &str, role: &str) -> AuthChange {
    AuthChange::UserGrantRole {
        user: user.to_owned(),
        role: role.to_owned(),
    }
}

fn permit(access: Access, key: &'static str, end: &'static str) -> AuthChange {
    AuthChange::RoleGrantPermission {
        name: "role".to_owned(),
        permission: Permission {
            access,
            key: bytes(key),
            range_end: bytes(end),
        },
    }
}

/// Ann may read and write `a` to `c`, write `w`, and read `r`; users are enforced.
fn guarded() -> Site {
    let mut site = Site::new();
    let changes = [
        user_add("root"),
        grant_role("root", "root"),
        user_add("ann"),
        AuthChange::RoleAdd {
            name: "role".to_owned(),
        },
        permit(Access::ReadWrite, "a", "c"),
        permit(Access::Write, "w", ""),
        permit(Access::Read, "r", ""),
        grant_role("ann", "role"),
        AuthChange::Enable,
    ];
    for change in changes {
        site.apply(Command::Auth(change)).expect("it is allowed");
    }
    site
}

fn as_user(site: &mut Site, user: &str, command: Command) -> Result<Outcome, Refusal> {
    let caller = Caller {
        user: user.to_owned(),
        auth_revision: site.keyspace.reader().view().auth.revision(),
    };
    site.ask(Some(caller), command).result
}

fn wrap(op: TxnOp) -> Command {
    let inner = Txn {
        failure: vec![op],
        ..Txn::default()
    };
    Command::Txn(Txn {
        success: vec![TxnOp::Txn(inner)],
        ..Txn::default()
    })
}

#[test]
fn a_user_writes_where_it_may_and_nowhere_else() {
    let mut site = guarded();
    let denied = Err(Refusal::PermissionDenied);
    let allowed = as_user(&mut site, "ann", Command::Put(put("a")));
    assert_eq!(allowed, Ok(Outcome::Put { prev: None }));
    assert_eq!(as_user(&mut site, "ann", Command::Put(put("c"))), denied);
    assert_eq!(as_user(&mut site, "bob", Command::Put(put("a"))), denied);
    let with_prev = Put {
        prev_kv: true,
        ..put("w")
    };
    as_user(&mut site, "ann", Command::Put(put("w"))).expect("it may write w");
    let asked = as_user(&mut site, "ann", Command::Put(with_prev));
    assert_eq!(asked, denied, "prev_kv reads");
    let beyond = DeleteRange {
        key: bytes("a"),
        range_end: bytes("\0"),
        prev_kv: false,
    };
    assert_eq!(
        as_user(&mut site, "ann", Command::DeleteRange(beyond)),
        denied
    );
    let anything = as_user(&mut site, "root", Command::Put(put("z")));
    assert_eq!(anything, Ok(Outcome::Put { prev: None }));
}

#[test]
fn nested_operations_and_compares_are_looked_at_in_both_branches() {
    let mut site = guarded();
    let denied = Err(Refusal::PermissionDenied);
    let read = Range {
        key: bytes("w"),
        ..Range::default()
    };
    for op in [TxnOp::Put(put("z")), TxnOp::Range(read)] {
        assert_eq!(
            as_user(&mut site, "ann", wrap(op.clone())),
            denied,
            "{op:?}"
        );
    }
    let compare = Compare {
        key: bytes("w"),
        range_end: Bytes::new(),
        result: CompareResult::Equal,
        target: CompareTarget::Value(bytes("v")),
    };
    let probing = Txn {
        compare: vec![compare],
        success: vec![TxnOp::Put(put("a"))],
        ..Txn::default()
    };
    assert_eq!(as_user(&mut site, "ann", Command::Txn(probing)), denied);
    as_user(&mut site, "ann", wrap(TxnOp::Put(put("b")))).expect("it may write b");
}

#[test]
fn a_lease_with_a_foreign_key_can_be_neither_attached_nor_ended() {
    let mut site = guarded();
    let lease = Command::LeaseGrant {
        id: 7,
        ttl: 60,
        ttl_min: 2,
    };
    as_user(&mut site, "root", lease).expect("a lease");
    let attach = |key| {
        Command::Put(Put {
            lease: 7,
            ..put(key)
        })
    };
    as_user(&mut site, "ann", attach("a")).expect("the lease is empty");
    as_user(&mut site, "root", attach("z")).expect("root may");
    let denied = Err(Refusal::PermissionDenied);
    assert_eq!(as_user(&mut site, "ann", attach("b")), denied);
    assert_eq!(
        as_user(&mut site, "ann", Command::LeaseRevoke { id: 7 }),
        denied
    );
    as_user(&mut site, "root", Command::LeaseRevoke { id: 7 }).expect("root may");
}

#[test]
fn an_old_token_is_refused_as_old_and_nobody_as_nameless() {
    let mut site = guarded();
    let old = Caller {
        user: "ann".to_owned(),
        auth_revision: site.keyspace.reader().view().auth.revision(),
    };
    as_user(&mut site, "root", Command::Auth(user_add("bob"))).expect("root may");
    let asked = site.ask(Some(old), Command::Put(put("a"))).result;
    assert_eq!(asked, Err(Refusal::AuthOldRevision));
    assert_eq!(site.apply(Command::Put(put("a"))), Err(Refusal::UserEmpty));
    let change = Command::Auth(user_add("eve"));
    assert_eq!(
        as_user(&mut site, "ann", change),
        Err(Refusal::PermissionDenied)
    );
}

#[test]
fn users_and_alarms_survive_a_restart() {
    let mut site = guarded();
    site.work();
    site.restart();
    let view = site.keyspace.reader().view();
    assert!(view.auth.enabled());
    assert_eq!(view.auth.users().collect::<Vec<_>>(), ["ann", "root"]);
    assert_eq!(
        as_user(&mut site, "ann", Command::Put(put("c"))),
        Err(Refusal::PermissionDenied)
    );
    as_user(&mut site, "ann", Command::Put(put("a"))).expect("it still may");
}

const RAISE: Command = alarm(true);
const CLEAR: Command = alarm(false);
const CLEAR_BY_NODE: Command = Command::Alarm {
    raise: false,
    member: 1,
    kind: AlarmKind::NoSpace,
    by_node: true,
};

const fn alarm(raise: bool) -> Command {
    Command::Alarm {
        raise,
        member: 1,
        kind: AlarmKind::NoSpace,
        by_node: false,
    }
}

#[test]
fn without_space_puts_and_grants_are_refused_but_nothing_that_frees() {
    let mut site = Site::new();
    site.apply(Command::Put(put("a"))).expect("there is space");
    let grant = Command::LeaseGrant {
        id: 1,
        ttl: 60,
        ttl_min: 2,
    };
    site.apply(grant.clone()).expect("there is space");
    site.apply(RAISE).expect("it is raised");
    site.restart();
    assert!(site.keyspace.has_alarm(AlarmKind::NoSpace));
    let refused = Err(Refusal::NoSpace);
    assert_eq!(site.apply(Command::Put(put("a"))), refused);
    assert_eq!(site.apply(wrap(TxnOp::Put(put("a")))), refused);
    assert_eq!(site.apply(grant), refused);
    let delete = DeleteRange {
        key: bytes("a"),
        ..DeleteRange::default()
    };
    let deleting = Txn {
        success: vec![TxnOp::DeleteRange(delete)],
        ..Txn::default()
    };
    site.apply(Command::Txn(deleting)).expect("a delete frees");
    site.apply(Command::LeaseRevoke { id: 1 })
        .expect("a revoke frees");
    site.apply(Command::Compact { revision: 3 })
        .expect("compaction frees");
    site.apply(CLEAR_BY_NODE).expect("it is no error");
    let held = site.apply(Command::Put(put("a")));
    assert_eq!(
        held, refused,
        "the node did not raise it, so it waits for the API"
    );
    site.apply(CLEAR).expect("it is cleared");
    site.apply(Command::Put(put("a"))).expect("there is space");
}

/// Puts until the keyspace asks for its alarm; gives how many puts it took.
fn fill(site: &mut Site) -> usize {
    for count in 1..10_000 {
        let big = Put {
            value: vec![b'v'; 10_000].into(),
            ..put("a")
        };
        site.apply(Command::Put(big)).expect("no alarm is raised");
        site.now = site.now + Duration::from_millis(1_100);
        site.work();
        while let Some(command) = site.keyspace.due(site.now) {
            let is_alarm = matches!(&command, Command::Alarm { raise: true, .. });
            site.apply(command)
                .expect("the keyspace knows what it asks");
            if is_alarm {
                return count;
            }
        }
    }
    panic!("the quota is never noticed");
}

#[test]
fn over_its_quota_the_node_raises_the_alarm_and_clears_it_when_space_is_back() {
    let mut site = Site::with(Config {
        quota_bytes: 1 << 20,
        free_bytes_min: 0,
        ..Config::default()
    });
    let puts = fill(&mut site);
    assert!(
        (90..=120).contains(&puts),
        "1 MiB is about 105 of them, not {puts}"
    );
    assert_eq!(site.apply(Command::Put(put("b"))), Err(Refusal::NoSpace));
    let revision = site.keyspace.reader().view().root.revision().value();
    site.apply(Command::Compact { revision })
        .expect("it is below now");
    let mut cleared_after = None;
    for second in 0..20 {
        site.work();
        while let Some(command) = site.keyspace.due(site.now) {
            if matches!(&command, Command::Alarm { raise: false, .. }) {
                cleared_after.get_or_insert(second);
            }
            site.apply(command)
                .expect("the keyspace knows what it asks");
        }
        site.now = site.now + Duration::from_secs(1);
    }
    let second = cleared_after.expect("it is cleared by itself");
    assert!(
        (5..=7).contains(&second),
        "after five seconds, not {second}"
    );
    site.apply(Command::Put(put("b"))).expect("there is space");
}
