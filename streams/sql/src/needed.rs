//! Which columns of sources anything reads: only those are parsed.

use std::collections::BTreeSet;

use holm_engine::{Node, Plan};

/// For each source and each of its columns whether it is read.
pub(crate) fn columns(plan: &Plan) -> Vec<Vec<bool>> {
    let wanted = plan.read();
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
