//! JSON_VALUE and BYTES through a query: from lines of text and columns of Parquet to lines again.

use std::sync::Arc;

use bytes::Bytes;
use holm_connect::{Format, ParquetSource, Reader, Source, Taken, infer_parquet, write};
use holm_engine::{Limits, Run};
use holm_lanes::{Field, Kind, Loader, Saver};
use holm_sql::{Known, Planned, parse, plan};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

mod refusals;

use refusals::pointed;

fn planned(columns: &str, query: &str) -> Result<Planned, String> {
    let known = Known {
        bounded: vec!["t".to_owned()],
        ..Known::default()
    };
    let text = format!("{query};\nCREATE TABLE t ({columns}) WITH ('connector'='stdin')");
    let script = parse(&text).map_err(|refusal| refusal.to_string())?;
    plan(&script, &known).map_err(|refusal| refusal.to_string())
}

/// What comes out of lines, and the rows that were diverted; the state is saved on the way.
fn answer(columns: &str, query: &str, (format, lines): (Format, &str)) -> (String, Vec<String>) {
    let planned = planned(columns, query).unwrap_or_else(|refusal| panic!("{refusal}"));
    let plan = &planned.plan;
    let fields = plan.sources[0].fields.clone();
    let (header, lines) = match format {
        Format::Csv => lines
            .split_once('\n')
            .map_or((None, ""), |(head, rest)| (Some(head), rest)),
        Format::JsonLines | Format::Parquet => (None, lines),
    };
    let reader = Reader::new(format, fields, planned.needed[0].clone(), header).expect("a header");
    let mut run = Run::new(plan, Limits::default(), vec![]);
    let (mut out, mut bad) = (String::new(), Vec::new());
    for (at, line) in (1..).zip(lines.lines()) {
        let read = reader.read(line.as_bytes(), at);
        bad.extend(read.bad.iter().map(ToString::to_string));
        write(
            format,
            &plan.fields,
            &run.push(0, read.batch).expect("room"),
            &mut out,
        );
        bad.extend(run.report().diverted.iter().map(|it| it.fault.to_string()));
        let mut to = Saver::new();
        run.save(&mut to);
        let saved = to.finish();
        run = Run::new(plan, Limits::default(), vec![]);
        run.load(&mut Loader::new(&saved))
            .expect("what was written");
    }
    write(format, &plan.fields, &run.end(0).expect("room"), &mut out);
    (out, bad)
}

/// One value of one row.
fn value(term: &str, json: &str) -> Result<String, String> {
    let query = format!("SELECT {term} AS v FROM t");
    let mut line = String::from("{\"j\":\"");
    line.extend(json.chars().flat_map(|it| match it {
        '"' | '\\' => vec!['\\', it],
        other => vec![other],
    }));
    line += "\",\"n\":7}";
    let (out, bad) = answer("j STRING, n INT", &query, (Format::JsonLines, &line));
    let shown = out
        .trim()
        .strip_prefix("{\"v\":")
        .and_then(|it| it.strip_suffix('}'));
    shown.map(str::to_owned).ok_or_else(|| bad.join(", "))
}

/// A value, the text that it is of, and what it is.
const JSON: &[(&str, &str, &str)] = &[
    // Flink's own examples.
    ("JSON_VALUE(j, '$.a')", r#"{"a": true}"#, "\"true\""),
    (
        "JSON_VALUE(j, '$.a' RETURNING BOOLEAN)",
        r#"{"a": true}"#,
        "true",
    ),
    (
        "JSON_VALUE(j, 'lax $.b' DEFAULT FALSE ON EMPTY)",
        r#"{"a": true}"#,
        "\"false\"",
    ),
    (
        "JSON_VALUE(j, 'strict $.b' DEFAULT FALSE ON ERROR)",
        r#"{"a": true}"#,
        "\"false\"",
    ),
    (
        "JSON_VALUE(j, '$.[\"a.b\"][0]' RETURNING DOUBLE)",
        r#"{"a.b": [0.998,0.996]}"#,
        "0.998",
    ),
    (
        "JSON_VALUE(j, 'strict $.[''contains blank'']' NULL ON EMPTY DEFAULT 'error' ON ERROR)",
        r#"{"contains blank": "right"}"#,
        "\"right\"",
    ),
    // What is not there.
    ("JSON_VALUE(j, '$.b')", r#"{"a": 1}"#, "null"),
    (
        "JSON_VALUE(j, '$.b' DEFAULT 'e' ON EMPTY DEFAULT 'x' ON ERROR)",
        r#"{"a": 1}"#,
        "\"x\"",
    ),
    (
        "JSON_VALUE(j, 'lax $.b' DEFAULT 'e' ON EMPTY DEFAULT 'x' ON ERROR)",
        r#"{"a": 1}"#,
        "\"e\"",
    ),
    (
        "JSON_VALUE(j, '$.a' DEFAULT 'e' ON EMPTY DEFAULT 'x' ON ERROR)",
        r#"{"a": null}"#,
        "\"x\"",
    ),
    (
        "JSON_VALUE(j, 'lax $.a' DEFAULT 'e' ON EMPTY DEFAULT 'x' ON ERROR)",
        r#"{"a": null}"#,
        "\"e\"",
    ),
    (
        "JSON_VALUE(j, 'lax $.a' DEFAULT 'e' ON EMPTY)",
        r#"{"a": [1]}"#,
        "\"e\"",
    ),
    (
        "JSON_VALUE(j, '$.a' DEFAULT 'x' ON ERROR)",
        r#"{"a": [1]}"#,
        "\"x\"",
    ),
    (
        "JSON_VALUE(j, '$.a' DEFAULT 'x' ON ERROR)",
        "no json",
        "\"x\"",
    ),
    // Kinds.
    ("JSON_VALUE(j, '$.a' RETURNING INT)", r#"{"a": 12}"#, "12"),
    (
        "JSON_VALUE(j, '$.a' RETURNING INT DEFAULT n ON ERROR)",
        r#"{"a": "12"}"#,
        "7",
    ),
    (
        "JSON_VALUE(j, '$.a' RETURNING DOUBLE DEFAULT n / 2 ON ERROR)",
        r#"{"a": "x"}"#,
        "3.0",
    ),
    (
        "CAST(JSON_VALUE(j, '$.a') AS BIGINT) + 1",
        r#"{"a": 3000000000}"#,
        "3000000001",
    ),
    (
        "JSON_VALUE(CAST(NULL AS STRING), '$' DEFAULT 'x' ON EMPTY)",
        "1",
        "null",
    ),
];

#[test]
fn json_value_is_what_flink_says_it_is() {
    for (term, json, wanted) in JSON {
        assert_eq!(
            value(term, json),
            Ok((*wanted).to_owned()),
            "{term} of {json}"
        );
    }
    for (term, json) in [
        ("JSON_VALUE(j, '$.b' ERROR ON ERROR)", r#"{"a": 1}"#),
        ("JSON_VALUE(j, 'lax $.b' ERROR ON EMPTY)", r#"{"a": 1}"#),
        (
            "JSON_VALUE(j, '$.a' RETURNING INT DEFAULT 1 / (n - 7) ON ERROR)",
            r#"{"a": "x"}"#,
        ),
    ] {
        let diverted = value(term, json).expect_err(term);
        assert!(
            diverted.contains("has no value") || diverted.contains("division"),
            "{diverted}"
        );
    }
}

#[test]
fn defaults_are_computed_where_they_are_wanted_alone() {
    let lines = "{\"j\":\"{\\\"a\\\":1}\",\"n\":7}\n{\"j\":\"{}\",\"n\":8}\n{\"n\":7}\n";
    let query =
        "SELECT JSON_VALUE(j, 'lax $.a' RETURNING INT DEFAULT 1 / (n - 7) ON EMPTY) AS v FROM t";
    let (out, bad) = answer("j STRING, n INT", query, (Format::JsonLines, lines));
    assert_eq!(out, "{\"v\":1}\n{\"v\":1}\n{\"v\":null}\n");
    assert_eq!(bad, Vec::<String>::new());
    let grouped = "SELECT JSON_VALUE(j, '$.a') AS a, COUNT(*) AS n, MAX(JSON_VALUE(j, '$.a' RETURNING INT)) AS m FROM t \
                   GROUP BY JSON_VALUE(j, '$.a') HAVING JSON_VALUE(j, '$.a') IS NOT NULL";
    let (out, _) = answer("j STRING, n INT", grouped, (Format::JsonLines, lines));
    assert_eq!(out, "{\"a\":\"1\",\"n\":1,\"m\":1}\n");
}

/// 0x00ff, "hi", NULL, 0x80, "hi" again.
const BYTES: &str = "{\"b\":\"AP8=\",\"k\":1}\n{\"b\":\"aGk=\",\"k\":2}\n{\"b\":null,\"k\":3}\n{\"b\":\"gA==\",\"k\":4}\n{\"b\":\"aGk=\",\"k\":5}\n";

#[test]
fn bytes_are_base64_outside_and_compare_as_bytes() {
    let of = |query: &str| answer("b BYTES, k INT", query, (Format::JsonLines, BYTES)).0;
    assert_eq!(of("SELECT * FROM t"), BYTES);
    let few = of(
        "SELECT k, LENGTH(b) AS n, CAST(b AS STRING) AS s FROM t WHERE b < X'80' AND b <> x'00FF'",
    );
    assert_eq!(
        few,
        "{\"k\":2,\"n\":2,\"s\":\"hi\"}\n{\"k\":5,\"n\":2,\"s\":\"hi\"}\n"
    );
    let hex = of(
        "SELECT X'6869' AS b, CAST('\u{e9}' AS BYTES) AS c, b = CAST('hi' AS BYTES) AS is_hi FROM t WHERE k = 2",
    );
    assert_eq!(hex, "{\"b\":\"aGk=\",\"c\":\"w6k=\",\"is_hi\":true}\n");
    let keyed = of("SELECT b, COUNT(*) AS n FROM t GROUP BY b ORDER BY b DESC");
    assert_eq!(
        keyed,
        "{\"b\":\"gA==\",\"n\":1}\n{\"b\":\"aGk=\",\"n\":2}\n{\"b\":\"AP8=\",\"n\":1}\n{\"b\":null,\"n\":1}\n"
    );
    let counted = of("SELECT COUNT(DISTINCT b) AS n, COUNT(b) AS all_, MAX(b) AS most FROM t");
    assert_eq!(counted, "{\"n\":3,\"all_\":4,\"most\":\"gA==\"}\n");
    let lossy = of("SELECT CAST(b AS STRING) AS s FROM t WHERE k = 4");
    assert_eq!(lossy, "{\"s\":\"\u{fffd}\"}\n");
}

#[test]
fn bytes_of_csv_are_base64_and_what_is_none_is_diverted() {
    let lines = "k,b\n1,AP8=\n2,\n3,A*8=\n";
    let (out, bad) = answer("b BYTES, k INT", "SELECT k, b FROM t", (Format::Csv, lines));
    assert_eq!(out, "1,AP8=\n2,\n");
    assert_eq!(bad.len(), 1);
    assert!(bad[0].contains("\"A*8=\" is not BYTES"), "{bad:?}");
}

#[test]
fn what_cannot_be_is_refused_at_its_word() {
    for (term, word, wanted) in [
        (
            "JSON_VALUE(n, '$')",
            "n",
            "JSON_VALUE reads STRING, this is INT",
        ),
        ("JSON_VALUE(j, '$.*')", "'$.*'", "and no others"),
        ("JSON_VALUE(j, j)", "j", "expected a path"),
        (
            "JSON_VALUE(j, '$' RETURNING BIGINT)",
            "BIGINT",
            "CAST(JSON_VALUE(...) AS BIGINT)",
        ),
        (
            "JSON_VALUE(j, '$' NULL ON NULL)",
            "NULL",
            "expected EMPTY or ERROR",
        ),
        (
            "JSON_VALUE(j, '$' NULL ON EMPTY ERROR ON EMPTY)",
            "ERROR ON EMPTY",
            "said twice",
        ),
        (
            "JSON_VALUE(j, '$' RETURNING BOOLEAN DEFAULT b ON ERROR)",
            "b",
            "the default is BYTES",
        ),
        ("b = 'hi'", "b = 'hi'", "BYTES and STRING are not compared"),
        ("b || b", "b", "CAST them AS STRING"),
        ("CHAR_LENGTH(b)", "b", "this is BYTES, and it takes STRING"),
        (
            "CAST(b AS INT)",
            "CAST(b AS INT)",
            "BYTES has no value as INT",
        ),
        ("SUM(b)", "b", "BYTES"),
        ("X'0'", "'0'", "pairs of the digits"),
    ] {
        let query = format!("SELECT {term} FROM t");
        let refusal = planned("j STRING, n INT, b BYTES", &query).expect_err(term);
        assert_eq!(pointed(&refusal, &query), word, "{refusal}");
        assert!(refusal.contains(wanted), "{refusal}");
    }
}

#[test]
fn parquets_plain_binaries_are_bytes() {
    let schema = "message m { required binary b; required fixed_len_byte_array(2) f; required binary s (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default()).expect("memory");
    let mut group = writer.next_row_group().expect("memory");
    let raw = |bytes: &[u8]| ByteArray::from(bytes.to_vec());
    for values in [
        vec![raw(b"\xff\x00"), raw(b"hi")],
        vec![],
        vec![raw(b"a"), raw(b"b")],
    ] {
        let mut column = group.next_column().expect("memory").expect("it is there");
        if values.is_empty() {
            let fixed = [&b"\x01\x02"[..], b"ok"].map(|it| FixedLenByteArray::from(it.to_vec()));
            let typed = column.typed::<FixedLenByteArrayType>();
            typed.write_batch(&fixed, None, None).expect("they fit");
        } else {
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&values, None, None).expect("they fit");
        }
        column.close().expect("memory");
    }
    group.close().expect("memory");
    writer.close().expect("memory");
    let file = Bytes::from(file);
    let guess = infer_parquet("m", file.clone(), None).expect("a file");
    let kinds: Vec<Kind> = guess.fields.iter().map(|field| field.kind).collect();
    assert_eq!(kinds, [Kind::Bytes, Kind::Bytes, Kind::String]);
    let rows = |fields: &[Field]| {
        let mut source =
            ParquetSource::open("m", file.clone(), fields, &[true; 3]).expect("a file");
        let taken = source
            .take(usize::MAX, std::time::Duration::ZERO)
            .expect("rows");
        let Taken::Columns(columns) = taken else {
            panic!("a file has rows");
        };
        let mut out = String::new();
        write(Format::JsonLines, fields, &columns.batch, &mut out);
        (out, columns.bad.len())
    };
    let (out, _) = rows(&guess.fields);
    assert_eq!(
        out,
        "{\"b\":\"/wA=\",\"f\":\"AQI=\",\"s\":\"a\"}\n{\"b\":\"aGk=\",\"f\":\"b2s=\",\"s\":\"b\"}\n"
    );
    let mut others = guess.fields;
    (others[0].kind, others[1].kind, others[2].kind) = (Kind::String, Kind::String, Kind::Bytes);
    let (out, bad) = rows(&others);
    assert_eq!(
        (out.as_str(), bad),
        ("{\"b\":\"hi\",\"f\":\"ok\",\"s\":\"Yg==\"}\n", 1)
    );
}

#[test]
fn an_order_is_by_values_too() {
    let lines = "{\"k\":1,\"n\":-5}\n{\"k\":2,\"n\":3}\n{\"k\":3,\"n\":4}\n{\"k\":4,\"n\":null}\n{\"k\":5,\"n\":3}\n";
    for (query, wanted) in [
        ("SELECT k FROM t ORDER BY ABS(n) DESC, k", "1 3 2 5 4"),
        ("SELECT k FROM t ORDER BY n, k DESC LIMIT 3", "4 1 5"),
        ("SELECT 0 - n AS n, k FROM t ORDER BY n, 2", "4 3 2 5 1"),
        ("SELECT k, n FROM t ORDER BY t.n + k, k", "4 1 2 3 5"),
        (
            "SELECT n, MAX(k) AS k FROM t GROUP BY n ORDER BY COUNT(*) DESC, SUM(k) % 4, n",
            "5 4 1 3",
        ),
        (
            "SELECT k FROM (SELECT n, k FROM t ORDER BY n * n DESC, k LIMIT 2) ORDER BY 1 DESC",
            "3 1",
        ),
        (
            "SELECT k, n FROM t UNION ALL SELECT k + 10, n FROM t ORDER BY n / 2 DESC, k % 10, k LIMIT 5",
            "3 13 2 12 5",
        ),
    ] {
        let (out, _) = answer("k INT, n INT", query, (Format::JsonLines, lines));
        let keys = out.lines().map(|line| {
            let rest = line.split("\"k\":").nth(1).expect("a key");
            rest.split([',', '}']).next().expect("a number")
        });
        assert_eq!(keys.collect::<Vec<_>>().join(" "), wanted, "{query}");
        assert!(
            !out.contains("\"\""),
            "what it is by alone is not shown: {out}"
        );
    }
    for (query, word, wanted) in [
        ("SELECT k FROM t ORDER BY x", "x", "there is no column `x`"),
        ("SELECT k FROM t ORDER BY 2", "2", "no such column"),
        (
            "SELECT n FROM t GROUP BY n ORDER BY k",
            "k",
            "neither in GROUP BY",
        ),
        (
            "SELECT k FROM u ORDER BY k + 1",
            "k + 1",
            "ORDER BY is for input that ends, and u does not",
        ),
        (
            "SELECT k FROM u LIMIT 5",
            "LIMIT 5",
            "LIMIT is for input that ends",
        ),
        (
            "SELECT k FROM t ORDER BY k NULLS LAST",
            "NULLS",
            "NULLs are the smallest",
        ),
    ] {
        let text = format!("{query}\n;CREATE TABLE u (k INT) WITH ('connector'='http')");
        let refusal = planned("k INT, n INT", &text).expect_err(query);
        assert_eq!(pointed(&refusal, query), word, "{refusal}");
        assert!(refusal.contains(wanted), "{refusal}");
    }
}
