//! A plan in lines that a person reads.

use std::fmt::Write;

use holm_engine::{Node, Plan, WindowKind};
use holm_window::{Call, Cost, Grid, Strategy};

use crate::bind::Planned;

/// A length of time in microseconds, as one would say it.
#[must_use]
pub fn length(micros: i64) -> String {
    let units = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "min"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ];
    for (unit, name) in units {
        if micros % unit == 0 && micros != 0 {
            return format!("{} {name}", micros / unit);
        }
    }
    if micros == 0 {
        "0 s".to_owned()
    } else {
        format!("{micros} us")
    }
}

/// The plan, one node after the other.
#[must_use]
pub fn explain(planned: &Planned) -> String {
    let plan = &planned.plan;
    let mut text = String::new();
    for (number, source) in plan.sources.iter().enumerate() {
        let read: Vec<String> = source
            .fields
            .iter()
            .zip(&planned.needed[number])
            .zip(&planned.beside[number])
            .filter(|((_, is_read), _)| **is_read)
            .map(|((field, _), beside)| match beside {
                Some(name) => format!("{} {} of METADATA '{name}'", field.name, field.kind),
                None => format!("{} {}", field.name, field.kind),
            })
            .collect();
        let unread = source.fields.len() - read.len();
        let mut line = read.join(", ");
        if unread > 0 {
            line += &format!("; {unread} columns are not parsed");
        }
        if let Some(time) = source.time {
            let computed = source.computed.iter().map(|(field, _)| &field.name);
            let mut names = source
                .fields
                .iter()
                .map(|field| &field.name)
                .chain(computed);
            let name = names.nth(time).map_or("", |name| name);
            line += &format!("; watermark {name} - {}", length(source.bound));
            if let Some(idle) = planned.idle[number] {
                line += &format!(", left out after {} of silence", length(idle));
            }
        }
        row(&mut text, &source.name, &line);
    }
    let points = (0..plan.sources.len()).map(|source| holm_engine::points_of(plan, source));
    let last = points.filter_map(|points| points.last().map(|point| point.node));
    let last: Vec<usize> = last.collect();
    for number in 0..plan.nodes.len() {
        node(&mut text, plan, number);
        if last.contains(&number) {
            let line =
                "rows that come once are logged here, or before it where that takes fewer bytes";
            row(&mut text, "LOG HERE", line);
        }
    }
    let fields: Vec<String> = plan
        .fields
        .iter()
        .map(|field| format!("{} {}", field.name, field.kind))
        .collect();
    row(&mut text, "out", &fields.join(", "));
    text
}

fn row(text: &mut String, title: &str, line: &str) {
    writeln!(text, "{title:<12} {line}").expect("a string takes all");
}

#[expect(clippy::too_many_lines, reason = "a table of nodes")]
fn node(text: &mut String, plan: &Plan, number: usize) {
    match &plan.nodes[number] {
        Node::Source(_) | Node::Project { .. } => {}
        Node::Unrepeated { input, columns, .. } => {
            let line = format!(
                "rows with the same {} count once, as long as one is remembered",
                columns_of(plan, *input, columns)
            );
            row(text, "repeats", &line);
        }
        Node::Filter { .. } => row(text, "filter", "rows for which the condition is true"),
        Node::Window {
            kind,
            keys,
            calls,
            strategy,
            ..
        } => match kind {
            WindowKind::Grid(grid) => windows(text, grid, keys.len(), (calls, *strategy)),
            WindowKind::Session(gap) => {
                let line = format!(
                    "gap {}; {}, by {}",
                    length(*gap),
                    names(calls),
                    key(keys.len())
                );
                row(text, "session", &line);
            }
        },
        Node::Assign { grid, .. } => {
            row(
                text,
                "copies",
                &format!("of each row, one for each of its windows; {}", of(grid)),
            );
        }
        Node::Group {
            window,
            keys,
            calls,
            ..
        } => {
            let when = if window.is_some() {
                "when their window has closed"
            } else {
                "at the end of the input"
            };
            let line = format!("{}, by {}, {when}", names(calls), key(keys.len()));
            row(text, "group", &line);
        }
        Node::Join {
            keys, condition, ..
        } => {
            let rest = if condition.is_some() {
                ", and a condition"
            } else {
                ""
            };
            let line = format!(
                "of equal windows by {} more{rest}, when both have closed",
                key(keys.len())
            );
            row(text, "join", &line);
        }
        Node::Union { inputs } => {
            let line = format!(
                "the rows of {} queries, under the lowest of their watermarks",
                inputs.len()
            );
            row(text, "union", &line);
        }
        Node::Lookup { keys, .. } => {
            let line = format!("a table in memory, by {}", key(keys.len()));
            row(text, "enrich", &line);
        }
        Node::Top { count, keys, .. } => {
            let line = format!("{count} rows of each window and {}", key(keys.len()));
            row(text, "first", &line);
        }
        Node::Order { limit, .. } => {
            let limit = limit.map_or_else(String::new, |limit| format!(", {limit} rows"));
            row(
                text,
                "order",
                &format!("all rows at the end of the input{limit}"),
            );
        }
    }
}

/// The names of a source's columns.
fn columns_of(plan: &Plan, node: usize, columns: &[usize]) -> String {
    let Node::Source(source) = plan.nodes[node] else {
        return key(columns.len());
    };
    let fields = &plan.sources[source].fields;
    let names = columns.iter().filter_map(|at| fields.get(*at));
    let names: Vec<&str> = names.map(|field| field.name.as_str()).collect();
    names.join(", ")
}

fn key(columns: usize) -> String {
    match columns {
        0 => "no key".to_owned(),
        1 => "1 key column".to_owned(),
        columns => format!("{columns} key columns"),
    }
}

fn names(calls: &[Call]) -> String {
    let mut names: Vec<&str> = calls.iter().map(|call| call.aggregate.name()).collect();
    if names.is_empty() {
        names.push("keys");
    }
    names.join(", ")
}

fn of(grid: &Grid) -> String {
    let size = length(grid.panes() * grid.pane());
    if grid.is_cumulating() {
        format!("cumulating by {} to {size}", length(grid.pane()))
    } else if grid.panes() == grid.slide() {
        format!("tumbling {size}")
    } else {
        format!(
            "hopping {size} every {}",
            length(grid.slide() * grid.pane())
        )
    }
}

fn windows(
    text: &mut String,
    grid: &Grid,
    keys: usize,
    (calls, forced): (&[Call], Option<Strategy>),
) {
    let cost = Cost::of(grid, calls);
    let chosen = forced.unwrap_or_else(|| cost.cheapest());
    row(
        text,
        "window",
        &format!(
            "{}; {} panes of {}",
            of(grid),
            grid.panes(),
            length(grid.pane())
        ),
    );
    let shown = |name: &str, cost: Option<i64>, why: &str| {
        cost.map_or_else(
            || format!("{name} no: {why}"),
            |cost| format!("{name} {cost}"),
        )
    };
    let no_inverse: Vec<&str> = calls
        .iter()
        .filter(|call| !call.aggregate.is_invertible())
        .map(|call| call.aggregate.name())
        .collect();
    let why_running = if no_inverse.is_empty() {
        "windows do not overlap".to_owned()
    } else {
        format!("{} cannot be taken back", no_inverse.join(", "))
    };
    let line = format!("{}, by {}; {chosen}", names(calls), key(keys));
    row(text, "aggregate", &line);
    let costs = [
        shown("recompute", Some(cost.recompute), ""),
        shown("running", cost.running, &why_running),
        shown("two stacks", cost.two_stacks, "windows do not overlap"),
        shown("prefix", cost.prefix, "windows do not grow"),
    ];
    row(
        text,
        "",
        &format!("additions of a pane for each window: {}", costs.join(", ")),
    );
}
