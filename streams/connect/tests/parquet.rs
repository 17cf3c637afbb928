//! Parquet as a source: its types as ours, its places, and what it is refused for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_connect::{Columns, ParquetSource, Position, Source, Taken, infer_parquet};
use holm_lanes::{Field, Kind, Scalar};
use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType,
    FloatType, Int32Type, Int64Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

const SCHEMA: &str = "message rows {
    required int64 ts (TIMESTAMP(MICROS, false));
    optional int64 at (TIMESTAMP(NANOS, true));
    required int32 small (INTEGER(16, true));
    required int64 large (INTEGER(64, false));
    optional double cpu;
    required float watts;
    required boolean is_on;
    optional binary device (UTF8);
    required fixed_len_byte_array(5) price (DECIMAL(11, 2));
    required int32 day (DATE);
    optional group inner { required int32 n; }
    required binary raw (BSON);
}";
const GROUPS: [usize; 2] = [5_000, 3_000];

/// Two row groups. Row n, from 0: `ts` goes back by 40 us each tenth row, `cpu` is NULL each third,
/// `device` repeats.
fn file(compression: Compression) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).expect("a schema"));
    let properties = WriterProperties::builder().set_compression(compression);
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build()))
        .expect("memory");
    let mut first = 0;
    for rows in GROUPS {
        let mut group = writer.next_row_group().expect("memory");
        fill(&mut group, first, rows);
        group.close().expect("memory");
        first += rows;
    }
    writer.close().expect("memory");
    bytes
}

fn fill(group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>, first: usize, rows: usize) {
    let all = || (first..first + rows).map(|row| i64::try_from(row).expect("small"));
    let narrow = |row: i64| i32::try_from(row).expect("small");
    macro_rules! put {
        ($kind:ty, $values:expr, $levels:expr) => {{
            let mut column = group.next_column().expect("memory").expect("it is there");
            let values: Vec<_> = $values.collect();
            let levels: Option<Vec<i16>> = $levels;
            let typed = column.typed::<$kind>();
            typed
                .write_batch(&values, levels.as_deref(), None)
                .expect("they fit");
            column.close().expect("memory");
        }};
    }
    let thirds = || Some(all().map(|row| i16::from(row % 3 != 0)).collect());
    let ones = || Some(vec![1; rows]);
    put!(
        Int64Type,
        all().map(|row| row * 10 - if row % 10 == 9 { 40 } else { 0 }),
        None
    );
    put!(Int64Type, all().map(|row| row * 1_000 + 7), ones());
    put!(Int32Type, all().map(|row| narrow(row % 300)), None);
    put!(Int64Type, all().map(|row| -1 - row), None);
    put!(
        DoubleType,
        all()
            .filter(|row| row % 3 != 0)
            .map(|row| f64::from(narrow(row)) / 4.0),
        thirds()
    );
    put!(
        FloatType,
        all().map(|row| if row % 2 == 0 { 0.5 } else { 1.5 }),
        None
    );
    put!(BoolType, all().map(|row| row % 2 == 1), None);
    put!(
        ByteArrayType,
        all().map(|row| ByteArray::from(format!("d{}", row % 7).as_str())),
        ones()
    );
    // The largest byte first.
    let price = |row: i64| {
        let bytes = (row * 101 - 50).to_le_bytes();
        bytes[..5].iter().rev().copied().collect::<Vec<u8>>()
    };
    put!(
        FixedLenByteArrayType,
        all().map(|row| FixedLenByteArray::from(price(row))),
        None
    );
    put!(Int32Type, all().map(|row| narrow(row) - 10), None);
    put!(Int32Type, all().map(narrow), ones());
    put!(ByteArrayType, all().map(|_row| ByteArray::from("x")), None);
}

fn field(name: &str, kind: Kind) -> Field {
    let name = name.to_owned();
    Field {
        name,
        kind,
        nullable: true,
    }
}

fn source(bytes: &[u8], fields: &[Field]) -> Result<ParquetSource, String> {
    let needed = vec![true; fields.len()];
    let source = ParquetSource::of_bytes("f", bytes.to_vec(), fields, &needed);
    source.map_err(|error| error.to_string())
}

fn all(source: &mut ParquetSource) -> Vec<Columns> {
    let mut found = Vec::new();
    while let Taken::Columns(columns) = source.take(1, Duration::ZERO).expect("it is whole") {
        found.push(columns);
    }
    found
}

#[test]
fn the_schema_is_the_files_own() {
    let bytes = file(Compression::SNAPPY);
    let guess = infer_parquet("f", Bytes::from(bytes.clone()), Some("ts")).expect("it is Parquet");
    let fields: Vec<String> = guess
        .fields
        .iter()
        .map(|field| {
            format!(
                "{} {}{}",
                field.name,
                field.kind,
                if field.nullable { "?" } else { "" }
            )
        })
        .collect();
    assert_eq!(
        fields.join(", "),
        "ts TIMESTAMP(6), at TIMESTAMP_LTZ(6)?, small SMALLINT, large DECIMAL(20, 0), cpu DOUBLE?, \
         watts FLOAT, is_on BOOLEAN, device STRING?, price DECIMAL(11, 2), day DATE"
    );
    assert_eq!(guess.nested, ["inner", "raw"]);
    assert_eq!((guess.time.as_deref(), guess.rows), (Some("ts"), 1_000));
    assert_eq!(guess.disorder, 30);
    let two = infer_parquet("f", Bytes::from(bytes), None).expect("it is Parquet");
    assert_eq!(two.time, None, "two columns are times");
}

#[test]
fn values_are_what_was_written() {
    for compression in [Compression::SNAPPY, Compression::UNCOMPRESSED] {
        let bytes = file(compression);
        let guess = infer_parquet("f", Bytes::from(bytes.clone()), None).expect("it is Parquet");
        let found = all(&mut source(&bytes, &guess.fields).expect("its own types"));
        let sizes: Vec<usize> = found.iter().map(|columns| columns.batch.rows).collect();
        assert_eq!(sizes, [4_096, 904, 3_000]);
        let batch = &found[1].batch;
        assert_eq!(batch.origin.at(0), 4_097, "rows are counted from one");
        let row: Vec<Scalar> = batch.lanes.iter().map(|lane| lane.scalar(3)).collect();
        // That is row 4,099, from zero.
        assert_eq!(
            row,
            [
                Scalar::Int(40_950),
                Scalar::Int(4_099),
                Scalar::Int(199),
                Scalar::Wide(i128::from(u64::MAX) - 4_099),
                Scalar::Real(1_024.75),
                Scalar::Real(1.5),
                Scalar::Bool(true),
                Scalar::Text("d4".to_owned()),
                Scalar::Wide(413_949),
                Scalar::Int(4_089),
            ]
        );
        let cpu = &batch.lanes[4];
        assert_eq!(
            (0..3).map(|row| cpu.is_null(row)).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert!(found.iter().all(|columns| columns.bad.is_empty()));
    }
}

#[test]
fn every_position_is_a_place_to_go_on() {
    let bytes = file(Compression::SNAPPY);
    let fields = [field("small", Kind::BigInt), field("device", Kind::String)];
    let whole = all(&mut source(&bytes, &fields).expect("they fit"));
    let mut again = source(&bytes, &fields).expect("they fit");
    for (at, columns) in whole.iter().enumerate() {
        again.seek(&columns.position).expect("it is there");
        assert_eq!(all(&mut again), whole[at + 1..]);
    }
    again.seek(&Position::START).expect("it is there");
    assert_eq!(all(&mut again), whole);
    for odd in [
        Position::of(&[2, 0, 0]),
        Position::of(&[0, 5_001, 0]),
        Position::of(&[1]),
    ] {
        again.seek(&odd).expect_err("it is nowhere");
    }
    again.stop();
    assert_eq!(again.take(1, Duration::ZERO), Ok(Taken::End));
}

#[test]
fn what_has_no_value_diverts_its_row() {
    let bytes = file(Compression::SNAPPY);
    let mut fields = [field("small", Kind::TinyInt), field("cpu", Kind::Double)];
    fields[1].nullable = false;
    let found = all(&mut source(&bytes, &fields).expect("they may fit"));
    let first = &found[0];
    // Of 300 values 128 fit eight bits, and of those a third is NULL.
    assert_eq!(first.batch.rows + first.bad.len(), 4_096);
    assert_eq!(first.bad[0].line, 1);
    assert_eq!(first.bad[0].to_string(), "cpu: NULL where a value must be");
    let small = first
        .bad
        .iter()
        .find(|bad| bad.line == 129)
        .expect("row 128");
    assert_eq!(small.to_string(), "small: 128 does not fit TINYINT");
    assert_eq!(first.batch.origin.at(0), 2, "the others keep their numbers");
    assert!(first.batch.lanes[1].nulls().is_none());
}

#[test]
fn other_types_are_refused_by_name() {
    let bytes = file(Compression::SNAPPY);
    let refused =
        |name: &str, kind: Kind| source(&bytes, &[field(name, kind)]).expect_err("it cannot be");
    assert_eq!(
        refused("cpu", Kind::Int),
        "f: column cpu is DOUBLE and the table says INT; declare it so, and CAST it in the query"
    );
    let decimal = Kind::Decimal {
        precision: 11,
        scale: 1,
    };
    assert!(refused("price", decimal).contains("DECIMAL(11, 2)"));
    assert!(refused("gone", Kind::Int).contains("there is no column gone; it has ts, at, small"));
    assert!(refused("inner", Kind::Int).contains("nested"));
    assert!(refused("raw", Kind::String).contains("which is not read"));
    // What nobody reads may be anything.
    let unread = ParquetSource::of_bytes("f", bytes.clone(), &[field("gone", Kind::Int)], &[false]);
    unread.expect("nobody reads it");
    assert!(
        source(b"no Parquet", &[])
            .expect_err("it is text")
            .contains("no Parquet")
    );
    for end in [bytes.len() - 1, bytes.len() / 2, 12] {
        source(&bytes[..end], &[field("small", Kind::Int)]).expect_err("it is cut");
    }
}

#[test]
fn another_file_has_another_checksum() {
    let mut bytes = file(Compression::UNCOMPRESSED);
    let fields = [field("watts", Kind::Float)];
    let crc = |bytes: &[u8]| all(&mut source(bytes, &fields).expect("they fit"))[0].crc;
    let before = crc(&bytes);
    assert_eq!(before, crc(&bytes));
    // In the dictionary of `watts` 1.5 becomes another number.
    let values = [0.5_f32.to_le_bytes(), 1.5_f32.to_le_bytes()].concat();
    let at = bytes.windows(8).position(|eight| eight == values);
    bytes[at.expect("it is there") + 6] ^= 0x10;
    assert_ne!(before, crc(&bytes));
}
