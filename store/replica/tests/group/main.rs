//! Three replicas over virtual disks in one loop: the same state everywhere, through loss,
//! crashes and changes of the leader.

#![allow(unreachable_pub, reason = "the modules of one test")]

mod islands;
mod lease;
mod nodes;
mod site;
mod snapshot;
mod world;

use std::time::Duration;

use holm_base::NodeId;
use holm_kv::Refusal;
use holm_kv::command::Command;
use holm_raft::{Change, Operation, Outcome, Refused, RoleName};
use holm_replica::{Answer, Event, Input, OpenError};
use holm_virtual::Survival;
use site::Site;
use world::{Asked, Weather, World};

/// Asks something that is neither put nor read, and runs until it is answered.
fn settle_other(
    world: &mut World,
    at: usize,
    input: impl FnOnce(holm_base::RequestId) -> Input,
) -> Answer {
    world.done.clear();
    world.other(at, input);
    world.run_until("an answer", |it| {
        it.done.iter().any(|(asked, _)| *asked == Asked::Other)
    });
    let at = world.done.iter().position(|it| it.0 == Asked::Other);
    world.done.swap_remove(at.expect("it was just seen")).1
}

#[test]
fn a_write_at_any_site_is_seen_at_all() {
    let mut world = World::calm(1);
    for at in 0..3 {
        world.put(at, &format!("from{at}"));
    }
    world.run_until("three answers", |it| it.acknowledged.len() == 3);
    world.heal();
    assert_eq!(
        world.sites[0].revision(),
        4,
        "revisions are dense (raft I15)"
    );
    for at in 0..3 {
        for from in 0..3 {
            assert!(world.sites[at].value(&format!("from{from}")).is_some());
        }
    }
}

#[test]
fn a_read_anywhere_sees_what_was_acknowledged_elsewhere() {
    let mut world = World::calm(2);
    for round in 0..20 {
        let at = round % 3;
        world.put(at, &format!("key{round}"));
        world.run_until("an answer", |it| it.acknowledged.len() == round + 1);
        world.read((at + 1) % 3);
        world.read((at + 2) % 3);
    }
    world.heal();
    let reads = world.done.iter().filter(|it| matches!(it.1, Answer::Read));
    assert_eq!(reads.count(), 40);
}

#[test]
fn each_site_and_then_all_find_everything_after_a_crash() {
    let mut world = World::calm(3);
    for at in 0..3 {
        world.put(at, &format!("before{at}"));
        world.run(200);
        world.crash(at);
        world.put((at + 1) % 3, &format!("without{at}"));
        world.run(4_000);
        world.restart(at);
        world.run(3_000);
    }
    assert_eq!(world.acknowledged.len(), 6);
    for at in 0..3 {
        world.crash(at);
    }
    world.heal();
    assert_eq!(world.sites[0].revision(), 7);
}

#[test]
fn what_the_engine_kept_and_what_the_log_kept_fit_together_at_every_moment() {
    // Crashes at each moment of a second and a half, in which engines flush and are marked.
    for step in 0..8 {
        let mut world = World::calm(4);
        for number in 0..40 {
            world.put(number % 3, &format!("key{number}"));
            world.run(40);
        }
        world.run(190 * step);
        for at in 0..3 {
            world.crash(at);
        }
        world.heal();
        assert_eq!(world.acknowledged.len(), 40, "step {step}");
    }
}

#[test]
fn a_cut_off_leader_stops_leading_and_its_writes_wait() {
    let mut world = World::calm(5);
    let old = world.leader().expect("it is calm");
    world.cut.insert(old);
    let lost = world.put(old, "lost");
    let read = world.read(old);
    world.run(3_000);
    assert!(
        world.asked.contains_key(&lost),
        "a minority promises nothing"
    );
    assert!(world.asked.contains_key(&read), "and reads nothing");
    assert_ne!(world.role(old), RoleName::Leader, "no quorum is heard");
    assert!(world.sites[old].events.contains(&Event::Follows));
    let renewed = settle_other(&mut world, old, |request| Input::LeaseRenew {
        request,
        lease: 5,
    });
    assert!(
        matches!(renewed, Answer::Refused(Refusal::NoLeader)),
        "{renewed:?}"
    );
    world.run_until("another leader", |it| {
        it.leader().is_some_and(|it| it != old)
    });
    let next = world.leader().expect("it was just seen");
    world.put(next, "kept");
    world.run_until("an answer to the new leader", |it| {
        it.acknowledged.contains("kept")
    });
    world.heal();
    assert!(world.acknowledged.contains("lost"), "it was sent again");
}

#[test]
fn leases_run_at_the_leader_and_can_be_renewed_anywhere() {
    let mut world = World::calm(6);
    let follower = world.follower();
    let grant = Command::LeaseGrant {
        id: 5,
        ttl: 10,
        ttl_min: 2,
    };
    world.propose(follower, Asked::Other, grant);
    world.run_until("an answer", |it| it.asked.is_empty());
    for _ in 0..5 {
        world.run(6_000);
        let answer = settle_other(&mut world, follower, |request| Input::LeaseRenew {
            request,
            lease: 5,
        });
        assert!(matches!(answer, Answer::Renewed(Ok(10))), "{answer:?}");
    }
    let answer = settle_other(&mut world, follower, |request| Input::LeaseTimeToLive {
        request,
        lease: 5,
        with_keys: true,
    });
    let Answer::Lease(Ok(view)) = answer else {
        panic!("{answer:?}");
    };
    assert!((8..=10).contains(&view.ttl), "{view:?}");
    assert_eq!(view.granted_ttl, 10);
    let answer = settle_other(&mut world, follower, |request| Input::Leases { request });
    assert!(matches!(&answer, Answer::Leases(Ok(ids)) if ids == &[5]));
    let answer = settle_other(&mut world, follower, |request| Input::LeaseRenew {
        request,
        lease: 6,
    });
    let unknown = Answer::Renewed(Err(Refusal::LeaseNotFound));
    assert_eq!(format!("{answer:?}"), format!("{unknown:?}"));
    world.run(15_000);
    let answer = settle_other(&mut world, follower, |request| Input::Leases { request });
    assert!(matches!(&answer, Answer::Leases(Ok(ids)) if ids.is_empty()));
    world.heal();
}

#[test]
fn a_lease_outlives_its_leader_and_ends_once() {
    let mut world = World::calm(7);
    for id in 1..=20 {
        let grant = Command::LeaseGrant {
            id,
            ttl: 5,
            ttl_min: 2,
        };
        world.propose(0, Asked::Other, grant);
    }
    world.run_until("answers", |it| it.asked.is_empty());
    let old = world.leader().expect("it is calm");
    let begun = world.now;
    world.run(4_000);
    world.crash(old);
    world.run_until("another leader", |it| it.leader().is_some());
    let next = world.leader().expect("it was just seen");
    let count = |world: &World| world.sites[next].replica().keyspace().leases().len();
    assert_eq!(
        count(&world),
        20,
        "the new leader gives them their time anew"
    );
    world.run_until("their end", |it| count(it) == 0);
    assert!(world.now >= begun + Duration::from_secs(9));
    world.heal();
    let before = world.sites[next].revision();
    world.run(10_000);
    assert_eq!(world.sites[next].revision(), before, "nothing ends twice");
}

#[test]
fn commands_that_are_sent_again_are_applied_once() {
    let mut world = World::calm(8);
    world.weather = Weather {
        loss: 300,
        late: 300,
        slow: 200,
    };
    for number in 0..200 {
        world.put(number % 3, &format!("key{number}"));
        world.run(20);
    }
    world.heal();
    assert_eq!(world.acknowledged.len(), 200);
    assert_eq!(world.sites[0].revision(), 201, "no more and no fewer");
}

#[test]
fn members_change_at_any_site_and_leadership_at_the_leader() {
    let mut world = World::calm(9);
    let follower = world.follower();
    let to = world.node(follower);
    let mut operate = |at, operation| {
        settle_other(&mut world, at, |request| Input::Operate {
            request,
            operation,
        })
    };
    let learner = Operation::Change(Change::AddLearner(NodeId::new(4)));
    let answer = operate(follower, learner.clone());
    assert!(
        matches!(answer, Answer::Operated(Ok(Outcome::Changed { .. }))),
        "{answer:?}"
    );
    let answer = operate(follower, learner);
    assert!(
        matches!(answer, Answer::Operated(Err(Refused::NoSuchChange))),
        "{answer:?}"
    );
    let move_to = Operation::MoveLeader { to };
    let answer = operate(follower, move_to.clone());
    assert!(
        matches!(answer, Answer::Operated(Err(Refused::NotLeader { .. }))),
        "{answer:?}"
    );
    let answer = operate((follower + 2) % 3, move_to);
    assert!(
        matches!(answer, Answer::Operated(Ok(Outcome::Moved { .. }))),
        "{answer:?}"
    );
    world.run_until("the new leader", |it| it.leader() == Some(follower));
}

#[test]
fn a_long_silent_site_is_helped_from_the_log() {
    let mut world = World::calm(10);
    let away = world.follower();
    world.crash(away);
    let at = world.leader().expect("two are enough");
    for number in 0..300 {
        world.put(at, &format!("key{number}"));
        if number % 10 == 0 {
            world.run(20);
        }
    }
    // Engines flush meanwhile, and the log could be cut but for the one that is away.
    world.run(5_000);
    world.heal();
    assert_eq!(world.acknowledged.len(), 300);
}

#[test]
fn a_log_is_cut_and_who_joins_behind_that_gets_a_snapshot() {
    let mut world = World::new(13);
    for at in 0..3 {
        world.crash(at);
        world.sites[at].kept_ops = 20;
        world.restart(at);
    }
    world.run_until("a leader", |it| it.leader().is_some());
    for number in 0..100 {
        world.put(number % 3, &format!("key{number}"));
        world.run(20);
    }
    world.run(5_000);
    for site in &world.sites {
        let standing = site.replica().standing();
        let kept = standing.last.value() + 1 - standing.first.value();
        assert!((20..90).contains(&kept), "{standing:?}");
    }
    let mut joiner = Site::new(4, &[]);
    joiner.start(world.now);
    world.sites.push(joiner);
    let operation = Operation::Change(Change::AddLearner(NodeId::new(4)));
    let leader = world.leader().expect("it is calm");
    settle_other(&mut world, leader, |request| Input::Operate {
        request,
        operation,
    });
    world.run_until("the same at who joined", |it| {
        it.sites[3].revision() == it.sites[0].revision()
    });
    let is_installed = |event: &Event| {
        matches!(
            event,
            Event::Raft(holm_raft::Event::SnapshotInstalled { .. })
        )
    };
    assert!(world.sites[3].events.iter().any(is_installed));
    world.heal();
}

/// Damages what was written last to a site's log.
fn damage_newest(site: &Site) {
    let newest = |name: &String| {
        let is_segment = name.starts_with("log/") && name.contains(".seg");
        let bytes = site.storage.bytes(name).filter(|_| is_segment)?;
        let last = bytes.iter().rposition(|it| *it != 0)?;
        Some((name.clone(), last as u64 / 4096 * 4096 + 1024))
    };
    let names = site.storage.names();
    let (name, at) = names
        .iter()
        .filter_map(newest)
        .next_back()
        .expect("there is a log");
    site.storage.flip(&name, holm_base::ByteCount::new(at), 1);
}

#[test]
fn a_site_with_a_damaged_log_recovers_from_the_others() {
    // Without and with an engine that knows more than what stands before the damage.
    for pause in [0, 4_000] {
        let mut world = World::calm(14);
        for number in 0..20 {
            world.put(number % 3, &format!("key{number}"));
            world.run(50);
        }
        world.run(pause);
        let at = world.follower();
        world.crash(at);
        damage_newest(&world.sites[at]);
        world.restart(at);
        assert_eq!(world.role(at), RoleName::Recovering, "pause {pause}");
        world.put(at, "late");
        world.heal();
        assert_eq!(world.role(at), RoleName::Follower, "pause {pause}");
        assert!(world.acknowledged.contains("late"));
        world.crash(at);
        world.heal();
        assert_eq!(world.sites[at].revision(), 22);
    }
}

#[test]
fn a_batch_is_one_message_to_each_site() {
    let mut world = World::calm(11);
    let leader = world.leader().expect("it is calm");
    world.run(50);
    let before = world.sites[leader].sent[0];
    for number in 0..100 {
        world.put(leader, &format!("key{number}"));
    }
    world.run_until("answers", |it| it.asked.is_empty());
    let sent = world.sites[leader].sent[0] - before;
    assert!(sent <= 16, "{sent} messages for one batch of 100 puts");
}

#[test]
fn a_member_and_a_node_alone_do_not_open_each_others_folders() {
    let mut world = World::calm(12);
    world.put(0, "key");
    world.run(5_000);
    world.crash(0);
    let storage = world.sites[0].storage.reopen(Survival::Keep);
    let config = holm_log::LogConfig::new(holm_base::ClusterId::new(1), NodeId::new(1));
    let kv = holm_kv::Config::default();
    let alone = holm_replica::open(&*storage.root(), site::GROUP, config, kv.clone());
    assert!(alone.is_err(), "it is a member's");

    let mut site = Site::new(1, &[1, 2, 3]);
    let opened = holm_replica::open(&*site.storage.root(), site::GROUP, config, kv);
    let mut alone = opened.expect("it is empty");
    let record = holm_sequencer::Record::Entry {
        term: holm_base::Term::new(1),
        op: holm_base::Op::new(1),
        form: holm_sequencer::Form::Plain,
        body: bytes::Bytes::from_static(b"x"),
    };
    let flushed = alone
        .log
        .flush(site::GROUP, &[record], holm_log::Urgency::Ordinary);
    flushed.expect("there is room");
    drop(alone);
    site.storage = site.storage.reopen(Survival::Keep);
    let error = site.try_open().expect_err("it is a node's alone");
    assert!(matches!(error, OpenError::Alone), "{error}");
}

/// One run in a hostile world; everything is drawn from the seed. How many writes were
/// acknowledged.
fn storm(seed: u64) -> usize {
    let mut world = World::new(seed);
    let mut number = 0;
    for _ in 0..40 {
        world.weather = Weather {
            loss: world.prng.below(4) * 60,
            late: world.prng.below(4) * 100,
            slow: world.prng.below(4) * 150,
        };
        let at = usize::try_from(world.prng.below(3)).expect("one of three");
        match world.prng.below(6) {
            0 if world.sites[at].up.is_some() => world.crash(at),
            1 if world.sites[at].up.is_none() => world.restart(at),
            2 => {
                world.cut.insert(at);
            }
            3 => world.cut.clear(),
            _ => {}
        }
        for _ in 0..world.prng.below(12) {
            let at = usize::try_from(world.prng.below(3)).expect("one of three");
            if world.sites[at].up.is_some() {
                number += 1;
                world.put(at, &format!("key{number}"));
                world.read(at);
                let (id, ttl) = (number, 2 + number % 50);
                let grant = Command::LeaseGrant {
                    id,
                    ttl,
                    ttl_min: 2,
                };
                world.propose(at, Asked::Other, grant);
                let lease = number / 2;
                world.other(at, |request| Input::LeaseRenew { request, lease });
            }
        }
        let millis = world.prng.below(1_500);
        world.run(millis);
    }
    world.heal();
    world.acknowledged.len()
}

#[test]
fn many_storms_lose_nothing() {
    let acknowledged: usize = (0..16).map(storm).sum();
    assert!(
        acknowledged > 500,
        "only {acknowledged} writes were acknowledged"
    );
}
