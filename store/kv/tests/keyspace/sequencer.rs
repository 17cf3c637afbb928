//! Among others: ops that change nothing, the sequencer's words, and leading no longer.

use std::time::Duration;

use bytes::Bytes;
use holm_base::{ByteCount, Op, Term, Time};
use holm_kv::command::Command;
use holm_kv::{Config, Keyspace, Refusal};
use holm_virtual::{Storage, Survival};

use crate::world::{World, put};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    let mut config = Config::default();
    config.store.segment_bytes = ByteCount::new(1 << 20);
    config
}

fn open(storage: &Storage) -> Keyspace {
    Keyspace::open(storage.root(), config()).expect("its own files")
}

fn proposal(command: Command) -> Bytes {
    holm_kv::command::Proposal {
        caller: None,
        command,
    }
    .encode()
}

/// Runs what is due, the sequencer's words first.
fn work(keyspace: &mut Keyspace, now: Time, words: &'static str) {
    keyspace.hurry();
    loop {
        if keyspace.is_sequencer_due(now) {
            keyspace.set_sequencer(Bytes::from_static(words.as_bytes()));
        }
        let Some(job) = keyspace.next_job(now) else {
            return;
        };
        keyspace.finish(job.run()).expect("the disk is well");
    }
}

#[test]
fn an_op_that_changes_nothing_moves_the_applied_op_alone() {
    let storage = Storage::new();
    let mut keyspace = open(&storage);
    keyspace.set_sequencer(Bytes::from_static(b"nothing yet"));
    keyspace.advance(Op::new(1), Term::new(4));
    let body = proposal(put("a", "1"));
    let applied = keyspace.apply(Time::ZERO, Op::new(2), Term::new(4), &body);
    assert_eq!(applied.revision.value(), 2);
    keyspace.advance(Op::new(3), Term::new(5));
    keyspace.publish(&mut Vec::new());
    let view = keyspace.reader().view();
    assert_eq!((view.applied, view.term), (Op::new(3), Term::new(5)));
    assert_eq!(view.root.revision().value(), 2);
    work(&mut keyspace, Time::ZERO + SECOND, "three ops");
    assert_eq!(keyspace.durable_op(), Op::new(3));
    drop(keyspace);
    let keyspace = open(&storage.reopen(Survival::Drop));
    assert_eq!(
        (keyspace.applied(), keyspace.term()),
        (Op::new(3), Term::new(5))
    );
    assert_eq!(keyspace.sequencer(), Some(Bytes::from_static(b"three ops")));
}

#[test]
fn the_words_cost_a_record_a_flush_and_a_quiet_store_none() {
    let mut keyspace = open(&Storage::new());
    keyspace.set_sequencer(Bytes::from_static(b"0"));
    let mut now = Time::ZERO;
    let mut asked = 0;
    for op in 1..=1_000 {
        let body = proposal(put("key", "value"));
        let applied = keyspace.apply(now, Op::new(op), Term::new(1), &body);
        assert!(applied.result.is_ok());
        if keyspace.is_sequencer_due(now) {
            asked += 1;
            keyspace.set_sequencer(Bytes::from_static(b"some"));
        }
        while let Some(job) = keyspace.next_job(now) {
            keyspace.finish(job.run()).expect("the disk is well");
        }
        now = now + Duration::from_millis(5);
    }
    assert!((4..=6).contains(&asked), "{asked} in five seconds");
    work(&mut keyspace, now, "all");
    assert!(!keyspace.is_sequencer_due(now + SECOND * 60));
}

#[test]
fn the_hash_of_a_keyspace_does_not_know_them() {
    let hash = |told: bool| {
        let mut keyspace = open(&Storage::new());
        for op in 1..=20 {
            if told {
                let words = Bytes::from(format!("words before {op}"));
                keyspace.set_sequencer(words);
            }
            let body = proposal(put("key", "value"));
            let applied = keyspace.apply(Time::ZERO, Op::new(op), Term::new(1), &body);
            assert!(applied.result.is_ok());
        }
        keyspace.publish(&mut Vec::new());
        keyspace
            .reader()
            .view()
            .hash_kv(0)
            .expect("all can be read")
    };
    assert_eq!(hash(true), hash(false));
}

#[test]
fn damage_that_applying_comes_across_is_told() {
    let storage = Storage::new();
    let mut keyspace = open(&storage);
    let body = proposal(put("key", "a value to be kept"));
    drop(keyspace.apply(Time::ZERO, Op::new(1), Term::new(1), &body));
    work(&mut keyspace, Time::ZERO + SECOND, "unused");
    assert_eq!(keyspace.harm(), None);
    let mut harmed = false;
    for name in storage.names() {
        let bytes = storage.bytes(&name).expect("it was listed");
        let at = bytes.windows(7).position(|it| it == b"a value");
        if let Some(at) = at.filter(|_| name.ends_with(".seg")) {
            storage.flip(&name, ByteCount::new(at as u64), 1);
            harmed = true;
        }
    }
    assert!(harmed, "the value is in a segment");
    let kept = Command::Put(holm_kv::command::Put {
        key: Bytes::from_static(b"key"),
        ignore_value: true,
        ..Default::default()
    });
    let applied = keyspace.apply(Time::ZERO, Op::new(2), Term::new(1), &proposal(kept));
    let refused = applied.result;
    assert!(
        matches!(refused, Err(Refusal::Corrupt { .. })),
        "{refused:?}"
    );
    assert!(keyspace.harm().is_some());
}

#[test]
fn who_follows_ends_no_lease_and_renews_none() {
    let mut world = World::new(config());
    world.done(Command::LeaseGrant {
        id: 7,
        ttl: 5,
        ttl_min: 1,
    });
    assert!(world.keyspace.wake_at().is_some());
    world.keyspace.follow();
    let late = world.now + SECOND * 60;
    assert_eq!(world.keyspace.renew(late, 7), Err(Refusal::Busy));
    let due = world.keyspace.due(late);
    assert_eq!(due, None);
    // A new leader gives what is granted, and an election timeout.
    world.keyspace.lead(late, Term::new(2));
    assert_eq!(world.keyspace.due(late + SECOND * 5), None);
    let due = world.keyspace.due(late + SECOND * 7);
    let ids = vec![7];
    let term = Term::new(2);
    assert_eq!(due, Some(Command::LeaseExpire { term, ids }));
}

#[test]
fn what_was_proposed_before_following_is_forgotten() {
    let mut world = World::new(config());
    world.done(Command::LeaseGrant {
        id: 7,
        ttl: 5,
        ttl_min: 1,
    });
    let late = world.now + SECOND * 10;
    assert!(world.keyspace.due(late).is_some());
    world.keyspace.follow();
    // Told late that it was not taken, it does not file the lease anew.
    world.keyspace.refused(late);
    assert_eq!(world.keyspace.due(late + SECOND * 100), None);
}
