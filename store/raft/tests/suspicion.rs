//! What a hint that the leader's process has ended may change, and what it may not.

mod support;

use std::time::Duration;

use holm_base::{NodeId, Op, Term, Time};
use holm_raft::{Body, Event, Input, Message, Position, ReadMode, RoleName};
use support::stage::Stage;
use support::{Out, id};

/// The election timeout and the length of a turn, as configured by default.
const TIMEOUT: u64 = 1_000;
const TURN: u64 = 100;

/// Three nodes that follow node 1 and heard it just now.
fn led() -> Stage {
    let mut stage = Stage::group(3, 0, |config| config.read_mode = ReadMode::Lease);
    stage.elect(1);
    stage.pass(TURN, &[]);
    stage.said();
    stage
}

fn suspect(stage: &mut Stage, node: u64) -> Vec<Out> {
    stage.input(id(node), Input::Suspect { peer: id(1) })
}

fn role(stage: &Stage, node: u64) -> RoleName {
    stage.hosts[&id(node)].raft().role()
}

fn term(stage: &Stage, node: u64) -> u64 {
    stage.hosts[&id(node)].raft().term().value()
}

/// How long until some node other than 1 leads, which is silent.
fn replaced_after(stage: &mut Stage) -> u64 {
    (1..5_000)
        .find(|_| {
            stage.pass(1, &[1]);
            (2..4).any(|node| role(stage, node) == RoleName::Leader)
        })
        .expect("somebody leads at last")
}

fn asks(stage: &mut Stage, node: u64, body: Body) -> bool {
    let term = Term::new(term(stage, node) + 1);
    let message = Message { term, body };
    let from = id(5 - node);
    let mut out = stage.input(id(node), Input::Message { from, message });
    let now = stage.now;
    let host = stage.hosts.get_mut(&id(node)).expect("it exists");
    out.extend(host.sync(now, usize::MAX));
    out.iter().any(|out| {
        let Out::Sent(_, message) = out else {
            return false;
        };
        matches!(
            message.body,
            Body::PreVoteReply { is_granted: true } | Body::VoteReply { is_granted: true }
        )
    })
}

#[test]
fn a_dead_leader_is_replaced_as_soon_as_its_lease_is_over() {
    for lost in 0..4 {
        let mut stage = led();
        // One of the two may have been told nothing, or the hints may come late.
        if lost != 1 {
            suspect(&mut stage, 2);
        }
        if lost == 3 {
            stage.pass(TIMEOUT / 2, &[1]);
        }
        if lost != 2 {
            suspect(&mut stage, 3);
        }
        let base = if lost == 3 { TIMEOUT / 2 } else { 0 };
        let took = base + replaced_after(&mut stage);
        assert!(took >= TIMEOUT, "{lost}: {took} ms: within the lease");
        assert!(took <= TIMEOUT + 2 * TURN, "{lost}: {took} ms");
    }
}

#[test]
fn a_voter_that_suspects_is_as_loyal_as_any() {
    let last = Position {
        term: Term::new(1),
        op: Op::new(9),
    };
    let ask = [
        Body::PreVote { last },
        Body::Vote {
            last,
            is_transfer: false,
        },
    ];
    for body in ask {
        let mut stage = led();
        suspect(&mut stage, 2);
        suspect(&mut stage, 3);
        stage.pass(TIMEOUT - 1, &[1]);
        assert!(!asks(&mut stage, 3, body.clone()), "within the lease");
        stage.now = stage.now + Duration::from_millis(1);
        assert!(asks(&mut stage, 3, body), "and not a moment longer");
    }
}

#[test]
fn a_hint_about_a_leader_that_speaks_changes_nothing() {
    let (mut stage, mut twin) = (led(), led());
    for _ in 0..40 {
        for node in [2, 3] {
            let out = suspect(&mut stage, node);
            let noted = |out: &Out| matches!(out, Out::Noted(Event::LeaderSuspected { .. }));
            assert!(out.iter().all(noted), "{out:?}");
        }
        stage.pass(TURN, &[]);
        twin.pass(TURN, &[]);
    }
    assert_eq!(stage.run("state"), twin.run("state"));
    assert_eq!((role(&stage, 1), term(&stage, 1)), (RoleName::Leader, 1));
}

#[test]
fn a_flapping_link_brings_no_storm_of_elections() {
    let mut stage = led();
    let mut asked = 0;
    for _ in 0..1_000 {
        // The link to node 3 is up for a moment at a time, too short for a word, and hung up on.
        let out = suspect(&mut stage, 3);
        asked += out.len();
        stage.pass(10, &[3]);
        asked += stage.said().matches("n3 PreCampaigned").count();
    }
    assert_eq!((role(&stage, 1), term(&stage, 1)), (RoleName::Leader, 1));
    assert_eq!(term(&stage, 3), 1, "asking moves no term");
    // For one timeout in turns, and from then on as seldom as without any hint.
    let most = usize::try_from(TIMEOUT / TURN + 10_000 / TIMEOUT).expect("few");
    assert!(asked <= most + 2, "{asked} hints taken and questions asked");
    stage.pass(300, &[]);
    assert_eq!((role(&stage, 1), term(&stage, 1)), (RoleName::Leader, 1));
    assert_eq!(role(&stage, 3), RoleName::Follower);
}

#[test]
fn the_better_log_goes_first_whoevers_turn_it_is() {
    let mut stage = led();
    stage.request(1, "only node 3 has this");
    stage.settle_without(&[2]);
    stage.mail.clear();
    suspect(&mut stage, 2);
    suspect(&mut stage, 3);
    let took = replaced_after(&mut stage);
    assert_eq!(role(&stage, 3), RoleName::Leader);
    assert!(took <= TIMEOUT + TURN / 2, "{took} ms: it did not wait");
    assert_eq!(term(&stage, 3), 2, "and nobody asked for votes in vain");
}

#[test]
fn hints_about_others_than_the_leader_change_nothing() {
    let mut stage = led();
    let before = stage.hosts[&id(2)].raft().clone();
    let now = stage.now;
    for peer in [2, 3, 9] {
        let peer = NodeId::new(peer);
        assert!(stage.input(id(2), Input::Suspect { peer }).is_empty());
    }
    assert!(
        suspect(&mut stage, 1).is_empty(),
        "a leader suspects nobody"
    );
    assert_eq!(*stage.hosts[&id(2)].raft(), before);
    assert!(now > Time::ZERO);
}
