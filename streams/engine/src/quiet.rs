//! Which sources say nothing, and what that does to the watermark of those that meet.
//!
//! A source is idle from when a run is told so until it has rows again. Where sources meet, in a
//! union or a join of windows, an idle one is left out of the lowest watermark. What was given
//! out does not come back: rows that one brings later are judged by the watermark that the others
//! made meanwhile.

use std::borrow::Cow;

use holm_lanes::{Batch, LoadError, Loader, Marks, Saver};

use crate::plan::{Node, Plan};

/// What is expected of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Speaks,
    Idle,
    Ended,
}

/// The sources of a run, and how far each node is.
#[derive(Clone, Debug)]
pub(crate) struct Quiet {
    sources: Vec<State>,
    /// For each node the sources whose rows come to it.
    reads: Vec<Vec<usize>>,
    /// For each node the watermark that it gave out last.
    given: Vec<i64>,
    /// Whether any source was ever idle: nothing below matters before.
    was_any: bool,
}

impl Quiet {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut reads: Vec<Vec<usize>> = Vec::new();
        for node in &plan.nodes {
            let mut own: Vec<usize> = if let Node::Source(source) = node {
                vec![*source]
            } else {
                let inputs = node.inputs().into_iter();
                inputs.flat_map(|input| reads[input].clone()).collect()
            };
            own.sort_unstable();
            own.dedup();
            reads.push(own);
        }
        Self {
            sources: vec![State::Speaks; plan.sources.len()],
            reads,
            given: vec![Marks::START; plan.nodes.len()],
            was_any: false,
        }
    }

    pub(crate) fn fall(&mut self, source: usize) {
        if self.sources[source] == State::Speaks {
            self.sources[source] = State::Idle;
            self.was_any = true;
        }
    }

    pub(crate) fn speak(&mut self, source: usize) {
        self.sources[source] = State::Speaks;
    }

    pub(crate) fn end(&mut self, source: usize) {
        self.sources[source] = State::Ended;
    }

    pub(crate) fn is_idle(&self, source: usize) -> bool {
        self.sources[source] == State::Idle
    }

    /// Whether there is more to save than what the stages have: a source was idle, or one of
    /// several has ended, which those that meet behind it do not have.
    pub(crate) fn is_saved(&self) -> bool {
        let has_ended = self.sources.len() > 1 && self.sources.contains(&State::Ended);
        self.was_any || has_ended
    }

    /// Notes the watermark that a node gave out.
    pub(crate) fn gave(&mut self, node: usize, mark: i64) {
        self.given[node] = mark;
    }

    /// How inputs of a node are, and what it gave out.
    pub(crate) fn of(&self, node: usize, inputs: &[usize]) -> Standing {
        let speaks = |source: &usize| self.sources[*source] == State::Speaks;
        let is_silent = |input: &usize| !self.reads[*input].iter().any(speaks);
        Standing {
            given: self.given[node],
            is_silent: inputs.iter().map(is_silent).collect(),
        }
    }

    /// The rows of a batch whose windows a node has not let go, by the column of their ends: no
    /// window closes twice.
    pub(crate) fn open<'a>(&self, node: usize, batch: &'a Batch, end: usize) -> Cow<'a, Batch> {
        let given = self.given[node];
        let ends = batch.lanes[end].ints().unwrap_or_default();
        if !self.was_any || ends.iter().all(|end| *end > given) {
            return Cow::Borrowed(batch);
        }
        let rows = (0..).zip(ends).filter(|(_, end)| **end > given);
        let rows: Vec<u32> = rows.map(|(row, _)| row).collect();
        Cow::Owned(batch.take(&rows))
    }

    /// Writes what is not in the stages' own state.
    pub(crate) fn save(&self, to: &mut Saver) {
        for source in &self.sources {
            to.byte(match source {
                State::Speaks => 0,
                State::Idle => 1,
                State::Ended => 2,
            });
        }
        self.given.iter().for_each(|mark| to.int(*mark));
    }

    pub(crate) fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.was_any = true;
        for source in &mut self.sources {
            *source = match from.byte()? {
                0 => State::Speaks,
                1 => State::Idle,
                2 => State::Ended,
                _ => return Err(LoadError::Invalid { what: "source" }),
            };
        }
        self.given.iter_mut().try_for_each(|mark| {
            *mark = from.int()?;
            Ok(())
        })
    }
}

/// How the inputs of a node are.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// The watermark that the node gave out last.
    pub(crate) given: i64,
    /// For each input whether nothing is expected of it.
    pub(crate) is_silent: Vec<bool>,
}

impl Standing {
    /// The watermark of inputs that meet: the lowest of those that speak. Where none does, the
    /// highest of those that have not ended; and never lower than it was.
    pub(crate) fn lowest(&self, marks: &[i64]) -> i64 {
        let all = || marks.iter().copied().zip(&self.is_silent);
        let open = || all().filter(|(mark, _)| *mark != Marks::END);
        let speaking = open().filter(|(_, is_silent)| !**is_silent);
        let lowest = speaking.map(|(mark, _)| mark).min();
        let highest = || open().map(|(mark, _)| mark).max();
        let mark = lowest.or_else(highest).unwrap_or(Marks::END);
        mark.max(self.given)
    }
}
