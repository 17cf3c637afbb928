//! Strongly connected components, by Tarjan's method without recursion: histories are long.

/// Not yet visited.
const NEW: usize = usize::MAX;

/// For each of `count` nodes the number of its component: those that reach each other share it.
pub(crate) fn components<I: Iterator<Item = usize>>(
    count: usize,
    next: &impl Fn(usize) -> I,
) -> Vec<usize> {
    let mut walk = Walk {
        index: vec![NEW; count],
        low: vec![NEW; count],
        component: vec![NEW; count],
        stack: Vec::new(),
        visited: 0,
        found: 0,
    };
    for root in 0..count {
        if walk.index[root] == NEW {
            walk.from(root, next);
        }
    }
    walk.component
}

struct Walk {
    /// In which order nodes were visited.
    index: Vec<usize>,
    /// The earliest that a node reaches and that has no component yet.
    low: Vec<usize>,
    component: Vec<usize>,
    stack: Vec<usize>,
    visited: usize,
    found: usize,
}

impl Walk {
    fn from<I: Iterator<Item = usize>>(&mut self, root: usize, next: &impl Fn(usize) -> I) {
        let mut calls = vec![(root, next(root))];
        self.enter(root);
        while let Some((node, edges)) = calls.last_mut() {
            let node = *node;
            match edges.next() {
                Some(to) if self.index[to] == NEW => {
                    self.enter(to);
                    calls.push((to, next(to)));
                }
                Some(to) if self.component[to] == NEW => {
                    self.low[node] = self.low[node].min(self.index[to]);
                }
                Some(_) => {}
                None => {
                    calls.pop();
                    if let Some((above, _)) = calls.last() {
                        self.low[*above] = self.low[*above].min(self.low[node]);
                    }
                    if self.low[node] == self.index[node] {
                        self.close(node);
                    }
                }
            }
        }
    }

    fn enter(&mut self, node: usize) {
        self.index[node] = self.visited;
        self.low[node] = self.visited;
        self.visited += 1;
        self.stack.push(node);
    }

    fn close(&mut self, root: usize) {
        while let Some(node) = self.stack.pop() {
            self.component[node] = self.found;
            if node == root {
                break;
            }
        }
        self.found += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_reach_each_other_share_a_component() {
        let edges: [&[usize]; 7] = [&[1], &[2, 3], &[0], &[4], &[3, 5], &[], &[6]];
        let found = components(7, &|node: usize| edges[node].iter().copied());
        assert_eq!(found[0], found[1]);
        assert_eq!(found[1], found[2]);
        assert_eq!(found[3], found[4]);
        let mut all = found.clone();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4, "{found:?}");
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let count = 300_000;
        let found = components(count, &|node: usize| ((node + 1)..count).take(1));
        assert_eq!(found.iter().max(), Some(&(count - 1)));
    }
}
