//! One test a claim of the Raft paper (Ongaro and Ousterhout, extended version) and of the
//! thesis, section cited.

mod support;

use std::time::Duration;

use holm_base::{Op, Term, Time};
use holm_machine::Machine;
use holm_raft::{
    Body, Change, Config, Configuration, Entry, Hard, Input, Message, Operation, Payload, Position,
    Restored, RoleName,
};
use support::stage::Stage;
use support::{Host, Out, id};

fn group(voters: u64) -> Stage {
    Stage::group(voters, 0, |_| ())
}

fn role(stage: &Stage, node: u64) -> RoleName {
    stage.hosts[&id(node)].raft().role()
}

fn blank(op: u64, term: u64) -> Entry {
    Entry {
        op: Op::new(op),
        term: Term::new(term),
        payload: Payload::Blank,
    }
}

fn with_log(node: u64, voters: u64, terms: &[u64], term: u64) -> Host {
    let mut restored = Restored::fresh(Configuration::new((1..=voters).map(id)));
    restored.entries = (1..)
        .zip(terms)
        .map(|(op, &term)| blank(op, term))
        .collect();
    restored.hard = Hard {
        term: Term::new(term),
        ..Hard::default()
    };
    Host::new(Config::new(id(node), 1), restored, Time::ZERO)
}

fn sent(out: &[Out], wanted: impl Fn(&Body) -> bool) -> usize {
    let is_wanted = |out: &&Out| matches!(out, Out::Sent(_, message) if wanted(&message.body));
    out.iter().filter(is_wanted).count()
}

fn vote(term: u64, last: (u64, u64)) -> Input {
    Input::Message {
        from: id(1),
        message: Message {
            term: Term::new(term),
            body: Body::Vote {
                last: Position {
                    term: Term::new(last.0),
                    op: Op::new(last.1),
                },
                is_transfer: false,
            },
        },
    }
}

fn grants(host: &mut Host, input: Input) -> bool {
    let late = Time::ZERO + Duration::from_secs(9);
    let mut out = host.step(late, input);
    out.extend(host.sync(late, usize::MAX));
    sent(&out, |body| {
        matches!(body, Body::VoteReply { is_granted: true })
    }) == 1
}

#[test]
fn s5_2_timeouts_are_spread_over_one_to_two_election_timeouts() {
    let mut due: Vec<Duration> = Vec::new();
    for node in 1..=200 {
        let restored = Restored::fresh(Configuration::new((1..=200).map(id)));
        let host = Host::new(Config::new(id(node), 1), restored, Time::ZERO);
        let at = host.raft().wake_at().expect("it waits for a leader");
        due.push(at - Time::ZERO);
    }
    let second = Duration::from_secs(1);
    assert!(
        due.iter().all(|due| (second..second * 2).contains(due)),
        "{due:?}"
    );
    let early = due.iter().filter(|due| **due < second * 3 / 2).count();
    assert!((60..140).contains(&early), "{early} of 200 are early");
}

#[test]
fn s5_2_a_server_votes_for_one_candidate_a_term_first_come_first_served() {
    let mut host = with_log(2, 3, &[1], 1);
    assert!(grants(&mut host, vote(2, (1, 1))));
    assert!(
        grants(&mut host, vote(2, (1, 1))),
        "the same candidate may ask again"
    );
    let Input::Message { message, .. } = vote(2, (1, 1)) else {
        panic!("a vote is a message");
    };
    let from = id(3);
    assert!(!grants(&mut host, Input::Message { from, message }));
}

#[test]
fn s5_2_a_vote_survives_a_crash() {
    let mut host = with_log(2, 3, &[1], 1);
    assert!(grants(&mut host, vote(2, (1, 1))));
    host.crash();
    host.restart(Time::ZERO);
    let Input::Message { message, .. } = vote(2, (1, 1)) else {
        panic!("a vote is a message");
    };
    let from = id(3);
    assert!(!grants(&mut host, Input::Message { from, message }));
}

#[test]
fn s5_3_a_leader_replicates_before_its_own_disk_is_done() {
    // Thesis 10.2.1: the leader's write overlaps replication.
    let mut stage = group(3);
    stage.elect(1);
    stage.request(1, "a");
    let appends = |(_, _, message): &&(_, _, Message)| matches!(message.body, Body::Append { .. });
    assert_eq!(stage.mail.iter().filter(appends).count(), 2);
    assert_eq!(stage.hosts[&id(1)].raft().durable_op(), Op::new(1));
}

#[test]
fn s5_4_1_a_voter_refuses_whose_log_is_behind_by_last_term_then_length() {
    for (last, is_granted) in [
        ((2, 3), true),
        ((2, 2), false),
        ((3, 1), true),
        ((1, 9), false),
        ((2, 4), true),
    ] {
        let mut host = with_log(2, 3, &[1, 2, 2], 2);
        assert_eq!(grants(&mut host, vote(5, last)), is_granted, "I8: {last:?}");
    }
}

#[test]
fn s5_4_2_an_entry_of_an_earlier_term_is_not_committed_by_counting() {
    // Figure 8: the leader of term 4 spreads the entry of term 2 to a majority.
    let mut stage = group(5);
    for node in 1..=5 {
        let terms: &[u64] = if node <= 2 { &[1, 2] } else { &[1] };
        stage.hosts.insert(id(node), with_log(node, 5, terms, 3));
    }
    stage.now = Time::ZERO + Duration::from_secs(2);
    stage.input(id(1), Input::Wake);
    for node in 2..=3 {
        stage.deliver(1, node, "PreVote");
        stage.deliver(node, 1, "PreVoteReply");
    }
    stage.sync(id(1), usize::MAX);
    for node in 2..=3 {
        stage.deliver(1, node, "Vote");
        stage.sync(id(node), usize::MAX);
        stage.deliver(node, 1, "VoteReply");
    }
    assert_eq!(role(&stage, 1), RoleName::Leader);
    stage.sync(id(1), usize::MAX);
    // Entries of term 2 alone reach a majority: what carries the new term's entry is lost.
    let acknowledge = |stage: &mut Stage, node: u64, matched: u64| {
        let message = Message {
            term: stage.hosts[&id(1)].raft().term(),
            body: Body::Ack {
                matched: Op::new(matched),
                is_recovering: false,
            },
        };
        stage.input(
            id(1),
            Input::Message {
                from: id(node),
                message,
            },
        );
    };
    acknowledge(&mut stage, 2, 2);
    acknowledge(&mut stage, 3, 2);
    assert_eq!(stage.hosts[&id(1)].raft().commit(), Op::ZERO, "I3");
    acknowledge(&mut stage, 2, 3);
    acknowledge(&mut stage, 3, 3);
    assert_eq!(stage.hosts[&id(1)].raft().commit(), Op::new(3));
}

#[test]
fn s5_5_a_repeated_append_changes_nothing() {
    let mut stage = group(3);
    stage.elect(1);
    stage.request(1, "a");
    let message = stage
        .take(id(1), id(2), Some("Append"))
        .expect("it was sent");
    let from = id(1);
    for _ in 0..3 {
        let message = message.clone();
        stage.input(id(2), Input::Message { from, message });
    }
    let host = &stage.hosts[&id(2)];
    assert_eq!(host.raft().last().op, Op::new(2));
    assert_eq!(host.writing.len(), 1, "it is written once");
}

#[test]
fn s5_5_what_is_durable_already_is_acknowledged_again_at_once() {
    let mut stage = group(3);
    stage.elect(1);
    stage.request(1, "a");
    let message = stage
        .take(id(1), id(2), Some("Append"))
        .expect("it was sent");
    let from = id(1);
    let copy = message.clone();
    stage.input(
        id(2),
        Input::Message {
            from,
            message: copy,
        },
    );
    assert!(
        stage.take(id(2), id(1), Some("Ack")).is_none(),
        "I4: it is not durable yet"
    );
    stage.sync(id(2), usize::MAX);
    assert!(stage.take(id(2), id(1), Some("Ack")).is_some());
    // No new write follows, so nothing that waits for one would ever leave.
    stage.input(id(2), Input::Message { from, message });
    assert!(
        stage.take(id(2), id(1), Some("Ack")).is_some(),
        "machine I2"
    );
}

#[test]
fn s6_a_leader_that_is_not_in_the_new_configuration_leaves_once_that_is_committed() {
    let mut stage = group(3);
    stage.elect(1);
    stage.operate(1, Operation::Change(Change::Remove(id(1))));
    assert_eq!(role(&stage, 1), RoleName::Leader);
    stage.settle();
    assert_eq!(role(&stage, 1), RoleName::Follower);
    let leaders = (2..=3).filter(|&node| role(&stage, node) == RoleName::Leader);
    assert_eq!(leaders.count(), 1, "it named its successor");
    stage.pass(5_000, &[]);
    assert_eq!(role(&stage, 1), RoleName::Follower);
}

#[test]
fn s6_votes_are_refused_within_an_election_timeout_of_hearing_a_leader() {
    let mut stage = group(3);
    stage.elect(1);
    let out = stage.input(id(2), vote(9, (1, 9)));
    assert!(out.is_empty(), "not even the term is taken: {out:?}");
    assert_eq!(stage.hosts[&id(2)].raft().term(), Term::new(1));
}

#[test]
fn thesis_4_2_3_votes_are_refused_just_after_a_restart() {
    // Who crashed may have promised a lease to a leader that it has forgotten to have heard.
    let mut stage = group(3);
    stage.elect(1);
    stage.hosts.get_mut(&id(2)).expect("it exists").crash();
    let now = stage.now;
    stage.hosts.get_mut(&id(2)).expect("it exists").restart(now);
    stage.now = now + Duration::from_millis(900);
    assert!(stage.input(id(2), vote(9, (1, 9))).is_empty());
    stage.now = now + Duration::from_millis(1_001);
    stage.input(id(2), vote(9, (1, 9)));
    assert_eq!(stage.hosts[&id(2)].raft().term(), Term::new(9));
}

#[test]
fn thesis_9_6_a_server_that_cannot_win_does_not_raise_terms() {
    let mut stage = group(3);
    stage.elect(1);
    stage.pass(60_000, &[3]);
    assert_eq!(stage.hosts[&id(3)].raft().term(), Term::new(1));
    stage.pass(1_000, &[]);
    assert_eq!(role(&stage, 1), RoleName::Leader);
    assert_eq!(stage.hosts[&id(1)].raft().term(), Term::new(1));
}

#[test]
fn thesis_3_10_a_transfer_waits_until_the_target_has_everything() {
    let mut stage = group(3);
    stage.elect(1);
    stage.request(1, "a");
    stage.operate(1, Operation::MoveLeader { to: id(3) });
    assert!(stage.take(id(1), id(3), Some("TimeoutNow")).is_none());
    stage.deliver(1, 3, "Append");
    stage.sync(id(3), usize::MAX);
    stage.deliver(3, 1, "Ack");
    assert!(stage.take(id(1), id(3), Some("TimeoutNow")).is_some());
}

#[test]
fn thesis_6_4_a_leader_answers_no_read_before_it_has_committed_in_its_term() {
    let mut stage = group(3);
    stage.now = Time::ZERO + Duration::from_secs(2);
    stage.input(id(1), Input::Wake);
    stage.deliver(1, 2, "PreVote");
    stage.deliver(2, 1, "PreVoteReply");
    stage.sync(id(1), usize::MAX);
    stage.deliver(1, 2, "Vote");
    stage.sync(id(2), usize::MAX);
    stage.deliver(2, 1, "VoteReply");
    assert_eq!(role(&stage, 1), RoleName::Leader);
    let message = Message {
        term: Term::new(1),
        body: Body::ReadProbe {
            round: holm_raft::Round { boot: 1, number: 1 },
        },
    };
    let copy = message.clone();
    stage.input(
        id(1),
        Input::Message {
            from: id(3),
            message: copy,
        },
    );
    let reply = stage
        .take(id(1), id(3), Some("ReadProbeReply"))
        .expect("it answers");
    assert!(
        matches!(reply.body, Body::ReadProbeReply { read: None, .. }),
        "I7: {reply:?}"
    );
    stage.settle();
    stage.input(
        id(1),
        Input::Message {
            from: id(3),
            message,
        },
    );
    let reply = stage
        .take(id(1), id(3), Some("ReadProbeReply"))
        .expect("it answers");
    assert!(
        matches!(reply.body, Body::ReadProbeReply { read: Some(_), .. }),
        "{reply:?}"
    );
}

/// Thesis §4.2.2: the others may lack entries that only the node on its way out has, and their
/// configuration may ask for its vote.
#[test]
fn who_is_left_out_by_an_uncommitted_change_still_campaigns() {
    let mut restored = Restored::fresh(Configuration::new([id(1), id(2), id(3)]));
    let left = Configuration::new([id(2), id(3)]);
    restored.entries = vec![
        blank(1, 1),
        Entry {
            op: Op::new(2),
            term: Term::new(1),
            payload: Payload::Configuration(left.into()),
        },
    ];
    let mut host = Host::new(Config::new(id(1), 1), restored, Time::ZERO);
    let late = Time::ZERO + Duration::from_secs(3);
    let out = host.step(late, Input::Wake);
    assert_eq!(sent(&out, |body| matches!(body, Body::PreVote { .. })), 2);
}
