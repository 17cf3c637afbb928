//! From lanes to bytes: for each block the way that takes the fewest.

use std::collections::BTreeMap;

use holm_lanes::{Lane, Shape, Text, Values};

use crate::bits::{pack, packed_bytes, width_of};
use crate::decimal::{Precision, decimals};
use crate::decoder::Decoder;
use crate::{BLOCK, CODES, CONSTANT, DECIMAL, DELTA, PACKED, RAW, RUNS, SINGLE, XOR};

/// One block in so many is decoded again where debug assertions are off (I3).
const VERIFIED: u64 = 1_024;
/// Shorter runs are better packed.
const RUN: usize = 5;

/// Encodes lanes.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    lanes: u64,
}

impl Encoder {
    /// Writes a lane.
    ///
    /// # Panics
    ///
    /// If what was written does not give the same bits back (I3): it must not be relied on.
    pub fn lane(&mut self, lane: &Lane, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(tag(lane.shape()));
        out.push(u8::from(lane.nulls().is_some()));
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&small(lane.len()));
        if let Some(nulls) = lane.nulls() {
            pack(nulls.iter().map(|null| u64::from(*null)), 1, out);
        }
        match lane.values() {
            Values::Bool(values) => values.chunks(BLOCK).for_each(|values| {
                let bits = values.iter().map(|value| u64::from(*value));
                block(PACKED, 1, out, |out| pack(bits, 1, out));
            }),
            Values::Int(values) => values.chunks(BLOCK).for_each(|values| ints(values, out)),
            Values::Wide(values) => values.chunks(BLOCK).for_each(|values| {
                block(RAW, 0, out, |out| {
                    values
                        .iter()
                        .for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
                });
            }),
            Values::Real(values) => values.chunks(BLOCK).for_each(|values| reals(values, out)),
            Values::Text(values) => texts(values, out),
        }
        self.lanes += 1;
        if cfg!(debug_assertions) || self.lanes.is_multiple_of(VERIFIED) {
            verify(lane, &out[start..]);
        }
    }
}

/// I3: what is written gives the same bits back.
fn verify(lane: &Lane, bytes: &[u8]) {
    let again = Decoder::new(bytes)
        .lane(lane.len())
        .expect("I3: it decodes");
    assert_eq!(lane.nulls(), again.nulls(), "I1: NULLs come back");
    match (lane.values(), again.values()) {
        (Values::Real(ours), Values::Real(theirs)) => {
            let same = ours
                .iter()
                .zip(theirs)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && ours.len() == theirs.len(), "I1: bits come back");
        }
        (ours, theirs) => assert_eq!(ours, theirs, "I1: values come back"),
    }
}

pub(crate) const fn tag(shape: Shape) -> u8 {
    match shape {
        Shape::Bool => 1,
        Shape::Int => 2,
        Shape::Wide => 3,
        Shape::Real => 4,
        Shape::Text => 5,
    }
}

fn small(count: usize) -> [u8; 4] {
    let count = u32::try_from(count).expect("a batch has fewer than 2^32 rows and bytes");
    count.to_le_bytes()
}

/// Writes a block's head around its bytes.
fn block(way: u8, parameter: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[way, parameter, 0, 0, 0, 0, 0, 0]);
    let start = out.len();
    write(out);
    let bytes = small(out.len() - start);
    out[start - 4..start].copy_from_slice(&bytes);
}

/// How many runs of equal values there are.
fn runs<T: PartialEq>(values: &[T]) -> usize {
    let next = values.iter().skip(1);
    1 + values.iter().zip(next).filter(|(a, b)| a != b).count()
}

/// Whether all are equal to the first. Without a branch, for most blocks are not.
fn is_constant(words: impl Iterator<Item = u64>, first: u64) -> bool {
    words.fold(0, |all, word| all | (word ^ first)) == 0
}

/// Some pairs of neighbours of a block, which say what is worth trying.
struct Sample {
    pairs: usize,
    changes: usize,
    /// Bits of values above the least, and of differences; `None` if one overflows.
    width: u8,
    delta_width: Option<u8>,
}

impl Sample {
    fn of(values: &[i64]) -> Self {
        const PAIRS: usize = 32;
        let step = (values.len() / PAIRS).max(1);
        let all = values.iter().zip(values.iter().skip(1));
        let (mut some, mut deltas) = (Vec::with_capacity(PAIRS * 2), Vec::new());
        let mut changes = 0;
        for (a, b) in all.step_by(step) {
            some.extend([*a, *b]);
            deltas.push(b.checked_sub(*a));
            changes += usize::from(a != b);
        }
        let deltas: Option<Vec<i64>> = deltas.into_iter().collect();
        Self {
            pairs: some.len() / 2,
            changes,
            width: Packed::of(&some).width,
            delta_width: deltas.map(|deltas| Packed::of(&deltas).width),
        }
    }

    const fn has_runs(&self) -> bool {
        self.changes * RUN <= self.pairs
    }

    fn has_deltas(&self, count: usize) -> bool {
        let bytes = |width, count| packed_bytes(count, width);
        self.delta_width
            .is_some_and(|width| 8 + bytes(width, count - 1) < bytes(self.width, count))
    }
}

fn write_runs(words: &[u64], out: &mut Vec<u8>) {
    for run in words.chunk_by(|left, right| left == right) {
        out.extend_from_slice(&run[0].to_le_bytes());
        let length = u16::try_from(run.len()).expect("a block is smaller");
        out.extend_from_slice(&length.to_le_bytes());
    }
}

/// Integers above the least of them, as few bits each.
pub(crate) struct Packed {
    least: i64,
    width: u8,
}

impl Packed {
    fn of(values: &[i64]) -> Self {
        const LANES: usize = 8;
        let Some(first) = values.first() else {
            return Self { least: 0, width: 0 };
        };
        let (mut low, mut high) = ([*first; LANES], [*first; LANES]);
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for ((low, high), value) in low.iter_mut().zip(&mut high).zip(chunk) {
                *low = (*low).min(*value);
                *high = (*high).max(*value);
            }
        }
        let least = low.iter().chain(rest).min().copied().unwrap_or(*first);
        let most = high.iter().chain(rest).max().copied().unwrap_or(*first);
        // What is furthest above the least has the most bits.
        let width = width_of([above(most, least)].into_iter());
        Self { least, width }
    }

    fn bytes(&self, count: usize) -> usize {
        8 + packed_bytes(count, self.width)
    }

    fn write(&self, values: &[i64], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.least.to_le_bytes());
        pack(
            values.iter().map(|it| above(*it, self.least)),
            self.width,
            out,
        );
    }
}

/// How far a value is above another that is not above it.
const fn above(value: i64, least: i64) -> u64 {
    value.wrapping_sub(least).cast_unsigned()
}

/// The differences; `None` if one overflows.
fn differences(values: &[i64]) -> Option<Vec<i64>> {
    let pairs = || values.iter().zip(values.iter().skip(1));
    let deltas: Vec<i64> = pairs().map(|(a, b)| b.wrapping_sub(*a)).collect();
    let overflows = pairs().zip(&deltas).fold(0, |all, ((a, b), delta)| {
        // The sign changed where it may not.
        all | ((b ^ a) & (b ^ delta))
    });
    (overflows >= 0).then_some(deltas)
}

fn ints(values: &[i64], out: &mut Vec<u8>) {
    let count = values.len();
    let words = || values.iter().map(|it| it.cast_unsigned());
    if is_constant(words(), values[0].cast_unsigned()) {
        return block(CONSTANT, 0, out, |out| {
            out.extend_from_slice(&values[0].to_le_bytes());
        });
    }
    let sample = Sample::of(values);
    let runs = if sample.has_runs() {
        runs(values)
    } else {
        count
    };
    let runs_bytes = if runs * RUN <= count {
        runs * 10
    } else {
        usize::MAX
    };
    let deltas = sample.has_deltas(count).then(|| differences(values));
    let delta = deltas.flatten().map(|deltas| (Packed::of(&deltas), deltas));
    let delta = delta.filter(|(delta, _)| 8 + delta.bytes(count - 1) < runs_bytes.min(count * 8));
    if let Some((delta, deltas)) = delta {
        return block(DELTA, delta.width, out, |out| {
            out.extend_from_slice(&values[0].to_le_bytes());
            delta.write(&deltas, out);
        });
    }
    let packed = Packed::of(values);
    let best = packed.bytes(count).min(runs_bytes);
    if best >= count * 8 {
        block(RAW, 0, out, |out| {
            values
                .iter()
                .for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
        });
    } else if best == runs_bytes {
        let words: Vec<u64> = words().collect();
        block(RUNS, 0, out, |out| write_runs(&words, out));
    } else {
        block(PACKED, packed.width, out, |out| packed.write(values, out));
    }
}

fn reals(values: &[f64], out: &mut Vec<u8>) {
    let count = values.len();
    let words: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    if is_constant(words.iter().copied(), words[0]) {
        return block(CONSTANT, 0, out, |out| {
            out.extend_from_slice(&words[0].to_le_bytes());
        });
    }
    let runs = runs(&words);
    let decimals = decimals(values);
    let packed = decimals.as_ref().map(|it| Packed::of(&it.digits));
    let decimal = decimals.zip(packed);
    let decimal_bytes = decimal.as_ref().map_or(usize::MAX, |(decimals, packed)| {
        3 + packed.bytes(count) + decimals.exceptions.len() * 10
    });
    let runs_bytes = if runs * RUN <= count {
        runs * 10
    } else {
        usize::MAX
    };
    // Decimals of half a word or less are not beaten by what follows, so it is not tried.
    let is_short = decimal_bytes <= count * 4;
    let xored = if is_short { Vec::new() } else { xor(&words) };
    let xored_bytes = if is_short { usize::MAX } else { xored.len() };
    let best = decimal_bytes
        .min(runs_bytes)
        .min(xored_bytes)
        .min(count * 8);
    match decimal {
        Some((decimals, packed)) if best == decimal_bytes => {
            let way = match decimals.precision {
                Precision::Double => DECIMAL,
                Precision::Single => SINGLE,
            };
            block(way, decimals.power, out, |out| {
                out.push(packed.width);
                let exceptions = u16::try_from(decimals.exceptions.len());
                let exceptions = exceptions.expect("a block is smaller");
                out.extend_from_slice(&exceptions.to_le_bytes());
                for (at, bits) in &decimals.exceptions {
                    out.extend_from_slice(&at.to_le_bytes());
                    out.extend_from_slice(&bits.to_le_bytes());
                }
                packed.write(&decimals.digits, out);
            });
        }
        Some(_) | None if best == runs_bytes => {
            block(RUNS, 0, out, |out| write_runs(&words, out));
        }
        Some(_) | None if best == xored_bytes && best < count * 8 => {
            block(XOR, 0, out, |out| out.extend_from_slice(&xored));
        }
        Some(_) | None => block(RAW, 0, out, |out| {
            words
                .iter()
                .for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
        }),
    }
}

/// Each word XOR the one before: how many of its low bytes are zero and how many follow, in a
/// byte, and those.
fn xor(words: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(words.len() * 5);
    let mut before = 0;
    for word in words {
        let mixed = word ^ before;
        before = *word;
        let zeros = (mixed.trailing_zeros() / 8).min(7);
        let used = (64 - mixed.leading_zeros())
            .div_ceil(8)
            .saturating_sub(zeros);
        let head = u8::try_from(zeros * 16 + used).expect("seven and eight fit a byte");
        out.push(head);
        let bytes = (mixed >> (zeros * 8)).to_le_bytes();
        out.extend_from_slice(&bytes[..usize::try_from(used).expect("eight at most")]);
    }
    out
}

fn texts(values: &Text, out: &mut Vec<u8>) {
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    let mut distinct: Vec<&str> = Vec::new();
    let mut codes: Vec<u64> = Vec::with_capacity(values.len());
    for text in values.iter() {
        let next = u64::try_from(distinct.len()).expect("fewer than rows");
        let code = *places.entry(text).or_insert_with(|| {
            distinct.push(text);
            next
        });
        codes.push(code);
        if distinct.len() * 2 > values.len() {
            // More than half differ: the strings themselves are as short.
            return block(RAW, 0, out, |out| strings(values.iter(), out));
        }
    }
    let width = width_of(codes.iter().copied());
    block(CODES, width, out, |out| {
        out.extend_from_slice(&small(distinct.len()));
        strings(distinct.into_iter(), out);
        pack(codes.into_iter(), width, out);
    });
}

fn strings<'a>(strings: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    for text in strings {
        out.extend_from_slice(&small(text.len()));
        out.extend_from_slice(text.as_bytes());
    }
}
