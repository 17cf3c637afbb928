//! Several queries as one plan: what is equal in them is done once.
//!
//! Plans are laid over one another node by node: a node that reads the same and does the same is
//! there once, so that rows are filtered, looked up and computed once. Windows over the same rows
//! by the same key share panes, where that leaves every result what it is to the last bit.

use holm_lanes::{Batch, LoadError, Loader, Saver};
use holm_window::{Query, Shared};

use crate::plan::{Limits, Node, Plan, WindowKind};
use crate::report::Report;
use crate::run::{Full, Run};

/// Queries that run together over the same sources.
#[derive(Clone, Debug)]
pub struct Several {
    run: Run,
}

impl Several {
    /// Queries, each with the tables that its lookups name, that have seen nothing. Sources that
    /// are equal are one: [`sources`](Self::sources) has each of them once.
    #[must_use]
    pub fn new(queries: &[(&Plan, &[Batch])], limits: Limits) -> Self {
        let mut all = Plan {
            sources: Vec::new(),
            nodes: Vec::new(),
            kinds: Vec::new(),
            fields: Vec::new(),
        };
        let mut tables = Vec::new();
        let outputs: Vec<usize> = queries
            .iter()
            .map(|(plan, own)| lay(&mut all, &mut tables, plan, own))
            .collect();
        Self {
            run: Run::of_several(&all, &outputs, limits, &tables),
        }
    }

    /// The sources of all queries: `push` names one by its place.
    #[must_use]
    pub fn sources(&self) -> &[crate::plan::Source] {
        &self.run.plan().sources
    }

    /// Takes rows of a source, and gives the rows that come out, by query.
    ///
    /// # Errors
    ///
    /// If more rows wait than may; the run is over then.
    pub fn push(&mut self, source: usize, batch: Batch) -> Result<Vec<Batch>, Full> {
        self.run.push_all(source, batch)
    }

    /// Ends a source, which closes what waits for it.
    ///
    /// # Errors
    ///
    /// If more rows wait than may.
    pub fn end(&mut self, source: usize) -> Result<Vec<Batch>, Full> {
        self.run.end_all(source)
    }

    /// What was counted and set aside for a query since it was last asked.
    pub fn report(&mut self, query: usize) -> Report {
        self.run.report_of(query)
    }

    /// Which queries share panes, and how long these are in microseconds.
    #[must_use]
    pub fn shares(&self) -> Vec<(Vec<usize>, i64)> {
        let is_used = |node: usize, by: usize| self.run.needs(by, node);
        let group = |nodes: &[usize]| {
            let queries = nodes.iter().filter_map(|it| query(self.run.plan(), *it));
            let queries: Vec<Query> = queries.collect();
            let pane = Shared::grids(&queries)?.first()?.pane();
            let users = 0..self.run.queries();
            let users = users.filter(|by| nodes.iter().any(|node| is_used(*node, *by)));
            Some((users.collect(), pane))
        };
        self.run.shared().filter_map(group).collect()
    }

    /// Writes all that it holds.
    pub fn save(&self, to: &mut Saver) {
        self.run.save(to);
    }

    /// Takes over what the same queries wrote; these must have seen nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not what was written, or of another version.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        self.run.load(from)
    }
}

/// Lays a plan over others, and says where its last node came to lie.
fn lay(all: &mut Plan, tables: &mut Vec<Batch>, plan: &Plan, own: &[Batch]) -> usize {
    let sources: Vec<usize> = plan
        .sources
        .iter()
        .map(|source| place(&mut all.sources, source))
        .collect();
    let own: Vec<usize> = own.iter().map(|table| place(tables, table)).collect();
    let mut places: Vec<usize> = Vec::new();
    for (node, kinds) in plan.nodes.iter().zip(&plan.kinds) {
        let node = moved(node, &sources, &own, &places);
        let found = all.nodes.iter().position(|other| *other == node);
        places.push(found.unwrap_or_else(|| {
            all.nodes.push(node);
            all.kinds.push(kinds.clone());
            all.nodes.len() - 1
        }));
    }
    places.pop().unwrap_or(0)
}

fn place<T: Clone + PartialEq>(all: &mut Vec<T>, one: &T) -> usize {
    let found = all.iter().position(|other| other == one);
    found.unwrap_or_else(|| {
        all.push(one.clone());
        all.len() - 1
    })
}

/// A node that reads what its inputs have become.
fn moved(node: &Node, sources: &[usize], tables: &[usize], places: &[usize]) -> Node {
    let mut node = node.clone();
    match &mut node {
        Node::Source(source) => *source = sources[*source],
        Node::Lookup { input, table, .. } => {
            *input = places[*input];
            *table = tables[*table];
        }
        Node::Filter { input, .. }
        | Node::Project { input, .. }
        | Node::Window { input, .. }
        | Node::Assign { input, .. }
        | Node::Group { input, .. }
        | Node::Top { input, .. }
        | Node::Order { input, .. } => *input = places[*input],
        Node::Join { inputs, .. } => *inputs = (places[inputs.0], places[inputs.1]),
    }
    node
}

/// What a node of windows on a grid wants of panes.
pub(crate) fn query(plan: &Plan, node: usize) -> Option<Query> {
    let Node::Window {
        kind: WindowKind::Grid(grid),
        calls,
        strategy,
        ..
    } = &plan.nodes[node]
    else {
        return None;
    };
    Some(Query {
        grid: *grid,
        calls: calls.clone(),
        strategy: *strategy,
    })
}

/// Windows that share panes: two nodes or more in each group, of those that may.
pub(crate) fn sharing(plan: &Plan, may: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let reads = |node: usize| {
        let Node::Window {
            input, time, keys, ..
        } = &plan.nodes[node]
        else {
            return None;
        };
        Some((*input, *time, keys.clone()))
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for node in (0..plan.nodes.len()).filter(|node| may(*node)) {
        let Some(own) = query(plan, node) else {
            continue;
        };
        let fits = |group: &Vec<usize>| {
            let mut queries: Vec<Query> = group.iter().filter_map(|it| query(plan, *it)).collect();
            queries.push(own.clone());
            reads(group[0]) == reads(node) && Shared::grids(&queries).is_some()
        };
        match groups.iter().position(fits) {
            Some(group) => groups[group].push(node),
            None => groups.push(vec![node]),
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}
