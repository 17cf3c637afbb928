//! Every sector flipped, blanked and misdirected: reported, or repaired by the rules, and never
//! cut off in silence (I13).

mod support;

use holm_base::{ByteCount, Op, Term};
use holm_log::{Log, LogConfig, LogError, Urgency};
use holm_sequencer::Record;
use holm_virtual::{Storage, Survival};
use support::{Entry, GROUP, append, config, entries, open};

const SECTOR: usize = 512;
const FIRST: &str = "log/0000000000000000.seg";

/// A log over three segments whose newest flush has three blocks; and its entries.
fn written() -> (Storage, Vec<Entry>, Newest) {
    let storage = Storage::new();
    let mut log = open(&storage).expect("the test's own log is whole");
    for (count, len) in [(3, 100), (1, 6000), (10, 300), (2, 2000)] {
        append(&mut log, GROUP, count, len).expect("the test's own log is whole");
    }
    let sure = log.last(GROUP).value();
    let steps = storage.steps();
    append(&mut log, GROUP, 1, 5500).expect("the test's own log is whole");
    let all = entries(&log, GROUP, 0);
    drop(log);
    let step = storage
        .trace()
        .split_off(usize::try_from(steps).expect("the test's own log is whole"))
        .into_iter()
        .find(|step| step.starts_with("write"))
        .expect("the newest flush was written");
    (storage, all, Newest::of(&step, sure))
}

/// Where the newest flush stands.
#[derive(Clone, Debug)]
struct Newest {
    path: String,
    from: usize,
    until: usize,
    /// The last op before it.
    sure: u64,
}

impl Newest {
    fn of(step: &str, sure: u64) -> Self {
        let mut words = step.split(' ').skip(1);
        let path = words
            .next()
            .expect("the test's own log is whole")
            .to_owned();
        let (from, len) = words
            .next()
            .expect("the test's own log is whole")
            .split_once('+')
            .expect("the test's own log is whole");
        let from: usize = from.parse().expect("the test's own log is whole");
        let until = from + len.parse::<usize>().expect("the test's own log is whole");
        Self {
            path,
            from,
            until,
            sure,
        }
    }

    fn holds(&self, path: &str, at: usize) -> bool {
        self.path == path && (self.from..self.until).contains(&at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    FlippedBit,
    FlippedSector,
    Blanked,
    Misdirected,
}

/// Harms each sector that holds data, one at a time, and says what the log made of it.
fn each_sector(
    harm: Harm,
    mut judge: impl FnMut(&str, usize, &Storage, Result<Vec<Entry>, LogError>),
) {
    let (storage, _, _) = written();
    for path in storage.names() {
        let bytes = storage.bytes(&path).expect("the test's own log is whole");
        for at in (0..bytes.len()).step_by(SECTOR) {
            let is_blank = bytes[at..at + SECTOR].iter().all(|&byte| byte == 0);
            if is_blank {
                continue;
            }
            let harmed = storage.reopen(Survival::Keep);
            let place = ByteCount::new(at as u64);
            match harm {
                Harm::FlippedBit => harmed.flip(&path, place, 1),
                Harm::FlippedSector => harmed.flip(&path, place, SECTOR),
                Harm::Blanked => harmed.blank(&path, place, SECTOR),
                Harm::Misdirected => {
                    // A sector of the same log that belongs elsewhere.
                    let other = if at == 0 { SECTOR } else { at - SECTOR };
                    harmed.patch(&path, place, &bytes[other..other + SECTOR]);
                }
            }
            let answer = open(&harmed).map(|log| entries(&log, GROUP, 0));
            judge(&path, at, &harmed, answer);
        }
    }
}

#[test]
fn what_was_not_harmed_reads_back_whole() {
    let (storage, all, _) = written();
    assert_eq!(entries(&open(&storage).unwrap(), GROUP, 0), all);
}

#[test]
fn a_flipped_or_misdirected_sector_is_always_reported_and_nothing_is_changed() {
    for harm in [Harm::FlippedBit, Harm::FlippedSector, Harm::Misdirected] {
        let mut count = 0;
        each_sector(harm, |path, at, storage, answer| {
            count += 1;
            let Err(LogError::Damaged {
                file, at: found, ..
            }) = answer
            else {
                panic!("{harm:?} at {path} {at}");
            };
            assert_eq!(format!("log/{file}"), path, "{harm:?} at {at}");
            assert_eq!(
                found.value() / SECTOR as u64,
                (at / SECTOR) as u64,
                "{harm:?} at {path} {at}"
            );
            assert_eq!(storage.steps(), 0, "damage is looked at, not touched");
        });
        assert!(count > 40, "{count} sectors hold data");
    }
}

#[test]
fn a_blanked_sector_is_reported_unless_it_makes_the_newest_flush_look_torn() {
    let (_, all, newest) = written();
    let (mut torn, mut reported) = (0, 0);
    each_sector(Harm::Blanked, |path, at, storage, answer| match answer {
        Ok(found) => {
            torn += 1;
            assert!(
                newest.holds(path, at),
                "cut off at {path} {at}, not in {newest:?}"
            );
            let sure = all.iter().filter(|entry| entry.1 <= newest.sure);
            assert!(found.iter().eq(sure), "{path} {at}");
        }
        Err(LogError::Damaged { .. }) => {
            reported += 1;
            assert!(!newest.holds(path, at), "{path} {at}");
            assert_eq!(storage.steps(), 0, "damage is looked at, not touched");
        }
        Err(other) => panic!("{path} {at}: {other}"),
    });
    assert_eq!(torn, (newest.until - newest.from) / SECTOR);
    assert!(reported > 30, "{reported}");
}

#[test]
fn a_whole_flush_that_vanished_is_reported_if_anything_follows() {
    let (storage, _, newest) = written();
    let mut vanished = 0;
    for path in storage.names() {
        let bytes = storage.bytes(&path).unwrap();
        for at in (0..bytes.len()).step_by(4096) {
            let is_blank = bytes[at..at + 4096].iter().all(|&byte| byte == 0);
            if is_blank || newest.holds(&path, at) {
                continue;
            }
            let harmed = storage.reopen(Survival::Keep);
            harmed.blank(&path, ByteCount::new(at as u64), 4096);
            let answer = open(&harmed).map(drop);
            assert!(
                matches!(answer, Err(LogError::Damaged { .. })),
                "{path} {at}: {answer:?}"
            );
            vanished += 1;
        }
    }
    assert!(vanished > 4);
}

/// A log of one roomy segment, with one block per flush: the note of its opening, then `bodies`.
fn in_one_segment(bodies: &[&str]) -> Storage {
    let storage = Storage::new();
    let mut log = open_roomy(&storage).expect("a fresh log opens");
    for (body, op) in bodies.iter().zip(1..) {
        let entry = Record::plain(Term::new(1), Op::new(op), body.as_bytes().to_vec().into());
        log.flush(GROUP, &[entry], Urgency::Ordinary)
            .expect("there is room");
    }
    storage
}

fn open_roomy(storage: &Storage) -> Result<Log, LogError> {
    let roomy = LogConfig {
        segment_bytes: ByteCount::new(64 << 10),
        ..config()
    };
    let folder = storage.root().folder("log").expect("it is only a name");
    Log::open(folder, roomy)
}

#[test]
fn harm_before_the_newest_flush_of_the_tail_is_reported() {
    let storage = in_one_segment(&["a", "b", "c"]);
    for at in (0..16_384).step_by(SECTOR) {
        for blanks in [true, false] {
            let harmed = storage.reopen(Survival::Keep);
            let place = ByteCount::new(at);
            if blanks {
                harmed.blank(FIRST, place, SECTOR);
            } else {
                harmed.flip(FIRST, place, 1);
            }
            let answer = open_roomy(&harmed).map(drop);
            assert!(
                matches!(answer, Err(LogError::Damaged { .. })),
                "{at}: {answer:?}"
            );
        }
    }
}

#[test]
fn a_flush_of_another_history_does_not_fit() {
    // Both are whole, at the same place, of the same node, with the same number.
    let (mine, other) = (
        in_one_segment(&["a", "b", "c"]),
        in_one_segment(&["a", "x", "c"]),
    );
    for block in [3, 4] {
        let at = block * 4096;
        let bytes = other.bytes(FIRST).unwrap();
        let harmed = mine.reopen(Survival::Keep);
        harmed.patch(FIRST, ByteCount::new(at as u64), &bytes[at..at + 4096]);
        let answer = open_roomy(&harmed).map(drop);
        let Err(LogError::Damaged { expected, .. }) = answer else {
            panic!("{block}: {answer:?}");
        };
        assert!(expected.contains("on chain"), "{expected}");
    }
}

#[test]
fn the_message_says_where_and_what_to_do() {
    let (storage, _, _) = written();
    storage.flip(FIRST, ByteCount::new(4100), 1);
    let refused = open(&storage).unwrap_err().to_string();
    expect_test::expect!["the log is damaged: 0000000000000000.seg at byte 4096: expected a segment header and a flush, found a bad sector, and later flushes behind it; nothing was changed; put back an undamaged copy of this file, or start from a snapshot in an empty data directory"].assert_eq(&refused);
}

#[test]
fn a_segment_that_a_crash_left_half_begun_is_torn_wherever_it_was_cut() {
    let begun = |rolls: bool| {
        let storage = Storage::new();
        let mut log = open(&storage).expect("a fresh log opens");
        if rolls {
            append(&mut log, GROUP, 1, 6000).expect("there is room");
        }
        storage
    };
    for (rolls, path) in [(false, FIRST), (true, "log/0000000000004000.seg")] {
        let storage = begun(rolls);
        let bytes = storage.bytes(path).expect("the segment is begun");
        let last = bytes.iter().rposition(|&byte| byte != 0);
        let sectors = last.expect("it holds something") / SECTOR + 1;
        // What a device wrote from the front on, from the back on, and block by block.
        let fronts = (0..sectors).map(|kept| (kept, sectors));
        let backs = (1..=sectors).map(|gone| (0, gone));
        let blocks = (0..sectors).step_by(8).map(|first| (first, first + 8));
        for (from, until) in fronts.chain(backs).chain(blocks) {
            let harmed = storage.reopen(Survival::Keep);
            let place = ByteCount::new((from * SECTOR) as u64);
            harmed.blank(path, place, (until - from) * SECTOR);
            let log = open(&harmed)
                .unwrap_or_else(|refused| panic!("{path}, {from} to {until} blank: {refused}"));
            assert_eq!(entries(&log, GROUP, 0), [], "{path} {from} {until}");
        }
    }
}

#[test]
fn bytes_from_a_client_cannot_pass_for_a_flush() {
    // The flush stands at 8192 of the first segment. Its second block begins, within the body,
    // with a flush header that is right in every field for a flush at that place.
    let mut header = [0_u8; 64];
    header[..4].copy_from_slice(b"FLSH");
    header[8..16].copy_from_slice(&3_u64.to_le_bytes());
    header[16..24].copy_from_slice(&12_288_u64.to_le_bytes());
    header[48..56].copy_from_slice(&1_u64.to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    let mut body = vec![b'.'; 8 * 508 - 64 - 40];
    body.extend_from_slice(&header);
    let storage = Storage::new();
    let mut log = open_roomy(&storage).unwrap();
    let entry = Record::plain(Term::new(1), Op::new(1), body.into());
    log.flush(GROUP, &[entry], Urgency::Ordinary).unwrap();
    drop(log);
    let bytes = storage.bytes(FIRST).unwrap();
    assert_eq!(&bytes[8192..8196], b"FLSH");
    assert_eq!(
        &bytes[12_288..12_292],
        b"FLSH",
        "the forged one is in place"
    );
    // Torn at its beginning: what stands behind must not be taken for a later flush.
    storage.blank(FIRST, ByteCount::new(8192), SECTOR);
    let log = open_roomy(&storage).unwrap();
    assert_eq!(entries(&log, GROUP, 0), []);
}
