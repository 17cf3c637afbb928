//! What is to be done: nodes in an order in which each comes after those that it reads.

use holm_lanes::{Expr, Field, Kind};
use holm_window::{Call, Grid, Strategy};

/// Where rows come in.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// What queries call it.
    pub name: String,
    /// The columns that are read.
    pub fields: Vec<Field>,
    /// Columns that are computed of those, behind them.
    pub computed: Vec<(Field, Expr)>,
    /// The column of event time, if it has a watermark.
    pub time: Option<usize>,
    /// How far rows may be out of order, in microseconds.
    pub bound: i64,
    /// Whether late rows are handed out; they are counted either way.
    pub keeps_late: bool,
}

/// The kind of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// On a grid.
    Grid(Grid),
    /// Sessions with a gap in microseconds.
    Session(i64),
}

/// A node of a plan. Inputs are numbers of earlier nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// The rows of a source.
    Source(usize),
    /// Rows for which an expression is true.
    Filter {
        /// What it reads.
        input: usize,
        /// The condition.
        condition: Expr,
    },
    /// Rows whose columns were not seen before: what is sent again counts once.
    Unrepeated {
        /// What it reads: a source.
        input: usize,
        /// The columns that tell rows apart.
        columns: Vec<usize>,
        /// The column of event time, by which rows are forgotten.
        time: Option<usize>,
    },
    /// Other columns, computed of those that come in.
    Project {
        /// What it reads.
        input: usize,
        /// The columns.
        columns: Vec<Expr>,
    },
    /// Aggregates of windows: out come start, end, key, results.
    Window {
        /// What it reads.
        input: usize,
        /// Which windows.
        kind: WindowKind,
        /// The column of event time.
        time: usize,
        /// The columns of the key.
        keys: Vec<usize>,
        /// The aggregates.
        calls: Vec<Call>,
        /// How panes are put together; the cheapest way if nothing is said.
        strategy: Option<Strategy>,
    },
    /// A copy of each row for each of its windows: out come the row, start, end.
    Assign {
        /// What it reads.
        input: usize,
        /// Which windows.
        grid: Grid,
        /// The column of event time.
        time: usize,
    },
    /// Aggregates of rows that carry their window: out come start, end, key, results; without a
    /// window key and results.
    Group {
        /// What it reads.
        input: usize,
        /// The columns of start and end.
        window: Option<(usize, usize)>,
        /// The columns of the key.
        keys: Vec<usize>,
        /// The aggregates.
        calls: Vec<Call>,
    },
    /// Pairs of rows with equal windows and keys: out come the columns of both.
    Join {
        /// Left and right.
        inputs: (usize, usize),
        /// The columns of start and end of both.
        windows: ((usize, usize), (usize, usize)),
        /// Pairs of columns that are equal.
        keys: Vec<(usize, usize)>,
        /// What must hold of a pair, over the columns of both.
        condition: Option<Expr>,
        /// Whether a left row without a partner comes out beside NULLs.
        keeps_left: bool,
    },
    /// The rows of all inputs, whose columns are of the same kinds.
    Union {
        /// What it reads: two nodes at least.
        inputs: Vec<usize>,
    },
    /// Rows beside the row of a table that has their key: out come the columns of both.
    Lookup {
        /// What it reads.
        input: usize,
        /// Which table.
        table: usize,
        /// Pairs of an expression and the table's column that is equal to it.
        keys: Vec<(usize, usize)>,
        /// Whether a row without a partner comes out beside NULLs.
        keeps_left: bool,
    },
    /// The first rows of each window and key: out come the columns and the place from one.
    Top {
        /// What it reads.
        input: usize,
        /// The columns of start and end.
        window: (usize, usize),
        /// More columns by which it is parted.
        keys: Vec<usize>,
        /// Columns that decide, and whether the largest comes first.
        order: Vec<(usize, bool)>,
        /// How many.
        count: usize,
    },
    /// All rows in an order, at the end, and at most so many.
    Order {
        /// What it reads.
        input: usize,
        /// Columns that decide, and whether the largest comes first.
        order: Vec<(usize, bool)>,
        /// How many at most.
        limit: Option<usize>,
    },
}

impl Node {
    /// The nodes that it reads.
    #[must_use]
    pub fn inputs(&self) -> Vec<usize> {
        match self {
            Self::Source(_) => vec![],
            Self::Filter { input, .. }
            | Self::Unrepeated { input, .. }
            | Self::Project { input, .. }
            | Self::Window { input, .. }
            | Self::Assign { input, .. }
            | Self::Group { input, .. }
            | Self::Lookup { input, .. }
            | Self::Top { input, .. }
            | Self::Order { input, .. } => vec![*input],
            Self::Join { inputs, .. } => vec![inputs.0, inputs.1],
            Self::Union { inputs } => inputs.clone(),
        }
    }

    /// Its aggregates.
    pub(crate) fn calls(&self) -> &[Call] {
        match self {
            Self::Window { calls, .. } | Self::Group { calls, .. } => calls,
            Self::Source(_)
            | Self::Filter { .. }
            | Self::Unrepeated { .. }
            | Self::Project { .. }
            | Self::Assign { .. }
            | Self::Join { .. }
            | Self::Union { .. }
            | Self::Lookup { .. }
            | Self::Top { .. }
            | Self::Order { .. } => &[],
        }
    }
}

/// What is to be done. The rows of the last node are the result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Where rows come in.
    pub sources: Vec<Source>,
    /// What is done with them.
    pub nodes: Vec<Node>,
    /// The kinds of each node's columns.
    pub kinds: Vec<Vec<Kind>>,
    /// The columns of the result.
    pub fields: Vec<Field>,
}

impl Plan {
    /// For each node whether another one needs it, or it is that one.
    pub(crate) fn needed(&self, output: usize) -> Vec<bool> {
        let mut nodes = vec![false; self.nodes.len()];
        if let Some(own) = nodes.get_mut(output) {
            *own = true;
        }
        for number in (0..self.nodes.len()).rev() {
            if nodes[number] {
                for input in self.nodes[number].inputs() {
                    nodes[input] = true;
                }
            }
        }
        nodes
    }

    /// How many tables its lookups name.
    #[must_use]
    pub fn tables(&self) -> usize {
        let named = self.nodes.iter().map(|node| match node {
            Node::Lookup { table, .. } => table + 1,
            Node::Source(_)
            | Node::Filter { .. }
            | Node::Unrepeated { .. }
            | Node::Project { .. }
            | Node::Window { .. }
            | Node::Assign { .. }
            | Node::Group { .. }
            | Node::Join { .. }
            | Node::Union { .. }
            | Node::Top { .. }
            | Node::Order { .. } => 0,
        });
        named.max().unwrap_or(0)
    }
}

/// What a run may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of each operator over windows.
    pub window: holm_window::Limits,
    /// Rows that a join, an order or a list of first rows may hold.
    pub rows: usize,
    /// Rows of a source that are remembered, so that they count once.
    pub repeats: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: holm_window::Limits::default(),
            rows: 1 << 24,
            repeats: 1 << 20,
        }
    }
}
