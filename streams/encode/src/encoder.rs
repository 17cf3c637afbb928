//! From lanes to bytes: for each block the way that takes the fewest.

use std::collections::BTreeMap;

use holm_lanes::{Lane, Shape, Text, Values};

use crate::bits::{pack, packed_bytes, width_of};
use crate::decimal::decimals;
use crate::decoder::Decoder;
use crate::{BLOCK, CODES, CONSTANT, DECIMAL, DELTA, PACKED, RAW, RUNS, XOR};

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
    1 + values.windows(2).filter(|pair| pair[0] != pair[1]).count()
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
        let least = values.iter().min().copied().unwrap_or(0);
        let width = width_of(values.iter().map(|value| above(*value, least)));
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

fn differences(values: &[i64]) -> Option<Vec<i64>> {
    let pairs = values.windows(2);
    pairs.map(|pair| pair[1].checked_sub(pair[0])).collect()
}

fn ints(values: &[i64], out: &mut Vec<u8>) {
    let count = values.len();
    let runs = runs(values);
    if runs == 1 {
        return block(CONSTANT, 0, out, |out| {
            out.extend_from_slice(&values[0].to_le_bytes());
        });
    }
    let packed = Packed::of(values);
    let mut best = (packed.bytes(count), PACKED);
    if runs * RUN <= count && runs * 10 < best.0 {
        best = (runs * 10, RUNS);
    }
    let deltas = differences(values);
    let delta = deltas.as_ref().map(|deltas| Packed::of(deltas));
    if let Some(delta) = &delta
        && 8 + delta.bytes(count - 1) < best.0
    {
        best = (8 + delta.bytes(count - 1), DELTA);
    }
    match (best.1, deltas, delta) {
        (_, _, _) if best.0 >= count * 8 => block(RAW, 0, out, |out| {
            values
                .iter()
                .for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
        }),
        (DELTA, Some(deltas), Some(delta)) => block(DELTA, delta.width, out, |out| {
            out.extend_from_slice(&values[0].to_le_bytes());
            delta.write(&deltas, out);
        }),
        (RUNS, _, _) => {
            let words: Vec<u64> = values.iter().map(|it| it.cast_unsigned()).collect();
            block(RUNS, 0, out, |out| write_runs(&words, out));
        }
        (_, _, _) => block(PACKED, packed.width, out, |out| packed.write(values, out)),
    }
}

fn reals(values: &[f64], out: &mut Vec<u8>) {
    let count = values.len();
    let words: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    let runs = runs(&words);
    if runs == 1 {
        return block(CONSTANT, 0, out, |out| {
            out.extend_from_slice(&words[0].to_le_bytes());
        });
    }
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
    let xored = xor(&words);
    let best = decimal_bytes
        .min(runs_bytes)
        .min(xored.len())
        .min(count * 8);
    match decimal {
        Some((decimals, packed)) if best == decimal_bytes => {
            block(DECIMAL, decimals.power, out, |out| {
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
        Some(_) | None if best == xored.len() && best < count * 8 => {
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
