//! What a run counted, and the rows that it set aside.

use holm_lanes::Fault;

/// Rows by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That came in.
    pub rows: u64,
    /// Late for all of their windows, in some part of the query.
    pub late: u64,
    /// Without a value somewhere.
    pub diverted: u64,
    /// That came out.
    pub out: u64,
}

/// A row, or a result, that has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverted {
    /// The source and the line, where it is a row of one.
    pub line: Option<(usize, u64)>,
    /// Why.
    pub fault: Fault,
}

/// A row that came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Its source.
    pub source: usize,
    /// Its line.
    pub line: u64,
}

/// What a run has to say since it was last asked.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Counted from the beginning.
    pub counts: Counts,
    /// Set aside since then.
    pub diverted: Vec<Diverted>,
    /// Late since then, of sources that keep such rows.
    pub late: Vec<Late>,
}
