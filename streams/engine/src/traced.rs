//! Which nodes' rows are still lines of a source, and which results have a place among lines.

use crate::plan::{Node, Plan};

/// What the rows of a node are. In one round they come from one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traced {
    /// Each is a line.
    Lines,
    /// Lines and results, in a union.
    Some,
    /// Results.
    None,
}

/// What the rows of each node are.
pub(crate) fn nodes(plan: &Plan) -> Vec<Traced> {
    let mut traced: Vec<Traced> = Vec::new();
    for node in &plan.nodes {
        traced.push(match node {
            Node::Source(_) => Traced::Lines,
            Node::Filter { input, .. }
            | Node::Unrepeated { input, .. }
            | Node::Project { input, .. }
            | Node::Lookup { input, .. }
            | Node::Assign { input, .. } => traced[*input],
            Node::Union { inputs } => {
                let all = |wanted: Traced| inputs.iter().all(|input| traced[*input] == wanted);
                if all(Traced::Lines) {
                    Traced::Lines
                } else if all(Traced::None) {
                    Traced::None
                } else {
                    Traced::Some
                }
            }
            Node::Window { .. }
            | Node::Group { .. }
            | Node::Join { .. }
            | Node::Top { .. }
            | Node::Order { .. } => Traced::None,
        });
    }
    traced
}

/// The nodes that make results and are read by a union, in whatever way.
pub(crate) fn in_unions(plan: &Plan) -> Vec<bool> {
    let mut read = vec![false; plan.nodes.len()];
    let mut placed = read.clone();
    for (number, node) in plan.nodes.iter().enumerate().rev() {
        if read[number] || matches!(node, Node::Union { .. }) {
            node.inputs().iter().for_each(|input| read[*input] = true);
        }
        placed[number] = read[number]
            && match node {
                Node::Window { .. }
                | Node::Group { .. }
                | Node::Join { .. }
                | Node::Top { .. }
                | Node::Order { .. } => true,
                Node::Source(_)
                | Node::Filter { .. }
                | Node::Unrepeated { .. }
                | Node::Project { .. }
                | Node::Assign { .. }
                | Node::Union { .. }
                | Node::Lookup { .. } => false,
            };
    }
    placed
}

/// The column of a node's results that has the end of their window; what has none comes at the
/// end of the input.
pub(crate) const fn end(node: &Node) -> Option<usize> {
    match node {
        Node::Window { .. }
        | Node::Group {
            window: Some(_), ..
        } => Some(1),
        Node::Join { windows, .. } => Some(windows.0.1),
        Node::Top { window, .. } => Some(window.1),
        Node::Group { window: None, .. }
        | Node::Order { .. }
        | Node::Source(_)
        | Node::Filter { .. }
        | Node::Unrepeated { .. }
        | Node::Project { .. }
        | Node::Assign { .. }
        | Node::Union { .. }
        | Node::Lookup { .. } => None,
    }
}
