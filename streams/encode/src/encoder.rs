//! From lanes to bytes: for each block the way that takes the fewest.

use holm_lanes::{Lane, Narrow, Shape, Values};

use crate::bits::{pack, packed_bytes, width_of};
use crate::decimal::{Decimals, Form, Precision, decimals};
use crate::decoder::Decoder;
use crate::texts;
use crate::{BLOCK, CONSTANT, DECIMAL, DELTA, PACKED, RAW, RUNS, SINGLE, XOR};

/// One lane in so many is decoded again where debug assertions are off (I3).
const VERIFIED: u64 = 1_024;
/// Shorter runs are better packed.
const RUN: usize = 5;

/// Encodes lanes. The bytes of a lane depend on the lane alone, whatever was encoded before.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    lanes: u64,
}

impl Encoder {
    /// An encoder that goes on counting: of all lanes of a stream, some are verified, though each
    /// record has an encoder of its own.
    #[must_use]
    pub const fn after(lanes: u64) -> Self {
        Self { lanes }
    }

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
        let mut spare = Vec::with_capacity(BLOCK);
        if let Some(nulls) = lane.nulls() {
            // A block of truths ends where a byte ends.
            nulls
                .chunks(BLOCK)
                .for_each(|nulls| truths(nulls, &mut spare, out));
        }
        if let Some(narrow) = lane.narrow_values() {
            narrow_blocks(narrow, &mut spare, out);
        } else {
            blocks(lane.values(), &mut spare, out);
        }
        self.lanes += 1;
        if cfg!(debug_assertions) || self.lanes.is_multiple_of(VERIFIED) {
            verify(lane, &out[start..]);
        }
    }
}

/// Writes values block by block.
fn blocks(values: &Values, spare: &mut Vec<i64>, out: &mut Vec<u8>) {
    match values {
        Values::Bool(values) => values.chunks(BLOCK).for_each(|values| {
            block(PACKED, 1, out, |out| truths(values, spare, out));
        }),
        Values::Int(values) => {
            let blocks = values.chunks(BLOCK);
            blocks.for_each(|values| ints(values, spare, out));
        }
        Values::Wide(values) => values.chunks(BLOCK).for_each(|values| {
            block(RAW, 0, out, |out| {
                values
                    .iter()
                    .for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
            });
        }),
        Values::Real(values) => {
            let mut last = None;
            let blocks = values.chunks(BLOCK);
            blocks.for_each(|values| reals(values, &mut last, out));
        }
        Values::Text(values) => texts::write(values, out),
    }
}

/// Writes narrow values as those that they stand for: each block is widened where it is written.
fn narrow_blocks(narrow: &Narrow, spare: &mut Vec<i64>, out: &mut Vec<u8>) {
    match narrow {
        Narrow::Bytes(values) => integers(values, spare, out),
        Narrow::Halves(values) => integers(values, spare, out),
        Narrow::Ints(values) => integers(values, spare, out),
        Narrow::Singles(values) => {
            let (mut last, mut wide) = (None, Vec::with_capacity(BLOCK));
            for values in values.chunks(BLOCK) {
                wide.clear();
                wide.extend(values.iter().map(|value| f64::from(*value)));
                reals(&wide, &mut last, out);
            }
        }
    }
}

fn integers<T: Copy + PartialEq + Into<i64>>(
    values: &[T],
    spare: &mut Vec<i64>,
    out: &mut Vec<u8>,
) {
    let mut wide: Vec<i64> = Vec::with_capacity(BLOCK);
    for values in values.chunks(BLOCK) {
        let first = values[0];
        if values
            .iter()
            .fold(true, |all, value| all & (*value == first))
        {
            constant(first.into().cast_unsigned(), out);
            continue;
        }
        wide.clear();
        wide.extend(values.iter().map(|value| (*value).into()));
        ints(&wide, spare, out);
    }
}

fn truths(truths: &[bool], spare: &mut Vec<i64>, out: &mut Vec<u8>) {
    spare.clear();
    spare.extend(truths.iter().map(|truth| i64::from(*truth)));
    pack(spare, 0, 1, out);
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

pub(crate) fn small(count: usize) -> [u8; 4] {
    let count = u32::try_from(count).expect("a batch has fewer than 2^32 rows and bytes");
    count.to_le_bytes()
}

/// Writes a block's head around its bytes.
pub(crate) fn block(way: u8, parameter: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[way, parameter, 0, 0, 0, 0, 0, 0]);
    let start = out.len();
    write(out);
    let bytes = small(out.len() - start);
    out[start - 4..start].copy_from_slice(&bytes);
}

/// How many runs of equal values there are.
fn runs(words: impl Iterator<Item = u64> + Clone) -> usize {
    let next = words.clone().skip(1);
    1 + words.zip(next).filter(|(a, b)| a != b).count()
}

/// Bytes that runs take, if there are few.
fn runs_bytes(words: impl Iterator<Item = u64> + Clone, count: usize) -> usize {
    let runs = runs(words);
    if runs * RUN <= count {
        runs * 10
    } else {
        usize::MAX
    }
}

/// Whether all are equal to the first. Without a branch, for most blocks are not.
fn is_constant(words: impl Iterator<Item = u64>, first: u64) -> bool {
    words.fold(0, |all, word| all | (word ^ first)) == 0
}

/// Pairs of neighbours of a block that are looked at to see what is worth trying.
const PAIRS: usize = 32;

fn pairs<T: Copy>(values: &[T]) -> impl Iterator<Item = (T, T)> {
    let step = (values.len() / PAIRS).max(1);
    let all = values.iter().zip(values.iter().skip(1));
    all.step_by(step).map(|(a, b)| (*a, *b))
}

/// What some pairs of integers say of their block.
struct Sample {
    pairs: usize,
    changes: usize,
    /// Bits of values above the least, and of differences; `None` if one overflows.
    width: u8,
    delta_width: Option<u8>,
}

impl Sample {
    fn of(values: &[i64]) -> Self {
        let mut ends = Ends::of(values[0]);
        let mut deltas = values
            .get(1)
            .map(|next| Ends::of(next.wrapping_sub(values[0])));
        let (mut count, mut changes) = (0, 0);
        for (a, b) in pairs(values) {
            count += 1;
            changes += usize::from(a != b);
            ends.note(a);
            ends.note(b);
            let delta = b.checked_sub(a);
            deltas = deltas.zip(delta).map(|(ends, delta)| ends.and(delta));
        }
        Self {
            pairs: count,
            changes,
            width: ends.width(),
            delta_width: deltas.map(|deltas| deltas.width()),
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

/// The least and the greatest of some integers.
#[derive(Clone, Copy)]
struct Ends {
    least: i64,
    most: i64,
}

impl Ends {
    const fn of(value: i64) -> Self {
        Self {
            least: value,
            most: value,
        }
    }

    fn note(&mut self, value: i64) {
        self.least = self.least.min(value);
        self.most = self.most.max(value);
    }

    fn and(mut self, value: i64) -> Self {
        self.note(value);
        self
    }

    /// Bits of how far any of them is above the least.
    fn width(&self) -> u8 {
        width_of(self.most.wrapping_sub(self.least).cast_unsigned())
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
#[derive(Clone, Copy)]
struct Packed {
    least: i64,
    width: u8,
}

impl Packed {
    fn of(values: &[i64]) -> Self {
        let Some(first) = values.first() else {
            return Self { least: 0, width: 0 };
        };
        // The bits in which any differs from the first say how many are enough, and some values
        // say how many it takes; where these agree nobody has to find the least and the most.
        let step = (values.len() / PAIRS).max(1);
        let some = values.iter().step_by(step);
        let wanted = some
            .fold(Ends::of(*first), |ends, value| ends.and(*value))
            .width();
        let differing = values.iter().fold(0, |any, value| any | (value ^ first));
        let enough = width_of(differing.cast_unsigned());
        if wanted == enough && enough < 63 {
            let least = first & !((1 << enough) - 1);
            return Self {
                least,
                width: enough,
            };
        }
        Self::between(values, first)
    }

    fn between(values: &[i64], first: &i64) -> Self {
        const LANES: usize = 8;
        let (mut low, mut high) = ([*first; LANES], [*first; LANES]);
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for ((low, high), value) in low.iter_mut().zip(&mut high).zip(chunk) {
                *low = (*low).min(*value);
                *high = (*high).max(*value);
            }
        }
        let ends = Ends {
            least: low.iter().chain(rest).min().copied().unwrap_or(*first),
            most: high.iter().chain(rest).max().copied().unwrap_or(*first),
        };
        Self {
            least: ends.least,
            width: ends.width(),
        }
    }

    fn bytes(&self, count: usize) -> usize {
        8 + packed_bytes(count, self.width)
    }

    fn write(&self, values: &[i64], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.least.to_le_bytes());
        pack(values, self.least, self.width, out);
    }
}

/// The differences of neighbours; whether none overflows.
fn differences(values: &[i64], deltas: &mut Vec<i64>) -> bool {
    let mut overflows = 0;
    let pairs = values.iter().zip(values.iter().skip(1));
    deltas.clear();
    deltas.extend(pairs.map(|(a, b)| {
        let delta = b.wrapping_sub(*a);
        // The sign changed where it may not.
        overflows |= (b ^ a) & (b ^ delta);
        delta
    }));
    overflows >= 0
}

fn raw(words: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    block(RAW, 0, out, |out| {
        words.for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
    });
}

fn constant(word: u64, out: &mut Vec<u8>) {
    block(CONSTANT, 0, out, |out| {
        out.extend_from_slice(&word.to_le_bytes());
    });
}

fn ints(values: &[i64], spare: &mut Vec<i64>, out: &mut Vec<u8>) {
    let count = values.len();
    let words = || values.iter().map(|it| it.cast_unsigned());
    let (first, middle) = (values[0], values[count / 2]);
    if first == middle && is_constant(words(), first.cast_unsigned()) {
        return constant(first.cast_unsigned(), out);
    }
    let sample = Sample::of(values);
    let runs_bytes = if sample.has_runs() {
        runs_bytes(words(), count)
    } else {
        usize::MAX
    };
    if sample.has_deltas(count) && differences(values, spare) {
        let delta = Packed::of(spare);
        if 8 + delta.bytes(count - 1) < runs_bytes.min(count * 8) {
            return block(DELTA, delta.width, out, |out| {
                out.extend_from_slice(&values[0].to_le_bytes());
                delta.write(spare, out);
            });
        }
    }
    let packed = Packed::of(values);
    let best = packed.bytes(count).min(runs_bytes);
    if best >= count * 8 {
        raw(words(), out);
    } else if best == runs_bytes {
        let words: Vec<u64> = words().collect();
        block(RUNS, 0, out, |out| write_runs(&words, out));
    } else {
        block(PACKED, packed.width, out, |out| packed.write(values, out));
    }
}

fn reals(values: &[f64], last: &mut Option<Form>, out: &mut Vec<u8>) {
    let count = values.len();
    let words = || values.iter().map(|value| value.to_bits());
    let (mut seen, mut changes) = (0, 0);
    for (a, b) in pairs(values) {
        seen += 1;
        changes += usize::from(a.to_bits() != b.to_bits());
    }
    if changes == 0 && is_constant(words(), values[0].to_bits()) {
        return constant(values[0].to_bits(), out);
    }
    let runs_bytes = if changes * RUN <= seen {
        runs_bytes(words(), count)
    } else {
        usize::MAX
    };
    let decimals = decimals(values, last);
    let packed = decimals.as_ref().map(|it| Packed::of(&it.digits));
    let decimal = decimals.zip(packed);
    let decimal_bytes = decimal.as_ref().map_or(usize::MAX, |(decimals, packed)| {
        3 + packed.bytes(count) + decimals.exceptions.len() * 10
    });
    // Decimals of half a word or less are not beaten by what follows, so it is not tried.
    let is_short = decimal_bytes <= count * 4;
    let xored = if is_short { Vec::new() } else { xor(words()) };
    let xored_bytes = if is_short { usize::MAX } else { xored.len() };
    let best = decimal_bytes
        .min(runs_bytes)
        .min(xored_bytes)
        .min(count * 8);
    match decimal {
        Some((decimals, packed)) if best == decimal_bytes => write_decimals(&decimals, packed, out),
        Some(_) | None if best == runs_bytes => {
            let words: Vec<u64> = words().collect();
            block(RUNS, 0, out, |out| write_runs(&words, out));
        }
        Some(_) | None if best == xored_bytes && best < count * 8 => {
            block(XOR, 0, out, |out| out.extend_from_slice(&xored));
        }
        Some(_) | None => raw(words(), out),
    }
}

fn write_decimals(decimals: &Decimals, packed: Packed, out: &mut Vec<u8>) {
    let way = match decimals.form.precision {
        Precision::Double => DECIMAL,
        Precision::Single => SINGLE,
    };
    block(way, decimals.form.power, out, |out| {
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

/// Each word XOR the one before: how many of its low bytes are zero and how many follow, in a
/// byte, and those.
fn xor(words: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK * 5);
    let mut before = 0;
    for word in words {
        let mixed = word ^ before;
        before = word;
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
