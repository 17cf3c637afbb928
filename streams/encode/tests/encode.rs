//! What goes in comes out bit for bit, takes few bytes, and noise is refused.

use holm_base::Prng;
use holm_encode::{DecodeError, Decoder, Encoder};
use holm_lanes::{Lane, Narrow, Text, Values};

fn encoded(lane: &Lane) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::default().lane(lane, &mut bytes);
    bytes
}

/// Encodes and decodes; the bytes. The encoder itself compares bit by bit in tests.
fn round(values: Values, nulls: Option<Vec<bool>>) -> Vec<u8> {
    let lane = Lane::new(values, nulls);
    let bytes = encoded(&lane);
    let mut from = Decoder::new(&bytes);
    let again = from.lane(lane.len()).expect("it is there");
    assert!(from.rest().is_empty());
    assert_eq!(again.nulls(), lane.nulls());
    match (lane.values(), again.values()) {
        (Values::Real(ours), Values::Real(theirs)) => {
            let bits = |values: &[f64]| values.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(ours), bits(theirs));
        }
        (ours, theirs) => assert_eq!(ours, theirs),
    }
    bytes
}

/// The way of the first block.
fn way(bytes: &[u8]) -> u8 {
    bytes[8]
}

fn text(strings: impl Iterator<Item = String>) -> Values {
    let mut text = Text::default();
    strings.for_each(|string| text.push(&string));
    Values::Text(text)
}

#[test]
fn each_way_is_taken_where_it_is_best() {
    let mut prng = Prng::new(1);
    let mut draw = |bound: u64| i64::try_from(prng.below(bound)).expect("it is there");
    let cases = [
        (1, Values::Int(vec![7; 3_000])),
        (
            2,
            Values::Int((0..3_000).map(|at| (at / 100 * 0x7654_3210) ^ 5).collect()),
        ),
        (
            3,
            Values::Int((0..3_000).map(|_| 5_000 + draw(900)).collect()),
        ),
        (
            4,
            Values::Int(
                (0..3_000)
                    .map(|at| 1_767_607_200_000_000 + at * 20_000)
                    .collect(),
            ),
        ),
        (
            0,
            Values::Int(
                (0..3_000)
                    .map(|_| draw(u64::MAX / 2).wrapping_mul(5))
                    .collect(),
            ),
        ),
        (
            6,
            Values::Real((0..3_000).map(|_| draw(1_000) as f64 / 1_000.0).collect()),
        ),
        (
            7,
            Values::Real((0..3_000).map(|at| 1e6 + f64::from(at).sqrt()).collect()),
        ),
        (1, Values::Real(vec![-0.0; 10])),
        (5, text((0..3_000).map(|at| format!("device-{}", at % 9)))),
        (8, text((0..3_000).map(|at| format!("device-{}", at % 50)))),
        (
            0,
            text((0..3_000).map(|_| format!("{:015x}", draw(1 << 60)))),
        ),
        (8, text((0..3_000).map(|at| format!("{at}")))),
        (3, Values::Bool((0..3_000).map(|at| at % 3 == 0).collect())),
        (
            0,
            Values::Wide((0..3_000).map(|at| i128::from(at) << 70).collect()),
        ),
    ];
    for (wanted, values) in cases {
        let bytes = round(values, None);
        assert_eq!(way(&bytes), wanted, "{} bytes", bytes.len());
    }
}

fn single(value: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
    f64::from(value as f32)
}

/// Decimals that a sensor gave as single floats are decimals still, and odd ones are exceptions.
#[test]
fn single_floats_are_decimals() {
    let mut prng = Prng::new(4);
    let mut draw = |bound: u64| i64::try_from(prng.below(bound)).expect("it is there");
    let mut values: Vec<f64> = (0..4_096)
        .map(|_| single(draw(100_000) as f64 / 1_000.0))
        .collect();
    let bytes = round(Values::Real(values.clone()), None);
    assert_eq!(way(&bytes), 9);
    assert!(bytes.len() < 4_096 * 22 / 10, "{}", bytes.len());
    for (at, odd) in (0..).step_by(50).zip([
        -0.0,
        f64::NAN,
        f64::from_bits(0x7ff8_0000_0000_0001),
        f64::INFINITY,
        1e300,
        std::f64::consts::PI,
        4_503_599_627_370_497.0,
        -2_251_799_813_685_249.0,
        5e-324,
    ]) {
        values[at] = odd;
    }
    assert_eq!(way(&round(Values::Real(values), None)), 9);
    let bytes = &include_bytes!("compat/v1-singles")[..];
    let wanted = Values::Real((0..40).map(|at| single(f64::from(at) / 10.0)).collect());
    assert_eq!(encoded(&Lane::dense(wanted)), bytes);
}

/// A narrow lane is written as the wide one that it stands for.
#[test]
fn narrow_lanes_are_written_as_wide_ones() {
    let mut prng = Prng::new(9);
    let mut draw = |bound: u64| i32::try_from(prng.below(bound)).expect("it is there");
    let ints: Vec<i32> = (0..2_500).map(|_| draw(1 << 31) - (1 << 30)).collect();
    #[expect(clippy::cast_precision_loss, reason = "any float will do")]
    let singles = ints.iter().map(|it| (it % 10_000) as f32 / 100.0).collect();
    for narrow in [
        Narrow::Bytes(
            (0..2_500)
                .map(|at| i8::try_from(at % 90).expect("small"))
                .collect(),
        ),
        Narrow::Bytes(vec![0; 2_500]),
        Narrow::Halves((0..2_500).map(|at| at * 13).collect()),
        Narrow::Ints(ints),
        Narrow::Singles(singles),
        Narrow::Ints(Vec::new()),
    ] {
        let narrow = Lane::narrow(narrow);
        let wide = Lane::dense(narrow.values().clone());
        assert_eq!(encoded(&narrow), encoded(&wide));
    }
}

/// Each width of packed numbers, with a last group that is not full.
#[test]
fn numbers_of_each_width_come_back() {
    let mut prng = Prng::new(31);
    for width in 1..64 {
        let numbers = (0..1_021).map(|_| prng.below(1 << width).cast_signed());
        let bytes = round(Values::Int(numbers.collect()), None);
        let most = 16 + (1_021_usize * width).div_ceil(8) + 8;
        assert!(bytes.len() <= most, "{width}: {} bytes", bytes.len());
    }
}

#[test]
fn sensor_columns_take_few_bytes() {
    let mut prng = Prng::new(3);
    let mut draw = |bound: u64| i64::try_from(prng.below(bound)).expect("it is there");
    let rows = 8_192;
    let times = (0..rows).map(|at| 1_767_607_200_000_000 + at * 1_000 + draw(1_000));
    let times = round(Values::Int(times.collect()), None).len();
    let categories = round(Values::Int((0..rows).map(|_| draw(4)).collect()), None).len();
    let loads = (0..rows).map(|_| draw(1_000) as f64 / 1_000.0).collect();
    let loads = round(Values::Real(loads), None).len();
    let whole = usize::try_from(rows).expect("it is there");
    assert!(times < whole * 2, "{times}");
    assert!(categories < whole / 3, "{categories}");
    assert!(loads < whole * 3 / 2, "{loads}");
}

#[test]
fn odd_values_come_back_bit_for_bit() {
    let odd = [
        0.0,
        -0.0,
        f64::NAN,
        f64::from_bits(0x7FF8_0000_0000_1234),
        f64::from_bits(0xFFF0_0000_0000_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        0.1 + 0.2,
        9_007_199_254_740_993.0,
        1e300,
    ];
    round(Values::Real(odd.to_vec()), None);
    for value in odd {
        // One among decimals is an exception; alone it is a constant.
        let mut values: Vec<f64> = (0..2_000).map(|at| f64::from(at) / 100.0).collect();
        values[700] = value;
        assert_eq!(way(&round(Values::Real(values), None)), 6, "{value}");
        round(Values::Real(vec![value]), None);
    }
    let edges = [i64::MIN, i64::MAX, 0, -1, 1, i64::MIN + 1];
    round(Values::Int(edges.to_vec()), None);
    round(Values::Int(vec![i64::MIN, i64::MAX]), None);
    round(Values::Int(Vec::new()), None);
    round(Values::Wide(vec![i128::MIN, i128::MAX]), None);
    round(
        text(["", "", "\u{10FFFF}", "a"].map(str::to_owned).into_iter()),
        None,
    );
    round(text(std::iter::empty()), None);
}

#[test]
fn random_lanes_come_back() {
    let mut prng = Prng::new(11);
    for round_number in 0..600 {
        let rows = usize::try_from(prng.below(2_600)).expect("it is there");
        let spread = 1 << prng.below(63);
        let base = prng.next().cast_signed();
        let run = 1 + prng.below(20);
        let nulls = (prng.below(2) == 0).then(|| (0..rows).map(|_| prng.below(5) == 0).collect());
        let mut value = 0;
        let mut ints: Vec<i64> = Vec::new();
        for _ in 0..rows {
            if prng.below(run) == 0 {
                value = base.wrapping_add(prng.below(spread).cast_signed());
            }
            ints.push(value);
        }
        let power = 10_f64.powi(i32::try_from(prng.below(8)).expect("it is there"));
        let reals = ints.iter().map(|it| (it % 1_000_000) as f64 / power);
        match round_number % 4 {
            0 => round(Values::Int(ints), nulls),
            1 => round(Values::Real(reals.collect()), nulls),
            2 => round(
                Values::Real(
                    ints.iter()
                        .map(|it| f64::from_bits(it.cast_unsigned()))
                        .collect(),
                ),
                nulls,
            ),
            _ => round(text(ints.iter().map(|it| (it % 97).to_string())), nulls),
        };
    }
}

/// How often: as many times as usual as there are seconds that `cargo xtask fuzz` allows.
fn rounds(usual: u64) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the budget of random tests is set outside"
    )]
    let asked = std::env::var("HOLM_FUZZ_MS").ok();
    let asked: Option<u64> = asked.and_then(|text| text.parse().ok());
    usual * (asked.unwrap_or(0) / 1_000).max(1)
}

#[test]
fn noise_is_refused_or_is_a_lane() {
    let mut prng = Prng::new(23);
    let lanes = [
        Values::Int((0..1_500).map(|at| at * at).collect()),
        Values::Real((0..1_500).map(|at| f64::from(at) / 8.0).collect()),
        text((0..300).map(|at| format!("{}", at % 7))),
        text((0..60).map(|at| format!("/shop/{at}/basket"))),
        text((0..60).map(|at| format!("/shop/{}/basket", at % 20))),
        Values::Bool(vec![true; 90]),
    ];
    let mut refused = 0;
    for lane in lanes {
        let bytes = encoded(&Lane::dense(lane));
        for end in 0..bytes.len().min(600) {
            Decoder::new(&bytes[..end])
                .lane(2_000)
                .expect_err("it is cut");
        }
        for _ in 0..rounds(20_000) {
            let mut noisy = bytes.clone();
            for _ in 0..=prng.below(3) {
                let at = usize::try_from(prng.below(64) % u64::try_from(noisy.len()).unwrap())
                    .expect("it is there");
                noisy[at] = u8::try_from(prng.below(256)).expect("it is there");
            }
            refused += usize::from(Decoder::new(&noisy).lane(2_000).is_err());
        }
    }
    assert!(refused > 10_000, "{refused}");
    for _ in 0..rounds(20_000) {
        let noise: Vec<u8> = (0..prng.below(80))
            .map(|_| u8::try_from(prng.below(256)).expect("it is there"))
            .collect();
        if let Ok(lane) = Decoder::new(&noise).lane(2_000) {
            assert!(lane.len() <= 2_000);
        }
    }
}

#[test]
fn too_many_rows_are_refused_before_they_take_memory() {
    let bytes = encoded(&Lane::dense(Values::Int(vec![1; 5_000])));
    let refused = Decoder::new(&bytes).lane(4_999);
    assert_eq!(
        refused,
        Err(DecodeError::Rows {
            rows: 5_000,
            limit: 4_999
        })
    );
}

/// Bytes that were written stay readable.
#[test]
fn bytes_of_version_one_are_read() {
    for (bytes, values) in [
        (
            &include_bytes!("compat/v1-ints")[..],
            Values::Int((0..40).map(|at| at * 3 + at % 2).collect()),
        ),
        (
            &include_bytes!("compat/v1-reals")[..],
            Values::Real((0..40).map(|at| f64::from(at) / 4.0).collect()),
        ),
        (
            &include_bytes!("compat/v1-texts")[..],
            text((0..40).map(|at| format!("k{}", at % 3))),
        ),
    ] {
        assert_eq!(
            Decoder::new(bytes).lane(40),
            Ok(Lane::dense(values.clone()))
        );
        assert_eq!(
            encoded(&Lane::dense(values)),
            bytes,
            "and they are still written so"
        );
    }
}
