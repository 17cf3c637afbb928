//! Filters move before lookups that they do not need: a row that is thrown away is not looked up.
//!
//! A filter right behind a lookup, whose columns are all of the rows and none of the table, says
//! the same of a row before it as behind it, and each row has one partner at most.

use holm_engine::Node;
use holm_lanes::Kind;

/// Swaps such pairs of nodes in place, so that all numbers stay what they are.
pub(crate) fn filters(nodes: &mut [Node], kinds: &mut [Vec<Kind>]) {
    for at in 1..nodes.len() {
        let Some(lookup) = before(nodes, kinds, at) else {
            continue;
        };
        let (
            Node::Filter { condition, .. },
            Node::Lookup {
                input,
                table,
                keys,
                keeps_left,
            },
        ) = (nodes[at].clone(), nodes[lookup].clone())
        else {
            continue;
        };
        nodes[lookup] = Node::Filter { input, condition };
        nodes[at] = Node::Lookup {
            input: lookup,
            table,
            keys,
            keeps_left,
        };
        kinds[lookup] = kinds[input].clone();
    }
}

/// The lookup that a filter may move before.
fn before(nodes: &[Node], kinds: &[Vec<Kind>], at: usize) -> Option<usize> {
    let Node::Filter { input, condition } = &nodes[at] else {
        return None;
    };
    let Node::Lookup { input: rows, .. } = &nodes[*input] else {
        return None;
    };
    let mut columns = Vec::new();
    condition.columns(&mut columns);
    let is_of_rows = columns.iter().all(|column| *column < kinds[*rows].len());
    let readers = nodes.iter().filter(|node| node.inputs().contains(input));
    (is_of_rows && readers.count() == 1).then_some(*input)
}
