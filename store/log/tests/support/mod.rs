//! What the log's tests share: a small log on a virtual disk, and the checker of a reopened one.
#![expect(
    dead_code,
    reason = "each test file uses its own part of what they share"
)]

use bytes::Bytes;
use holm_base::{ByteCount, ClusterId, GroupId, NodeId, Op, Term};
use holm_log::{Log, LogConfig, LogError, Urgency};
use holm_sequencer::{Form, Record};
use holm_virtual::{Storage, Survival};

pub(crate) const GROUP: GroupId = GroupId::new(7);

/// An entry as the tests compare it: term, op, body.
pub(crate) type Entry = (u64, u64, Vec<u8>);

/// Segments of 16 KiB, so that a few flushes fill one.
pub(crate) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: ByteCount::new(16 << 10),
        ..LogConfig::new(ClusterId::new(0xC1), NodeId::new(0xA))
    }
}

pub(crate) fn open(storage: &Storage) -> Result<Log, LogError> {
    let folder = storage
        .root()
        .folder("log")
        .expect("the folder is only a name");
    Log::open(folder, config())
}

/// The same log where other nodes have its entries too.
pub(crate) fn open_among_others(storage: &Storage) -> Result<Log, LogError> {
    let folder = storage
        .root()
        .folder("log")
        .expect("the folder is only a name");
    let has_peers = true;
    Log::open(
        folder,
        LogConfig {
            has_peers,
            ..config()
        },
    )
}

/// A body that no other op has.
pub(crate) fn body(op: u64, len: usize) -> Vec<u8> {
    let mut body = format!("op {op} ").into_bytes();
    body.resize(len.max(body.len()), b'.');
    body
}

pub(crate) fn record(term: u64, op: u64, len: usize) -> Record {
    Record::plain(Term::new(term), Op::new(op), Bytes::from(body(op, len)))
}

/// The same as a node among others keeps it.
pub(crate) fn raft_record(term: u64, op: u64, len: usize) -> Record {
    Record::Entry {
        term: Term::new(term),
        op: Op::new(op),
        form: Form::Raft,
        body: Bytes::from(body(op, len)),
    }
}

/// Flushes the next `count` entries of a group, each of `len` bytes.
pub(crate) fn append(
    log: &mut Log,
    group: GroupId,
    count: u64,
    len: usize,
) -> Result<(), LogError> {
    let first = log.last(group).value() + 1;
    let term = log.hard(group).term.value();
    let records: Vec<Record> = (first..first + count)
        .map(|op| record(term, op, len))
        .collect();
    log.flush(group, &records, Urgency::Ordinary)
}

pub(crate) fn entries(log: &Log, group: GroupId, after: u64) -> Vec<Entry> {
    let mut found = Vec::new();
    log.replay(group, Op::new(after), &mut |term, op, _form, body| {
        found.push((term.value(), op.value(), body.to_vec()));
    })
    .expect("what the log opened with can be read back");
    found
}

/// All entries that are still here.
pub(crate) fn kept(log: &Log, group: GroupId) -> Vec<Entry> {
    entries(log, group, log.first(group).value() - 1)
}

/// Every survival worth trying at one crash.
pub(crate) fn survivals() -> Vec<Survival> {
    let mut all = vec![Survival::Keep, Survival::Drop];
    for seed in 0..4 {
        all.extend([Survival::Torn { seed }, Survival::Reordered { seed }]);
    }
    all
}

/// What a client of the log was told, and what it had asked for when the power failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Acknowledged entries, in order.
    pub(crate) acknowledged: Vec<Entry>,
    /// Entries of the flush that did not return.
    pub(crate) attempted: Vec<Entry>,
    /// Ops that the client gave up by a cut.
    pub(crate) cut: u64,
    /// The newest term that was acknowledged.
    pub(crate) term: u64,
    /// The newest count of opens that was returned.
    pub(crate) opens: u64,
}

/// I13: the log holds all that was acknowledged, and of the rest a prefix; no more, no less.
pub(crate) fn check(told: &Told, log: &Log, group: GroupId) -> Result<(), String> {
    let first = log.first(group).value();
    if first > told.cut + 1 {
        return Err(format!(
            "op {first} is the oldest, though only {} was cut",
            told.cut
        ));
    }
    if log.hard(group).term.value() < told.term {
        return Err(format!(
            "term {} after term {}",
            log.hard(group).term,
            told.term
        ));
    }
    if log.opens() <= told.opens {
        return Err(format!("open {} after open {}", log.opens(), told.opens));
    }
    check_entries(told, first, &kept(log, group))
}

/// The same for bare entries, of which `first` is the oldest.
pub(crate) fn check_entries(told: &Told, first: u64, found: &[Entry]) -> Result<(), String> {
    let asked: Vec<&Entry> = told
        .acknowledged
        .iter()
        .chain(&told.attempted)
        .filter(|entry| entry.1 >= first)
        .collect();
    let sure = told.acknowledged.iter().filter(|entry| entry.1 >= first);
    if found.len() < sure.count() {
        return Err(format!(
            "{} entries, fewer than were acknowledged",
            found.len()
        ));
    }
    if found.len() > asked.len() {
        return Err(format!("{} entries, more than were asked for", found.len()));
    }
    match found
        .iter()
        .zip(asked)
        .find(|(found, asked)| found != asked)
    {
        Some((found, asked)) => Err(format!("op {} where op {} was written", found.1, asked.1)),
        None => Ok(()),
    }
}
