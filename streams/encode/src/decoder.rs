//! From bytes to lanes. The bytes may be anything.

use holm_lanes::{Lane, Values};
use thiserror::Error;

use crate::bits::unpack;
use crate::decimal::{Form, Precision, values_of};
use crate::texts;
use crate::{BLOCK, CONSTANT, DECIMAL, DELTA, PACKED, RAW, RUNS, SINGLE, XOR};

/// Bytes that are no lane.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// They end early.
    #[error("a column ends where {what} should be")]
    Short {
        /// What was expected.
        what: &'static str,
    },
    /// Something in them cannot be.
    #[error("a column has no valid {what}")]
    Invalid {
        /// What was expected.
        what: &'static str,
    },
    /// More rows than the reader allows.
    #[error("a column of {rows} rows where {limit} are the limit")]
    Rows {
        /// What it says.
        rows: usize,
        /// What is allowed.
        limit: usize,
    },
}

pub(crate) const fn invalid(what: &'static str) -> DecodeError {
    DecodeError::Invalid { what }
}

/// Reads lanes, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

pub(crate) struct Block<'a> {
    pub(crate) way: u8,
    pub(crate) parameter: u8,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(
        &mut self,
        count: usize,
        what: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let split = self.rest.split_at_checked(count);
        let (taken, rest) = split.ok_or(DecodeError::Short { what })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn small(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        let bytes = self.take(4, what)?.try_into().expect("four were taken");
        usize::try_from(u32::from_le_bytes(bytes)).map_err(|_large| invalid(what))
    }

    fn word(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let bytes = self.take(8, what)?.try_into().expect("eight were taken");
        Ok(u64::from_le_bytes(bytes))
    }

    fn block(&mut self) -> Result<Block<'a>, DecodeError> {
        let head = self.take(4, "a block")?;
        let bytes = self.small("a block")?;
        Ok(Block {
            way: head[0],
            parameter: head[1],
            bytes: self.take(bytes, "a block's values")?,
        })
    }

    /// The next lane, of at most so many rows.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn lane(&mut self, limit: usize) -> Result<Lane, DecodeError> {
        let head = self.take(4, "a column")?;
        let (shape, has_nulls) = (head[0], head[1]);
        let rows = self.small("a column")?;
        if rows > limit {
            return Err(DecodeError::Rows { rows, limit });
        }
        let nulls = match has_nulls {
            0 => None,
            1 => {
                let bits = self.take(rows.div_ceil(8), "NULLs")?;
                let bits = unpack(bits, rows, 1).ok_or(invalid("NULLs"))?;
                Some(bits.into_iter().map(|bit| bit == 1).collect())
            }
            _ => return Err(invalid("mark for NULLs")),
        };
        let values = match shape {
            1 => Values::Bool(self.blocks(rows, bools)?),
            2 => Values::Int(self.blocks(rows, ints)?),
            3 => Values::Wide(self.blocks(rows, wides)?),
            4 => Values::Real(self.blocks(rows, reals)?),
            5 => Values::Text(texts::read(&self.block()?, rows)?),
            _ => return Err(invalid("shape")),
        };
        Ok(Lane::new(values, nulls))
    }

    fn blocks<T>(
        &mut self,
        rows: usize,
        read: fn(&Block<'_>, usize) -> Result<Vec<T>, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut values = Vec::new();
        while values.len() < rows {
            let count = BLOCK.min(rows - values.len());
            let block = read(&self.block()?, count)?;
            debug_assert_eq!(
                block.len(),
                count,
                "each way gives as many as it was asked for"
            );
            values.extend(block);
        }
        Ok(values)
    }
}

fn bools(block: &Block<'_>, count: usize) -> Result<Vec<bool>, DecodeError> {
    if block.way != PACKED || block.parameter != 1 {
        return Err(invalid("way for truths"));
    }
    let bits = unpack(block.bytes, count, 1).ok_or(invalid("truths"))?;
    Ok(bits.into_iter().map(|bit| bit == 1).collect())
}

fn wides(block: &Block<'_>, count: usize) -> Result<Vec<i128>, DecodeError> {
    let (words, rest) = block.bytes.as_chunks::<16>();
    if block.way != RAW || !rest.is_empty() || words.len() != count {
        return Err(invalid("decimals"));
    }
    Ok(words
        .iter()
        .map(|word| i128::from_le_bytes(*word))
        .collect())
}

/// Words of the ways that integers and floats share; `None` if it is another way.
fn words(block: &Block<'_>, count: usize) -> Result<Option<Vec<u64>>, DecodeError> {
    let mut from = Decoder::new(block.bytes);
    let words = match block.way {
        RAW => {
            let (words, rest) = block.bytes.as_chunks::<8>();
            if !rest.is_empty() || words.len() != count {
                return Err(invalid("values"));
            }
            return Ok(Some(
                words.iter().map(|it| u64::from_le_bytes(*it)).collect(),
            ));
        }
        CONSTANT => vec![from.word("a value")?; count],
        RUNS => {
            let mut words = Vec::with_capacity(count);
            while words.len() < count {
                let word = from.word("a run")?;
                let length = from.take(2, "a run")?.try_into().expect("two were taken");
                let length = usize::from(u16::from_le_bytes(length));
                if length == 0 || length > count - words.len() {
                    return Err(invalid("run"));
                }
                words.resize(words.len() + length, word);
            }
            words
        }
        _ => return Ok(None),
    };
    if from.rest.is_empty() {
        Ok(Some(words))
    } else {
        Err(invalid("end of a block"))
    }
}

fn packed(from: &mut Decoder<'_>, count: usize, width: u8) -> Result<Vec<i64>, DecodeError> {
    let least = from.word("the least value")?.cast_signed();
    let values = unpack(from.rest, count, width).ok_or(invalid("packed values"))?;
    Ok(values
        .into_iter()
        .map(|value| least.wrapping_add(value.cast_signed()))
        .collect())
}

fn ints(block: &Block<'_>, count: usize) -> Result<Vec<i64>, DecodeError> {
    let mut from = Decoder::new(block.bytes);
    match block.way {
        PACKED => packed(&mut from, count, block.parameter),
        DELTA => {
            let mut value = from.word("the first value")?.cast_signed();
            let deltas = packed(&mut from, count - 1, block.parameter)?;
            let mut values = Vec::with_capacity(count);
            values.push(value);
            values.extend(deltas.into_iter().map(|delta| {
                value = value.wrapping_add(delta);
                value
            }));
            Ok(values)
        }
        _ => {
            let words = words(block, count)?.ok_or(invalid("way for integers"))?;
            Ok(words.into_iter().map(u64::cast_signed).collect())
        }
    }
}

fn reals(block: &Block<'_>, count: usize) -> Result<Vec<f64>, DecodeError> {
    match block.way {
        DECIMAL => decimals(block, count, Precision::Double),
        SINGLE => decimals(block, count, Precision::Single),
        XOR => xored(block, count),
        _ => {
            let words = words(block, count)?.ok_or(invalid("way for floats"))?;
            Ok(words.into_iter().map(f64::from_bits).collect())
        }
    }
}

fn decimals(
    block: &Block<'_>,
    count: usize,
    precision: Precision,
) -> Result<Vec<f64>, DecodeError> {
    let mut from = Decoder::new(block.bytes);
    let width = from.take(1, "a width")?[0];
    let pair = |from: &mut Decoder<'_>| -> Result<u16, DecodeError> {
        let two = from.take(2, "exceptions")?;
        Ok(u16::from_le_bytes(two.try_into().expect("two were taken")))
    };
    let mut exceptions = Vec::new();
    for _ in 0..pair(&mut from)? {
        let at = usize::from(pair(&mut from)?);
        if at >= count {
            return Err(invalid("place of an exception"));
        }
        exceptions.push((at, from.word("an exception")?));
    }
    let digits = packed(&mut from, count, width)?;
    let power = block.parameter;
    let values = values_of(&digits, Form { precision, power });
    let mut values = values.ok_or(invalid("power of ten"))?;
    for (at, bits) in exceptions {
        values[at] = f64::from_bits(bits);
    }
    Ok(values)
}

fn xored(block: &Block<'_>, count: usize) -> Result<Vec<f64>, DecodeError> {
    let mut from = Decoder::new(block.bytes);
    let mut values = Vec::with_capacity(count);
    let mut before = 0_u64;
    for _ in 0..count {
        let head = from.take(1, "a value")?[0];
        let (zeros, used) = (usize::from(head >> 4), usize::from(head & 0x0F));
        if zeros + used > 8 {
            return Err(invalid("bytes of a value"));
        }
        let mut word = [0; 8];
        word[zeros..zeros + used].copy_from_slice(from.take(used, "a value")?);
        before ^= u64::from_le_bytes(word);
        values.push(f64::from_bits(before));
    }
    if from.rest.is_empty() {
        Ok(values)
    } else {
        Err(invalid("end of a block"))
    }
}
