//! Strings that LZ4 makes shorter: where it is taken, what it spares, and bytes that lie.

use holm_base::Prng;
use holm_encode::{DecodeError, Decoder, Encoder};
use holm_lanes::{Lane, Text, Values, letters_of};

fn lane(strings: impl IntoIterator<Item = String>) -> Lane {
    let mut text = Text::default();
    strings.into_iter().for_each(|string| text.push(&string));
    Lane::dense(Values::Text(text))
}

/// Encodes, decodes and compares; the bytes.
fn round(lane: &Lane) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::default().lane(lane, &mut bytes);
    let mut from = Decoder::new(&bytes);
    assert_eq!(from.lane(lane.len()).as_ref(), Ok(lane));
    assert!(from.rest().is_empty());
    bytes
}

/// Way and parameter of the block.
fn way(bytes: &[u8]) -> (u8, u8) {
    (bytes[8], bytes[9])
}

struct Draw(Prng);

impl Draw {
    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.0.below(bound)).expect("small")
    }

    fn hex(&mut self, digits: usize) -> String {
        let digit = |_| char::from(b"0123456789abcdef"[self.below(16)]);
        (0..digits).map(digit).collect()
    }

    /// A line as a web server logs it.
    fn line(&mut self) -> String {
        let pages = ["basket", "checkout", "search?q=", "item", "static/app.js"];
        let (page, shop) = (pages[self.below(5)], self.below(900));
        let (code, bytes) = ([200, 200, 200, 304, 404][self.below(5)], self.below(90_000));
        format!(
            "GET /shop/{shop}/{page}/{} HTTP/1.1 {code} {bytes}",
            self.below(100_000)
        )
    }
}

/// Columns, and the way that each is to take.
fn columns() -> Vec<(&'static str, Lane, (u8, u8))> {
    let mut draw = Draw(Prng::new(5));
    let rows = 4_096;
    let lines: Vec<String> = (0..rows).map(|_| draw.line()).collect();
    let some: Vec<String> = (0..1_500).map(|_| draw.line()).collect();
    let topics =
        (0..rows).map(|_| format!("plant/{}/line/{}/task", draw.below(90), draw.below(3_000)));
    let topics = lane(topics.collect::<Vec<_>>());
    let ids = lane((0..rows).map(|_| draw.hex(32)).collect::<Vec<_>>());
    let again = (0..rows).map(|_| some[draw.below(1_500)].clone());
    let again = lane(again.collect::<Vec<_>>());
    let devices = lane((0..rows).map(|at| format!("device-{}", at % 9)));
    let bytes =
        (0..rows).map(|at: u32| letters_of(&[&at.to_le_bytes()[..], &[0, 255, 128, 7]].concat()));
    let bytes = lane(bytes.collect::<Vec<_>>());
    vec![
        ("lines of a log", lane(lines), (8, 0)),
        ("topics", topics, (8, 0)),
        ("some lines again and again", again, (8, 12)),
        ("bytes", bytes, (8, 0)),
        ("random digits", ids, (0, 0)),
        ("few devices", devices, (5, 4)),
    ]
}

/// Bytes that lanes take as they are, or as codes.
fn plain(lane: &Lane) -> usize {
    let Values::Text(text) = lane.values() else {
        panic!("it is text");
    };
    let strings: std::collections::BTreeSet<&str> = text.iter().collect();
    if strings.len() * 2 > text.len() {
        return 16 + text.size() + 4 * text.len();
    }
    let width = usize::BITS - (strings.len() - 1).leading_zeros();
    let width = usize::try_from(width).expect("small");
    let own: usize = strings.iter().map(|it| it.len() + 4).sum();
    20 + own + (text.len() * width).div_ceil(8)
}

#[test]
fn lz4_is_taken_where_it_spares_a_tenth() {
    for (name, lane, wanted) in columns() {
        let bytes = round(&lane);
        let plain = plain(&lane);
        assert_eq!(way(&bytes), wanted, "{name}: {} of {plain}", bytes.len());
        if wanted.0 == 8 {
            assert!(
                bytes.len() * 10 <= plain * 9 + 16,
                "{name}: {} of {plain}",
                bytes.len()
            );
        } else {
            assert_eq!(bytes.len(), plain, "{name}");
        }
        println!(
            "{name}: {:.2} bytes a row, {:.2} without LZ4",
            bytes.len() as f64 / lane.len() as f64,
            plain as f64 / lane.len() as f64
        );
    }
}

#[test]
fn odd_strings_come_back() {
    let mut draw = Draw(Prng::new(7));
    let long = "a".repeat(1 << 20);
    let cases: Vec<Vec<String>> = vec![
        vec![long.clone()],
        vec![long, String::new(), "b".repeat(70_000)],
        (0..3_000).map(|at| "x".repeat(at % 300)).collect(),
        (0..500)
            .map(|at| format!("\u{10FFFF}\u{e9}{}", at / 2))
            .collect(),
        vec![String::new(); 5_000],
        (0..900)
            .map(|at| {
                if at == 450 {
                    "y".repeat(9_000)
                } else {
                    String::new()
                }
            })
            .collect(),
        (0..40).map(|_| draw.hex(200)).collect(),
        (0..2_000)
            .map(|at| {
                if at < 1_000 {
                    draw.hex(30)
                } else {
                    "same words".to_owned()
                }
            })
            .collect(),
    ];
    let mut taken = 0;
    for strings in cases {
        taken += usize::from(way(&round(&lane(strings))).0 == 8);
    }
    assert!(taken >= 4, "{taken}");
}

#[test]
fn random_strings_come_back() {
    let mut draw = Draw(Prng::new(8));
    let mut taken = 0;
    for _ in 0..300 {
        let (rows, words) = (draw.below(900), 1 + draw.below(400));
        let words: Vec<String> = (0..words)
            .map(|_| {
                let digits = draw.below(20);
                draw.hex(digits)
            })
            .collect();
        let strings = (0..rows).map(|_| {
            let parts = draw.below(5);
            let part = |_| words[draw.below(u64::try_from(words.len()).expect("small"))].as_str();
            (0..parts).map(part).collect::<String>()
        });
        let strings: Vec<String> = strings.collect();
        taken += usize::from(way(&round(&lane(strings))).0 == 8);
    }
    assert!(taken > 50, "{taken}");
}

/// A column of one block of strings.
fn column(rows: u32, (way, parameter): (u8, u8), block: &[u8]) -> Vec<u8> {
    let length = u32::try_from(block.len()).expect("small");
    [
        &[5, 0, 0, 0][..],
        &rows.to_le_bytes(),
        &[way, parameter, 0, 0],
        &length.to_le_bytes(),
        block,
    ]
    .concat()
}

/// Lengths of 32 bits, and LZ4.
fn squeezed(lengths: &[u32], lz4: &[u8]) -> Vec<u8> {
    let words = lengths.iter().flat_map(|it| it.to_le_bytes());
    let mut block = vec![32];
    block.extend(words);
    block.extend(u32::try_from(lz4.len()).expect("small").to_le_bytes());
    block.extend(lz4);
    block
}

/// Bytes that say that they stand for more than they can are refused before memory is taken for it.
#[test]
fn bytes_that_swell_are_refused() {
    let invalid = |what| Err(DecodeError::Invalid { what });
    let lz4 = lz4_flex::block::compress("four".repeat(64).as_bytes());
    let whole = column(1, (8, 0), &squeezed(&[256], &lz4));
    assert!(Decoder::new(&whole).lane(1).is_ok(), "it is one");
    let decoded =
        |rows: u32, way, block: &[u8]| Decoder::new(&column(rows, way, block)).lane(4_096);
    let much = invalid("amount of text");
    assert_eq!(decoded(1, (8, 0), &squeezed(&[u32::MAX], &lz4)), much);
    assert_eq!(decoded(2, (8, 0), &squeezed(&[u32::MAX; 2], &lz4)), much);
    assert_eq!(
        decoded(1, (8, 0), &squeezed(&[(256 << 20) + 1], &vec![0; 2 << 20])),
        much
    );
    // It stands for less, or for more, than the lengths say.
    let other = invalid("LZ4");
    assert_eq!(decoded(1, (8, 0), &squeezed(&[257], &lz4)), other);
    assert_eq!(decoded(1, (8, 0), &squeezed(&[255], &lz4)), other);
    // Four thousand million strings that are empty.
    let block = [&u32::MAX.to_le_bytes()[..], &[0], &0_u32.to_le_bytes()].concat();
    assert_eq!(decoded(3, (8, 1), &block), invalid("count of strings"));
    // Strings that are cut within a letter.
    let lz4 = lz4_flex::block::compress("\u{e9}".repeat(200).as_bytes());
    assert_eq!(
        decoded(2, (8, 0), &squeezed(&[199, 201], &lz4)),
        invalid("string")
    );
    assert!(decoded(2, (8, 0), &squeezed(&[198, 202], &lz4)).is_ok());
}

/// Bytes that were written stay readable.
#[test]
fn bytes_that_were_written_are_read() {
    let plain = lane((0..40).map(|at| format!("plant/{at}/line/7/task")));
    let coded = lane((0..40).map(|at| format!("plant/{}/line/7/task", at % 19)));
    for (bytes, lane, way_of) in [
        (&include_bytes!("compat/v1-lz4")[..], plain, (8, 0)),
        (&include_bytes!("compat/v1-lz4-codes")[..], coded, (8, 6)),
    ] {
        assert_eq!(way(bytes), way_of);
        assert_eq!(Decoder::new(bytes).lane(40), Ok(lane));
    }
}
