//! Which columns of sources anything reads: only those are parsed.

use std::collections::BTreeSet;

use holm_engine::{Node, Plan};

/// For each source and each of its columns whether it is read.
pub(crate) fn columns(plan: &Plan) -> Vec<Vec<bool>> {
    let mut wanted: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); plan.nodes.len()];
    if let Some(last) = wanted.last_mut() {
        last.extend(0..plan.kinds.last().map_or(0, Vec::len));
    }
    for number in (0..plan.nodes.len()).rev() {
        let mine = wanted[number].clone();
        for (input, columns) in of_inputs(plan, number, &mine) {
            wanted[input].extend(columns);
        }
    }
    let mut found: Vec<Vec<bool>> = Vec::new();
    for (number, source) in plan.sources.iter().enumerate() {
        let is_it = |node: &Node| matches!(node, Node::Source(own) if *own == number);
        let mut read: BTreeSet<usize> = BTreeSet::new();
        for (node, columns) in plan.nodes.iter().zip(&wanted) {
            if is_it(node) {
                read.extend(columns);
            }
        }
        read.extend(source.time);
        let mut inner = Vec::new();
        source
            .computed
            .iter()
            .for_each(|(_, expr)| expr.columns(&mut inner));
        read.extend(inner);
        found.push(
            (0..source.fields.len())
                .map(|at| read.contains(&at))
                .collect(),
        );
    }
    found
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
        Node::Lookup { input, keys, .. } => {
            let mut columns: Vec<usize> = all();
            columns.retain(|at| *at < width(*input));
            columns.extend(keys.iter().map(|(ours, _)| *ours));
            vec![(*input, columns)]
        }
        Node::Top { input, .. } => vec![(*input, (0..width(*input)).collect())],
        Node::Order { input, order, .. } => {
            let mut columns = all();
            columns.extend(order.iter().map(|(at, _)| *at));
            vec![(*input, columns)]
        }
    }
}
