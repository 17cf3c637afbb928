//! Runs a plan: a batch of a source goes through all nodes, in order.

use std::collections::BTreeSet;

use holm_lanes::{Batch, LoadError, Loader, Marks, Saver};
use holm_window::{Gauge, Watermark};
use thiserror::Error;

use crate::fold::Fold;
use crate::plan::{Limits, Node, Plan};
use crate::report::{Counts, Diverted, Late, Report};
use crate::stage::{self, Done, Stage};

/// More rows wait than may: the run ends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{what} holds {limit} rows, which is the limit")]
pub struct Full {
    /// What holds them.
    pub what: &'static str,
    /// The limit.
    pub limit: usize,
}

/// A plan that runs.
#[derive(Clone, Debug)]
pub struct Run {
    plan: Plan,
    stages: Vec<Stage>,
    /// What each stage with one input reads.
    inputs: Vec<Option<usize>>,
    marks: Vec<Watermark>,
    /// The source whose lines the rows of a node still are.
    origins: Vec<Option<usize>>,
    report: Report,
    /// Lines that were counted as late or diverted in this round.
    seen_late: BTreeSet<(usize, u64)>,
    seen_diverted: BTreeSet<(usize, u64)>,
}

impl Run {
    /// A run that has seen nothing. `tables` are those that lookups name.
    #[must_use]
    pub fn new(plan: &Plan, limits: Limits, tables: Vec<Batch>) -> Self {
        let mut origins: Vec<Option<usize>> = Vec::new();
        for node in &plan.nodes {
            origins.push(match node {
                Node::Source(source) => Some(*source),
                Node::Filter { input, .. }
                | Node::Project { input, .. }
                | Node::Lookup { input, .. }
                | Node::Assign { input, .. } => origins[*input],
                Node::Window { .. }
                | Node::Group { .. }
                | Node::Join { .. }
                | Node::Top { .. }
                | Node::Order { .. } => None,
            });
        }
        let read = plan.read();
        let stages = (0..plan.nodes.len())
            .map(|node| Stage::new(plan, node, (limits, &read[node]), &tables))
            .collect();
        let (inputs, stages) = folded(plan, stages);
        Self {
            stages,
            inputs,
            marks: plan
                .sources
                .iter()
                .map(|source| Watermark::new(source.bound))
                .collect(),
            origins,
            plan: plan.clone(),
            report: Report::default(),
            seen_late: BTreeSet::new(),
            seen_diverted: BTreeSet::new(),
        }
    }

    /// The watermark of a source: of several sources the lowest is to be read next.
    #[must_use]
    pub fn mark(&self, source: usize) -> i64 {
        self.marks[source].now()
    }

    /// Takes rows of a source, in the order of its lines, and gives the rows that come out.
    ///
    /// # Errors
    ///
    /// If more rows wait than may; the run is over then.
    pub fn push(&mut self, source: usize, batch: Batch) -> Result<Batch, Full> {
        self.report.counts.rows += count(batch.rows);
        let described = &self.plan.sources[source];
        let (time, original) = (described.time, batch.origin.clone());
        let mut done = stage::prepare(&described.computed, time, batch);
        for (row, fault) in std::mem::take(&mut done.diverted) {
            self.divert(Some((source, original.at(row))), fault);
        }
        if let Some(time) = time {
            let times = done.batch.lanes[time].ints().unwrap_or_default();
            done.batch.marks = self.marks[source].pass(times);
        }
        self.round(source, done.batch)
    }

    /// Ends a source, which closes what waits for it.
    ///
    /// # Errors
    ///
    /// If more rows wait than may.
    pub fn end(&mut self, source: usize) -> Result<Batch, Full> {
        let described = &self.plan.sources[source];
        let kinds: Vec<_> = described
            .fields
            .iter()
            .chain(described.computed.iter().map(|(field, _)| field))
            .map(|field| field.kind)
            .collect();
        self.round(source, stage::empty(&kinds, Marks::END))
    }

    /// What was counted and set aside since it was last asked.
    pub fn report(&mut self) -> Report {
        let counts = self.report.counts;
        let report = std::mem::take(&mut self.report);
        self.report.counts = counts;
        report
    }

    /// How much all nodes keep: open panes, sessions and windows, keys, and about so many bytes.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let gauges = self.stages.iter().map(Stage::gauge);
        gauges.fold(Gauge::default(), Gauge::and)
    }

    /// The rows that would come out if all input ended now. It costs as much as that, and a copy
    /// of the state.
    ///
    /// # Errors
    ///
    /// If more rows wait than may.
    pub fn foresee(&self) -> Result<Batch, Full> {
        let mut copy = self.clone();
        let mut found: Option<Batch> = None;
        for source in 0..self.plan.sources.len() {
            let out = copy.end(source)?;
            found = Some(match found {
                Some(before) if before.rows > 0 => before.and(&out),
                Some(_) | None => out,
            });
        }
        Ok(found.unwrap_or_else(|| stage::empty(&[], Marks::END)))
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.report.counts
    }

    /// Notes a row that had no value before it came here.
    pub fn divert(&mut self, line: Option<(usize, u64)>, fault: holm_lanes::Fault) {
        if line.is_none_or(|line| self.seen_diverted.insert(line)) {
            self.report.counts.diverted += 1;
            self.report.diverted.push(Diverted { line, fault });
        }
    }

    fn round(&mut self, source: usize, batch: Batch) -> Result<Batch, Full> {
        let mut outs: Vec<Option<Batch>> = Vec::with_capacity(self.stages.len());
        for number in 0..self.stages.len() {
            let out = self.step(number, (source, &batch), &outs)?;
            outs.push(out);
        }
        self.seen_late.clear();
        self.seen_diverted.clear();
        let kinds = self
            .plan
            .kinds
            .last()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let out = outs.pop().flatten();
        let out = out.unwrap_or_else(|| stage::empty(kinds, Marks::START));
        self.report.counts.out += count(out.rows);
        Ok(out)
    }

    fn step(
        &mut self,
        number: usize,
        (source, batch): (usize, &Batch),
        outs: &[Option<Batch>],
    ) -> Result<Option<Batch>, Full> {
        let node = &self.plan.nodes[number];
        let (done, input) = match node {
            Node::Source(own) => {
                return Ok((*own == source).then(|| batch.clone()));
            }
            Node::Join { inputs, .. } => {
                let (left, right) = (outs[inputs.0].as_ref(), outs[inputs.1].as_ref());
                if left.is_none() && right.is_none() {
                    return Ok(None);
                }
                (self.stages[number].join(left, right)?, None)
            }
            Node::Filter { .. }
            | Node::Project { .. }
            | Node::Window { .. }
            | Node::Assign { .. }
            | Node::Group { .. }
            | Node::Lookup { .. }
            | Node::Top { .. }
            | Node::Order { .. } => {
                let input = self.inputs[number];
                let Some((input, batch)) = input.and_then(|it| Some((it, outs[it].as_ref()?)))
                else {
                    return Ok(None);
                };
                (self.stages[number].step(batch)?, Some((input, batch)))
            }
        };
        Ok(Some(self.note(done, input)))
    }

    fn note(&mut self, done: Done, input: Option<(usize, &Batch)>) -> Batch {
        let line_of = |row: usize| {
            let (node, batch) = input?;
            Some((self.origins[node]?, batch.origin.at(row)))
        };
        let late: Vec<_> = done.late.iter().filter_map(|row| line_of(*row)).collect();
        let diverted: Vec<_> = done
            .diverted
            .into_iter()
            .map(|(row, fault)| (line_of(row), fault))
            .collect();
        for (source, line) in late {
            if self.seen_late.insert((source, line)) {
                self.report.counts.late += 1;
                if self.plan.sources[source].keeps_late {
                    self.report.late.push(Late { source, line });
                }
            }
        }
        for (line, fault) in diverted {
            self.divert(line, fault);
        }
        for fault in done.lost {
            self.divert(None, fault);
        }
        done.batch
    }
}

/// What stages with one input read, and the stages, where groups do the work of the windows that
/// they count.
fn folded(plan: &Plan, mut stages: Vec<Stage>) -> (Vec<Option<usize>>, Vec<Stage>) {
    let only = |node: &Node| node.inputs().first().copied();
    let mut inputs: Vec<Option<usize>> = plan.nodes.iter().map(only).collect();
    for number in 0..stages.len() {
        let Some(fold) = Fold::of(plan, number) else {
            continue;
        };
        let Node::Group { calls, .. } = &plan.nodes[number] else {
            panic!("only a group is a fold");
        };
        let windows = std::mem::replace(&mut stages[fold.window], Stage::Folded);
        stages[number] = windows.counted_by(&fold.parts, calls.len());
        inputs[number] = inputs[fold.window].take();
        for node in fold.between {
            inputs[node] = None;
        }
    }
    (inputs, stages)
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).expect("a batch is in memory")
}

/// The layout of saved state.
const VERSION: u32 = 1;

/// State as bytes, and back.
impl Run {
    /// Writes all that a run of this plan holds, after everything that it was given so far. Equal
    /// runs write equal bytes.
    pub fn save(&self, to: &mut Saver) {
        to.small(VERSION);
        let Counts {
            rows,
            late,
            diverted,
            out,
        } = self.report.counts;
        [rows, late, diverted, out]
            .iter()
            .for_each(|count| to.word(*count));
        self.marks.iter().for_each(|mark| to.int(mark.now()));
        self.stages.iter().for_each(|stage| stage.save(to));
    }

    /// Takes over what a run of the same plan wrote; this one must have seen nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not what was written, or of another version.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        if from.small()? != VERSION {
            return Err(LoadError::Invalid { what: "version" });
        }
        self.report.counts = Counts {
            rows: from.word()?,
            late: from.word()?,
            diverted: from.word()?,
            out: from.word()?,
        };
        for mark in &mut self.marks {
            mark.resume(from.int()?);
        }
        for stage in &mut self.stages {
            stage.load(from)?;
        }
        Ok(())
    }
}
