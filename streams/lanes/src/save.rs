//! State as bytes, and back: little-endian, no padding, the same bytes for the same state.
//!
//! What is read back is checked, for bytes may come from a damaged file: a count is never larger
//! than what is left, a tag is one that is known, text is UTF-8.

use thiserror::Error;

use crate::lane::{Lane, LaneBuilder, Values};
use crate::scalar::Scalar;
use crate::text::Text;
use crate::{Shape, index, number};

/// Saved state that cannot be read back.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// The bytes end early.
    #[error("saved state ends where {what} should be")]
    Short {
        /// What was expected.
        what: &'static str,
    },
    /// A value is none of those that may stand there.
    #[error("saved state has no valid {what}")]
    Invalid {
        /// What was expected.
        what: &'static str,
    },
}

/// Writes state.
#[derive(Clone, Debug, Default)]
pub struct Saver {
    bytes: Vec<u8>,
}

impl Saver {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// A byte.
    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A truth.
    pub fn truth(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// A number of 32 bits.
    pub fn small(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A number of 64 bits.
    pub fn word(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A signed number of 64 bits.
    pub fn int(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A signed number of 128 bits.
    pub fn wide(&mut self, value: i128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A float, bit by bit.
    pub fn real(&mut self, value: f64) {
        self.word(value.to_bits());
    }

    /// How many of something follow.
    pub fn count(&mut self, count: usize) {
        self.word(u64::try_from(count).expect("a count of what is in memory is a word"));
    }

    /// Bytes with their count.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// A value.
    pub fn scalar(&mut self, scalar: &Scalar) {
        match scalar {
            Scalar::Null => self.byte(0),
            Scalar::Bool(value) => {
                self.byte(1);
                self.truth(*value);
            }
            Scalar::Int(value) => {
                self.byte(2);
                self.int(*value);
            }
            Scalar::Wide(value) => {
                self.byte(3);
                self.wide(*value);
            }
            Scalar::Real(value) => {
                self.byte(4);
                self.real(*value);
            }
            Scalar::Text(value) => {
                self.byte(5);
                self.bytes(value.as_bytes());
            }
        }
    }

    /// A shape.
    pub fn shape(&mut self, shape: Shape) {
        self.byte(match shape {
            Shape::Bool => 1,
            Shape::Int => 2,
            Shape::Wide => 3,
            Shape::Real => 4,
            Shape::Text => 5,
        });
    }

    /// A lane.
    pub fn lane(&mut self, lane: &Lane) {
        self.column(lane.values(), lane.nulls());
    }

    /// What a builder has so far.
    pub fn builder(&mut self, builder: &LaneBuilder) {
        let rows: Vec<u32> = (0..number(builder.len())).collect();
        self.lane(&builder.take(&rows));
    }

    fn column(&mut self, values: &Values, nulls: Option<&[bool]>) {
        self.count(values.len());
        match values {
            Values::Bool(values) => {
                self.shape(Shape::Bool);
                values.iter().for_each(|value| self.truth(*value));
            }
            Values::Int(values) => {
                self.shape(Shape::Int);
                values.iter().for_each(|value| self.int(*value));
            }
            Values::Wide(values) => {
                self.shape(Shape::Wide);
                values.iter().for_each(|value| self.wide(*value));
            }
            Values::Real(values) => {
                self.shape(Shape::Real);
                values.iter().for_each(|value| self.real(*value));
            }
            Values::Text(values) => {
                self.shape(Shape::Text);
                values.iter().for_each(|value| self.bytes(value.as_bytes()));
            }
        }
        self.truth(nulls.is_some());
        nulls
            .into_iter()
            .flatten()
            .for_each(|null| self.truth(*null));
    }
}

/// Reads state back.
#[derive(Clone, Copy, Debug)]
pub struct Loader<'a> {
    rest: &'a [u8],
}

impl<'a> Loader<'a> {
    /// Reads these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all was read.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], LoadError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(LoadError::Short { what })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], LoadError> {
        let bytes = self.take(N, what)?;
        Ok(bytes.try_into().expect("as many were taken"))
    }

    /// A byte.
    ///
    /// # Errors
    ///
    /// If there is none left.
    pub fn byte(&mut self) -> Result<u8, LoadError> {
        Ok(self.array::<1>("a byte")?[0])
    }

    /// A truth.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn truth(&mut self) -> Result<bool, LoadError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(LoadError::Invalid { what: "truth" }),
        }
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    ///
    /// If the bytes end.
    pub fn small(&mut self) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.array("a number")?))
    }

    /// A number of 64 bits.
    ///
    /// # Errors
    ///
    /// If the bytes end.
    pub fn word(&mut self) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.array("a number")?))
    }

    /// A signed number of 64 bits.
    ///
    /// # Errors
    ///
    /// If the bytes end.
    pub fn int(&mut self) -> Result<i64, LoadError> {
        Ok(i64::from_le_bytes(self.array("a number")?))
    }

    /// A signed number of 128 bits.
    ///
    /// # Errors
    ///
    /// If the bytes end.
    pub fn wide(&mut self) -> Result<i128, LoadError> {
        Ok(i128::from_le_bytes(self.array("a number")?))
    }

    /// A float, bit by bit.
    ///
    /// # Errors
    ///
    /// If the bytes end.
    pub fn real(&mut self) -> Result<f64, LoadError> {
        Ok(f64::from_bits(self.word()?))
    }

    /// How many of something follow, each of at least so many bytes.
    ///
    /// # Errors
    ///
    /// If so many cannot follow.
    pub fn count(&mut self, least: usize) -> Result<usize, LoadError> {
        let count = self.word()?;
        let count = usize::try_from(count).ok();
        let fits = |count: &usize| {
            count
                .checked_mul(least)
                .is_some_and(|bytes| bytes <= self.rest.len())
        };
        count
            .filter(fits)
            .ok_or(LoadError::Invalid { what: "count" })
    }

    /// Bytes with their count.
    ///
    /// # Errors
    ///
    /// If they end early.
    pub fn bytes(&mut self) -> Result<&'a [u8], LoadError> {
        let count = self.count(1)?;
        self.take(count, "bytes")
    }

    /// Text.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn text(&mut self) -> Result<&'a str, LoadError> {
        std::str::from_utf8(self.bytes()?).map_err(|_utf8| LoadError::Invalid { what: "text" })
    }

    /// A value.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn scalar(&mut self) -> Result<Scalar, LoadError> {
        Ok(match self.byte()? {
            0 => Scalar::Null,
            1 => Scalar::Bool(self.truth()?),
            2 => Scalar::Int(self.int()?),
            3 => Scalar::Wide(self.wide()?),
            4 => Scalar::Real(self.real()?),
            5 => Scalar::Text(self.text()?.to_owned()),
            _ => return Err(LoadError::Invalid { what: "value" }),
        })
    }

    /// A shape.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn shape(&mut self) -> Result<Shape, LoadError> {
        Ok(match self.byte()? {
            1 => Shape::Bool,
            2 => Shape::Int,
            3 => Shape::Wide,
            4 => Shape::Real,
            5 => Shape::Text,
            _ => return Err(LoadError::Invalid { what: "shape" }),
        })
    }

    /// So many of something.
    ///
    /// # Errors
    ///
    /// Of the first that cannot be read.
    pub fn many<T>(
        &mut self,
        count: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, LoadError>,
    ) -> Result<Vec<T>, LoadError> {
        (0..count).map(|_| one(self)).collect()
    }

    /// A lane.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn lane(&mut self) -> Result<Lane, LoadError> {
        let count = self.count(1)?;
        let values = match self.shape()? {
            Shape::Bool => Values::Bool(self.many(count, Self::truth)?),
            Shape::Int => Values::Int(self.many(count, Self::int)?),
            Shape::Wide => Values::Wide(self.many(count, Self::wide)?),
            Shape::Real => Values::Real(self.many(count, Self::real)?),
            Shape::Text => {
                let mut text = Text::default();
                for _ in 0..count {
                    text.push(self.text()?);
                }
                Values::Text(text)
            }
        };
        let nulls = if self.truth()? {
            Some(self.many(count, Self::truth)?)
        } else {
            None
        };
        Ok(Lane::new(values, nulls))
    }

    /// A builder with what a lane had.
    ///
    /// # Errors
    ///
    /// If there is no lane of that shape.
    pub fn builder(&mut self, shape: Shape) -> Result<LaneBuilder, LoadError> {
        let lane = self.lane()?;
        if lane.shape() != shape {
            return Err(LoadError::Invalid { what: "lane" });
        }
        let mut builder = LaneBuilder::new(shape);
        (0..lane.len()).for_each(|row| builder.push_from(&lane, row));
        Ok(builder)
    }
}

impl crate::Keys {
    /// Writes all tuples, in the order of their codes.
    pub fn save(&self, to: &mut Saver) {
        to.count(self.len());
        let codes: Vec<u32> = (0..number(self.len())).collect();
        self.tuples(&codes).iter().for_each(|lane| to.lane(lane));
    }

    /// Reads them back into an empty table of the same shapes: each has the code that it had.
    ///
    /// # Errors
    ///
    /// If they are not what was written.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        let wrong = LoadError::Invalid { what: "keys" };
        let count = index(u32::try_from(from.word()?).map_err(|_large| wrong)?);
        let shapes = self.shapes().to_vec();
        if shapes.is_empty() && count > 1 {
            return Err(wrong);
        }
        let mut lanes = Vec::new();
        for shape in shapes {
            let lane = from.lane()?;
            if lane.shape() != shape || lane.len() != count {
                return Err(wrong);
            }
            lanes.push(lane);
        }
        let lanes: Vec<&Lane> = lanes.iter().collect();
        let mut codes = Vec::new();
        if count > 0 {
            self.code(&lanes, count, &mut codes);
        }
        let is_dense = codes
            .iter()
            .enumerate()
            .all(|(at, code)| index(*code) == at);
        if is_dense || self.shapes().is_empty() {
            Ok(())
        } else {
            Err(wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keys;

    fn lanes() -> Vec<Lane> {
        let mut text = Text::default();
        ["a", "", "b\u{e9}"].iter().for_each(|it| text.push(it));
        vec![
            Lane::dense(Values::Bool(vec![true, false, true])),
            Lane::new(
                Values::Int(vec![i64::MIN, 0, 7]),
                Some(vec![false, true, false]),
            ),
            Lane::dense(Values::Wide(vec![i128::MIN, -1, i128::MAX])),
            Lane::dense(Values::Real(vec![-0.0, 1.5, f64::INFINITY])),
            Lane::dense(Values::Text(text)),
        ]
    }

    #[test]
    fn lanes_come_back_as_they_were() {
        let mut to = Saver::new();
        lanes().iter().for_each(|lane| to.lane(lane));
        let bytes = to.finish();
        let mut from = Loader::new(&bytes);
        for lane in lanes() {
            assert_eq!(from.lane(), Ok(lane));
        }
        assert!(from.is_done());
    }

    #[test]
    fn keys_keep_their_codes() {
        let shapes: Vec<Shape> = lanes().iter().map(Lane::shape).collect();
        let mut keys = Keys::new(shapes.clone(), 10, 1);
        let lanes = lanes();
        let lanes: Vec<&Lane> = lanes.iter().collect();
        let mut codes = Vec::new();
        keys.code(&lanes, 3, &mut codes);
        let mut to = Saver::new();
        keys.save(&mut to);
        let bytes = to.finish();
        let mut again = Keys::new(shapes, 10, 2);
        again.load(&mut Loader::new(&bytes)).unwrap();
        assert_eq!((again.len(), again.find(&lanes, 2)), (3, Some(2)));
    }

    #[test]
    fn every_cut_is_refused() {
        let mut to = Saver::new();
        lanes().iter().for_each(|lane| to.lane(lane));
        let bytes = to.finish();
        for end in 0..bytes.len() {
            let mut from = Loader::new(&bytes[..end]);
            let read = (0..5).try_for_each(|_| from.lane().map(drop));
            assert!(read.is_err(), "{end} bytes are too few");
        }
    }
}
