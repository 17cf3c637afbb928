//! Noise: text that is nearly SQL, nearly JSON, nearly CSV. Nothing panics, nothing takes long,
//! every line is a row, a refusal or blank, and what plans also runs.

use std::fmt::Write as _;

use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use holm_connect::{Beside, Format, Generator, Reader, Recipe, header, rows_of, write};
use holm_engine::{Limits, Run};
use holm_lanes::{Batch, Field, Kind, Values};
use holm_sql::{Known, parse, plan};

const TABLES: &str = include_str!("queries/tables.txt");
const QUERIES: &[&str] = &[
    include_str!("queries/cm1.sql"),
    include_str!("queries/lrb1.sql"),
    include_str!("queries/sg3.sql"),
    include_str!("queries/q5.sql"),
    include_str!("queries/q11.sql"),
    include_str!("queries/ysb.sql"),
    "WITH u AS (SELECT ts, job FROM task UNION ALL SELECT ts, n AS job FROM task WHERE category = 1)
     SELECT window_start, job, COUNT(*) AS n FROM TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1' SECOND)
     GROUP BY window_start, window_end, job;",
    "SELECT JSON_VALUE(device, 'lax $.a[0]' RETURNING INT DEFAULT job + 1 ON EMPTY NULL ON ERROR) AS j, device < 'x' AS s
     FROM task UNION ALL SELECT LENGTH(CAST(device AS BYTES)), X'00ff' = CAST(device AS BYTES) FROM task
     ORDER BY j % 7 DESC, 2 LIMIT 9;",
    "EXPLAIN SELECT category, MAX(CAST(device AS BYTES)) AS b FROM task GROUP BY category ORDER BY COUNT(*), b;",
];
/// Words that stand in queries, so that noise is nearly right.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "HOP",
    "TUMBLE",
    "SESSION",
    "CUMULATE",
    "TABLE",
    "DESCRIPTOR",
    "INTERVAL",
    "'1'",
    "SECOND",
    "MINUTE",
    "(",
    ")",
    ",",
    ".",
    "*",
    "+",
    "-",
    "/",
    "=",
    "<",
    ">",
    "<>",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "AS",
    "BIGINT",
    "DOUBLE",
    "DECIMAL(38, 38)",
    "STRING",
    "SUM",
    "COUNT",
    "AVG",
    "MIN",
    "MAX",
    "DISTINCT",
    "window_start",
    "window_end",
    "ts",
    "cpu",
    "job",
    "category",
    "task",
    "1",
    "0",
    "9223372036854775807",
    "-9223372036854775808",
    "1e308",
    "''",
    "'",
    "\"",
    "JOIN",
    "ON",
    "OVER",
    "PARTITION",
    "ORDER",
    "LIMIT",
    "UNION",
    "ALL",
    "LIKE",
    "EXPLAIN",
    "JSON_VALUE",
    "RETURNING",
    "DEFAULT",
    "EMPTY",
    "ERROR",
    "'$.a'",
    "X'ff'",
    "BYTES",
    "LENGTH",
    "IN",
    "BETWEEN",
    "COALESCE",
    "TRY_CAST",
    "SUBSTRING",
    "ROW_NUMBER()",
    ";",
    "--",
    "/*",
];

/// So many milliseconds, or what `cargo xtask fuzz` allows.
fn budget(usual: u64) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the budget of random tests is set outside"
    )]
    let asked = std::env::var("HOLM_FUZZ_MS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A text with a few pieces taken out, doubled, or put in.
fn mutated(input: &mut Unstructured<'_>, text: &str, words: &[&str]) -> Result<String> {
    let mut tokens: Vec<String> = text
        .split_inclusive([' ', '\n', '(', ','])
        .map(str::to_owned)
        .collect();
    for _ in 0..input.int_in_range(1..=4)? {
        if tokens.is_empty() {
            break;
        }
        let at = input.choose_index(tokens.len())?;
        match input.int_in_range(0..=5)? {
            0 => drop(tokens.remove(at)),
            1 => tokens.insert(at, tokens[at].clone()),
            2 => tokens.insert(at, format!("{} ", input.choose(words)?)),
            3 => tokens[at] = format!("{} ", input.choose(words)?),
            4 => {
                let other = input.choose_index(tokens.len())?;
                tokens.swap(at, other);
            }
            _ => {
                let letter: char = input.arbitrary()?;
                tokens[at].push(letter);
            }
        }
    }
    Ok(tokens.concat())
}

fn tables() -> (Vec<Batch>, Vec<Field>) {
    let mut generator = Generator::new(Recipe::Cluster, 3, 60, (20_000, 2_000_000));
    let rows = std::iter::from_fn(|| generator.batch(20)).collect();
    (rows, Recipe::Cluster.fields())
}

/// Runs a statement that plans over rows of `task`, if it reads nothing else.
fn attempt(text: &str, rows: &[Batch]) -> bool {
    let Ok(script) = parse(text) else {
        return false;
    };
    let bounded = script.tables().iter().map(|table| table.name.clone());
    let known = Known {
        bounded: bounded.collect(),
        ..Known::default()
    };
    let Ok(planned) = plan(&script, &known) else {
        return false;
    };
    let is_task = planned
        .plan
        .sources
        .iter()
        .all(|source| source.name == "task");
    if !is_task || planned.plan.sources.len() != 1 || !planned.tables.is_empty() {
        return true;
    }
    let limits = Limits {
        rows: 10_000,
        ..Limits::default()
    };
    let mut run = Run::new(&planned.plan, limits, vec![]);
    let mut shown = String::new();
    for batch in rows {
        match run.push(0, batch.clone()) {
            Ok(out) => write(Format::JsonLines, &planned.plan.fields, &out, &mut shown),
            Err(_full) => return true,
        }
    }
    if let Ok(out) = run.end(0) {
        write(Format::Csv, &planned.plan.fields, &out, &mut shown);
    }
    true
}

#[test]
fn statements_of_noise_are_refused_and_what_plans_runs() {
    let (rows, _) = tables();
    let (mut tried, mut planned) = (0, 0);
    arbtest(|input| {
        let query = *input.choose(QUERIES)?;
        let text = if input.ratio(1, 4)? {
            let mut text = String::new();
            for _ in 0..input.int_in_range(0..=40)? {
                write!(text, "{} ", input.choose(WORDS)?).expect("a string takes all");
            }
            text
        } else {
            mutated(input, query, WORDS)?
        };
        tried += 1;
        planned += u32::from(attempt(&format!("{TABLES}{text}"), &rows));
        attempt(&text, &rows);
        Ok(())
    })
    .budget_ms(budget(4_000));
    assert!(tried > 100 && planned > 5, "{planned} of {tried} planned");
}

#[test]
fn tables_of_noise_are_refused() {
    arbtest(|input| {
        let text = mutated(input, TABLES, WORDS)?;
        attempt(&text, &[]);
        let bytes: Vec<u8> = input.arbitrary()?;
        attempt(&String::from_utf8_lossy(&bytes), &[]);
        Ok(())
    })
    .budget_ms(budget(1_500));
}

#[test]
fn deep_and_long_statements_are_refused_and_not_survived_by_luck() {
    let depth = 20_000;
    for text in [
        format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth)),
        format!("SELECT {}1", "NOT ".repeat(depth)),
        format!("SELECT {}1", "- ".repeat(depth)),
        format!("SELECT 1{}", " + 1".repeat(depth)),
        format!(
            "SELECT {}1{}",
            "CASE WHEN true THEN ".repeat(5_000),
            " END".repeat(5_000)
        ),
        format!(
            "SELECT * FROM {}t{}",
            "(SELECT * FROM ".repeat(4_000),
            ")".repeat(4_000)
        ),
        format!("SELECT {}1{}", "ABS(".repeat(depth), ")".repeat(depth)),
        format!(
            "SELECT 1 FROM t{}",
            " UNION ALL SELECT 1 FROM t".repeat(2_000)
        ),
        format!(
            "SELECT {}1{}",
            "JSON_VALUE('', '$' DEFAULT ".repeat(1_500),
            " ON EMPTY)".repeat(1_500)
        ),
        format!("SELECT JSON_VALUE(a, '${}')", "[0]".repeat(20_000)),
        format!("SELECT '{}", "x".repeat(60_000)),
        format!("SELECT {}", "9".repeat(60_000)),
    ] {
        let refused = match parse(&text) {
            Ok(script) => plan(&script, &Known::default()).is_err(),
            Err(_) => true,
        };
        assert!(refused, "{}...", &text[..40]);
    }
}

fn fields() -> Vec<Field> {
    let field = |name: &str, kind| Field {
        name: name.into(),
        kind,
        nullable: true,
    };
    vec![
        field("i", Kind::Int),
        field("d", Kind::Double),
        field(
            "m",
            Kind::Decimal {
                precision: 20,
                scale: 3,
            },
        ),
        field("s", Kind::String),
        field("t", Kind::Timestamp { digits: 3 }),
        field("b", Kind::Boolean),
        field("y", Kind::Date),
        field("f", Kind::Float),
    ]
}

const JSON: &str = r#"{"i":1,"d":-2.5e3,"m":"1.125","s":"a\"\u00e9","t":"2026-01-05T10:00:00.123","b":true,"y":"2024-02-29","f":0.1}
{"s":null,"i":-2147483648,"nested":{"a":[1,{"b":"]"}]},"d":"Infinity"}

{"i":99999999999}
"#;
const CSV: &str =
    "1,-2.5,1.125,\"a,\"\"b\",2026-01-05 10:00:00,true,2024-02-29,0.1\n,,,,,,,\n\n3,x,,\"\",,,,\n";

/// Each line is a row, a bad row or blank; and what was read is written and read alike.
fn check(format: Format, text: &[u8]) {
    let fields = fields();
    let names = header(Format::Csv, &fields);
    let reader = || {
        let head = (format == Format::Csv).then(|| names.trim_end());
        Reader::new(format, fields.clone(), vec![true; fields.len()], head).expect("all are there")
    };
    let read = reader().read(text, 1);
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    let blank = lines
        .iter()
        .filter(|line| std::str::from_utf8(line).is_ok_and(|line| line.trim_ascii().is_empty()));
    assert_eq!(
        read.batch.rows + read.bad.len() + blank.count(),
        lines.len()
    );
    let mut written = String::new();
    write(format, &fields, &read.batch, &mut written);
    let again = reader().read(written.as_bytes(), 1);
    assert!(again.bad.is_empty(), "{:?} of {written:?}", again.bad);
    let mut twice = String::new();
    write(format, &fields, &again.batch, &mut twice);
    assert_eq!(written, twice);
}

#[test]
fn rows_of_noise_are_rows_bad_or_blank() {
    const PIECES: &[&str] = &[
        "{", "}", "[", "]", "\"", ":", ",", "\\", "\\u12", "null", "true", "1e999", "-", "\n",
        "\r\n", "\"\"", "NaN", "0x1", "\u{e9}",
    ];
    arbtest(|input| {
        let json = mutated(input, JSON, PIECES)?;
        check(Format::JsonLines, json.as_bytes());
        let csv = mutated(input, CSV, PIECES)?;
        // A value has no line break here, written or read, so text with one is not written.
        if !csv.contains('"') {
            check(Format::Csv, csv.as_bytes());
        }
        let bytes: Vec<u8> = input.arbitrary()?;
        check(Format::JsonLines, &bytes);
        let reader = Reader::new(Format::JsonLines, fields(), vec![true; 8], None).expect("it is");
        let list = format!("[{}]", json.replace('\n', ","));
        rows_of(list.as_bytes(), &reader).ok();
        rows_of(&bytes, &reader).ok();
        // What a connector says beside rows stands in each of them, whatever follows it.
        let noise = [json.as_bytes(), b"\x1e", &bytes].concat();
        let head = Beside::of(["key".to_owned()]).head(&[("key", Some("\u{1e}\""))]);
        let rows = head.before(&noise);
        let mut names = vec![None; 8];
        names[3] = Some("key".to_owned());
        let read = reader.with(&names).read(&rows, 1);
        let lane = &read.batch.lanes[3];
        let Values::Text(keys) = lane.values() else {
            panic!("it is text");
        };
        assert!(lane.nulls().is_none() && keys.iter().all(|key| key == "\u{1e}\""));
        Ok(())
    })
    .budget_ms(budget(3_000));
}
