//! A follower's log equals a dumb twin's on random leaders, whatever arrives in which order.

mod support;

use bytes::Bytes;
use holm_base::{Op, Prng, Term, Time};
use holm_raft::{
    Body, Command, Config, Configuration, Entry, Flags, Input, Message, Origin, Payload, Position,
    Restored,
};
use support::{Host, Out, id};

/// The receiver's rules of the paper's figure 2, over a plain list of terms.
#[derive(Debug, Default)]
struct Twin {
    terms: Vec<u64>,
    commit: usize,
}

impl Twin {
    fn append(&mut self, previous: usize, term: u64, entries: &[u64], commit: usize) -> bool {
        let holds = previous == 0 || self.terms.get(previous - 1) == Some(&term);
        if !holds {
            return false;
        }
        for (offset, &entry) in entries.iter().enumerate() {
            let at = previous + offset;
            if self.terms.get(at) != Some(&entry) {
                self.terms.truncate(at);
                self.terms.push(entry);
            }
        }
        self.commit = self.commit.max(commit.min(previous + entries.len()));
        true
    }
}

fn op(at: usize) -> Op {
    Op::new(at as u64)
}

fn entries(terms: &[u64], first: usize) -> Vec<Entry> {
    let entry = |(at, &term): (usize, &u64)| {
        let origin = Origin {
            node: id(1),
            boot: 1,
        };
        Entry {
            op: op(first + at),
            term: Term::new(term),
            payload: Payload::Command(Command {
                origin,
                sequence: (first + at) as u64 + term * 1000,
                flags: Flags::default(),
                body: Bytes::from_static(b"x"),
            }),
        }
    };
    terms.iter().enumerate().map(entry).collect()
}

fn below(prng: &mut Prng, bound: usize) -> usize {
    usize::try_from(prng.below(bound as u64)).expect("small")
}

#[test]
fn a_followers_log_equals_the_twins() {
    let mut prng = Prng::new(33);
    let (mut accepted, mut refused, mut cut) = (0_u32, 0_u32, 0_u32);
    for case in 0..3_000_u64 {
        let restored = Restored::fresh(Configuration::new((1..=3).map(id)));
        let mut host = Host::new(Config::new(id(2), 1), restored, Time::ZERO);
        let mut twin = Twin::default();
        let mut leader: Vec<u64> = Vec::new();
        for term in 1..=4_u64 {
            // A new leader holds all that is committed, and any part of the rest.
            let kept = twin.commit + below(&mut prng, leader.len() - twin.commit + 1);
            leader.truncate(kept);
            leader.extend(std::iter::repeat_n(term, 1 + below(&mut prng, 4)));
            let from = id(if term % 2 == 0 { 3 } else { 1 });
            for _ in 0..6 {
                let previous = below(&mut prng, leader.len() + 1);
                let count = below(&mut prng, leader.len() - previous + 1);
                let commit = below(&mut prng, previous + count + 1);
                let at = previous.checked_sub(1).map_or(0, |at| leader[at]);
                let part = &leader[previous..previous + count];
                let before = twin.terms.len();
                let is_accepted = twin.append(previous, at, part, commit);
                cut += u32::from(twin.terms.len() < before);
                let message = Message {
                    term: Term::new(term),
                    body: Body::Append {
                        previous: Position {
                            term: Term::new(at),
                            op: op(previous),
                        },
                        commit: op(commit),
                        entries: entries(part, previous + 1),
                    },
                };
                let out = host.step(Time::ZERO, Input::Message { from, message });
                let is_refused = out.iter().any(|out| {
                    matches!(
                        out,
                        Out::Sent(
                            _,
                            Message {
                                body: Body::Conflict { .. },
                                ..
                            }
                        )
                    )
                });
                assert_eq!(is_accepted, !is_refused, "case {case}");
                accepted += u32::from(is_accepted);
                refused += u32::from(is_refused);
                let raft = host.raft();
                let terms: Vec<u64> = (1..=raft.last().op.value())
                    .map(|op| raft.entry(Op::new(op)).expect("in memory").term.value())
                    .collect();
                assert_eq!(terms, twin.terms, "case {case} term {term}");
                assert!(raft.commit() <= op(twin.commit), "case {case}");
                host.sync(Time::ZERO, below(&mut prng, 3));
            }
            // What the twin counts as committed is what this leader may have told.
            twin.commit = usize::try_from(host.raft().commit().value()).expect("small");
        }
        host.sync(Time::ZERO, usize::MAX);
        assert_eq!(host.applied, host.raft().commit(), "case {case}");
    }
    assert!(
        accepted > 10_000 && refused > 5_000 && cut > 200,
        "{accepted} {refused} {cut}"
    );
}
