//! The bytes of version 1, kept in `compat/v1`: still read, and still what is written.

mod support;

use holm_base::{GroupId, Op, Term};
use holm_log::{Log, Urgency};
use holm_sequencer::Record;
use holm_virtual::Storage;
use support::{GROUP, append, body, entries, open};

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
