//! Which columns of each node anything reads: only those are carried along.

use std::collections::BTreeSet;

use crate::plan::{Node, Plan};

impl Plan {
    /// For each node the columns that a later node, or the result, reads.
    #[must_use]
    pub fn read(&self) -> Vec<BTreeSet<usize>> {
        self.read_by(&[self.nodes.len().saturating_sub(1)])
    }

    /// The same for several results.
    pub(crate) fn read_by(&self, outputs: &[usize]) -> Vec<BTreeSet<usize>> {
        let mut wanted: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.nodes.len()];
        for output in outputs {
            if let Some(wanted) = wanted.get_mut(*output) {
                wanted.extend(0..self.kinds[*output].len());
            }
        }
        for number in (0..self.nodes.len()).rev() {
            let mine = wanted[number].clone();
            for (input, columns) in of_inputs(self, number, &mine) {
                wanted[input].extend(columns);
            }
        }
        wanted
    }
}

type Wanted = Vec<(usize, Vec<usize>)>;

#[expect(clippy::too_many_lines, reason = "a table of nodes")]
fn of_inputs(plan: &Plan, number: usize, mine: &BTreeSet<usize>) -> Wanted {
    let all = || mine.iter().copied().collect::<Vec<_>>();
    let width = |node: usize| plan.kinds[node].len();
    match &plan.nodes[number] {
        Node::Source(_) => Vec::new(),
        Node::Filter { input, condition } => {
            let mut columns = all();
            condition.columns(&mut columns);
            vec![(*input, columns)]
        }
        Node::Unrepeated {
            input,
            columns: by,
            time,
        } => {
            let mut columns = all();
            columns.extend(by.iter().chain(time));
            vec![(*input, columns)]
        }
        Node::Project {
            input,
            columns: made,
        } => {
            let mut columns = Vec::new();
            // What nobody reads is computed all the same where it may fail: a fault diverts.
            let read = made.iter().enumerate().filter(|(at, expr)| {
                mine.contains(at) || !matches!(expr, holm_lanes::Expr::Column(_))
            });
            read.for_each(|(_, expr)| expr.columns(&mut columns));
            vec![(*input, columns)]
        }
        Node::Window {
            input,
            time,
            keys,
            calls,
            ..
        } => {
            let mut columns = keys.clone();
            columns.push(*time);
            columns.extend(
                calls
                    .iter()
                    .flat_map(|call| [call.column, call.filter])
                    .flatten(),
            );
            vec![(*input, columns)]
        }
        Node::Group {
            input,
            window,
            keys,
            calls,
        } => {
            let mut columns = keys.clone();
            columns.extend(window.iter().flat_map(|(start, end)| [*start, *end]));
            columns.extend(
                calls
                    .iter()
                    .flat_map(|call| [call.column, call.filter])
                    .flatten(),
            );
            vec![(*input, columns)]
        }
        Node::Assign { input, time, .. } => {
            let mut columns: Vec<usize> = all();
            columns.retain(|at| *at < width(*input));
            columns.push(*time);
            vec![(*input, columns)]
        }
        Node::Join { inputs, .. } => {
            let every = |node: usize| (node, (0..width(node)).collect());
            vec![every(inputs.0), every(inputs.1)]
        }
        Node::Union { inputs } => inputs.iter().map(|input| (*input, all())).collect(),
        Node::Lookup { input, keys, .. } => {
            let mut columns: Vec<usize> = all();
            columns.retain(|at| *at < width(*input));
            columns.extend(keys.iter().map(|(ours, _)| *ours));
            vec![(*input, columns)]
        }
        // What they hold is laid out as the first batch was.
        Node::Top { input, .. } | Node::Order { input, .. } => {
            vec![(*input, (0..width(*input)).collect())]
        }
    }
}
