//! Leases, rule by rule.

use std::time::Duration;

use holm_base::Term;
use holm_kv::command::Command;
use holm_kv::outcome::Outcome;
use holm_kv::{Config, Refusal};

use crate::world::{World, leased};

const SECOND: Duration = Duration::from_secs(1);

fn grant(id: i64, ttl: i64) -> Command {
    Command::LeaseGrant {
        id,
        ttl,
        ttl_min: 2,
    }
}

fn left(world: &World, id: i64) -> i64 {
    world.keyspace.time_to_live(world.now, id, false).ttl
}

#[test]
fn a_grant_is_raised_to_the_minimum_and_bounded() {
    let mut world = World::new(Config::default());
    let granted = world.done(grant(1, 1));
    assert_eq!(granted, Outcome::LeaseGrant { id: 1, ttl: 2 });
    assert_eq!(world.command(grant(1, 9)).result, Err(Refusal::LeaseExists));
    let too_large = world.command(grant(2, 9_000_000_001)).result;
    assert_eq!(too_large, Err(Refusal::LeaseTtlTooLarge));
    assert_eq!(world.keyspace.leases(), [1]);
}

#[test]
fn leases_are_listed_in_the_order_in_which_they_end() {
    let mut world = World::new(Config::default());
    for (id, ttl) in [(1, 900), (2, 300), (3, 600)] {
        world.done(grant(id, ttl));
    }
    assert_eq!(world.keyspace.leases(), [2, 3, 1]);
}

#[test]
fn a_lease_that_nobody_renews_ends_with_its_keys_in_one_revision() {
    let mut world = World::new(Config::default());
    world.done(grant(7, 5));
    world.done(leased("b", 7));
    world.done(leased("a", 7));
    world.pass(SECOND * 4);
    assert_eq!(
        (left(&world, 7), world.view().root.revision().value()),
        (1, 3)
    );
    assert_eq!(world.keyspace.renew(world.now, 7), Ok(5));
    world.pass(SECOND * 4);
    assert_eq!(left(&world, 7), 1);
    world.pass(SECOND * 2);
    assert_eq!(
        (left(&world, 7), world.view().root.revision().value()),
        (-1, 4)
    );
    assert!(world.view().root.get(b"a").is_none() && world.view().root.get(b"b").is_none());
    assert_eq!(
        world.keyspace.renew(world.now, 7),
        Err(Refusal::LeaseNotFound)
    );
}

#[test]
fn a_key_moves_between_leases_and_off_them() {
    let mut world = World::new(Config::default());
    world.done(grant(1, 9));
    world.done(grant(2, 9));
    world.done(leased("k", 1));
    world.done(leased("k", 2));
    world.done(leased("l", 2));
    world.done(leased("l", 0));
    let keys = |world: &World, id| world.keyspace.time_to_live(world.now, id, true).keys;
    assert!(keys(&world, 1).is_empty());
    assert_eq!(keys(&world, 2), ["k"]);
    assert_eq!(
        world.command(leased("m", 3)).result,
        Err(Refusal::LeaseNotFound)
    );
    world.done(Command::LeaseRevoke { id: 2 });
    let revision = world.view().root.revision();
    world.done(Command::LeaseRevoke { id: 1 });
    assert_eq!(
        world.view().root.revision(),
        revision,
        "no key, no revision"
    );
    let again = world.command(Command::LeaseRevoke { id: 1 }).result;
    assert_eq!(again, Err(Refusal::LeaseNotFound));
}

#[test]
fn an_expiry_of_another_term_changes_nothing() {
    let mut world = World::new(Config::default());
    world.done(grant(1, 5));
    world.done(leased("k", 1));
    world.term = Term::new(2);
    world.done(Command::LeaseExpire {
        term: Term::new(1),
        ids: vec![1],
    });
    assert!(world.view().root.get(b"k").is_some());
    world.done(Command::LeaseExpire {
        term: Term::new(2),
        ids: vec![1],
    });
    assert!(world.view().root.get(b"k").is_none());
}

#[test]
fn a_new_leader_gives_time_anew_and_checkpoints_count() {
    let mut world = World::new(Config::default());
    world.done(grant(1, 10));
    world.done(grant(2, 1_000));
    world.done(leased("k", 1));
    world.pass(SECOND * 8);
    world.pass(SECOND * 1);
    assert_eq!(left(&world, 1), 1);
    world.pass(SECOND * 301);
    world.reopen();
    assert_eq!(left(&world, 1), -1, "it ended before");
    let after = left(&world, 2);
    assert!(
        (690..=692).contains(&after),
        "{after} seconds are left and one is given"
    );
    assert_eq!(world.keyspace.renew(world.now, 2), Ok(1_000));
    world.pass(SECOND);
    world.reopen();
    assert_eq!(
        left(&world, 2),
        1_000,
        "the renewal took the checkpoint back"
    );
}

#[test]
fn no_renewal_once_the_end_is_proposed() {
    let mut world = World::new(Config::default());
    world.done(grant(1, 5));
    world.now = world.now + SECOND * 6;
    let command = world.keyspace.due(world.now).expect("its time is up");
    assert_eq!(
        world.keyspace.renew(world.now, 1),
        Err(Refusal::LeaseNotFound)
    );
    world.keyspace.refused(world.now);
    world.now = world.now + SECOND;
    assert_eq!(
        world.keyspace.due(world.now),
        Some(command),
        "it comes again"
    );
}

#[test]
fn twenty_thousand_leases_end_in_bounded_entries() {
    let mut world = World::new(Config::default());
    for id in 1..=20_000 {
        world.apply_only(&holm_kv::command::Proposal {
            caller: None,
            command: grant(id, 20),
        });
    }
    world.now = world.now + SECOND * 20;
    let mut on_the_way = Vec::new();
    while let Some(command) = world.keyspace.due(world.now) {
        on_the_way.push(command);
    }
    assert_eq!(on_the_way.len(), 4, "no more at once");
    for command in &on_the_way {
        assert!(matches!(command, Command::LeaseExpire { ids, .. } if ids.len() == 1_000));
    }
    for command in on_the_way {
        world.command(command);
    }
    world.pass(Duration::ZERO);
    assert_eq!(world.keyspace.leases().len(), 0);
}

#[test]
fn a_lease_that_is_gone_leaves_nothing_to_wake_for() {
    let mut world = World::new(Config::default());
    world.done(grant(1, 1_000));
    world.done(Command::LeaseRevoke { id: 1 });
    for _ in 0..5 {
        world.pass(SECOND);
    }
    assert_eq!(world.keyspace.wake_at(), None);
}
