//! METADATA columns: what a connector says of a row, beside it. Names, kinds and refusals, and
//! that no row can say it itself.

use std::time::Duration;

use holm_connect::{
    Beside, Change, Format, Keyspace, KeyspaceError, KeyspaceSource, Reader, Source, Taken,
    rows_with, write,
};
use holm_engine::{Limits, Run};
use holm_lanes::{Field, Kind};
use holm_sql::{Known, Planned, explain, parse, plan};

mod refusals;

use refusals::pointed;

fn planned(sql: &str) -> Result<Planned, String> {
    let known = Known::default();
    let script = parse(sql).map_err(|refusal| refusal.to_string())?;
    plan(&script, &known).map_err(|refusal| refusal.to_string())
}

/// The reader of a query's only source.
fn reader(planned: &Planned) -> Reader {
    let fields = planned.plan.sources[0].fields.clone();
    let reader = Reader::new(Format::JsonLines, fields, planned.needed[0].clone(), None);
    reader
        .expect("lines have no header")
        .with(&planned.beside[0])
}

fn wanted(planned: &Planned) -> Beside {
    Beside::of(planned.beside[0].iter().flatten().cloned())
}

/// What a query makes of these rows, and which of them are none.
fn answer(planned: &Planned, rows: &[u8]) -> (String, Vec<String>) {
    let read = reader(planned).read(rows, 1);
    let mut run = Run::new(&planned.plan, Limits::default(), vec![]);
    let batch = run.push(0, read.batch).expect("room");
    let mut out = String::new();
    write(Format::JsonLines, &planned.plan.fields, &batch, &mut out);
    (
        out,
        read.bad
            .iter()
            .map(|bad| format!("{}: {bad}", bad.line))
            .collect(),
    )
}

const TASK: &str = "CREATE TABLE task (cpu DOUBLE, at STRING METADATA FROM 'topic' VIRTUAL, topic STRING) WITH ('connector'='mqtt'); ";

#[test]
fn what_stands_beside_a_row_is_a_column_and_a_row_cannot_say_it() {
    let planned = planned(&format!("{TASK}SELECT * FROM task")).expect("it is right");
    let beside = wanted(&planned);
    let lines = [
        r#"{"cpu":0.5,"topic":"its own"}"#,
        r#"{"cpu":1,"at":"spoofed"}"#,
        "",
        "{\"at\":\"spoofed\"}\u{1e}{\"cpu\":2}",
        "{\"cpu\":\"\u{1e}\"}",
        "no row",
    ];
    let head = beside.head(&[("topic", Some("plant/7"))]);
    let rows = head.before(lines.join("\n").as_bytes());
    let (out, bad) = answer(&planned, &rows);
    let line = |cpu: &str, topic: &str| {
        format!("{{\"cpu\":{cpu},\"at\":\"plant/7\",\"topic\":{topic}}}\n")
    };
    assert_eq!(out, line("0.5", "\"its own\"") + &line("1.0", "null"));
    let lines: Vec<&str> = bad.iter().map(|bad| &bad[..2]).collect();
    assert_eq!(lines, ["4:", "5:", "6:"], "{bad:?}");
}

#[test]
fn two_columns_may_be_of_the_same_metadata() {
    let sql = "CREATE TABLE t (a STRING METADATA FROM 'topic', n INT, topic STRING METADATA) WITH ('connector'='mqtt'); \
               SELECT a, n, topic FROM t";
    let planned = planned(sql).expect("it is right");
    let head = wanted(&planned).head(&[("topic", Some("plant/7"))]);
    let (out, bad) = answer(&planned, &head.before(b"{\"n\":1}\n"));
    let row = "{\"a\":\"plant/7\",\"n\":1,\"topic\":\"plant/7\"}\n";
    assert_eq!((out.as_str(), bad), (row, Vec::new()));
}

#[test]
fn what_a_connector_does_not_know_is_null() {
    let sql = "CREATE TABLE t (n INT, key STRING NOT NULL METADATA) WITH ('connector'='keyspace'); SELECT n, key FROM t";
    let planned = planned(sql).expect("it is right");
    let rows = wanted(&planned).head(&[("key", None)]);
    let rows = rows.before(b"{\"n\":1}\n");
    let (out, bad) = answer(&planned, &rows);
    assert_eq!(
        (out.as_str(), bad),
        ("", vec!["1: key: NULL where a value must be".to_owned()])
    );
}

#[test]
fn rows_that_are_pushed_come_with_their_time() {
    let sql = "CREATE TABLE t (n INT, came TIMESTAMP_LTZ(3) METADATA FROM 'timestamp') WITH ('connector'='http'); \
               SELECT n, came FROM t";
    let planned = planned(sql).expect("it is right");
    let beside = wanted(&planned);
    let rows = rows_with(
        b"[{\"n\":1},{\"n\":2}]",
        &reader(&planned),
        (&beside, 1_767_607_200_001_999),
        1 << 20,
    );
    let (out, bad) = answer(&planned, &rows.expect("they are rows"));
    assert_eq!(bad, Vec::<String>::new());
    let line = |n: u32| format!("{{\"n\":{n},\"came\":\"2026-01-05T10:00:00.001Z\"}}\n");
    assert_eq!(out, line(1) + &line(2));
    let refused = rows_with(
        b"{\"n\":1}\n{\"n\":}",
        &reader(&planned),
        (&beside, 0),
        1 << 20,
    );
    let refused = refused.expect_err("the second is none").to_string();
    assert_eq!(
        refused, "line 2: column 6: expected a value",
        "places are the client's"
    );
}

/// A keyspace with two values, of which one key is no text.
#[derive(Debug)]
struct Few;

impl Keyspace for Few {
    fn value(&mut self, _key: &[u8]) -> Result<Option<Vec<u8>>, KeyspaceError> {
        Ok(None)
    }

    fn all(&mut self, _prefix: &[u8]) -> Result<(Vec<Change>, i64), KeyspaceError> {
        let change = |key: &[u8], value: &str| Change {
            key: key.to_vec(),
            value: Some(value.as_bytes().to_vec()),
            revision: 2,
        };
        let values = vec![
            change(b"ad/\"1\"", "{\"n\":\n1}"),
            change(&[0xff], "{\"n\":2}"),
        ];
        Ok((values, 2))
    }

    fn all_at(&mut self, prefix: &[u8], _revision: i64) -> Result<Vec<Change>, KeyspaceError> {
        Ok(self.all(prefix)?.0)
    }

    fn watch(&mut self, _prefix: &[u8], _from: i64) -> Result<(), KeyspaceError> {
        Ok(())
    }

    fn changes(&mut self, _wait: Duration) -> Result<Vec<Change>, KeyspaceError> {
        Ok(Vec::new())
    }

    fn put_if(
        &mut self,
        _guard: (&[u8], Option<&[u8]>),
        _puts: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<bool, KeyspaceError> {
        Ok(false)
    }
}

#[test]
fn rows_of_a_keyspace_come_with_their_key() {
    let sql = "CREATE TABLE t (n INT, k STRING METADATA FROM 'key') WITH ('connector'='keyspace'); SELECT n, k FROM t";
    let planned = planned(sql).expect("it is right");
    let mut source = KeyspaceSource::new("t", Box::new(Few), "").with(wanted(&planned));
    let Ok(Taken::Rows(piece)) = source.take(10_000, Duration::ZERO) else {
        panic!("it has rows");
    };
    let (out, bad) = answer(&planned, &piece.rows);
    assert_eq!(
        out,
        "{\"n\":1,\"k\":\"ad/\\\"1\\\"\"}\n{\"n\":2,\"k\":null}\n"
    );
    assert_eq!(bad, Vec::<String>::new());
}

#[test]
fn what_is_no_metadata_is_refused_at_its_word() {
    let table = |columns: &str, connector: &str| {
        format!("CREATE TABLE t (n INT, {columns}) WITH ({connector}); SELECT * FROM t")
    };
    for (columns, connector, word, said) in [
        (
            "a STRING METADATA FROM 'topics'",
            "'connector'='mqtt'",
            "'topics'",
            "mqtt knows no METADATA 'topics'; there is 'topic', 'timestamp'",
        ),
        (
            "topic INT METADATA",
            "'connector'='mqtt'",
            "topic",
            "METADATA 'topic' is STRING, not INT",
        ),
        (
            "a TIMESTAMP(3) METADATA FROM 'timestamp'",
            "'connector'='http'",
            "'timestamp'",
            "is TIMESTAMP_LTZ(3), not TIMESTAMP(3)",
        ),
        (
            "key STRING METADATA",
            "'connector'='file', 'path'='x'",
            "key",
            "file knows no METADATA",
        ),
        (
            "a STRING METADATA FROM 'timestamp'",
            "'connector'='http', 'url'='http://h'",
            "'timestamp'",
            "a page that is pulled knows no",
        ),
        (
            "key STRING METADATA FROM key",
            "'connector'='keyspace'",
            "key",
            "expected what the connector calls it in quotes",
        ),
        (
            "key STRING METADATA",
            "'format'='json'",
            "key",
            "a table without a connector knows no",
        ),
    ] {
        let query = table(columns, connector);
        let refusal = planned(&query).expect_err(&query);
        assert!(refusal.contains(said), "{refusal}");
        assert_eq!(pointed(&refusal, &query), word, "{refusal}");
    }
}

#[test]
fn silence_that_is_no_length_of_time_is_refused_at_its_word() {
    let table = |columns: &str, idle: &str| {
        format!(
            "CREATE TABLE t (ts TIMESTAMP(3){columns}) WITH ('connector'='mqtt', 'idle'='{idle}'); SELECT * FROM t"
        )
    };
    let timed = ", WATERMARK FOR ts AS ts";
    for (columns, idle, said) in [
        (timed, "soon", "no length of time"),
        (timed, "30", "no length of time"),
        (timed, "1 ms", "from 100 ms to 24 h"),
        (timed, "30 days", "no length of time"),
        (timed, "99999999999999999999 s", "no length of time"),
        ("", "30 s", "t has no WATERMARK"),
    ] {
        let query = table(columns, idle);
        let refusal = planned(&query).expect_err(&query);
        assert!(refusal.contains(said), "{refusal}");
        assert_eq!(pointed(&refusal, &query), format!("'{idle}'"), "{refusal}");
    }
    for (idle, micros) in [
        ("30 s", 30_000_000),
        ("1min", 60_000_000),
        ("250 ms", 250_000),
        ("24 h", 86_400_000_000),
    ] {
        let planned = planned(&table(timed, idle)).expect(idle);
        assert_eq!(planned.idle, [Some(micros)]);
    }
    let shown = explain(&planned(&table(timed, "30 s")).expect("it is right"));
    assert!(
        shown.contains("watermark ts - 0 s, left out after 30 s of silence"),
        "{shown}"
    );
}

/// A virtual column is not written; another one cannot be.
#[test]
fn virtual_columns_are_left_out_where_rows_are_written() {
    let of = |more: &str| {
        format!(
            "CREATE TABLE o (n DOUBLE, key STRING METADATA{more}) WITH ('connector'='keyspace'); {TASK}INSERT INTO o SELECT cpu FROM task"
        )
    };
    let into = planned(&of(" VIRTUAL")).expect("it is right");
    let names: Vec<&str> = into
        .plan
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(names, ["n"]);
    let query = of("");
    let refusal = planned(&query).expect_err("nobody writes it");
    assert!(
        refusal.contains("no connector writes METADATA 'key' yet"),
        "{refusal}"
    );
    assert_eq!(pointed(&refusal, &query), "key");
}

#[test]
fn explain_says_what_stands_beside() {
    let planned = planned(&format!("{TASK}SELECT at FROM task")).expect("it is right");
    let shown = explain(&planned);
    assert!(
        shown.contains("at STRING of METADATA 'topic'; 2 columns are not parsed"),
        "{shown}"
    );
    let field = Field {
        name: "at".into(),
        kind: Kind::String,
        nullable: true,
    };
    assert_eq!(planned.plan.fields, [field]);
}
