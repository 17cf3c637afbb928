//! Runs a plan: a batch of a source goes through all nodes, in order.

use std::borrow::Cow;
use std::collections::BTreeSet;

use holm_lanes::{Batch, LoadError, Loader, Marks, Saver};
use holm_window::{Gauge, Watermark};
use thiserror::Error;

use crate::fold::Fold;
use crate::head::{self, Passed, Point};
use crate::plan::{Limits, Node, Plan};
use crate::quiet::Quiet;
use crate::repeats::Repeated;
use crate::report::{Counts, Diverted, Late, Report};
use crate::several;
use crate::stage::{self, Done, Stage};
use crate::traced::{self, Traced};
use crate::union::Lines;

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
    /// What the rows of a node still are of lines.
    traced: Vec<Traced>,
    quiet: Quiet,
    /// Nodes whose results are in a union, and need a place in its order.
    placed: Vec<bool>,
    queries: Vec<Query>,
    /// Rows that came, of all sources; saved where several queries may read different ones.
    taken: u64,
    /// What windows that share panes did in this round, by their nodes.
    waiting: Vec<Option<Done>>,
    /// For each source the nodes that all its rows pass, one after the other.
    ways: Vec<Vec<usize>>,
    /// Rows that nodes set aside in this round.
    aside: Vec<u64>,
}

/// Where rows come in: at their source, or behind a node on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Whole,
    Behind(usize),
}

/// One of the queries that a plan answers: most plans answer one.
#[derive(Clone, Debug)]
struct Query {
    /// The node whose rows are the result.
    output: usize,
    /// Which nodes it needs.
    nodes: Vec<bool>,
    report: Report,
    /// Lines that were counted as late in this round, in order, and those that were diverted.
    seen_late: Vec<(usize, u64)>,
    seen_diverted: BTreeSet<(usize, u64)>,
}

impl Run {
    /// A run that has seen nothing. `tables` are those that lookups name.
    #[must_use]
    pub fn new(plan: &Plan, limits: Limits, tables: Vec<Batch>) -> Self {
        let last = plan.nodes.len().saturating_sub(1);
        Self::of_several(plan, &[last], limits, &tables)
    }

    /// A run of a plan that answers several queries, each with its last node.
    pub(crate) fn of_several(
        plan: &Plan,
        outputs: &[usize],
        limits: Limits,
        tables: &[Batch],
    ) -> Self {
        let read = plan.read_by(outputs);
        let mut stages: Vec<Stage> = (0..plan.nodes.len())
            .map(|node| Stage::new(plan, node, (limits, &read[node]), tables))
            .collect();
        let inputs = folded(plan, outputs, &mut stages);
        if outputs.len() > 1 {
            share(plan, &inputs, limits, &mut stages);
        }
        let marks = plan.sources.iter();
        Self {
            waiting: vec![None; stages.len()],
            aside: vec![0; stages.len()],
            ways: (0..plan.sources.len())
                .map(|source| head::way(plan, outputs, source))
                .collect(),
            stages,
            inputs,
            marks: marks.map(|source| Watermark::new(source.bound)).collect(),
            traced: traced::nodes(plan),
            quiet: Quiet::new(plan),
            placed: traced::in_unions(plan),
            queries: outputs.iter().map(|node| Query::of(plan, *node)).collect(),
            taken: 0,
            plan: plan.clone(),
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
        let (found, _none) = self.push_all(source, batch, &[])?;
        Ok(only(found))
    }

    /// The same with the rows that come out by query, and those that passed nodes on their way.
    pub(crate) fn push_all(
        &mut self,
        source: usize,
        batch: Batch,
        watched: &[usize],
    ) -> Result<(Vec<Batch>, Vec<Passed>), Full> {
        let rows = count(batch.rows);
        let readers = self.came(source, rows);
        let described = &self.plan.sources[source];
        let (time, original) = (described.time, batch.origin.clone());
        let mut done = stage::prepare(&described.computed, time, batch);
        let without = count(done.diverted.len());
        for (row, fault) in std::mem::take(&mut done.diverted) {
            for query in &readers {
                let line = Some((source, original.at(row)));
                self.queries[*query].divert(line, fault.clone());
            }
        }
        let before = self.marks[source].now();
        if let Some(time) = time {
            let times = done.batch.lanes[time].ints().unwrap_or_default();
            done.batch.marks = self.marks[source].pass(times);
        }
        let outs = self.round(source, &done.batch, Way::Whole)?;
        let passed = watched.iter().map(|node| {
            let way = self.ways[source].iter();
            let until = way.take_while(|it| *it <= node);
            Passed {
                node: *node,
                rows,
                diverted: without + until.map(|it| self.aside[*it]).sum::<u64>(),
                before,
                batch: outs[*node].clone().expect("its source is read"),
            }
        });
        let passed = passed.collect();
        Ok((self.found(&outs), passed))
    }

    /// Goes on with rows that passed a node before: all that they change there is as it was then.
    pub(crate) fn resume(&mut self, source: usize, passed: &Passed) -> Result<Vec<Batch>, Full> {
        for query in self.came(source, passed.rows) {
            self.queries[query].report.counts.diverted += passed.diverted;
        }
        if self.plan.sources[source].time.is_some() {
            self.marks[source].resume(passed.batch.marks.after);
        }
        let outs = self.round(source, &passed.batch, Way::Behind(passed.node))?;
        Ok(self.found(&outs))
    }

    /// Counts rows that came, and says which queries read them.
    fn came(&mut self, source: usize, rows: u64) -> Vec<usize> {
        self.taken += rows;
        if rows > 0 {
            self.quiet.speak(source);
        }
        let queries = self.queries.iter().enumerate();
        let readers = queries.filter(|(_, query)| query.reads(&self.plan, source));
        let readers: Vec<usize> = readers.map(|(number, _)| number).collect();
        for query in &readers {
            self.queries[*query].report.counts.rows += rows;
        }
        readers
    }

    /// The nodes behind a source that see one row at a time, nearest first.
    pub(crate) fn points(&self, source: usize) -> Vec<Point> {
        let outputs: Vec<usize> = self.queries.iter().map(|query| query.output).collect();
        head::points(&self.plan, &outputs, source)
    }

    /// Ends a source, which closes what waits for it.
    ///
    /// # Errors
    ///
    /// If more rows wait than may.
    pub fn end(&mut self, source: usize) -> Result<Batch, Full> {
        self.end_all(source).map(only)
    }

    /// The same with the rows that come out by query.
    pub(crate) fn end_all(&mut self, source: usize) -> Result<Vec<Batch>, Full> {
        self.quiet.end(source);
        self.nothing(source, Marks::END)
    }

    /// Leaves a source out of watermarks until it has rows again, which may close windows of
    /// others: it has been silent for long. One that is idle or has ended stays as it is.
    ///
    /// # Errors
    ///
    /// If more rows wait than may.
    pub fn idle(&mut self, source: usize) -> Result<Batch, Full> {
        self.idle_all(source).map(only)
    }

    /// The same with the rows that come out by query.
    pub(crate) fn idle_all(&mut self, source: usize) -> Result<Vec<Batch>, Full> {
        self.quiet.fall(source);
        self.nothing(source, self.marks[source].now())
    }

    /// Whether a source was silent when it was last asked for rows.
    #[must_use]
    pub fn is_idle(&self, source: usize) -> bool {
        self.quiet.is_idle(source)
    }

    /// A round of a source without rows.
    fn nothing(&mut self, source: usize, after: i64) -> Result<Vec<Batch>, Full> {
        let described = &self.plan.sources[source];
        let kinds: Vec<_> = described
            .fields
            .iter()
            .chain(described.computed.iter().map(|(field, _)| field))
            .map(|field| field.kind)
            .collect();
        let outs = self.round(source, &stage::empty(&kinds, after), Way::Whole)?;
        Ok(self.found(&outs))
    }

    /// What was counted and set aside since it was last asked.
    pub fn report(&mut self) -> Report {
        self.report_of(0)
    }

    /// The same of one of its queries.
    pub(crate) fn report_of(&mut self, query: usize) -> Report {
        let report = &mut self.queries[query].report;
        let counts = report.counts;
        let said = std::mem::take(report);
        report.counts = counts;
        said
    }

    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many queries it answers.
    pub(crate) const fn queries(&self) -> usize {
        self.queries.len()
    }

    /// Whether a query needs a node.
    pub(crate) fn needs(&self, query: usize, node: usize) -> bool {
        self.queries[query].nodes[node]
    }

    /// The nodes of windows that share panes.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &[usize]> {
        self.stages.iter().filter_map(|stage| {
            let Stage::Shared(_, nodes) = stage else {
                return None;
            };
            Some(nodes.as_slice())
        })
    }

    /// How much all nodes keep: open panes, sessions and windows, keys, and about so many bytes.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let gauges = self.stages.iter().map(Stage::gauge);
        gauges.fold(Gauge::default(), Gauge::and)
    }

    /// Rows of sources that came again, where tables say what tells them apart.
    #[must_use]
    pub fn repeated(&self) -> Vec<Repeated> {
        let stages = self.stages.iter().zip(&self.plan.nodes);
        let of = |(stage, node): (&Stage, &Node)| {
            let (Stage::Unrepeated(repeats), Node::Unrepeated { input, .. }) = (stage, node) else {
                return None;
            };
            let Node::Source(source) = self.plan.nodes[*input] else {
                return None;
            };
            Some(repeats.repeated(source))
        };
        stages.filter_map(of).collect()
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
        self.queries.as_slice()[0].report.counts
    }

    /// The same of one of its queries.
    pub(crate) fn counts_of(&self, query: usize) -> Counts {
        self.queries[query].report.counts
    }

    /// Rows that came, of all sources.
    pub(crate) fn rows(&self) -> u64 {
        match self.queries.as_slice() {
            [only] => only.report.counts.rows,
            _ => self.taken,
        }
    }

    /// Notes a row that had no value before it came here.
    pub fn divert(&mut self, line: Option<(usize, u64)>, fault: holm_lanes::Fault) {
        for query in &mut self.queries {
            query.divert(line, fault.clone());
        }
    }

    /// One batch through all nodes; what each gives, unless it has nothing to do with it.
    fn round(
        &mut self,
        source: usize,
        batch: &Batch,
        way: Way,
    ) -> Result<Vec<Option<Batch>>, Full> {
        self.aside.fill(0);
        let mut outs: Vec<Option<Batch>> = Vec::with_capacity(self.stages.len());
        let lines = self.placed.contains(&true).then(|| {
            let described = &self.plan.sources[source];
            Lines::new(batch, described.time, described.bound)
        });
        for number in 0..self.stages.len() {
            let is_before = |node: usize| number < node && self.ways[source].contains(&number);
            let mut out = match way {
                Way::Behind(node) if number == node => Some(batch.clone()),
                Way::Behind(node) if is_before(node) => None,
                Way::Behind(_) | Way::Whole => self.step(number, (source, batch), &outs)?,
            };
            if let (Some(out), Some(lines), true) = (&mut out, &lines, self.placed[number]) {
                let ends = traced::end(&self.plan.nodes[number]);
                out.origin = lines.of(out.rows, ends.map(|lane| &*out.lanes[lane]));
            }
            if let Some(out) = &out {
                self.quiet.gave(number, out.marks.after);
            }
            outs.push(out);
        }
        Ok(outs)
    }

    /// What came out of a round, by query.
    fn found(&mut self, outs: &[Option<Batch>]) -> Vec<Batch> {
        let mut found = Vec::with_capacity(self.queries.len());
        for query in &mut self.queries {
            query.seen_late.clear();
            query.seen_diverted.clear();
            let kinds = self.plan.kinds.get(query.output);
            let kinds = kinds.map(Vec::as_slice).unwrap_or_default();
            let out = outs.get(query.output).cloned().flatten();
            let out = out.unwrap_or_else(|| stage::empty(kinds, Marks::START));
            query.report.counts.out += count(out.rows);
            found.push(out);
        }
        found
    }

    fn step(
        &mut self,
        number: usize,
        (source, batch): (usize, &Batch),
        outs: &[Option<Batch>],
    ) -> Result<Option<Batch>, Full> {
        let node = &self.plan.nodes[number];
        let done = match node {
            Node::Source(own) => {
                return Ok((*own == source).then(|| batch.clone()));
            }
            Node::Join { .. } => match self.joined(number, outs)? {
                Some(done) => done,
                None => return Ok(None),
            },
            Node::Union { inputs } => {
                let standing = self.quiet.of(number, inputs);
                let inputs: Vec<_> = inputs.iter().map(|input| outs[*input].as_ref()).collect();
                if inputs.iter().all(Option::is_none) {
                    return Ok(None);
                }
                self.stages[number].union(&inputs, &standing)
            }
            Node::Filter { .. }
            | Node::Unrepeated { .. }
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
                if let Stage::Shared(shared, nodes) = &mut self.stages[number] {
                    for (node, done) in nodes.iter().zip(stage::shared(shared, batch)) {
                        self.waiting[*node] = Some(done);
                    }
                }
                if let Some(done) = self.waiting[number].take() {
                    return Ok(Some(self.note(
                        (number, source),
                        done,
                        Some((input, batch)),
                    )));
                }
                let open = match self.stages[number].end() {
                    Some(end) => self.quiet.open(number, batch, end),
                    None => Cow::Borrowed(batch),
                };
                let mut done = self.stages[number].step(&open)?;
                done.stale = batch.rows - open.rows;
                return Ok(Some(self.note(
                    (number, source),
                    done,
                    Some((input, &open)),
                )));
            }
        };
        Ok(Some(self.note((number, source), done, None)))
    }

    /// What a join does with what its inputs have.
    fn joined(&mut self, number: usize, outs: &[Option<Batch>]) -> Result<Option<Done>, Full> {
        let Node::Join {
            inputs, windows, ..
        } = &self.plan.nodes[number]
        else {
            panic!("only a join joins");
        };
        let came = [outs[inputs.0].as_ref(), outs[inputs.1].as_ref()];
        if came.iter().all(Option::is_none) {
            return Ok(None);
        }
        let standing = self.quiet.of(number, &[inputs.0, inputs.1]);
        let open = |batch, end| self.quiet.open(number, batch, end);
        let left = came[0].map(|batch| open(batch, windows.0.1));
        let right = came[1].map(|batch| open(batch, windows.1.1));
        let kept = [left.as_deref(), right.as_deref()];
        let rows = |sides: [Option<&Batch>; 2]| -> usize {
            sides.into_iter().flatten().map(|side| side.rows).sum()
        };
        let stale = rows(came) - rows(kept);
        let mut done = self.stages[number].join((kept[0], kept[1]), &standing)?;
        done.stale = stale;
        Ok(Some(done))
    }

    fn note(
        &mut self,
        (node, source): (usize, usize),
        done: Done,
        input: Option<(usize, &Batch)>,
    ) -> Batch {
        self.aside[node] = count(done.diverted.len());
        let line_of = |row: usize, of: &[Traced]| {
            let (node, batch) = input?;
            let is_line = of.contains(&self.traced[node]);
            is_line.then(|| (source, batch.origin.at(row)))
        };
        // Results of windows are never late: what is late among them and lines is a line.
        let late = done.late.iter();
        let late = late.filter_map(|row| line_of(*row, &[Traced::Lines, Traced::Some]));
        let late: Vec<_> = late.collect();
        let diverted: Vec<_> = done
            .diverted
            .into_iter()
            .map(|(row, fault)| (line_of(row, &[Traced::Lines]), fault))
            .collect();
        // But for one that was idle meanwhile.
        let is_result = input.is_none_or(|(node, _)| self.traced[node] == Traced::None);
        let stale = done.stale + if is_result { done.late.len() } else { 0 };
        for query in self.queries.iter_mut().filter(|query| query.nodes[node]) {
            query.report.counts.late += count(stale);
            query.note_late(&late, |source| self.plan.sources[source].keeps_late);
            for (line, fault) in &diverted {
                query.divert(*line, fault.clone());
            }
            for fault in &done.lost {
                query.divert(None, fault.clone());
            }
        }
        done.batch
    }
}

impl Query {
    fn of(plan: &Plan, output: usize) -> Self {
        let nodes = plan.needed(output);
        Self {
            output,
            nodes,
            report: Report::default(),
            seen_late: Vec::new(),
            seen_diverted: BTreeSet::new(),
        }
    }

    /// Whether it reads a source; a query alone counts the rows of all.
    fn reads(&self, plan: &Plan, source: usize) -> bool {
        let mut nodes = plan.nodes.iter().zip(&self.nodes);
        nodes.any(|(node, is_mine)| *is_mine && *node == Node::Source(source))
    }

    /// Notes what a node found late; what another one found so before counts once.
    fn note_late(&mut self, late: &[(usize, u64)], is_kept: impl Fn(usize) -> bool) {
        if late.is_empty() {
            return;
        }
        let seen = &self.seen_late;
        let is_new = |row: &&(usize, u64)| seen.binary_search(row).is_err();
        let mut new: Vec<(usize, u64)> = late.iter().filter(is_new).copied().collect();
        new.sort_unstable();
        new.dedup();
        for (source, line) in new.iter().copied() {
            self.report.counts.late += 1;
            if is_kept(source) {
                self.report.late.push(Late { source, line });
            }
        }
        self.seen_late.extend(new);
        self.seen_late.sort_unstable();
    }

    fn divert(&mut self, line: Option<(usize, u64)>, fault: holm_lanes::Fault) {
        if line.is_none_or(|line| self.seen_diverted.insert(line)) {
            self.report.counts.diverted += 1;
            self.report.diverted.push(Diverted { line, fault });
        }
    }
}

/// The rows of the only query.
fn only(mut found: Vec<Batch>) -> Batch {
    found.pop().expect("a plan answers a query")
}

/// What stages with one input read, where groups do the work of the windows that they count.
fn folded(plan: &Plan, outputs: &[usize], stages: &mut [Stage]) -> Vec<Option<usize>> {
    let only = |node: &Node| node.inputs().first().copied();
    let mut inputs: Vec<Option<usize>> = plan.nodes.iter().map(only).collect();
    for number in 0..plan.nodes.len() {
        let Some(fold) = Fold::of(plan, outputs, number) else {
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
    inputs
}

/// Lets windows of equal rows and keys share panes: the first of them does the work of all.
fn share(plan: &Plan, inputs: &[Option<usize>], limits: Limits, stages: &mut [Stage]) {
    for nodes in several::sharing(plan, |node| inputs[node].is_some()) {
        stages[nodes[0]] = Stage::sharing(plan, &nodes, limits);
        for node in &nodes[1..] {
            stages[*node] = Stage::Folded;
        }
    }
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).expect("a batch is in memory")
}

/// The layout of saved state.
const VERSION: u32 = 1;
/// That of runs of which a source was idle, or one of several has ended.
const QUIET: u32 = 2;

/// State as bytes, and back.
impl Run {
    /// Writes all that a run of this plan holds, after everything that it was given so far. Equal
    /// runs write equal bytes.
    pub fn save(&self, to: &mut Saver) {
        let is_quiet = self.quiet.is_saved();
        to.small(if is_quiet { QUIET } else { VERSION });
        for query in &self.queries {
            let Counts {
                rows,
                late,
                diverted,
                out,
            } = query.report.counts;
            [rows, late, diverted, out]
                .iter()
                .for_each(|count| to.word(*count));
        }
        if self.queries.len() > 1 {
            to.word(self.taken);
        }
        self.marks.iter().for_each(|mark| to.int(mark.now()));
        self.stages.iter().for_each(|stage| stage.save(to));
        if is_quiet {
            self.quiet.save(to);
        }
    }

    /// Takes over what a run of the same plan wrote; this one must have seen nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not what was written, or of another version.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        let version = from.small()?;
        if version != VERSION && version != QUIET {
            return Err(LoadError::Invalid { what: "version" });
        }
        for query in &mut self.queries {
            query.report.counts = Counts {
                rows: from.word()?,
                late: from.word()?,
                diverted: from.word()?,
                out: from.word()?,
            };
        }
        if self.queries.len() > 1 {
            self.taken = from.word()?;
        }
        for mark in &mut self.marks {
            mark.resume(from.int()?);
        }
        for stage in &mut self.stages {
            stage.load(from)?;
        }
        if version == QUIET {
            self.quiet.load(from)?;
        }
        Ok(())
    }
}
