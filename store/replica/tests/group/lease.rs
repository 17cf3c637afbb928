//! Questions about leases, asked where what was acknowledged elsewhere may not have arrived.

use holm_base::RequestId;
use holm_kv::Refusal;
use holm_kv::command::Command;
use holm_kv::outcome::LeaseView;
use holm_replica::{Answer, Ask, Input, Message, QUESTIONS_MAX, Wish};

use crate::world::{Asked, World};

/// The three questions about a lease, at one site.
fn ask(world: &mut World, at: usize, lease: i64) {
    world.other(at, |request| Input::LeaseTimeToLive {
        request,
        lease,
        with_keys: false,
    });
    world.other(at, |request| Input::LeaseRenew { request, lease });
    world.other(at, |request| Input::Leases { request });
}

/// Whether the answer says that the lease is there, or that it is not; nothing else is allowed.
fn says_known(lease: i64, answer: &Answer) -> bool {
    match answer {
        Answer::Lease(Ok(LeaseView { ttl, .. })) => *ttl >= 0,
        Answer::Renewed(Ok(_)) => true,
        Answer::Renewed(Err(Refusal::LeaseNotFound)) => false,
        Answer::Leases(Ok(leases)) => leases.contains(&lease),
        other => panic!("lease {lease}: {other:?}"),
    }
}

/// Has a command acknowledged at a site that does not lead, asks about its lease at all sites
/// at once, and judges the answers. Whether the leader had not applied it by then.
fn is_seen_everywhere(world: &mut World, command: Command, (lease, is_known): (i64, bool)) -> bool {
    let leader = world.leader().expect("it is calm");
    let follower = world.follower();
    world.propose(follower, Asked::Other, command);
    world.run_until("an acknowledgement", |it| it.asked.is_empty());
    let leases = world.sites[leader].replica().keyspace().leases();
    let is_behind = leases.contains(&lease) != is_known;
    world.done.clear();
    for at in 0..3 {
        ask(world, at, lease);
    }
    world.run_until("answers", |it| it.asked.is_empty());
    assert_eq!(world.done.len(), 9);
    for (_, answer) in &world.done {
        assert_eq!(says_known(lease, answer), is_known, "{lease}: {answer:?}");
    }
    is_behind
}

#[test]
fn what_was_acknowledged_of_a_lease_is_known_wherever_it_is_asked() {
    let mut world = World::calm(15);
    let mut behind = [0, 0];
    for lease in 1..=20 {
        let (ttl, ttl_min) = (60, 2);
        let id = lease;
        let grant = Command::LeaseGrant { id, ttl, ttl_min };
        let was_behind = is_seen_everywhere(&mut world, grant, (lease, true));
        behind[0] += usize::from(was_behind);
        let revoke = Command::LeaseRevoke { id };
        let was_behind = is_seen_everywhere(&mut world, revoke, (lease, false));
        behind[1] += usize::from(was_behind);
    }
    assert!(
        behind[0] > 4 && behind[1] > 4,
        "the leader hardly ever knew less than the origin: {behind:?}"
    );
    world.heal();
}

#[test]
fn a_leader_that_nobody_hears_does_not_call_a_lease_unknown() {
    let mut world = World::calm(16);
    let old = world.leader().expect("it is calm");
    world.cut.insert(old);
    world.done.clear();
    ask(&mut world, old, 5);
    world.run(100);
    assert!(world.sites[old].replica().standing().leads);
    assert!(world.done.is_empty(), "{:?}", world.done);
    let next = (old + 1) % 3;
    let grant = Command::LeaseGrant {
        id: 5,
        ttl: 60,
        ttl_min: 2,
    };
    world.propose(next, Asked::Other, grant);
    world.run_until("another leader", |it| {
        it.leader().is_some_and(|it| it != old)
    });
    world.run_until("a grant", |it| !it.done.is_empty());
    world.done.clear();
    world.heal();
    assert_eq!(world.done.len(), 3, "what was asked of the old leader");
    for (_, answer) in &world.done {
        assert!(says_known(5, answer), "{answer:?}");
    }
}

#[test]
fn one_question_too_many_is_refused_or_asked_again() {
    let mut world = World::calm(17);
    let leader = world.leader().expect("it is calm");
    world.run(100);
    world.cut.insert(leader);
    world.done.clear();
    for _ in 0..=QUESTIONS_MAX {
        world.other(leader, |request| Input::LeaseTimeToLive {
            request,
            lease: 5,
            with_keys: false,
        });
    }
    world.other(leader, |request| Input::Leases { request });
    world.tick();
    let refused: Vec<_> = world.done.drain(..).map(|it| it.1).collect();
    let refused = format!("{refused:?}");
    assert_eq!(refused, "[Refused(Busy), Refused(Busy)]");

    let told = world.sites[leader].sent[2];
    let question = Ask {
        id: 1,
        op: holm_base::Op::ZERO,
        wish: Wish::TimeToLive { lease: 5 },
    };
    let (from, message) = (world.node(world.follower()), Message::Ask(question));
    let now = world.now;
    world.sites[leader].step(now, Input::Message { from, message });
    world.tick();
    assert_eq!(world.sites[leader].sent[2], told, "it is dropped");

    world.cut.clear();
    world.run_until("answers", |it| it.asked.is_empty());
    assert_eq!(world.done.len(), QUESTIONS_MAX);
    for (_, answer) in &world.done {
        assert!(!says_known(5, answer), "{answer:?}");
    }
    let request = RequestId::new(u64::MAX / 2);
    let now = world.now;
    world.sites[leader].step(now, Input::LeaseRenew { request, lease: 5 });
    world.sites[leader].settle(now);
    assert!(world.sites[leader].answers.is_empty(), "there is room anew");
}
