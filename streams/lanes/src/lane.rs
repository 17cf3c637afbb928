//! A column of a batch: dense values and, if there are any, a mask of NULLs.

use std::ops::Range;
use std::sync::OnceLock;

use crate::narrow::Narrow;
use crate::scalar::Scalar;
use crate::text::Text;
use crate::{Shape, index};

/// Dense values of one machine type. Where a row is NULL its value means nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of BOOLEAN.
    Bool(Vec<bool>),
    /// Of integers, dates, times.
    Int(Vec<i64>),
    /// Of decimals.
    Wide(Vec<i128>),
    /// Of floats.
    Real(Vec<f64>),
    /// Of strings.
    Text(Text),
}

impl Values {
    /// No values of a shape.
    #[must_use]
    pub fn empty(shape: Shape) -> Self {
        match shape {
            Shape::Bool => Self::Bool(Vec::new()),
            Shape::Int => Self::Int(Vec::new()),
            Shape::Wide => Self::Wide(Vec::new()),
            Shape::Real => Self::Real(Vec::new()),
            Shape::Text => Self::Text(Text::default()),
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Wide(values) => values.len(),
            Self::Real(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A column of a batch.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Those of a narrow lane are made when they are asked for.
    values: OnceLock<Values>,
    narrow: Option<Narrow>,
    nulls: Option<Vec<bool>>,
}

/// A narrow lane is equal to a wide one of the same values.
impl PartialEq for Lane {
    fn eq(&self, other: &Self) -> bool {
        self.values() == other.values() && self.nulls == other.nulls
    }
}

impl Lane {
    /// A lane without NULLs.
    #[must_use]
    pub fn dense(values: Values) -> Self {
        Self::new(values, None)
    }

    /// A lane of narrow values, without NULLs.
    #[must_use]
    pub const fn narrow(narrow: Narrow) -> Self {
        Self {
            values: OnceLock::new(),
            narrow: Some(narrow),
            nulls: None,
        }
    }

    /// A lane whose rows are NULL where the mask says so.
    ///
    /// # Panics
    ///
    /// If values and mask differ in length: that is a bug of the caller's (I1).
    #[must_use]
    pub fn new(values: Values, nulls: Option<Vec<bool>>) -> Self {
        let nulls = nulls.filter(|nulls| nulls.contains(&true));
        if let Some(nulls) = &nulls {
            assert_eq!(values.len(), nulls.len(), "I1: a NULL or not for each row");
        }
        Self {
            values: OnceLock::from(values),
            narrow: None,
            nulls,
        }
    }

    /// A lane that has the same value in each row.
    #[must_use]
    pub fn repeated(scalar: &Scalar, shape: Shape, rows: usize) -> Self {
        match (scalar, shape) {
            (Scalar::Int(value), Shape::Int) => {
                return Self::dense(Values::Int(vec![*value; rows]));
            }
            (Scalar::Real(value), Shape::Real) => {
                return Self::dense(Values::Real(vec![*value; rows]));
            }
            (Scalar::Bool(value), Shape::Bool) => {
                return Self::dense(Values::Bool(vec![*value; rows]));
            }
            _ => {}
        }
        let mut builder = LaneBuilder::new(shape);
        for _ in 0..rows {
            builder.push(scalar);
        }
        builder.finish()
    }

    /// The machine type of its values.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match &self.narrow {
            Some(Narrow::Singles(_)) => return Shape::Real,
            Some(Narrow::Bytes(_) | Narrow::Halves(_) | Narrow::Ints(_)) => return Shape::Int,
            None => {}
        }
        match self.values() {
            Values::Bool(_) => Shape::Bool,
            Values::Int(_) => Shape::Int,
            Values::Wide(_) => Shape::Wide,
            Values::Real(_) => Shape::Real,
            Values::Text(_) => Shape::Text,
        }
    }

    /// How many rows it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.narrow
            .as_ref()
            .map_or_else(|| self.values().len(), Narrow::len)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, also those of NULLs. Those of a narrow lane are widened when they are first
    /// asked for.
    ///
    /// # Panics
    ///
    /// Never: a lane has values or narrow ones.
    #[must_use]
    pub fn values(&self) -> &Values {
        self.values.get_or_init(|| {
            let narrow = self.narrow.as_ref();
            narrow.expect("a lane has values of one kind").widened()
        })
    }

    /// The values as they were given, if they are narrow.
    #[must_use]
    pub const fn narrow_values(&self) -> Option<&Narrow> {
        self.narrow.as_ref()
    }

    /// Which rows are NULL, unless none is.
    #[must_use]
    pub fn nulls(&self) -> Option<&[bool]> {
        self.nulls.as_deref()
    }

    /// Whether a row is NULL.
    #[inline]
    #[must_use]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls[row])
    }

    /// The integers; `None` if it has others.
    #[must_use]
    pub fn ints(&self) -> Option<&[i64]> {
        if let Values::Int(values) = self.values() {
            Some(values)
        } else {
            None
        }
    }

    /// The floats; `None` if it has others.
    #[must_use]
    pub fn reals(&self) -> Option<&[f64]> {
        if let Values::Real(values) = self.values() {
            Some(values)
        } else {
            None
        }
    }

    /// The truth of a row; NULL is not true.
    #[must_use]
    pub fn is_true(&self, row: usize) -> bool {
        matches!(self.values(), Values::Bool(values) if values[row]) && !self.is_null(row)
    }

    /// Rows that are true.
    #[must_use]
    pub fn truths(&self) -> Vec<bool> {
        (0..self.len()).map(|row| self.is_true(row)).collect()
    }

    /// The value of a row.
    #[must_use]
    pub fn scalar(&self, row: usize) -> Scalar {
        if self.is_null(row) {
            return Scalar::Null;
        }
        match self.values() {
            Values::Bool(values) => Scalar::Bool(values[row]),
            Values::Int(values) => Scalar::Int(values[row]),
            Values::Wide(values) => Scalar::Wide(values[row]),
            Values::Real(values) => Scalar::Real(values[row]),
            Values::Text(values) => Scalar::Text(values.at(row).to_owned()),
        }
    }

    /// Some rows that follow one another.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        if let Some(narrow) = &self.narrow {
            return Self::narrow(narrow.slice(rows));
        }
        let mut builder = LaneBuilder::new(self.shape());
        builder.extend_from(self, rows);
        builder.finish()
    }

    /// The rows that are named, in the order in which they are.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Self {
        if let Some(narrow) = &self.narrow {
            return Self::narrow(narrow.take(rows));
        }
        let nulls = |nulls: &Vec<bool>| rows.iter().map(|row| nulls[index(*row)]).collect();
        Self::new(take(self.values(), rows), self.nulls.as_ref().map(nulls))
    }
}

fn take(values: &Values, rows: &[u32]) -> Values {
    let picked = rows.iter().map(|row| index(*row));
    match values {
        Values::Bool(values) => Values::Bool(picked.map(|row| values[row]).collect()),
        Values::Int(values) => Values::Int(picked.map(|row| values[row]).collect()),
        Values::Wide(values) => Values::Wide(picked.map(|row| values[row]).collect()),
        Values::Real(values) => Values::Real(picked.map(|row| values[row]).collect()),
        Values::Text(values) => {
            let mut text = Text::default();
            picked.for_each(|row| text.push(values.at(row)));
            Values::Text(text)
        }
    }
}

/// Makes a lane value by value.
#[derive(Clone, Debug)]
pub struct LaneBuilder {
    values: Values,
    /// Which rows are NULL; left empty for as long as none is.
    nulls: Vec<bool>,
}

impl LaneBuilder {
    /// A builder of a shape, still empty.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            values: Values::empty(shape),
            nulls: Vec::new(),
        }
    }

    /// How many rows it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Notes that the row that was just added has a value.
    #[inline]
    fn has_value(&mut self) {
        if !self.nulls.is_empty() {
            self.nulls.push(false);
        }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let each = match &self.values {
            Values::Bool(_) => 1,
            Values::Int(_) | Values::Real(_) => 8,
            Values::Wide(_) => 16,
            Values::Text(text) => return text.size() + 9 * self.len(),
        };
        (each + 1) * self.len()
    }

    /// Forgets the rows from a place on.
    pub fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bool(values) => values.truncate(rows),
            Values::Int(values) => values.truncate(rows),
            Values::Wide(values) => values.truncate(rows),
            Values::Real(values) => values.truncate(rows),
            Values::Text(values) => values.truncate(rows),
        }
        self.nulls.truncate(rows);
    }

    /// Adds a NULL.
    pub fn push_null(&mut self) {
        match &mut self.values {
            Values::Bool(values) => values.push(false),
            Values::Int(values) => values.push(0),
            Values::Wide(values) => values.push(0),
            Values::Real(values) => values.push(0.0),
            Values::Text(values) => values.push(""),
        }
        let rows = self.values.len();
        self.nulls.resize(rows - 1, false);
        self.nulls.push(true);
    }

    /// Adds a value.
    ///
    /// # Panics
    ///
    /// If its shape is another: types are settled before values flow.
    pub fn push(&mut self, scalar: &Scalar) {
        match (&mut self.values, scalar) {
            (_, Scalar::Null) => return self.push_null(),
            (Values::Bool(values), Scalar::Bool(value)) => values.push(*value),
            (Values::Int(values), Scalar::Int(value)) => values.push(*value),
            (Values::Wide(values), Scalar::Wide(value)) => values.push(*value),
            (Values::Real(values), Scalar::Real(value)) => values.push(*value),
            (Values::Text(values), Scalar::Text(value)) => values.push(value),
            (values, scalar) => panic!("I1: {scalar:?} does not go into {values:?}"),
        }
        self.has_value();
    }

    /// Adds an integer, date or time.
    pub fn push_int(&mut self, value: i64) {
        let Values::Int(values) = &mut self.values else {
            panic!("I1: an integer goes into a lane of integers");
        };
        values.push(value);
        self.has_value();
    }

    /// Adds a decimal.
    pub fn push_wide(&mut self, value: i128) {
        let Values::Wide(values) = &mut self.values else {
            panic!("I1: a decimal goes into a lane of decimals");
        };
        values.push(value);
        self.has_value();
    }

    /// Adds a float.
    pub fn push_real(&mut self, value: f64) {
        let Values::Real(values) = &mut self.values else {
            panic!("I1: a float goes into a lane of floats");
        };
        values.push(value);
        self.has_value();
    }

    /// Adds a truth.
    pub fn push_bool(&mut self, value: bool) {
        let Values::Bool(values) = &mut self.values else {
            panic!("I1: a truth goes into a lane of truths");
        };
        values.push(value);
        self.has_value();
    }

    /// Adds a string.
    pub fn push_text(&mut self, value: &str) {
        let Values::Text(values) = &mut self.values else {
            panic!("I1: a string goes into a lane of strings");
        };
        values.push(value);
        self.has_value();
    }

    /// Adds the value of a row of a lane of the same shape.
    pub fn push_from(&mut self, lane: &Lane, row: usize) {
        if lane.is_null(row) {
            return self.push_null();
        }
        match lane.values() {
            Values::Bool(values) => self.push_bool(values[row]),
            Values::Int(values) => self.push_int(values[row]),
            Values::Wide(values) => self.push_wide(values[row]),
            Values::Real(values) => self.push_real(values[row]),
            Values::Text(values) => self.push_text(values.at(row)),
        }
    }

    /// Adds integers, dates or times.
    pub fn extend_ints(&mut self, more: impl Iterator<Item = i64>) {
        let Values::Int(values) = &mut self.values else {
            panic!("I1: integers go into a lane of integers");
        };
        values.extend(more);
        self.have_values();
    }

    /// Adds floats.
    pub fn extend_reals(&mut self, more: impl Iterator<Item = f64>) {
        let Values::Real(values) = &mut self.values else {
            panic!("I1: floats go into a lane of floats");
        };
        values.extend(more);
        self.have_values();
    }

    /// Notes that all rows that were just added have values.
    fn have_values(&mut self) {
        if !self.nulls.is_empty() {
            self.nulls.resize(self.values.len(), false);
        }
    }

    /// Adds some rows of a lane of the same shape.
    pub fn extend_from(&mut self, lane: &Lane, rows: Range<usize>) {
        match (&mut self.values, lane.values(), lane.nulls()) {
            (Values::Int(ours), Values::Int(theirs), None) => {
                ours.extend_from_slice(&theirs[rows]);
            }
            (Values::Real(ours), Values::Real(theirs), None) => {
                ours.extend_from_slice(&theirs[rows]);
            }
            (_, _, _) => return rows.for_each(|row| self.push_from(lane, row)),
        }
        self.have_values();
    }

    /// Whether a row is NULL.
    #[must_use]
    pub fn is_null(&self, row: usize) -> bool {
        !self.nulls.is_empty() && self.nulls[row]
    }

    /// The values so far.
    #[must_use]
    pub const fn values(&self) -> &Values {
        &self.values
    }

    /// The rows that are named, in the order in which they are.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> Lane {
        let nulls = || rows.iter().map(|row| self.nulls[index(*row)]).collect();
        let has_nulls = !self.nulls.is_empty();
        Lane::new(take(&self.values, rows), has_nulls.then(nulls))
    }

    /// The lane.
    #[must_use]
    pub fn finish(self) -> Lane {
        let has_nulls = !self.nulls.is_empty();
        Lane::new(self.values, has_nulls.then_some(self.nulls))
    }
}
