//! The quota and its alarm.

use std::time::Duration;

use bytes::Bytes;
use holm_kv::command::{AlarmKind, Command, Put, Range, Txn, TxnOp};
use holm_kv::outcome::{Alarm, Outcome};
use holm_kv::{Config, Counts, Refusal};

use crate::world::{World, delete, put};

fn full() -> World {
    let mut world = World::new(Config {
        quota_bytes: 64 << 10,
        free_bytes_min: 0,
        ..Config::default()
    });
    let value = "v".repeat(1_000);
    for number in 0..80 {
        world.put(&format!("key{number}"), &value);
    }
    world.pass(Duration::from_secs(1));
    world
}

#[test]
fn over_the_quota_puts_are_refused_and_what_frees_space_is_not() {
    let mut world = full();
    assert!(world.view().has_alarm(AlarmKind::NoSpace));
    assert_eq!(world.command(put("a", "b")).result, Err(Refusal::NoSpace));
    let grant = Command::LeaseGrant {
        id: 1,
        ttl: 5,
        ttl_min: 2,
    };
    assert_eq!(world.command(grant).result, Err(Refusal::NoSpace));
    world.done(delete("key", "kez"));
    let revision = world.view().root.revision().value();
    world.done(Command::Compact { revision });
}

#[test]
fn the_nodes_alarm_goes_once_there_was_space_for_five_seconds() {
    let mut world = full();
    world.done(delete("key", "kez"));
    let revision = world.view().root.revision().value();
    world.done(Command::Compact { revision });
    world.work();
    world.pass(Duration::from_secs(1));
    world.pass(Duration::from_secs(4));
    assert!(world.view().has_alarm(AlarmKind::NoSpace));
    world.pass(Duration::from_secs(2));
    assert!(!world.view().has_alarm(AlarmKind::NoSpace));
    world.put("a", "b");
}

#[test]
fn an_alarm_of_the_api_waits_for_the_api_and_survives_a_restart() {
    let mut world = World::new(Config::default());
    let alarm = |raise| Command::Alarm {
        raise,
        member: 0,
        kind: AlarmKind::NoSpace,
        by_node: false,
    };
    let raised = Alarm {
        member: 0,
        kind: AlarmKind::NoSpace,
    };
    assert_eq!(world.done(alarm(true)), Outcome::Alarms(vec![raised]));
    for _ in 0..20 {
        world.pass(Duration::from_secs(1));
    }
    world.reopen();
    assert_eq!(world.view().alarms.as_ref(), [raised]);
    assert_eq!(world.done(alarm(false)), Outcome::Alarms(vec![raised]));
    assert_eq!(world.done(alarm(false)), Outcome::Alarms(vec![]));
    world.put("a", "b");
}

#[test]
fn counts_say_what_was_done_as_etcd_counts_it() {
    let mut world = World::new(Config::default());
    world.put("a", "1");
    world.put("b", "1");
    world.done(delete("a", "c"));
    world.done(Command::LeaseGrant {
        id: 7,
        ttl: 5,
        ttl_min: 2,
    });
    world.done(Command::LeaseRevoke { id: 7 });
    let put = |key| {
        TxnOp::Put(Put {
            key: Bytes::from_static(key),
            ..Put::default()
        })
    };
    let txn = |success| {
        Command::Txn(Txn {
            success,
            ..Txn::default()
        })
    };
    world.done(txn(vec![
        put(b"a"),
        put(b"b"),
        TxnOp::Range(Range::default()),
    ]));
    world.done(txn(vec![put(b"c")]));
    let counts = world.view().counts;
    assert_eq!(
        counts,
        Counts {
            puts: 5,
            deletes: 1,
            ranges: 1,
            txns: 1,
            granted: 1,
            revoked: 1,
            renewed: 0,
            expired: 0,
        }
    );
}

#[test]
fn alarms_of_many_members_are_refused_but_not_the_nodes_own() {
    let mut world = World::new(Config::default());
    let alarm = |member, by_node| Command::Alarm {
        raise: true,
        member,
        kind: AlarmKind::Corrupt,
        by_node,
    };
    for member in 1..=64 {
        world.done(alarm(member, false));
    }
    assert_eq!(world.command(alarm(65, false)).result, Err(Refusal::Busy));
    assert_eq!(world.view().alarms.len(), 64);
    world.done(alarm(64, false));
    world.done(alarm(66, true));
    assert!(world.view().has_alarm(AlarmKind::Corrupt));
    assert!(!world.view().has_alarm(AlarmKind::NoSpace));
}
