//! Records come back, noise is refused, and old bytes stay readable.

use std::sync::Arc;

use holm_base::Prng;
use holm_durable::{Behind, Data, Entry, Offsets, Record, RecordError};
use holm_lanes::{Batch, Lane, Marks, Origin, Text, Values};

mod noise;

use noise::rounds;

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("what is in memory is counted in 64 bits")
}

fn data(origin: Origin, key: Option<(String, u64)>) -> Record {
    let mut text = Text::default();
    ["a", "b", "a", ""].iter().for_each(|it| text.push(it));
    let lanes = [
        Lane::dense(Values::Int(vec![10, 20, 31, 40])),
        Lane::new(
            Values::Real(vec![0.5, -0.0, 1.25, 3.0]),
            Some(vec![false, false, true, false]),
        ),
        Lane::dense(Values::Text(text)),
    ];
    Record::Data(Box::new(Data {
        source: 1,
        position: vec![7, 8, 9],
        lines: 44,
        bad: 1,
        key,
        batch: Batch {
            lanes: lanes.into_iter().map(Arc::new).collect(),
            rows: 4,
            origin,
            marks: Marks {
                after: Marks::START,
                rows: None,
            },
        },
        behind: None,
    }))
}

/// Rows that have passed two nodes; the second column is not read there.
fn behind(origin: Origin, marks: Option<Vec<i64>>, key: Option<(String, u64)>) -> Record {
    let Record::Data(mut data) = data(origin, key) else {
        panic!("it is data");
    };
    data.batch.lanes[1] = Arc::clone(&data.batch.lanes[0]);
    data.batch.marks = Marks {
        after: 35,
        rows: marks,
    };
    data.behind = Some(Behind {
        way: 0x0102_0304,
        nodes: 2,
        rows: 9,
        diverted: 1,
        read: vec![true, false, true],
    });
    Record::Data(data)
}

fn records() -> [Record; 9] {
    [
        Record::Opened,
        data(Origin::Run(40), None),
        data(Origin::Rows(vec![40, 41, 43, 44]), None),
        data(Origin::Run(40), Some(("a key".to_owned(), 77))),
        Record::Offsets(Offsets {
            source: 0,
            position: vec![1; 16],
            lines: 9,
            bytes: 900,
            crc: 77,
        }),
        Record::Ended { source: 2 },
        behind(Origin::Run(40), None, None),
        behind(
            Origin::Rows(vec![40, 41, 43, 44]),
            Some(vec![5, 5, 26, 35]),
            Some(("a key".to_owned(), 77)),
        ),
        Record::Idle { source: 2 },
    ]
}

#[test]
fn records_come_back() {
    for record in records() {
        let entry = record.entry(5, 2);
        assert_eq!((entry.sequence, entry.epoch), (5, 2));
        assert_eq!(Record::read(&entry), Ok(record));
    }
}

#[test]
fn every_cut_and_every_tail_is_refused() {
    for record in records() {
        let whole = record.entry(5, 2);
        for end in 0..whole.body.len() {
            let body = whole.body[..end].to_vec();
            Record::read(&Entry {
                body,
                ..whole.clone()
            })
            .expect_err("it is cut");
        }
        let body = [whole.body.clone(), vec![0]].concat();
        Record::read(&Entry { body, ..whole }).expect_err("something follows");
    }
}

#[test]
fn unknown_kinds_and_versions_are_named() {
    let entry = Record::Opened.entry(1, 1);
    let kind = Record::read(&Entry {
        kind: 99,
        ..entry.clone()
    });
    assert_eq!(
        kind,
        Err(RecordError::Unknown {
            kind: 99,
            version: 1
        })
    );
    let version = Record::read(&Entry {
        version: 2,
        ..entry
    });
    assert_eq!(
        version,
        Err(RecordError::Unknown {
            kind: 1,
            version: 2
        })
    );
}

#[test]
fn noise_is_refused_or_is_a_record() {
    let mut prng = Prng::new(9);
    let mut refused = 0;
    for record in records() {
        let whole = record.entry(5, 2);
        for _ in 0..rounds(5_000) {
            let mut entry = whole.clone();
            for _ in 0..=prng.below(3) {
                if entry.body.is_empty() {
                    entry.body.push(0);
                }
                let at = usize::try_from(prng.below(wide(entry.body.len()))).expect("it is there");
                entry.body[at] = u8::try_from(prng.below(256)).expect("it is there");
            }
            refused += usize::from(Record::read(&entry).is_err());
        }
    }
    assert!(refused > 5_000, "{refused}");
}

/// Bytes that were written stay readable, and are still written so.
#[test]
fn bytes_that_were_written_are_read() {
    let [
        opened,
        run,
        rows,
        keyed,
        offsets,
        ended,
        passed,
        marked,
        idle,
    ] = records();
    for (bytes, record) in [
        (&include_bytes!("compat/v1-opened")[..], opened),
        (&include_bytes!("compat/v1-data-run")[..], run),
        (&include_bytes!("compat/v1-data-rows")[..], rows),
        (&include_bytes!("compat/v2-data-keyed")[..], keyed),
        (&include_bytes!("compat/v1-offsets")[..], offsets),
        (&include_bytes!("compat/v1-ended")[..], ended),
        (&include_bytes!("compat/v3-data-behind")[..], passed),
        (&include_bytes!("compat/v3-data-marked")[..], marked),
        (&include_bytes!("compat/v1-idle")[..], idle),
    ] {
        let entry = record.entry(1, 1);
        let body = bytes.to_vec();
        let read = Record::read(&Entry {
            body,
            ..entry.clone()
        });
        assert_eq!(read.as_ref(), Ok(&record));
        assert_eq!(entry.body, bytes, "{record:?}");
    }
}
