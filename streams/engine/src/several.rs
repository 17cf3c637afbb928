//! Several queries as one plan: what is equal in them is done once.
//!
//! Plans are laid over one another node by node: a node that reads the same and does the same is
//! there once, so that rows are filtered, looked up and computed once. Windows over the same rows
//! by the same key share panes, where that leaves every result what it is to the last bit.

use holm_lanes::{Batch, LoadError, Loader, Saver};
use holm_window::{Gauge, Query, Shared};

use crate::fold::Fold;
use crate::head::{Passed, Point};
use crate::plan::{Limits, Node, Plan, Source, WindowKind};
use crate::repeats::Repeated;
use crate::report::{Counts, Report};
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
        // One alone is run as it stands: its state is laid out as it always was.
        if let [(plan, tables)] = queries {
            return Self {
                run: Run::new(plan, limits, tables.to_vec()),
            };
        }
        let mut all = Plan::default();
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
    pub fn sources(&self) -> &[Source] {
        &self.run.plan().sources
    }

    /// How many queries there are.
    #[must_use]
    pub const fn queries(&self) -> usize {
        self.run.queries()
    }

    /// The watermark of a source: of several sources the lowest is to be read next.
    #[must_use]
    pub fn mark(&self, source: usize) -> i64 {
        self.run.mark(source)
    }

    /// What was counted of a query so far.
    #[must_use]
    pub fn counts(&self, query: usize) -> Counts {
        self.run.counts_of(query)
    }

    /// Rows that came, whichever queries read them.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.run.rows()
    }

    /// How much all queries keep; what is shared counts once.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        self.run.gauge()
    }

    /// Takes rows of a source, and gives the rows that come out, by query.
    ///
    /// # Errors
    ///
    /// If more rows wait than may; the run is over then.
    pub fn push(&mut self, source: usize, batch: Batch) -> Result<Vec<Batch>, Full> {
        let (found, _none) = self.run.push_all(source, batch, &[])?;
        Ok(found)
    }

    /// The same, with the rows that passed [`points`](Self::points) on their way, in that order.
    ///
    /// # Errors
    ///
    /// If more rows wait than may; the run is over then.
    pub fn push_watched(
        &mut self,
        source: usize,
        batch: Batch,
        watched: &[usize],
    ) -> Result<(Vec<Batch>, Vec<Passed>), Full> {
        self.run.push_all(source, batch, watched)
    }

    /// Goes on with rows that passed a point before, as if all that came then came again.
    ///
    /// # Errors
    ///
    /// If more rows wait than may; the run is over then.
    pub fn resume(&mut self, source: usize, passed: &Passed) -> Result<Vec<Batch>, Full> {
        self.run.resume(source, passed)
    }

    /// The nodes behind a source that see one row at a time, nearest first.
    #[must_use]
    pub fn points(&self, source: usize) -> Vec<Point> {
        self.run.points(source)
    }

    /// Whether results depend on the numbers of rows: so it is with first and last values.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        let nodes = self.run.plan().nodes.iter();
        nodes
            .flat_map(Node::calls)
            .any(|call| call.aggregate.is_edge())
    }

    /// Ends a source, which closes what waits for it.
    ///
    /// # Errors
    ///
    /// If more rows wait than may.
    pub fn end(&mut self, source: usize) -> Result<Vec<Batch>, Full> {
        self.run.end_all(source)
    }

    /// Leaves a source out of watermarks until it has rows again: it has been silent for long.
    ///
    /// # Errors
    ///
    /// If more rows wait than may.
    pub fn idle(&mut self, source: usize) -> Result<Vec<Batch>, Full> {
        self.run.idle_all(source)
    }

    /// Whether a source is left out.
    #[must_use]
    pub fn is_idle(&self, source: usize) -> bool {
        self.run.is_idle(source)
    }

    /// What was counted and set aside for a query since it was last asked.
    pub fn report(&mut self, query: usize) -> Report {
        self.run.report_of(query)
    }

    /// Which queries share panes, and how long these are in microseconds.
    #[must_use]
    pub fn shares(&self) -> Vec<(Vec<usize>, i64)> {
        let is_used = |node: usize, by: usize| self.run.needs(by, node);
        let users = |nodes: &[usize]| {
            let users = 0..self.run.queries();
            let users = users.filter(|by| nodes.iter().any(|node| is_used(*node, *by)));
            Some((users.collect(), pane(self.run.plan(), nodes)?))
        };
        self.run.shared().filter_map(users).collect()
    }

    /// Rows of sources that came again, where tables say what tells them apart.
    #[must_use]
    pub fn repeated(&self) -> Vec<Repeated> {
        self.run.repeated()
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

/// The sources of all plans, each once, in the order in which [`Several`] has them.
#[must_use]
pub fn sources(plans: &[Plan]) -> Vec<Source> {
    let mut all = Vec::new();
    if let [only] = plans {
        return only.sources.clone();
    }
    for source in plans.iter().flat_map(|plan| &plan.sources) {
        place(&mut all, source);
    }
    all
}

/// Which queries will share panes, and how long these are in microseconds: what
/// [`Several::shares`] says, known before the rows of their tables are. `tables` names those of
/// each query.
#[must_use]
pub fn shares(plans: &[Plan], tables: &[Vec<String>]) -> Vec<(Vec<usize>, i64)> {
    let mut all = Plan::default();
    let mut names = Vec::new();
    let lain = plans.iter().zip(tables);
    let outputs: Vec<usize> = lain
        .map(|(plan, own)| lay(&mut all, &mut names, plan, own))
        .collect();
    let folds = (0..all.nodes.len()).filter_map(|node| Fold::of(&all, &outputs, node));
    let folded: Vec<usize> = folds.map(|fold| fold.window).collect();
    let needed: Vec<Vec<bool>> = outputs.iter().map(|output| all.needed(*output)).collect();
    let users = |nodes: Vec<usize>| {
        let is_user = |by: &usize| nodes.iter().any(|node| needed[*by][*node]);
        let users: Vec<usize> = (0..outputs.len()).filter(is_user).collect();
        Some((users, pane(&all, &nodes)?))
    };
    let groups = sharing(&all, |node| !folded.contains(&node)).into_iter();
    groups.filter_map(users).collect()
}

/// How long the panes are that these nodes share.
fn pane(plan: &Plan, nodes: &[usize]) -> Option<i64> {
    let queries = nodes.iter().filter_map(|it| query(plan, *it));
    let queries: Vec<Query> = queries.collect();
    Some(Shared::grids(&queries)?.first()?.pane())
}

/// Lays a plan over others, and says where its last node came to lie. Tables that are equal are one.
fn lay<T: Clone + PartialEq>(all: &mut Plan, tables: &mut Vec<T>, plan: &Plan, own: &[T]) -> usize {
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
        | Node::Unrepeated { input, .. }
        | Node::Project { input, .. }
        | Node::Window { input, .. }
        | Node::Assign { input, .. }
        | Node::Group { input, .. }
        | Node::Top { input, .. }
        | Node::Order { input, .. } => *input = places[*input],
        Node::Join { inputs, .. } => *inputs = (places[inputs.0], places[inputs.1]),
        Node::Union { inputs } => inputs.iter_mut().for_each(|input| *input = places[*input]),
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
