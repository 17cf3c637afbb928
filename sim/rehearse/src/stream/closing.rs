//! Which column of a query's rows says what window they close, by its plan: whatever it is called.
//!
//! What would surprise: rows that only carry their window come out before it ends, so that their columns are no such.

use holm_engine::{Node, Plan, WindowKind};
use holm_lanes::Expr;

/// A column that tells the end of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// How far behind its value the window ends, in microseconds.
    behind: i64,
    /// The row comes out when the window has ended.
    is_closed: bool,
}

impl Told {
    const fn closed(self) -> Self {
        Self {
            is_closed: true,
            ..self
        }
    }
}

/// What is told by each column of a node.
type Columns = Vec<Option<Told>>;

/// The column that says when the window of a row has ended, and how far behind its value that is; `None`
/// where rows are of no window, or do not say.
pub(crate) fn closing(plan: &Plan) -> Option<(usize, i64)> {
    let mut nodes: Vec<Columns> = Vec::new();
    for (node, kinds) in plan.nodes.iter().zip(&plan.kinds) {
        let mut columns = columns(node, &nodes);
        columns.resize(kinds.len(), None);
        nodes.push(columns);
    }
    let last = nodes.pop()?;
    let mut closed = last.iter().enumerate().filter_map(|(lane, told)| {
        let told = told.filter(|told| told.is_closed)?;
        Some((lane, told.behind))
    });
    closed.next()
}

/// What the columns of a node tell; of those that are missing behind, none does.
fn columns(node: &Node, nodes: &[Columns]) -> Columns {
    let of = |input: usize, columns: &[usize]| -> Columns {
        columns.iter().map(|column| nodes[input][*column]).collect()
    };
    match node {
        Node::Source(_) => Vec::new(),
        Node::Filter { input, .. }
        | Node::Unrepeated { input, .. }
        | Node::Lookup { input, .. }
        | Node::Order { input, .. } => nodes[*input].clone(),
        Node::Project { input, columns } => {
            let told = |column: &Expr| match column {
                Expr::Column(column) => nodes[*input][*column],
                Expr::Literal(..)
                | Expr::Arithmetic { .. }
                | Expr::Compare(..)
                | Expr::And(..)
                | Expr::Or(..)
                | Expr::Not(_)
                | Expr::IsNull(_)
                | Expr::Case { .. }
                | Expr::Coalesce(..)
                | Expr::Cast { .. }
                | Expr::Like(..)
                | Expr::Json(_)
                | Expr::Call(..) => None,
            };
            columns.iter().map(told).collect()
        }
        Node::Window {
            input, kind, keys, ..
        } => {
            let [start, end] = bounds(*kind);
            let window = [start.map(Told::closed), end.map(Told::closed)];
            window.into_iter().chain(of(*input, keys)).collect()
        }
        Node::Assign { input, grid, .. } => {
            let window = bounds(WindowKind::Grid(*grid));
            nodes[*input].iter().copied().chain(window).collect()
        }
        Node::Group {
            input,
            window,
            keys,
            ..
        } => {
            let window = window.map_or_else(Vec::new, |(start, end)| of(*input, &[start, end]));
            let window = window.into_iter().map(|told| told.map(Told::closed));
            window.chain(of(*input, keys)).collect()
        }
        Node::Join {
            inputs, windows, ..
        } => {
            let mut all = shut(&nodes[inputs.0], windows.0);
            all.extend(shut(&nodes[inputs.1], windows.1));
            all
        }
        Node::Union { inputs } => {
            let first = nodes[inputs[0]].iter().enumerate();
            let is_told = |at: usize, told: Option<Told>| {
                inputs.iter().all(|input| nodes[*input][at] == told)
            };
            let agreed = first.map(|(at, told)| told.filter(|_| is_told(at, *told)));
            agreed.collect()
        }
        Node::Top { input, window, .. } => shut(&nodes[*input], *window),
    }
}

/// The same columns where rows wait until their window has ended.
fn shut(columns: &[Option<Told>], (start, end): (usize, usize)) -> Columns {
    let mut columns = columns.to_vec();
    for column in [start, end] {
        columns[column] = columns[column].map(Told::closed);
    }
    columns
}

/// What start and end of a window tell while it is open.
fn bounds(kind: WindowKind) -> [Option<Told>; 2] {
    let told = |behind| Told {
        behind,
        is_closed: false,
    };
    let start = match kind {
        WindowKind::Grid(grid) if !grid.is_cumulating() => Some(told(grid.pane() * grid.panes())),
        WindowKind::Grid(_) | WindowKind::Session(_) => None,
    };
    [start, Some(told(0))]
}

#[cfg(test)]
mod tests {
    use holm_sql::{Known, parse, plan};

    use super::closing;

    fn of(query: &str) -> Option<(usize, i64)> {
        let table = "CREATE TABLE task (ts TIMESTAMP(3), job INT, WATERMARK FOR ts AS ts) WITH ('connector'='http');\n";
        let script = parse(&format!("{table}{query}")).expect("it is well formed");
        closing(
            &plan(&script, &Known::default())
                .expect("it has a plan")
                .plan,
        )
    }

    const TUMBLE: &str = "FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '5' SECOND)";
    const BY: &str = "GROUP BY window_start, window_end";

    #[test]
    fn ends_of_windows_are_found_whatever_they_are_called() {
        let renamed = format!("SELECT job, COUNT(*) AS n, window_end AS until {TUMBLE} {BY}, job");
        assert_eq!(of(&renamed), Some((2, 0)));
        let started = format!("SELECT COUNT(*) AS n, window_start AS began {TUMBLE} {BY}");
        assert_eq!(of(&started), Some((1, 5_000_000)));
        let session = "SELECT window_start, window_end AS until, COUNT(*) AS n \
                       FROM SESSION(TABLE task, DESCRIPTOR(ts), INTERVAL '5' SECOND) GROUP BY window_start, window_end";
        assert_eq!(
            of(session),
            Some((1, 0)),
            "a session is as long as its rows make it"
        );
    }

    #[test]
    fn a_name_makes_no_end_of_a_window() {
        assert_eq!(of("SELECT job, ts AS window_end FROM task"), None);
        let open = format!("SELECT job, window_end {TUMBLE}");
        assert_eq!(
            of(&open),
            None,
            "rows that carry their window do not wait for its end"
        );
        let unsaid = format!("SELECT COUNT(*) AS n {TUMBLE} {BY}");
        assert_eq!(of(&unsaid), None);
    }
}
