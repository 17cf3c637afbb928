//! What lies right behind a source: nodes that look at one row at a time. What passed them stands
//! for all that came, as long as somebody counts the rest and knows the watermark.

use std::sync::Arc;

use holm_lanes::{Batch, Lane, LaneBuilder, Origin};

use crate::plan::{Node, Plan};
use crate::traced;

/// A node that all rows of a source pass, each by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The node.
    pub node: usize,
    /// What kind of node it is, in words.
    pub name: &'static str,
    /// Which of its columns anything reads.
    pub read: Vec<bool>,
    /// What lies from the source up to it, as text: points that are equal mean the same.
    pub way: String,
}

/// Rows of a source where they passed a node, and what became of the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// The node.
    pub node: usize,
    /// Rows that came.
    pub rows: u64,
    /// Rows that had no value on the way.
    pub diverted: u64,
    /// The watermark before all of them.
    pub before: i64,
    /// Those that passed, with the watermark as it stood before each, if one is not above.
    pub batch: Batch,
}

impl Passed {
    /// These rows and the next ones of the same batch, in the columns that are read.
    #[must_use]
    pub fn and(&self, next: &Self, read: &[bool]) -> Self {
        let (first, second) = (&self.batch, &next.batch);
        let lane = |at: usize| {
            let mut lane = LaneBuilder::new(first.lanes[at].shape());
            lane.extend_from(&first.lanes[at], 0..first.rows);
            lane.extend_from(&second.lanes[at], 0..second.rows);
            Arc::new(lane.finish())
        };
        let mut marks = second.marks.clone();
        if first.marks.rows.is_some() || second.marks.rows.is_some() {
            let mut rows = self.stood();
            rows.extend(next.stood());
            marks.rows = Some(rows);
        }
        let numbers = |batch: &Batch| {
            let rows = 0..batch.rows;
            rows.map(|row| batch.origin.at(row)).collect::<Vec<_>>()
        };
        let batch = Batch {
            lanes: standing(read, lane),
            rows: first.rows + second.rows,
            origin: Origin::Rows([numbers(first), numbers(second)].concat()),
            marks,
        };
        Self {
            node: self.node,
            rows: self.rows + next.rows,
            diverted: self.diverted + next.diverted,
            before: self.before,
            batch,
        }
    }

    /// The watermark before each row; where all are above it, that before all of them will do.
    fn stood(&self) -> Vec<i64> {
        let rows = self.batch.marks.rows.clone();
        rows.unwrap_or_else(|| vec![self.before; self.batch.rows])
    }
}

/// Lanes that are read; one of those stands where nobody reads.
fn standing(read: &[bool], mut made: impl FnMut(usize) -> Arc<Lane>) -> Vec<Arc<Lane>> {
    let first = read.iter().position(|is_read| *is_read).unwrap_or(0);
    if read.is_empty() {
        return Vec::new();
    }
    let stands = made(first);
    let lane = |(at, is_read): (usize, &bool)| {
        if at == first || !is_read {
            Arc::clone(&stands)
        } else {
            made(at)
        }
    };
    read.iter().enumerate().map(lane).collect()
}

/// The nodes that all rows of a source pass one after the other, from the source's own on.
pub(crate) fn way(plan: &Plan, outputs: &[usize], source: usize) -> Vec<usize> {
    // A result's place in a union is found by all lines: one that a filter drops may have closed
    // its window.
    if traced::in_unions(plan).contains(&true) {
        return Vec::new();
    }
    let is_it = |node: &usize| plan.nodes[*node] == Node::Source(source);
    let own: Vec<usize> = (0..plan.nodes.len()).filter(is_it).collect();
    let [mut node] = own[..] else {
        return Vec::new();
    };
    let mut way = own;
    while !outputs.contains(&node) {
        let reads = |by: &usize| plan.nodes[*by].inputs().contains(&node);
        let readers: Vec<usize> = (0..plan.nodes.len()).filter(reads).collect();
        let [next] = readers[..] else {
            break;
        };
        if name(&plan.nodes[next]).is_none() {
            break;
        }
        way.push(next);
        node = next;
    }
    way
}

/// What a node that sees one row at a time is called.
fn name(node: &Node) -> Option<&'static str> {
    match node {
        Node::Filter { .. } => Some("filter"),
        Node::Project { .. } => Some("expressions"),
        Node::Lookup { .. } => Some("table"),
        Node::Source(_)
        | Node::Unrepeated { .. }
        | Node::Window { .. }
        | Node::Assign { .. }
        | Node::Group { .. }
        | Node::Join { .. }
        | Node::Union { .. }
        | Node::Top { .. }
        | Node::Order { .. } => None,
    }
}

/// The nodes of a plan behind a source that see one row at a time, nearest first.
#[must_use]
pub fn points_of(plan: &Plan, source: usize) -> Vec<Point> {
    points(plan, &[plan.nodes.len().saturating_sub(1)], source)
}

/// The points behind a source, nearest first.
pub(crate) fn points(plan: &Plan, outputs: &[usize], source: usize) -> Vec<Point> {
    let read = plan.read_by(outputs);
    let mut text = format!("{:?}", plan.sources[source]);
    let mut found = Vec::new();
    for node in way(plan, outputs, source).into_iter().skip(1) {
        text += &format!("\n{:?}", plan.nodes[node]);
        let width = plan.kinds[node].len();
        found.push(Point {
            node,
            name: name(&plan.nodes[node]).unwrap_or_default(),
            read: (0..width).map(|at| read[node].contains(&at)).collect(),
            way: text.clone(),
        });
    }
    found
}
