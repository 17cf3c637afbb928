//! The records of a node among others, against a dumb twin: random ones, and a crash at every
//! write of a run that has them all.

mod support;

use std::collections::BTreeMap;

use arbtest::arbitrary::{self, Unstructured};
use holm_base::{ByteCount, NodeId, Op, Term};
use holm_log::{Hard, Installed, Log, LogConfig, LogError, Urgency};
use holm_sequencer::{Form, Record};
use holm_virtual::{Storage, Survival};
use support::{GROUP, body, config, open, raft_record, record, survivals};

/// What the log must hold: one record after the other, obeyed as the words say.
#[derive(Clone, Debug, Default)]
struct Twin {
    hard: Hard,
    last: u64,
    cut: u64,
    /// Below the oldest entry that may be here, whatever was cut.
    floor: u64,
    entries: BTreeMap<u64, (u64, Form, Vec<u8>)>,
    /// The term of each op that stands, cut or not.
    terms: BTreeMap<u64, u64>,
    installed: Option<Installed>,
}

impl Twin {
    fn take(&mut self, record: &Record) {
        match record {
            Record::Entry {
                term,
                op,
                form,
                body,
            } => {
                self.last = op.value();
                self.terms.insert(self.last, term.value());
                let entry = (term.value(), *form, body.to_vec());
                self.entries.insert(self.last, entry);
            }
            Record::Hard {
                term,
                vote,
                is_recovering,
            } => {
                self.hard = Hard {
                    term: *term,
                    vote: *vote,
                    is_recovering: *is_recovering,
                };
            }
            Record::CutTo { last } => {
                self.last = last.value();
                self.entries.split_off(&(self.last + 1));
                self.terms.split_off(&(self.last + 1));
            }
            Record::Installed {
                term,
                op,
                is_suffix_kept,
                body,
            } => {
                self.installed = Some(Installed {
                    term: *term,
                    op: *op,
                    is_suffix_kept: *is_suffix_kept,
                    body: body.clone(),
                });
                if !is_suffix_kept {
                    self.entries.clear();
                    self.terms.clear();
                    self.last = op.value();
                    self.floor = self.last;
                    self.terms.insert(self.last, term.value());
                }
            }
        }
    }

    /// What is wrong with a log that should hold this.
    fn fault(&self, log: &Log) -> Result<(), String> {
        let expect = |is_so: bool, what: &str| {
            let wrong = || format!("{what} is not as expected");
            is_so.then_some(()).ok_or_else(wrong)
        };
        expect(log.hard(GROUP) == self.hard, "hard state")?;
        expect(log.last(GROUP).value() == self.last, "last op")?;
        let (term, base) = log.base(GROUP);
        let base = base.value();
        // A cut that freed no segment is not durable, and need not be.
        let most = self.cut.max(self.floor);
        expect((self.floor..=most).contains(&base), "base")?;
        let known = self.terms.get(&base).copied().unwrap_or_default();
        let wrong = || format!("base {term}.{base}, expected term {known}");
        (term.value() == known).then_some(()).ok_or_else(wrong)?;
        let is_due = |it: &&Installed| it.op.value() > self.cut;
        let due = self.installed.as_ref().filter(is_due);
        let found = log.installed(GROUP);
        expect(found == due || found == self.installed.as_ref(), "snapshot")?;
        let mut found = BTreeMap::new();
        log.replay(GROUP, Op::new(base), &mut |term, op, form, body| {
            found.insert(op.value(), (term.value(), form, body.to_vec()));
        })
        .map_err(|error| error.to_string())?;
        let kept = self.entries.range(base + 1..);
        expect(found.iter().eq(kept), "entries")
    }
}

/// A log, its twin, and how to go on with both.
#[derive(Debug)]
struct World {
    storage: Storage,
    log: Log,
    twin: Twin,
}

impl World {
    fn new() -> Self {
        let storage = Storage::new();
        let log = open(&storage).expect("a fresh log opens");
        Self {
            storage,
            log,
            twin: Twin::default(),
        }
    }

    fn flush(&mut self, records: &[Record]) {
        for record in records {
            self.twin.take(record);
        }
        self.log
            .flush(GROUP, records, Urgency::Ordinary)
            .expect("there is room");
    }

    /// Some records that may follow each other.
    fn records(&self, u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Record>> {
        let mut twin = self.twin.clone();
        let mut records = Vec::new();
        for _ in 0..u.int_in_range(1..=6)? {
            let least = twin.cut.max(twin.floor);
            let record = match u.int_in_range(0..=9)? {
                0 => Record::Hard {
                    term: Term::new(twin.hard.term.value() + u.int_in_range(0..=2)?),
                    vote: u
                        .ratio(1, 2)?
                        .then_some(NodeId::new(u.int_in_range(1..=5)?)),
                    is_recovering: u.ratio(1, 4)?,
                },
                1 => Record::CutTo {
                    last: Op::new(u.int_in_range(least..=twin.last)?),
                },
                2 if u.ratio(1, 3)? => {
                    let is_suffix_kept = twin.last > least && u.ratio(1, 2)?;
                    let most = if is_suffix_kept {
                        twin.last
                    } else {
                        twin.last + 9
                    };
                    let op = u.int_in_range(least.max(1)..=most.max(1))?;
                    let term = twin.terms.get(&op).copied();
                    let term = term.unwrap_or_else(|| twin.hard.term.value());
                    Record::Installed {
                        term: Term::new(term),
                        op: Op::new(op),
                        is_suffix_kept,
                        body: body(op, *u.choose(&[9, 700])?).into(),
                    }
                }
                _ => {
                    let len = *u.choose(&[0, 7, 300, 450, 900, 3900])?;
                    raft_record(twin.hard.term.value(), twin.last + 1, len)
                }
            };
            twin.take(&record);
            records.push(record);
        }
        Ok(records)
    }

    fn cut(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let through = u.int_in_range(0..=self.twin.last)?;
        self.twin.cut = self.twin.cut.max(through);
        self.log
            .cut(GROUP, Op::new(through))
            .expect("nothing fails");
        Ok(())
    }

    fn reopen(&mut self, survival: Survival) {
        let storage = self.storage.reopen(survival);
        self.log = open(&storage).expect("between calls all is whole");
        self.storage = storage;
    }

    fn compare(&self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        self.twin.fault(&self.log).expect("the log is the twin");
        let base = self.log.base(GROUP).1.value();
        if self.twin.last == base {
            return Ok(());
        }
        let first = u.int_in_range(base + 1..=self.twin.last)?;
        let last = u.int_in_range(first..=self.twin.last)?;
        let bytes_max = *u.choose(&[0, 500, 2_000, 1 << 20])?;
        let found = self
            .log
            .entries(GROUP, Op::new(first), Op::new(last), bytes_max)
            .expect("they are here");
        let (mut bytes, mut expected) = (0, Vec::new());
        for (&op, (term, form, body)) in self.twin.entries.range(first..=last) {
            bytes += body.len() as u64;
            if bytes > bytes_max && !expected.is_empty() {
                break;
            }
            expected.push((Term::new(*term), Op::new(op), *form, body.clone().into()));
        }
        assert_eq!(found, expected);
        Ok(())
    }
}

#[test]
fn random_records_are_obeyed_as_the_words_say() {
    arbtest::arbtest(|u| {
        let mut world = World::new();
        for _ in 0..u.int_in_range(1..=30)? {
            match u.int_in_range(0..=9)? {
                0 => {
                    let survival = *u.choose(&[Survival::Keep, Survival::Drop])?;
                    world.reopen(survival);
                }
                1 => world.cut(u)?,
                2 => {
                    world.log.prepare_next().expect("nothing fails");
                }
                _ => {
                    let records = world.records(u)?;
                    world.flush(&records);
                }
            }
            world.compare(u)?;
        }
        world.reopen(Survival::Drop);
        world.compare(u)
    })
    .budget_ms(4_000);
}

fn hard(term: u64, vote: u64) -> Record {
    Record::Hard {
        term: Term::new(term),
        vote: (vote > 0).then(|| NodeId::new(vote)),
        is_recovering: term == 3,
    }
}

fn run(term: u64, first: u64, count: u64, len: usize) -> Vec<Record> {
    (first..first + count)
        .map(|op| raft_record(term, op, len))
        .collect()
}

fn back(last: u64) -> Record {
    Record::CutTo {
        last: Op::new(last),
    }
}

fn installed(term: u64, op: u64, is_suffix_kept: bool) -> Record {
    Record::Installed {
        term: Term::new(term),
        op: Op::new(op),
        is_suffix_kept,
        body: body(op, 600).into(),
    }
}

/// A run of all that happens to a follower: batches, and what is cut behind each.
fn life() -> Vec<(Vec<Record>, Option<u64>)> {
    let mended = [vec![hard(3, 0), back(9)], run(3, 10, 2, 10)].concat();
    let twice = [
        vec![back(10)],
        run(3, 11, 1, 40),
        vec![back(10)],
        run(3, 11, 3, 2_000),
    ]
    .concat();
    let behind = [vec![installed(4, 40, false)], run(4, 41, 3, 900)].concat();
    vec![
        (vec![hard(1, 2)], None),
        (run(1, 1, 8, 700), None),
        (vec![hard(2, 0)], None),
        (run(2, 9, 6, 1_500), Some(4)),
        (mended, None),
        (twice, Some(9)),
        (vec![hard(4, 5)], None),
        (vec![installed(3, 12, true)], None),
        (run(4, 14, 2, 3_000), Some(12)),
        (behind, Some(20)),
        (run(4, 44, 5, 2_500), None),
        (run(4, 49, 5, 2_500), Some(40)),
        (vec![hard(5, 1), back(50)], None),
        (run(5, 51, 4, 2_500), Some(52)),
    ]
}

/// What is known when a run ends, in order or not.
#[derive(Debug, Default)]
struct Told {
    twin: Twin,
    /// Records of the batch under way.
    attempted: Vec<Record>,
}

fn live(storage: &Storage, told: &mut Told) -> Result<(), LogError> {
    let mut log = open(storage)?;
    for (records, cut) in life() {
        told.attempted.clone_from(&records);
        log.flush(GROUP, &records, Urgency::Ordinary)?;
        for record in told.attempted.drain(..) {
            told.twin.take(&record);
        }
        if let Some(through) = cut {
            told.twin.cut = through;
            log.cut(GROUP, Op::new(through))?;
        }
        log.prepare_next()?;
    }
    told.twin.fault(&log).expect("nothing went wrong");
    log.close()
}

impl Told {
    /// The log is the twin, or the twin with some of the batch under way.
    fn check(&self, log: &Log) -> Result<(), String> {
        let mut twin = self.twin.clone();
        let mut answer = twin.fault(log);
        for record in &self.attempted {
            if answer.is_ok() {
                break;
            }
            twin.take(record);
            answer = twin.fault(log);
        }
        answer
    }
}

#[test]
fn a_crash_anywhere_leaves_all_that_was_kept_and_some_of_the_rest() {
    let whole = Storage::new();
    live(&whole, &mut Told::default()).expect("nothing fails without a fault");
    let removed = |it: &&String| it.starts_with("rename") && it.contains(".seg log");
    let trace = whole.trace();
    assert!(trace.iter().filter(removed).count() > 1, "segments go");
    for step in 1..=whole.steps() {
        let storage = Storage::new();
        storage.crash_at(step);
        let mut told = Told::default();
        live(&storage, &mut told).expect_err("the power failed");
        for survival in survivals() {
            let log = open(&storage.reopen(survival))
                .unwrap_or_else(|refused| panic!("step {step}, {survival:?}: {refused}"));
            told.check(&log)
                .unwrap_or_else(|wrong| panic!("step {step}, {survival:?}: {wrong}"));
        }
    }
}

#[test]
fn the_checker_refuses_a_lost_vote_a_void_entry_and_a_lost_snapshot() {
    let mut told = Told::default();
    let storage = Storage::new();
    live(&storage, &mut told).expect("nothing fails without a fault");
    let log = open(&storage).expect("it was closed");
    told.check(&log).expect("it is right");
    let mut other = Told::default();
    other.twin = told.twin.clone();
    other.twin.hard.vote = None;
    other.check(&log).expect_err("a vote that nobody cast");
    other.twin = told.twin.clone();
    other.twin.take(&raft_record(5, 55, 10));
    other.check(&log).expect_err("an entry too few");
    other.twin = told.twin.clone();
    other.twin.take(&back(53));
    other.check(&log).expect_err("an entry too many");
    other.twin = told.twin.clone();
    other.twin.take(&installed(5, 54, true));
    other.check(&log).expect_err("a snapshot that is missing");
}

/// Whatever sector of whatever file is harmed: with peers the log opens with its hard state as it
/// was and a prefix of its entries, or refuses; it never opens as if nothing were missing.
#[test]
fn damage_with_peers_loses_no_hard_state_and_is_never_hidden() {
    let peers = LogConfig {
        has_peers: true,
        segment_bytes: ByteCount::new(32 << 10),
        ..config()
    };
    let open = |storage: &Storage| {
        let folder = storage.root().folder("log").expect("only a name");
        Log::open(folder, peers)
    };
    let storage = Storage::new();
    let mut log = open(&storage).expect("a fresh log opens");
    let mut twin = Twin::default();
    for records in [
        vec![hard(1, 2)],
        run(1, 1, 3, 300),
        run(1, 4, 1, 4_000),
        vec![hard(2, 1)],
        run(2, 5, 4, 700),
        run(2, 9, 3, 2_500),
        run(2, 12, 3, 2_500),
        run(2, 15, 2, 300),
    ] {
        records.iter().for_each(|record| twin.take(record));
        log.flush(GROUP, &records, Urgency::Ordinary)
            .expect("there is room");
    }
    drop(log);
    let (mut opened, mut refused) = (0, 0);
    for name in storage.names() {
        let bytes = storage.bytes(&name).expect("it was listed");
        let written = bytes.iter().rposition(|&it| it != 0).unwrap_or(0);
        for at in (0..=written).step_by(512) {
            let harmed = storage.reopen(Survival::Keep);
            harmed.flip(&name, ByteCount::new(at as u64), 1);
            let what = format!("{name} at {at}");
            let log = match open(&harmed) {
                Err(LogError::Damaged { .. }) => {
                    refused += 1;
                    continue;
                }
                opened => opened.unwrap_or_else(|error| panic!("{what}: {error}")),
            };
            if !log.is_damaged(GROUP) {
                // What was lost is said again where the next segment begins.
                twin.fault(&log).expect(&what);
                continue;
            }
            opened += 1;
            let found = log.hard(GROUP);
            assert!(found.is_recovering, "{what}");
            let same = (twin.hard.term, twin.hard.vote);
            assert_eq!((found.term, found.vote), same, "{what}");
            let last = log.last(GROUP).value();
            assert!(last < twin.last, "{what}");
            mend(log, &harmed, &twin, last, &open);
        }
    }
    assert!(opened > 20 && refused > 5, "{opened} opened, {refused} not");
}

/// What was lost comes from peers, and is there the next time.
fn mend(
    mut log: Log,
    storage: &Storage,
    twin: &Twin,
    last: u64,
    open: &dyn Fn(&Storage) -> Result<Log, LogError>,
) {
    let missing: Vec<Record> = twin
        .entries
        .range(last + 1..)
        .map(|(&op, (term, _, body))| raft_record(*term, op, body.len()))
        .collect();
    log.flush(GROUP, &missing, Urgency::Ordinary)
        .expect("there is room");
    let Hard { term, vote, .. } = twin.hard;
    let whole = Record::Hard {
        term,
        vote,
        is_recovering: false,
    };
    log.flush(GROUP, &[whole], Urgency::Ordinary)
        .expect("there is room");
    drop(log);
    let log = open(&storage.reopen(Survival::Drop)).expect("it was mended");
    assert!(!log.is_damaged(GROUP) && log.damage().is_none());
    twin.fault(&log).expect("all is there again");
}

#[test]
fn a_recent_range_is_read_without_the_log_before_it() {
    let storage = Storage::new();
    let folder = storage.root().folder("log").expect("only a name");
    let config = LogConfig {
        segment_bytes: ByteCount::new(16 << 20),
        ..config()
    };
    let mut log = Log::open(folder, config).expect("a fresh log opens");
    for first in (1..2_000).step_by(100) {
        let records = run(1, first, 100, 4_000);
        log.flush(GROUP, &records, Urgency::Ordinary)
            .expect("there is room");
    }
    // What is harmed is not read: the first quarter of the segment, or of the log.
    let name = &storage.names()[0];
    storage.flip(name, ByteCount::new(4096), 2 << 20);
    let found = log.entries(GROUP, Op::new(1_990), Op::new(1_995), 1 << 20);
    assert_eq!(found.expect("they are here").len(), 6);
    let all = log.entries(GROUP, Op::new(1), Op::new(2), 1 << 20);
    assert!(matches!(all, Err(LogError::Damaged { .. })), "{all:?}");
}

#[test]
#[should_panic(expected = "I2: the log is cut to op 9")]
fn a_cut_to_what_is_not_here_is_a_bug() {
    let mut log = open(&Storage::new()).expect("a fresh log opens");
    let _never = log.flush(GROUP, &[record(1, 1, 9), back(9)], Urgency::Ordinary);
}
