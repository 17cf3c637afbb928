//! What happens at each limit of the configuration.

mod support;

use std::time::Duration;

use holm_base::{NodeId, Op, RequestId, Term, Time};
use holm_raft::{
    Body, Change, Command, Config, ConfigError, Flags, Input, Message, Operation, Origin, ReadMode,
    Refused,
};
use support::stage::Stage;
use support::{Out, id};

fn tuned(tune: impl Fn(&mut Config)) -> Stage {
    let mut stage = Stage::group(3, 9, tune);
    stage.elect(1);
    stage
}

fn ask(stage: &mut Stage, node: u64, body: Vec<u8>) -> Option<Refused> {
    let request = RequestId::new(999);
    let out = stage.input(
        id(node),
        Input::Request {
            request,
            body: body.into(),
        },
    );
    refusal(&out)
}

fn refusal(out: &[Out]) -> Option<Refused> {
    out.iter().find_map(|out| match out {
        Out::Refused(_, reason) => Some(*reason),
        Out::Sent(..)
        | Out::Applied { .. }
        | Out::Advanced { .. }
        | Out::Read { .. }
        | Out::Done(..)
        | Out::Noted(_)
        | Out::Writing => None,
    })
}

#[test]
fn a_request_may_be_as_large_as_the_limit_and_no_larger() {
    let mut stage = tuned(|config| config.request_bytes_max = 100);
    assert_eq!(ask(&mut stage, 2, vec![0; 100]), None);
    assert_eq!(ask(&mut stage, 2, vec![0; 101]), Some(Refused::TooLarge));
}

#[test]
fn what_waits_too_long_for_a_leader_is_never_carried_out() {
    let patience = Duration::from_secs(7);
    let mut stage = Stage::group(3, 0, |config| config.origin_patience = Some(patience));
    stage.request(2, "early");
    let asked = stage.now;
    stage.now = asked + (patience - Duration::from_nanos(1));
    stage.input(id(2), Input::Wake);
    assert!(!stage.said().contains("refused"), "it still has time");
    stage.now = asked + patience;
    stage.input(id(2), Input::Wake);
    assert!(stage.said().contains("refused 1: TimedOut"));
    stage.now = stage.now + Duration::from_secs(2);
    stage.input(id(1), Input::Wake);
    stage.settle();
    stage.request(2, "late");
    stage.settle();
    let said = stage.said();
    assert!(said.contains("late, answers request 2"), "{said}");
    assert!(!said.contains("early"), "{said}");
}

#[test]
fn commands_that_wait_at_their_origin_are_bounded_in_number_and_bytes() {
    let mut stage = tuned(|config| config.origin_count_max = 3);
    for _ in 0..3 {
        assert_eq!(ask(&mut stage, 2, vec![0; 10]), None);
    }
    assert_eq!(ask(&mut stage, 2, vec![0; 10]), Some(Refused::Busy));
    stage.settle();
    assert_eq!(ask(&mut stage, 2, vec![0; 10]), None, "there is room again");

    let mut stage = tuned(|config| config.origin_bytes_max = 300);
    assert_eq!(ask(&mut stage, 2, vec![0; 200]), None);
    assert_eq!(ask(&mut stage, 2, vec![0; 100]), Some(Refused::Busy));
}

#[test]
fn an_origin_never_runs_ahead_of_the_window_that_tells_repetitions() {
    let mut stage = tuned(|config| config.origin_window = 64);
    for _ in 0..64 {
        assert_eq!(ask(&mut stage, 2, vec![0; 1]), None);
    }
    assert_eq!(ask(&mut stage, 2, vec![0; 1]), Some(Refused::Busy));
    stage.settle();
    assert_eq!(ask(&mut stage, 2, vec![0; 1]), None);
}

#[test]
fn a_leader_with_too_much_uncommitted_sheds_and_the_origin_tries_again() {
    let mut stage = tuned(|config| config.uncommitted_bytes_max = 400);
    for _ in 0..6 {
        ask(&mut stage, 1, vec![0; 50]);
    }
    assert_eq!(ask(&mut stage, 1, vec![0; 50]), Some(Refused::Busy));
    stage.request(2, "shed");
    stage.deliver(2, 1, "Forward");
    let said = stage.said();
    assert!(said.contains("n1 ForwardShed { origin: 2 }"), "{said}");
    stage.settle();
    stage.pass(1_500, &[]);
    let said = stage.said();
    assert!(said.contains("shed, answers request"), "{said}");
}

#[test]
fn reads_that_wait_are_bounded() {
    let mut stage = tuned(|config| {
        config.reads_max = 5;
        config.read_rounds_max = 2;
    });
    for _ in 0..5 {
        stage.read(2);
    }
    let probes = |(_, _, message): &&(NodeId, NodeId, Message)| {
        matches!(message.body, Body::ReadProbe { .. })
    };
    assert_eq!(
        stage.mail.iter().filter(probes).count(),
        4,
        "two rounds, two peers"
    );
    stage.read(2);
    assert!(stage.said().contains("refused 6: Busy"));
    stage.settle();
    let said = stage.said();
    for read in 1..=5 {
        assert!(said.contains(&format!("n2 read {read} at 1")), "{said}");
    }
}

#[test]
fn members_are_bounded() {
    let mut stage = tuned(|config| {
        config.learners_max = 2;
        config.voters_max = 3;
    });
    for node in 4..=5 {
        stage.operate(1, Operation::Change(Change::AddLearner(id(node))));
        stage.settle();
    }
    stage.operate(1, Operation::Change(Change::AddLearner(id(6))));
    assert!(stage.said().contains("refused 3: TooManyMembers"));
    stage.operate(1, Operation::Change(Change::Promote(id(4))));
    let said = stage.said();
    assert!(said.contains("refused 4: TooManyMembers"), "{said}");
}

#[test]
fn an_unsynced_learner_is_not_promoted() {
    let mut stage = tuned(|config| config.promotion_lag_max = 0);
    stage.operate(1, Operation::Change(Change::AddLearner(id(4))));
    stage.settle_without(&[4]);
    stage.operate(1, Operation::Change(Change::Promote(id(4))));
    let said = stage.said();
    assert!(said.contains("refused 2: NotInSync"), "{said}");
}

#[test]
fn appends_under_way_are_two_where_the_disk_is_as_slow_as_the_link() {
    let mut stage = tuned(|_| ());
    for round in 0..20 {
        stage.request(1, &format!("r{round}"));
    }
    let to_2 = |(_, to, message): &&(NodeId, NodeId, Message)| {
        *to == id(2) && matches!(message.body, Body::Append { .. })
    };
    assert_eq!(stage.mail.iter().filter(to_2).count(), 2);
    stage.settle();
    assert_eq!(stage.hosts[&id(2)].raft().last().op, Op::new(21));
}

#[test]
fn strangers_and_malformed_messages_are_refused_and_noted() {
    let mut stage = tuned(|_| ());
    let command = |node| Command {
        origin: Origin {
            node: id(node),
            boot: 1,
        },
        sequence: 1,
        flags: Flags::default(),
        body: "x".into(),
    };
    let forward = |node| Message {
        term: Term::new(1),
        body: Body::Forward {
            commands: vec![command(node)],
        },
    };
    stage.input(
        id(1),
        Input::Message {
            from: id(9),
            message: forward(9),
        },
    );
    stage.input(
        id(1),
        Input::Message {
            from: id(2),
            message: forward(3),
        },
    );
    stage.input(
        id(2),
        Input::Message {
            from: id(3),
            message: forward(3),
        },
    );
    let far = Message {
        term: Term::new(1),
        body: Body::Ack {
            matched: Op::new(99),
            is_recovering: false,
        },
    };
    stage.input(
        id(1),
        Input::Message {
            from: id(2),
            message: far,
        },
    );
    let said = stage.said();
    assert_eq!(said.matches("Stranger").count(), 2, "{said}");
    assert_eq!(said.matches("NotLeader").count(), 1, "{said}");
    assert_eq!(said.matches("Impossible").count(), 1, "{said}");
    assert_eq!(stage.hosts[&id(1)].raft().last().op, Op::new(1));
}

#[test]
fn what_only_a_leader_does_is_refused_elsewhere_and_seals_everywhere() {
    let mut stage = tuned(|_| ());
    stage.operate(2, Operation::Change(Change::AddLearner(id(4))));
    stage.operate(2, Operation::MoveLeader { to: id(3) });
    stage.operate(1, Operation::Seal);
    stage.operate(1, Operation::MoveLeader { to: id(4) });
    let said = stage.said();
    assert!(
        said.contains("refused 1: NotLeader { leader: 1 }"),
        "{said}"
    );
    assert!(
        said.contains("refused 2: NotLeader { leader: 1 }"),
        "{said}"
    );
    assert!(said.contains("refused 3: Unsupported"), "{said}");
    assert!(said.contains("refused 4: NoSuchChange"), "{said}");
    let request = RequestId::new(77);
    let out = stage.input(id(4), Input::Read { request });
    assert_eq!(refusal(&out), Some(Refused::NotMember));
}

#[test]
fn settings_that_cannot_work_are_named() {
    let good = Config::new(id(1), 1);
    assert_eq!(good.check(), Ok(()));
    let check = |tune: &dyn Fn(&mut Config)| {
        let mut config = good.clone();
        tune(&mut config);
        config.check()
    };
    assert!(matches!(
        check(&|config| config.reads_max = 0),
        Err(ConfigError::Zero {
            setting: "reads_max"
        })
    ));
    assert!(matches!(
        check(&|config| config.heartbeat_interval = config.election_timeout),
        Err(ConfigError::Hasty { .. })
    ));
    assert!(matches!(
        check(&|config| config.origin_window = 65),
        Err(ConfigError::Window { window: 65 })
    ));
    assert_eq!(check(&|config| config.read_mode = ReadMode::Lease), Ok(()));
}

#[test]
fn a_lease_ends_before_followers_may_elect_another() {
    let mut stage = tuned(|config| config.read_mode = ReadMode::Lease);
    stage.pass(300, &[]);
    let leader = |stage: &Stage, at: Time| stage.hosts[&id(1)].raft().has_lease(at);
    // The last heartbeat that was answered was sent when time stood at a multiple of 100 ms.
    let now = stage.now;
    assert!(leader(&stage, now));
    let later = |millis| now + Duration::from_millis(millis);
    assert!(leader(&stage, later(889)));
    assert!(
        !leader(&stage, later(991)),
        "the lease is 0.99 timeouts from sending"
    );
}

#[test]
fn a_lease_counts_from_the_sending_of_the_heartbeat_not_from_its_answer() {
    let mut stage = tuned(|config| config.read_mode = ReadMode::Lease);
    let now = stage.now;
    let later = |millis| now + Duration::from_millis(millis);
    // The first heartbeat is due 100 ms after the election; its answers take 600 ms.
    stage.now = later(100);
    stage.input(id(1), Input::Wake);
    stage.settle_without(&[1]);
    for node in 2..=3 {
        stage.deliver(1, node, "Heartbeat");
    }
    stage.now = later(700);
    for node in 2..=3 {
        stage.deliver(node, 1, "HeartbeatReply");
    }
    let raft = stage.hosts[&id(1)].raft();
    assert!(raft.has_lease(later(1_089)));
    assert!(
        !raft.has_lease(later(1_091)),
        "its voters may elect another from 1,100 ms on"
    );
}

#[test]
fn a_read_that_outlives_its_lease_asks_a_quorum() {
    let mut stage = tuned(|config| config.read_mode = ReadMode::Lease);
    stage.pass(300, &[]);
    stage.request(2, "a");
    stage.deliver(2, 1, "Forward");
    stage.said();
    // It must see the forwarded command, which its origin may count, and which is not applied.
    stage.read(1);
    assert_eq!(stage.said(), "");
    stage.now = stage.now + Duration::from_secs(2);
    stage.deliver(1, 2, "Append");
    stage.sync(id(2), usize::MAX);
    stage.deliver(2, 1, "Ack");
    stage.sync(id(1), usize::MAX);
    let said = stage.said();
    assert!(
        said.contains("n1 applied 2 a") && !said.contains("read"),
        "{said}"
    );
    stage.settle();
    let said = stage.said();
    assert!(said.contains("n1 read 2 at 2"), "{said}");
}

#[test]
fn a_log_is_released_as_far_as_nobody_needs_it_and_beyond_at_its_limit() {
    let mut stage = tuned(|config| config.kept_ops = 2);
    stage.settle();
    let lagging = stage.hosts[&id(3)].raft().last().op;
    for _ in 0..8 {
        stage.request(1, "x");
    }
    stage.settle_without(&[3]);
    stage.mail.clear();
    let last = stage.hosts[&id(1)].raft().last().op;
    let release = |stage: &mut Stage, node: u64, limit: Op| {
        let through = last;
        stage.input(id(node), Input::Release { through, limit });
        stage.hosts[&id(node)].raft().base().op
    };
    let back = |count: u64| Op::new(last.value() - count);
    assert_eq!(release(&mut stage, 1, Op::ZERO), lagging, "node 3 needs it");
    assert_eq!(
        release(&mut stage, 2, Op::ZERO),
        back(2),
        "a follower keeps a few"
    );
    assert_eq!(
        release(&mut stage, 1, back(1)),
        back(1),
        "that is the limit"
    );
    stage.said();
    stage.pass(300, &[]);
    let said = stage.said();
    let missing = "SnapshotMissing";
    assert_eq!(said.matches(missing).count(), 1, "said once: {said}");
    stage.request(1, "y");
    stage.settle_without(&[3]);
    assert!(stage.said().contains("answers request"), "the others go on");
}

#[test]
fn the_log_is_kept_behind_a_snapshot_on_offer_and_not_behind_its_receiver() {
    let mut stage = tuned(|config| config.kept_ops = 2);
    stage.settle();
    for _ in 0..8 {
        stage.request(1, "x");
    }
    stage.settle_without(&[3]);
    let offered = stage.hosts[&id(1)].raft().last().op;
    let limit = Op::new(offered.value() - 4);
    let through = offered;
    stage.input(id(1), Input::Release { through, limit });
    stage.run("save n1");
    stage.mail.clear();
    stage.pass(99, &[3]);
    stage.run("wake n1");
    stage.deliver(1, 3, "Heartbeat");
    stage.deliver(3, 1, "HeartbeatReply");
    let said = stage.said();
    assert!(said.contains("SnapshotOffered"), "{said}");
    for _ in 0..8 {
        stage.request(1, "y");
    }
    stage.settle_without(&[3]);
    let through = stage.hosts[&id(1)].raft().last().op;
    let limit = Op::ZERO;
    stage.input(id(1), Input::Release { through, limit });
    let base = stage.hosts[&id(1)].raft().base().op;
    assert_eq!(base, offered, "what comes behind it is wanted next");
}
