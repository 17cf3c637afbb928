//! The example queries on events of our own, with the rows that come out beside them.
//!
//! Each file in tests/queries is a query; its first lines say which recipe is which table. The
//! rows are recorded by `cargo xtask bless tests`; whole batches and batches of 7 must agree.

use std::fmt::Write;
use std::path::Path;

use expect_test::expect_file;
use holm_connect::{Format, Generator, Reader, Recipe, write};
use holm_engine::{Limits, Run};
use holm_lanes::Batch;
use holm_sql::{Known, parse, plan};

mod refusals;

use refusals::pointed;

const TABLES: &str = include_str!("queries/tables.txt");

fn recipe(table: &str) -> Recipe {
    match table {
        "task" => Recipe::Cluster,
        "plug" => Recipe::Grid,
        "car" => Recipe::Road,
        "ad_event" => Recipe::Ads,
        "campaign" => Recipe::Campaigns,
        "bid" => Recipe::Auction,
        "machine" => Recipe::Manufacturing,
        other => panic!("{other} has no recipe"),
    }
}

/// Rows of a table as they come from text: written, and read again.
fn batches(table: &str, size: u64) -> Vec<Batch> {
    let fields = recipe(table).fields();
    let needed = vec![true; fields.len()];
    let reader = Reader::new(Format::JsonLines, fields.clone(), needed, None).expect("it is there");
    let mut generator = Generator::new(recipe(table), 7, 200, (20_000, 2_000_000));
    let mut batches = Vec::new();
    let mut line = 1;
    while let Some(batch) = generator.batch(size) {
        let mut text = String::new();
        write(Format::JsonLines, &fields, &batch, &mut text);
        let read = reader.read(text.as_bytes(), line);
        assert!(read.bad.is_empty(), "{:?}", read.bad);
        line += read.lines;
        batches.push(read.batch);
    }
    batches
}

fn answer(query: &str, size: u64) -> String {
    let text = format!("{TABLES}{query}");
    let script = parse(&text).unwrap_or_else(|refusal| panic!("{refusal}"));
    let known = Known {
        bounded: script
            .tables()
            .iter()
            .map(|table| table.name.clone())
            .collect(),
        ..Known::default()
    };
    let planned = plan(&script, &known).unwrap_or_else(|refusal| panic!("{refusal}"));
    let tables = planned
        .tables
        .iter()
        .map(|(name, _)| batches(name, 1_000).remove(0));
    let mut run = Run::new(&planned.plan, Limits::default(), tables.collect());
    let mut out = String::new();
    let fields = &planned.plan.fields;
    assert_eq!(
        planned.plan.sources.len(),
        1,
        "one source, so that its order is the text's"
    );
    for batch in batches(&planned.plan.sources[0].name, size) {
        write(
            Format::JsonLines,
            fields,
            &run.push(0, batch).expect("it is there"),
            &mut out,
        );
    }
    write(
        Format::JsonLines,
        fields,
        &run.end(0).expect("it is there"),
        &mut out,
    );
    let counts = run.counts();
    writeln!(
        out,
        "{} in, {} late, {} diverted, {} out",
        counts.rows, counts.late, counts.diverted, counts.out
    )
    .expect("it is there");
    // The head, the tail and a sum of all: enough to see a change, short enough to be read.
    let lines: Vec<&str> = out.lines().collect();
    if lines.len() <= 24 {
        return out;
    }
    let sum = out.bytes().fold(17_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let (head, tail) = (lines[..12].join("\n"), lines[lines.len() - 8..].join("\n"));
    format!(
        "{head}\n... {} lines, sum {sum:016x}\n{tail}\n",
        lines.len()
    )
}

#[test]
fn example_queries_give_the_recorded_rows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/queries");
    for name in [
        "cm1",
        "cm2",
        "sg1",
        "sg2",
        "sg3",
        "lrb1",
        "lrb2",
        "ysb",
        "q5",
        "q11",
        "me1",
        "cumulate",
        "every_aggregate",
        "expressions",
        "ordered",
    ] {
        let query = QUERIES
            .iter()
            .find(|(own, _)| *own == name)
            .map(|(_, query)| *query)
            .expect("it is there");
        let whole = answer(query, 1_000);
        assert_eq!(answer(query, 7), whole, "{name}: batches do not show");
        assert_eq!(answer(query, 1), whole, "{name}: batches do not show");
        expect_file![folder.join(format!("{name}.rows"))].assert_eq(&whole);
    }
}

const QUERIES: &[(&str, &str)] = &[
    ("cm1", include_str!("queries/cm1.sql")),
    ("cm2", include_str!("queries/cm2.sql")),
    ("sg1", include_str!("queries/sg1.sql")),
    ("sg2", include_str!("queries/sg2.sql")),
    ("sg3", include_str!("queries/sg3.sql")),
    ("lrb1", include_str!("queries/lrb1.sql")),
    ("lrb2", include_str!("queries/lrb2.sql")),
    ("ysb", include_str!("queries/ysb.sql")),
    ("q5", include_str!("queries/q5.sql")),
    ("q11", include_str!("queries/q11.sql")),
    ("me1", include_str!("queries/me1.sql")),
    ("cumulate", include_str!("queries/cumulate.sql")),
    (
        "every_aggregate",
        include_str!("queries/every_aggregate.sql"),
    ),
    ("expressions", include_str!("queries/expressions.sql")),
    ("ordered", include_str!("queries/ordered.sql")),
];

/// What is refused, the word that is pointed at, and what is said.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "SELECT job, COUNT(*) FROM task GROUP BY job",
        "job",
        "no window and never ends; use TUMBLE, HOP, CUMULATE or SESSION",
    ),
    (
        "SELECT a.auction FROM bid AS a JOIN bid AS b ON a.auction = b.auction",
        "JOIN bid AS b ON a.auction = b.auction",
        "keeps every row for ever",
    ),
    ("SELECT jb FROM task", "jb", "did you mean `job`?"),
    ("SELECT job FROM tsk", "tsk", "did you mean `task`?"),
    ("SELECT job + device FROM task", "job + device", "CAST one"),
    ("SELECT SUMM(job) FROM task", "SUMM", "did you mean SUM?"),
    (
        "SELECT job FROM task WHERE , job",
        ",",
        "expected a value, found `,`",
    ),
    (
        "SELECT job FROM task WHERE job",
        "job",
        "a condition is BOOLEAN",
    ),
    (
        "SELECT window_start FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '7' MILLISECOND, INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "INTERVAL '7' MILLISECOND, INTERVAL '1' HOUR",
        "3600000 panes of 1 ms; the limit is 1048576",
    ),
    (
        "SELECT window_start FROM TUMBLE(TABLE task, DESCRIPTOR(job), INTERVAL '7' SECOND) GROUP BY window_start, window_end",
        "job",
        "has no watermark",
    ),
    (
        "SELECT window_start FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '7' SECOND) GROUP BY window_start",
        "window_start",
        "GROUP BY window_start, window_end",
    ),
    (
        "SELECT job FROM task UNION SELECT n FROM task",
        "UNION",
        "write UNION ALL",
    ),
    (
        "SELECT job FROM task UNION ALL SELECT device FROM task",
        "device",
        "column 1 is STRING here and BIGINT before; CAST one",
    ),
    (
        "SELECT job, n FROM task UNION ALL SELECT n FROM task",
        "SELECT",
        "1 columns here, and 2 before",
    ),
    (
        "SELECT job FROM task EXCEPT SELECT n FROM task",
        "EXCEPT",
        "UNION ALL is",
    ),
    (
        "SELECT CAST(job AS INTT) FROM task",
        "INTT",
        "INTT is no type",
    ),
    (
        "SELECT window_start, COUNT(SUM(job)) FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '7' SECOND) GROUP BY window_start, window_end",
        "SUM(job)",
        "an aggregate inside of an aggregate",
    ),
];

#[test]
fn refusals_point_at_the_word_and_say_what_would_be_right() {
    for (query, word, wanted) in REFUSED {
        let script = parse(&format!("{query}\n;{}", TABLES.trim_end()));
        let planned = script.and_then(|script| plan(&script, &Known::default()));
        let refusal = planned.map(|_| ()).expect_err(query).to_string();
        assert_eq!(pointed(&refusal, query), *word, "{refusal}");
        assert!(refusal.contains(wanted), "{query}: {refusal}");
    }
}
