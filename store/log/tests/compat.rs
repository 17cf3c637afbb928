//! The bytes of version 1, kept in `compat/v1`, and those of a node among others, kept in
//! `compat/v2`: still read, and still what is written.

mod support;

use holm_base::{GroupId, NodeId, Op, Term};
use holm_log::{Hard, Installed, Log, Urgency};
use holm_sequencer::{Form, Record};
use holm_virtual::Storage;
use support::{GROUP, append, body, entries, open, raft_record, record};

const NAMES: [&str; 2] = ["log/0000000000004000.seg", "log/0000000000008000.seg"];
const KEPT: [&[u8]; 2] = [
    include_bytes!("compat/v1/0000000000004000.seg"),
    include_bytes!("compat/v1/0000000000008000.seg"),
];
const OTHER: GroupId = GroupId::new(8);

/// The calls that wrote the kept bytes.
fn write(storage: &Storage) -> Log {
    let mut log = open(storage).expect("a fresh log opens");
    let term = Term::new(5);
    log.flush(GROUP, &[Record::of_term(term)], Urgency::Ordinary)
        .expect("there is room");
    append(&mut log, GROUP, 2, 40).expect("there is room");
    append(&mut log, OTHER, 3, 600).expect("there is room");
    log.cut(GROUP, Op::new(1)).expect("nothing fails");
    append(&mut log, GROUP, 1, 333).expect("there is room");
    log
}

#[test]
fn version_one_is_still_read() {
    let storage = Storage::new();
    for (name, bytes) in NAMES.into_iter().zip(KEPT) {
        storage.put(name, bytes);
    }
    let log = open(&storage).unwrap();
    assert_eq!((log.opens(), log.hard(GROUP).term), (2, Term::new(5)));
    let first = log.first(GROUP).value();
    assert_eq!(
        entries(&log, GROUP, first - 1),
        [(5, 2, body(2, 40)), (5, 3, body(3, 333))]
    );
    let other: Vec<_> = (1..=3).map(|op| (0, op, body(op, 600))).collect();
    assert_eq!(entries(&log, OTHER, 0), other);
}

#[test]
fn the_same_calls_still_write_the_same_bytes() {
    let storage = Storage::new();
    drop(write(&storage));
    for (name, kept) in NAMES.into_iter().zip(KEPT) {
        assert!(
            storage.bytes(name).as_deref() == Some(kept),
            "{name} differs"
        );
    }
}

const NAMES_2: [&str; 3] = [
    "log/0000000000008000.seg",
    "log/000000000000c000.seg",
    "log/0000000000010000.seg",
];
const KEPT_2: [&[u8]; 3] = [
    include_bytes!("compat/v2/0000000000008000.seg"),
    include_bytes!("compat/v2/000000000000c000.seg"),
    include_bytes!("compat/v2/0000000000010000.seg"),
];

/// What a node among others writes: all kinds of records, in all their versions.
fn write_2(storage: &Storage) -> Log {
    let mut log = open(storage).expect("a fresh log opens");
    let hard = |term, vote: Option<u64>, is_recovering| Record::Hard {
        term: Term::new(term),
        vote: vote.map(NodeId::new),
        is_recovering,
    };
    let installed = |op, is_suffix_kept| Record::Installed {
        term: Term::new(5),
        op: Op::new(op),
        is_suffix_kept,
        body: body(op, 50).into(),
    };
    let mut flush = |records: &[Record]| {
        log.flush(GROUP, records, Urgency::Ordinary)
            .expect("there is room");
    };
    flush(&[hard(5, Some(2), true)]);
    flush(&[raft_record(5, 1, 40), raft_record(5, 2, 6_000)]);
    flush(&[installed(2, true), raft_record(5, 3, 3_000)]);
    log.cut(GROUP, Op::new(2)).expect("nothing fails");
    let mut flush = |records: &[Record]| {
        log.flush(GROUP, records, Urgency::Ordinary)
            .expect("there is room");
    };
    let last = Op::new(2);
    flush(&[Record::CutTo { last }, raft_record(5, 3, 900)]);
    flush(&[installed(90, false), hard(6, None, false)]);
    flush(&[raft_record(6, 91, 10), record(6, 92, 10)]);
    log
}

#[test]
fn what_a_node_among_others_wrote_is_still_read() {
    let storage = Storage::new();
    for (name, bytes) in NAMES_2.into_iter().zip(KEPT_2) {
        storage.put(name, bytes);
    }
    let log = open(&storage).unwrap();
    let hard = Hard {
        term: Term::new(6),
        ..Hard::default()
    };
    assert_eq!((log.opens(), log.hard(GROUP)), (2, hard));
    assert_eq!(log.base(GROUP), (Term::new(5), Op::new(90)));
    let installed = Installed {
        term: Term::new(5),
        op: Op::new(90),
        is_suffix_kept: false,
        body: body(90, 50).into(),
    };
    assert_eq!(log.installed(GROUP), Some(&installed));
    let found = log.entries(GROUP, Op::new(91), Op::new(92), 1 << 20);
    let term = Term::new(6);
    let expected = [
        (term, Op::new(91), Form::Raft, body(91, 10).into()),
        (term, Op::new(92), Form::Plain, body(92, 10).into()),
    ];
    assert_eq!(found.unwrap(), expected);
}

#[test]
fn a_node_among_others_still_writes_the_same_bytes() {
    let storage = Storage::new();
    drop(write_2(&storage));
    for (name, kept) in NAMES_2.into_iter().zip(KEPT_2) {
        assert!(
            storage.bytes(name).as_deref() == Some(kept),
            "{name} differs"
        );
    }
}
