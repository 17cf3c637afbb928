//! Opening whatever bytes: an answer, never a panic, and no memory beyond the files' size.

mod support;

use holm_base::{ByteCount, NodeId, Op, Term};
use holm_log::{LogError, Urgency};
use holm_sequencer::Record;
use holm_virtual::{Storage, Survival};
use support::{GROUP, append, kept, open, open_among_others, raft_record};

const FIRST: &str = "log/0000000000000000.seg";
const SECOND: &str = "log/0000000000004000.seg";

#[test]
fn any_bytes_are_answered() {
    arbtest::arbtest(|u| {
        let storage = Storage::new();
        for name in [FIRST, SECOND, "log/0000000000008000.new"] {
            let mut bytes: Vec<u8> = u.arbitrary()?;
            if u.ratio(3, 4)? {
                bytes.resize(16 << 10, 0);
            }
            storage.put(name, &bytes);
        }
        let again = storage.reopen(Survival::Keep);
        drop(open(&storage).map(|log| kept(&log, GROUP)));
        drop(open_among_others(&again).map(|log| kept(&log, GROUP)));
        Ok(())
    })
    .budget_ms(1_000);
}

/// Stamps every sector anew after the harm, so that what is behind the stamps is reached too.
fn stamp(bytes: &mut [u8], first_lsn: u64) {
    for (index, sector) in bytes.chunks_exact_mut(512).enumerate() {
        if sector.iter().all(|&byte| byte == 0) {
            continue;
        }
        let lsn = first_lsn + (index * 512) as u64;
        let opens_flush = index % 8 == 0 && index > 0 && &sector[..4] == b"FLSH";
        let seed = lsn + u64::from(opens_flush);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&seed.to_le_bytes()), &sector[..508]);
        sector[508..].copy_from_slice(&crc.to_le_bytes());
    }
    for block in bytes.chunks_exact_mut(4096).skip(1) {
        if &block[..4] == b"FLSH" {
            let crc = crc32c::crc32c(&block[..60]);
            block[60..64].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

#[test]
fn a_harmed_log_with_right_stamps_is_answered() {
    let storage = Storage::new();
    let mut log = open(&storage).unwrap();
    append(&mut log, GROUP, 12, 400).unwrap();
    let (term, last) = (Term::new(0), Op::new(10));
    let hard = Record::Hard {
        term,
        vote: Some(NodeId::new(3)),
        is_recovering: true,
    };
    let installed = Record::Installed {
        term,
        op: last,
        is_suffix_kept: true,
        body: "a manifest".into(),
    };
    let records = [hard, Record::CutTo { last }, installed];
    log.flush(GROUP, &records, Urgency::Ordinary).unwrap();
    let records: Vec<Record> = (11..17).map(|op| raft_record(0, op, 900)).collect();
    log.flush(GROUP, &records, Urgency::Ordinary).unwrap();
    drop(log);
    arbtest::arbtest(|u| {
        let harmed = storage.reopen(Survival::Keep);
        let name = *u.choose(&[FIRST, SECOND])?;
        let mut bytes = harmed.bytes(name).expect("the log has two segments");
        for _ in 0..u.int_in_range(1..=4)? {
            let at = u.choose_index(bytes.len())?;
            bytes[at] = u.arbitrary()?;
        }
        // Twice: the header's checksum lies within the first stamped sector.
        let first = if name == FIRST { 0 } else { 16 << 10 };
        stamp(&mut bytes, first);
        stamp(&mut bytes, first);
        harmed.patch(name, ByteCount::ZERO, &bytes);
        let opened = if u.arbitrary()? {
            open(&harmed)
        } else {
            open_among_others(&harmed)
        };
        match opened {
            Ok(log) => drop(kept(&log, GROUP)),
            Err(LogError::Damaged { .. } | LogError::Foreign { .. } | LogError::Version { .. }) => {
            }
            Err(other) => panic!("{other}"),
        }
        Ok(())
    })
    .budget_ms(2_000);
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let storage = Storage::new();
    drop(open(&storage).unwrap());
    let mut bytes = storage.bytes(FIRST).unwrap();
    bytes[8] = 2;
    stamp(&mut bytes, 0);
    storage.patch(FIRST, ByteCount::ZERO, &bytes);
    let refused = open(&storage).unwrap_err();
    let text = "0000000000000000.seg has format version 2, which this release cannot read; \
                use a newer holm";
    assert_eq!(refused.to_string(), text);
}

#[test]
fn files_that_are_not_segments_are_left_alone() {
    let storage = Storage::new();
    storage.put("log/README", b"mine");
    storage.put("log/00000000000000zz.seg", b"mine");
    let log = open(&storage).unwrap();
    assert_eq!(log.opens(), 1);
    assert_eq!(storage.bytes("log/README").unwrap(), b"mine");
}
