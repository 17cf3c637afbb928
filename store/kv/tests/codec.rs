//! Proposals as bytes: what was written is read, and nothing else is believed.

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_kv::DecodeError;
use holm_kv::command::{
    AlarmKind, Caller, Command, Compare, CompareResult, CompareTarget, DeleteRange, Proposal, Put,
    Range, Txn, TxnOp,
};
use holm_local_first::{Members, Proposal as Entry, Roster, Slot};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn examples() -> Vec<Command> {
    let txn = Txn {
        compare: vec![Compare {
            key: bytes("k"),
            range_end: bytes("l"),
            result: CompareResult::NotEqual,
            target: CompareTarget::Value(bytes("v")),
        }],
        success: vec![
            TxnOp::Put(Put {
                key: bytes("k"),
                value: bytes("value"),
                lease: -9,
                prev_kv: true,
                ignore_value: false,
                ignore_lease: true,
            }),
            TxnOp::Txn(Txn {
                failure: vec![TxnOp::Range(Range {
                    key: bytes("k"),
                    limit: i64::MAX,
                    keys_only: true,
                    ..Range::default()
                })],
                ..Txn::default()
            }),
        ],
        failure: vec![TxnOp::DeleteRange(DeleteRange {
            key: bytes("k"),
            range_end: bytes("\0"),
            prev_kv: true,
        })],
    };
    vec![
        Command::Txn(txn),
        Command::Compact { revision: -1 },
        Command::LeaseExpire {
            term: holm_base::Term::new(7),
            ids: vec![1, -1, 300],
        },
        Command::LeaseCheckpoint {
            remaining: vec![(1, 2)],
        },
        Command::Alarm {
            raise: true,
            member: u64::MAX,
            kind: AlarmKind::Corrupt,
            by_node: false,
        },
        Command::Cluster {
            name: "version".to_owned(),
            value: Some(bytes("3.6.0")),
        },
    ]
}

fn proposal(command: Command) -> Proposal {
    Proposal {
        caller: Some(Caller {
            user: "ann".to_owned(),
            auth_revision: 300,
        }),
        command,
    }
}

#[test]
fn what_was_written_is_read() {
    for command in examples() {
        let proposal = proposal(command);
        assert_eq!(Proposal::decode(&proposal.encode()), Ok(proposal));
    }
}

#[test]
fn cut_or_lengthened_bytes_are_refused() {
    for command in examples() {
        let whole = proposal(command).encode();
        for len in 0..whole.len() {
            assert!(Proposal::decode(&whole.slice(..len)).is_err());
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        let found = Proposal::decode(&Bytes::from(longer));
        assert_eq!(found, Err(DecodeError::Trailing { extra: 1 }));
    }
}

#[test]
fn whatever_is_read_encodes_back_to_the_same_bytes() {
    arbtest::arbtest(|u| {
        let examples = examples();
        let example = u.choose_index(examples.len())?;
        let mut raw = proposal(examples[example].clone()).encode().to_vec();
        for _ in 0..u.int_in_range(0..=3)? {
            let at = u.choose_index(raw.len())?;
            raw[at] = u.arbitrary()?;
        }
        let raw = Bytes::from(raw);
        if let Ok(read) = Proposal::decode(&raw) {
            assert_eq!(read.encode(), raw);
        }
        let noise = Bytes::copy_from_slice(u.bytes(u.len().min(64))?);
        if let Ok(read) = Proposal::decode(&noise) {
            assert_eq!(read.encode(), noise);
        }
        Ok(())
    });
}

#[test]
fn transactions_that_nest_too_deeply_are_refused() {
    let mut raw = vec![1, 0, 3];
    for _ in 0..300 {
        raw.extend_from_slice(&[0, 1, 4]);
    }
    let found = Proposal::decode(&Bytes::from(raw));
    assert_eq!(found, Err(DecodeError::Depth { limit: 256 }));
}

/// The entries by which an island's log changes its sites. The bytes of the first release that
/// wrote them must be readable for ever.
#[test]
fn entries_about_sites_stay_as_they_are() {
    let slot = |number| Slot::new(number).expect("slots begin at 1");
    let members = Members::new([(slot(1), 5), (slot(2), 9)]);
    let nodes = BTreeMap::from([(slot(1), vec![10]), (slot(2), vec![300])]);
    let entries = [
        Entry::Follow(Roster { members, nodes }),
        Entry::Stop(slot(2)),
    ];
    let kept = include_str!("compat/sites1.hex");
    let mut all = Vec::new();
    for entry in entries {
        let proposal = Proposal {
            caller: None,
            command: Command::Island(entry),
        };
        let written = proposal.encode_at(1_800_000_000_000);
        assert_eq!(
            Proposal::decode_at(&written),
            Ok((proposal, 1_800_000_000_000))
        );
        let line = written.iter().map(|it| format!("{it:02x}"));
        all.push(line.collect::<String>());
    }
    assert_eq!(all.join("\n") + "\n", kept);
}
