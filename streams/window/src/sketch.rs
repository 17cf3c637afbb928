//! Sketches: how many values differ, about, and how they lie, about. What one keeps is bounded,
//! however many values it saw, and two of them together are one of all values: neither depends on
//! how rows were put together.
//!
//! | | kept | error |
//! |--|--|--|
//! | APPROX_COUNT_DISTINCT | hashes up to 512, then 4,096 registers (HyperLogLog) | none, then 1.6 % (standard) |
//! | APPROX_QUANTILE | counts of values of about one size (DDSketch), 4,096 sizes a sign | 1 % of the value |

use std::collections::{BTreeMap, BTreeSet};

use holm_lanes::{LoadError, Loader, Saver, index};

/// Hashes that are kept as they are.
const FEW: usize = 512;
/// Bits of a hash that name its register.
const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;
/// Sizes of values that are told apart for each sign; smaller ones count as the smallest.
const SIZES: usize = 1 << 12;
/// Sizes follow one another by this factor: the middle of one is within 1 % of all in it.
const GROWTH: f64 = 1.01 / 0.99;

/// What is kept of the values of a slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Sketch {
    #[default]
    Nothing,
    Hashes(BTreeSet<u64>),
    Registers(Vec<u8>),
    Sizes(Box<Sizes>),
}

/// Counts by size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sizes {
    below: BTreeMap<i32, u64>,
    zeros: u64,
    above: BTreeMap<i32, u64>,
}

/// The size of a value above zero; NaN is the largest, as it is for MAX.
fn size(value: f64) -> i32 {
    let size = libm::ceil(libm::log(value) / libm::log(GROWTH));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "logarithms of floats are small, and what is not a number stands last"
    )]
    let whole = size as i32;
    if size.is_nan() { i32::MAX } else { whole }
}

/// The middle of a size.
fn middle(size: i32) -> f64 {
    if size == i32::MAX {
        return f64::INFINITY;
    }
    2.0 * libm::pow(GROWTH, f64::from(size)) / (GROWTH + 1.0)
}

fn count(sizes: &mut BTreeMap<i32, u64>, size: i32, more: u64) {
    *sizes.entry(size).or_default() += more;
    if sizes.len() > SIZES
        && let Some((_, least)) = sizes.pop_first()
        && let Some(mut next) = sizes.first_entry()
    {
        *next.get_mut() += least;
    }
}

impl Sketch {
    /// Notes a value by its hash.
    pub(crate) fn add_hash(&mut self, hash: u64) {
        match self {
            Self::Nothing => *self = Self::Hashes(BTreeSet::from([hash])),
            Self::Hashes(hashes) => {
                hashes.insert(hash);
                if hashes.len() > FEW {
                    let mut registers = vec![0; REGISTERS];
                    hashes.iter().for_each(|hash| note(&mut registers, *hash));
                    *self = Self::Registers(registers);
                }
            }
            Self::Registers(registers) => note(registers, hash),
            Self::Sizes(_) => panic!("a sketch is of one kind"),
        }
    }

    /// Notes a value by its size.
    pub(crate) fn add_real(&mut self, value: f64) {
        if matches!(self, Self::Nothing) {
            *self = Self::Sizes(Box::default());
        }
        let Self::Sizes(sizes) = self else {
            panic!("a sketch is of one kind");
        };
        if value < 0.0 {
            count(&mut sizes.below, size(-value), 1);
        } else if value == 0.0 {
            sizes.zeros += 1;
        } else {
            count(&mut sizes.above, size(value), 1);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Nothing) => {}
            (Self::Nothing, other) => *self = other.clone(),
            (_, Self::Hashes(hashes)) => hashes.iter().for_each(|hash| self.add_hash(*hash)),
            (Self::Hashes(hashes), Self::Registers(theirs)) => {
                let mut registers = theirs.clone();
                hashes.iter().for_each(|hash| note(&mut registers, *hash));
                *self = Self::Registers(registers);
            }
            (Self::Registers(ours), Self::Registers(theirs)) => {
                let pairs = ours.iter_mut().zip(theirs);
                pairs.for_each(|(ours, theirs)| *ours = (*ours).max(*theirs));
            }
            (Self::Sizes(ours), Self::Sizes(theirs)) => {
                let each = |sizes: &mut BTreeMap<i32, u64>, more: &BTreeMap<i32, u64>| {
                    more.iter().for_each(|(size, n)| count(sizes, *size, *n));
                };
                each(&mut ours.below, &theirs.below);
                each(&mut ours.above, &theirs.above);
                ours.zeros += theirs.zeros;
            }
            (ours, theirs) => panic!("a sketch is of one kind: {ours:?}, {theirs:?}"),
        }
    }

    /// How many values differ, about.
    pub(crate) fn distinct(&self) -> i64 {
        match self {
            Self::Nothing => 0,
            Self::Hashes(hashes) => i64::try_from(hashes.len()).expect("they are few"),
            Self::Registers(registers) => estimate(registers),
            Self::Sizes(_) => panic!("it knows sizes, not values"),
        }
    }

    /// The value that so many millionths of all are not above, about.
    pub(crate) fn quantile(&self, millionths: u32) -> Option<f64> {
        let Self::Sizes(sizes) = self else {
            return None;
        };
        let Sizes {
            below,
            zeros,
            above,
        } = &**sizes;
        let all: u64 = below.values().chain(above.values()).sum::<u64>() + zeros;
        let rank = u128::from(all.saturating_sub(1)) * u128::from(millionths) / 1_000_000;
        let least_first = below.iter().rev().map(|(size, n)| (-middle(*size), *n));
        let rest = above.iter().map(|(size, n)| (middle(*size), *n));
        let mut seen = 0;
        for (value, n) in least_first.chain([(0.0, *zeros)]).chain(rest) {
            seen += u128::from(n);
            if seen > rank {
                return Some(value);
            }
        }
        None
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        const ENTRY: usize = 20;
        match self {
            Self::Nothing => 0,
            Self::Hashes(hashes) => ENTRY * hashes.len(),
            Self::Registers(registers) => registers.len(),
            Self::Sizes(sizes) => 64 + ENTRY * (sizes.below.len() + sizes.above.len()),
        }
    }
}

/// The register of a hash keeps the longest run of zeros behind its name.
fn note(registers: &mut [u8], hash: u64) {
    let name = index(u32::try_from(hash >> (64 - BITS)).expect("it has 12 bits"));
    let zeros = ((hash << BITS) | 1 << (BITS - 1)).leading_zeros() + 1;
    let zeros = u8::try_from(zeros).expect("there are 64 bits");
    registers[name] = registers[name].max(zeros);
}

/// Flajolet and others' estimate, by counting empty registers where there are many.
fn estimate(registers: &[u8]) -> i64 {
    let size = f64::from(1_u32 << BITS);
    let sum: f64 = registers
        .iter()
        .map(|zeros| libm::ldexp(1.0, -i32::from(*zeros)))
        .sum();
    let raw = 0.7213 / (1.0 + 1.079 / size) * size * size / sum;
    let empty = registers.iter().filter(|zeros| **zeros == 0).count();
    let empty = f64::from(u32::try_from(empty).expect("there are 4,096"));
    let by_empty = raw <= 2.5 * size && empty > 0.0;
    let found = if by_empty {
        size * libm::log(size / empty)
    } else {
        raw
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is a count, rounded on purpose"
    )]
    let count = libm::round(found) as i64;
    count
}

/// State as bytes, and back.
impl Sketch {
    pub(crate) fn save(&self, to: &mut Saver) {
        match self {
            Self::Nothing => to.byte(0),
            Self::Hashes(hashes) => {
                to.byte(1);
                to.count(hashes.len());
                hashes.iter().for_each(|hash| to.word(*hash));
            }
            Self::Registers(registers) => {
                to.byte(2);
                registers.iter().for_each(|zeros| to.byte(*zeros));
            }
            Self::Sizes(sizes) => {
                to.byte(3);
                to.word(sizes.zeros);
                for side in [&sizes.below, &sizes.above] {
                    to.count(side.len());
                    for (size, count) in side {
                        to.int(i64::from(*size));
                        to.word(*count);
                    }
                }
            }
        }
    }

    pub(crate) fn load(from: &mut Loader<'_>) -> Result<Self, LoadError> {
        let invalid = LoadError::Invalid { what: "sketch" };
        Ok(match from.byte()? {
            0 => Self::Nothing,
            1 => {
                let count = from.count(8)?;
                Self::Hashes(from.many(count, Loader::word)?.into_iter().collect())
            }
            2 => Self::Registers(from.many(REGISTERS, Loader::byte)?),
            3 => {
                let zeros = from.word()?;
                let mut side = || -> Result<BTreeMap<i32, u64>, LoadError> {
                    let count = from.count(16)?;
                    let pairs = from.many(count, |from| {
                        let size = i32::try_from(from.int()?);
                        let size = size.map_err(|_far| LoadError::Invalid { what: "sketch" })?;
                        Ok((size, from.word()?))
                    })?;
                    Ok(pairs.into_iter().collect())
                };
                let (below, above) = (side()?, side()?);
                Self::Sizes(Box::new(Sizes {
                    below,
                    zeros,
                    above,
                }))
            }
            _ => return Err(invalid),
        })
    }
}

/// Values as hashes; what is equal has one hash, and NULLs have any.
pub(crate) fn hashes(lane: &holm_lanes::Lane) -> Vec<i64> {
    use holm_lanes::Values;
    let real = |value: &f64| {
        if value.is_nan() {
            f64::NAN.to_bits()
        } else {
            (value + 0.0).to_bits()
        }
    };
    let text = |text: &str| {
        let start = 0xcbf2_9ce4_8422_2325_u64;
        let mixed = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        text.bytes().fold(start, mixed)
    };
    let low =
        |value: i128| u64::from_le_bytes(*value.to_le_bytes().first_chunk().expect("8 of 16"));
    let words: Vec<u64> = match lane.values() {
        Values::Bool(values) => values.iter().map(|value| u64::from(*value)).collect(),
        Values::Int(values) => values.iter().map(|value| value.cast_unsigned()).collect(),
        Values::Wide(values) => {
            let both = |value: &i128| low(*value) ^ stir(low(*value >> 64));
            values.iter().map(both).collect()
        }
        Values::Real(values) => values.iter().map(real).collect(),
        Values::Text(values) => (0..lane.len()).map(|row| text(values.at(row))).collect(),
    };
    let words = words.into_iter();
    words.map(|word| stir(word).cast_signed()).collect()
}

/// The finalizer of `SplitMix64`.
const fn stir(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(found: f64, wanted: f64, part: f64) {
        let away = (found - wanted).abs() / wanted.abs().max(1.0);
        assert!(away <= part, "{found}, and {wanted} wanted");
    }

    #[test]
    fn distinct_values_are_counted_to_a_few_hundredths() {
        for (values, part) in [(10_u32, 0.0), (512, 0.0), (5_000, 0.05), (300_000, 0.05)] {
            let mut whole = Sketch::default();
            let mut halves = [Sketch::default(), Sketch::default()];
            for value in (0..values).chain(0..values / 2) {
                let hash = stir(u64::from(value));
                whole.add_hash(hash);
                halves[index(value % 2)].add_hash(hash);
            }
            let [mut first, second] = halves;
            first.merge(&second);
            assert_eq!(first, whole, "cut in two it is the same");
            let found = i32::try_from(whole.distinct()).expect("they are few");
            within(f64::from(found), f64::from(values), part);
        }
    }

    #[test]
    fn quantiles_are_within_a_hundredth_of_the_value() {
        let value = |at: u32| f64::from(at).powi(3) / 1e6 - 1_000.0;
        let (mut whole, mut rest) = (Sketch::default(), Sketch::default());
        (0..1_000).for_each(|at| whole.add_real(value(at)));
        (1_000..2_000).for_each(|at| rest.add_real(value(at)));
        let mut all = Sketch::default();
        (0..2_000).rev().for_each(|at| all.add_real(value(at)));
        whole.merge(&rest);
        assert_eq!(whole, all);
        for (millionths, at) in [
            (0, 0),
            (250_000, 499),
            (500_000, 999),
            (990_000, 1_979),
            (1_000_000, 1_999),
        ] {
            within(all.quantile(millionths).unwrap(), value(at), 0.011);
        }
        assert_eq!(Sketch::default().quantile(0), None);
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let mut few = Sketch::default();
        few.add_hash(7);
        let mut many = Sketch::default();
        (0..1_000).for_each(|value| many.add_hash(stir(value)));
        let mut sizes = Sketch::default();
        let values = [-3.0, 0.0, 0.5, f64::INFINITY, f64::NAN];
        values.iter().for_each(|value| sizes.add_real(*value));
        for sketch in [Sketch::default(), few, many, sizes] {
            let mut to = Saver::new();
            sketch.save(&mut to);
            let bytes = to.finish();
            let mut from = Loader::new(&bytes);
            assert_eq!(Sketch::load(&mut from).unwrap(), sketch);
            assert!(from.is_done());
        }
    }

    #[test]
    fn sizes_are_bounded_and_keep_the_large_ones() {
        let mut sizes = Sketch::default();
        for power in -300..300 {
            for step in 0..100 {
                sizes.add_real(libm::pow(10.0, f64::from(power) + f64::from(step) / 100.0));
            }
        }
        let Sketch::Sizes(kept) = &sizes else {
            panic!("it knows sizes");
        };
        assert_eq!(kept.above.len(), SIZES);
        within(sizes.quantile(1_000_000).unwrap().log10(), 299.99, 0.001);
    }
}
