//! A crash at every write of a file sink: the file is always a prefix of the rows, and after the
//! rows were put again it holds each once.

use holm_connect::{FileSink, Format, Sink, SinkError};
use holm_lanes::{Batch, Field, Kind, Lane, Values};
use holm_virtual::{Storage, Survival};

fn fields() -> Vec<Field> {
    vec![Field {
        name: "n".into(),
        kind: Kind::BigInt,
        nullable: false,
    }]
}

fn rows(from: i64, to: i64) -> Batch {
    Batch::of(vec![Lane::dense(Values::Int((from..to).collect()))])
}

fn sink(storage: &Storage, format: Format) -> FileSink {
    FileSink::new(storage.root(), "out", format, &fields())
}

/// Puts 0 to 400 in uneven batches, behind what is there already.
fn work(storage: &Storage, format: Format) -> Result<(), SinkError> {
    let mut sink = sink(storage, format);
    let committed = sink.begin()?;
    let mut at = committed.map_or(0, |last| i64::try_from(last).expect("few rows") + 1);
    for size in [1, 7, 90, 2, 300].into_iter().cycle() {
        if at >= 400 {
            return Ok(());
        }
        let to = (at + size).min(400);
        sink.put(u64::try_from(at).expect("from zero"), &rows(at, to))?;
        at = to;
    }
    Ok(())
}

fn expected(format: Format) -> String {
    let mut text = String::new();
    if format == Format::Csv {
        text += "n\n";
    }
    for n in 0..400 {
        text += &match format {
            Format::JsonLines => format!("{{\"n\":{n}}}\n"),
            Format::Csv => format!("{n}\n"),
            Format::Parquet => panic!("rows are written as lines"),
        };
    }
    text
}

fn text(storage: &Storage) -> String {
    String::from_utf8(storage.bytes("out").unwrap_or_default()).expect("rows are text")
}

#[test]
fn a_crash_at_every_step_loses_and_doubles_nothing() {
    let mut crashes = 0;
    for format in [Format::JsonLines, Format::Csv] {
        let whole = Storage::new();
        work(&whole, format).unwrap();
        assert_eq!(text(&whole), expected(format));
        for step in 1..=whole.steps() {
            for survival in [
                Survival::Drop,
                Survival::Keep,
                Survival::Torn { seed: step },
                Survival::Reordered { seed: step },
            ] {
                let storage = Storage::new();
                storage.crash_at(step);
                assert!(work(&storage, format).is_err(), "it crashed at {step}");
                let after = storage.reopen(survival);
                work(&after, format).unwrap();
                assert_eq!(text(&after), expected(format), "{step} {survival:?}");
                crashes += 1;
            }
        }
    }
    assert!(crashes > 60, "there were steps to crash at: {crashes}");
}

#[test]
fn rows_that_are_there_are_passed_over() {
    let storage = Storage::new();
    let mut sink = sink(&storage, Format::JsonLines);
    assert_eq!(sink.begin(), Ok(None));
    sink.put(0, &rows(0, 3)).unwrap();
    sink.put(0, &rows(0, 3)).unwrap();
    sink.put(2, &rows(2, 5)).unwrap();
    assert_eq!(sink.begin(), Ok(Some(4)));
    assert_eq!(text(&storage).lines().count(), 5);
    let gap = sink.put(6, &rows(6, 7)).unwrap_err();
    assert!(gap.to_string().contains("wants row 5"), "{gap}");
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let storage = Storage::new();
    storage.put("out", b"precious\n");
    let refused = sink(&storage, Format::JsonLines).begin().unwrap_err();
    assert!(
        refused.to_string().contains("no stream committed"),
        "{refused}"
    );
    assert_eq!(text(&storage), "precious\n");
    let storage = Storage::new();
    work(&storage, Format::JsonLines).unwrap();
    storage.put("out", b"cut\n");
    let refused = sink(&storage, Format::JsonLines).begin().unwrap_err();
    assert!(
        refused.to_string().contains("rows are missing"),
        "{refused}"
    );
}
