//! Windows by a key without aggregates, grouped again by parts of the key and counted: three nodes
//! that run as one, for each key of each window would be a row between them.

use holm_lanes::{Expr, Shape};
use holm_window::{Aggregate, Call};

use crate::plan::{Node, Plan, WindowKind};

/// A group that runs with the windows that it counts the keys of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fold {
    /// The node of the windows.
    pub(crate) window: usize,
    /// The nodes between, which rename columns.
    pub(crate) between: Vec<usize>,
    /// The parts of the windows' key that make the group.
    pub(crate) parts: Vec<(usize, Shape)>,
}

impl Fold {
    /// The fold of a group, if it is one.
    pub(crate) fn of(plan: &Plan, outputs: &[usize], number: usize) -> Option<Self> {
        let Node::Group {
            input,
            window: Some(window),
            keys,
            calls,
        } = &plan.nodes[number]
        else {
            return None;
        };
        if !calls.iter().all(counts_rows) {
            return None;
        }
        let mut columns: Vec<usize> = [window.0, window.1].to_vec();
        columns.extend(keys);
        let (mut node, mut between) = (*input, Vec::new());
        while let Node::Project {
            input,
            columns: made,
        } = &plan.nodes[node]
        {
            if readers(plan, outputs, node) != 1 {
                return None;
            }
            let below = |column: usize| {
                let Expr::Column(below) = made[column] else {
                    return None;
                };
                Some(below)
            };
            columns = columns.into_iter().map(below).collect::<Option<_>>()?;
            // What nobody reads may still fail.
            if !made.iter().all(|expr| matches!(expr, Expr::Column(_))) {
                return None;
            }
            between.push(node);
            node = *input;
        }
        let Node::Window {
            kind: WindowKind::Grid(_),
            calls,
            ..
        } = &plan.nodes[node]
        else {
            return None;
        };
        if !calls.is_empty() || readers(plan, outputs, node) != 1 || columns[..2] != [0, 1] {
            return None;
        }
        let part = |column: &usize| {
            let shape = plan.kinds[node][*column].shape();
            Some((column.checked_sub(2)?, shape))
        };
        Some(Self {
            window: node,
            between,
            parts: columns[2..].iter().map(part).collect::<Option<_>>()?,
        })
    }
}

fn counts_rows(call: &Call) -> bool {
    call.aggregate == Aggregate::CountRows && call.filter.is_none()
}

fn readers(plan: &Plan, outputs: &[usize], node: usize) -> usize {
    let readers = plan.nodes.iter().filter(|it| it.inputs().contains(&node));
    readers.count() + usize::from(outputs.contains(&node))
}
