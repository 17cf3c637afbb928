//! Where the rows of a source are logged: as they came, or where they have passed filters.
//!
//! Each record says how it was cut, so the choice may change from one to the next and replay does
//! not care why. It goes to where a record had the fewest bytes when it was measured last.

use std::sync::Arc;

use holm_durable::{Behind, Data, Record};
use holm_engine::{Passed, Point, Several};
use holm_lanes::{Batch, Marks, Origin};

use crate::keeper::wide;

/// Every so many batches all points are measured.
const MEASURED: u64 = 64;
/// Rows of a batch that are encoded for it.
const SAMPLE: usize = 1_024;
/// Another point has to need less than so many hundredths of what this one needs.
const WORTH: u64 = 80;
/// Bytes are counted for so many rows that came.
const ROWS: u64 = 1_024;

/// Where a source's rows are logged, and what that takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPoint {
    /// How many nodes the rows have passed; none if they are logged as they came.
    pub nodes: usize,
    /// What the last of those is.
    pub behind: Option<&'static str>,
    /// Bytes of a record for 1,024 rows that came; nothing before it was measured.
    pub bytes: Option<u64>,
    /// The same if rows were logged as they came.
    pub bytes_whole: Option<u64>,
}

/// The points of one source.
#[derive(Debug)]
pub(crate) struct Cut {
    points: Vec<Point>,
    /// For each point what tells apart what lies before it.
    ways: Vec<u32>,
    /// Numbers of rows are kept where results depend on them.
    keeps_lines: bool,
    /// 0 as rows came, otherwise behind so many points.
    chosen: usize,
    batches: u64,
    /// For each of these what it took when it was measured.
    bytes: Vec<Option<u64>>,
}

impl Cut {
    /// The points behind a source; none if all that came is to be kept.
    pub(crate) fn new(run: &Several, source: usize, keeps_all: bool) -> Self {
        let mut points = run.points(source);
        if keeps_all {
            points.clear();
        }
        for point in &mut points {
            // A record has a column at least, to say how many rows it has.
            let is_any = point.read.contains(&true);
            if let Some(first) = point.read.first_mut() {
                *first |= !is_any;
            }
        }
        points.retain(|point| !point.read.is_empty());
        Self {
            ways: points
                .iter()
                .map(|point| crc32c::crc32c(point.way.as_bytes()))
                .collect(),
            bytes: vec![None; points.len() + 1],
            keeps_lines: run.is_ordered(),
            chosen: 0,
            batches: 0,
            points,
        }
    }

    const fn is_measured(&self) -> bool {
        self.batches.is_multiple_of(MEASURED)
    }

    /// The nodes behind which the rows of the next batch are wanted.
    pub(crate) fn watched(&self) -> Vec<usize> {
        if self.is_measured() {
            return self.points.iter().map(|point| point.node).collect();
        }
        let chosen = self.chosen.checked_sub(1);
        chosen.map_or_else(Vec::new, |at| vec![self.points[at].node])
    }

    /// The columns that are read behind a node that is watched.
    pub(crate) fn read(&self, node: usize) -> &[bool] {
        let point = self.points.iter().find(|point| point.node == node);
        point.map_or(&[], |point| &point.read)
    }

    /// What is logged of a batch: `came`, or what passed a point.
    pub(crate) fn logged(&mut self, came: Data, passed: &[Passed]) -> Data {
        if self.is_measured() && came.batch.rows > 0 {
            self.measure(&came, passed);
        }
        self.batches += 1;
        let Some(at) = self.chosen.checked_sub(1) else {
            return came;
        };
        let node = self.points[at].node;
        let passed = passed.iter().find(|passed| passed.node == node);
        self.behind(&came, at, passed.expect("it was watched"))
    }

    fn behind(&self, came: &Data, at: usize, passed: &Passed) -> Data {
        let mut batch = passed.batch.clone();
        if !self.keeps_lines {
            let first = (came.batch.rows > 0).then(|| came.batch.origin.at(0));
            batch.origin = Origin::Run(first.unwrap_or(0));
        }
        Data {
            batch,
            behind: Some(Behind {
                way: self.ways[at],
                nodes: holm_lanes::number(at + 1),
                rows: passed.rows,
                diverted: passed.diverted,
                read: self.points[at].read.clone(),
            }),
            position: came.position.clone(),
            key: came.key.clone(),
            ..*came
        }
    }

    fn measure(&mut self, came: &Data, passed: &[Passed]) {
        let rows = wide(came.batch.rows);
        let mut taken = vec![bytes(came, rows)];
        for (at, passed) in passed.iter().enumerate() {
            taken.push(bytes(&self.behind(came, at, passed), rows));
        }
        for (known, new) in self.bytes.iter_mut().zip(taken) {
            *known = Some(known.map_or(new, |known| (3 * known + new) / 4));
        }
        let of = |at: usize| self.bytes[at].unwrap_or(u64::MAX);
        let least = (0..self.bytes.len()).min_by_key(|at| of(*at)).unwrap_or(0);
        let is_worth = of(least) * 100 < of(self.chosen) * WORTH;
        if is_worth || self.batches == 0 {
            self.chosen = least;
        }
    }

    /// What passed a point when it was logged; `None` if this plan has no such point.
    pub(crate) fn passed(&self, data: &Data) -> Option<Passed> {
        let behind = data.behind.as_ref()?;
        let at = holm_lanes::index(behind.nodes).checked_sub(1)?;
        let point = self.points.get(at)?;
        let is_it = self.ways[at] == behind.way && point.read == behind.read;
        is_it.then(|| Passed {
            node: point.node,
            rows: behind.rows,
            diverted: behind.diverted,
            before: Marks::START,
            batch: data.batch.clone(),
        })
    }

    pub(crate) fn log_point(&self) -> LogPoint {
        let node = self.chosen.checked_sub(1);
        LogPoint {
            nodes: self.chosen,
            behind: node.map(|at| self.points[at].name),
            bytes: self.bytes[self.chosen],
            bytes_whole: self.bytes[0],
        }
    }
}

/// Bytes of a record for so many rows that came, by its first rows.
fn bytes(data: &Data, came: u64) -> u64 {
    let all = data.batch.rows;
    let some = all.min(SAMPLE);
    let record = Record::Data(Box::new(Data {
        batch: first(&data.batch, some),
        position: data.position.clone(),
        key: data.key.clone(),
        behind: data.behind.clone(),
        ..*data
    }));
    let bytes = wide(record.entry(1, 1).body.len());
    bytes * wide(all) / wide(some.max(1)).max(1) * ROWS / came
}

fn first(batch: &Batch, rows: usize) -> Batch {
    let lanes = batch.lanes.iter();
    Batch {
        lanes: lanes.map(|lane| Arc::new(lane.slice(0..rows))).collect(),
        rows,
        origin: match &batch.origin {
            Origin::Run(first) => Origin::Run(*first),
            Origin::Rows(lines) => Origin::Rows(lines[..rows].to_vec()),
        },
        marks: Marks {
            after: batch.marks.after,
            rows: batch.marks.rows.as_ref().map(|it| it[..rows].to_vec()),
        },
    }
}
