//! `holm stream explain`: a plan, before anything runs.

use clap::Args;
use holm_engine::Plan;
use holm_sql::Planned;

use super::Ended;
use super::named::Named;
use crate::screen::Screen;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm stream explain query.sql
  holm stream explain query.sql --input events.jsonl    for a query over stdin, whose columns come from the rows

It shows what is parsed, how long a pane is, how panes are put together, and what each way would cost; of several
INSERTs in one text also what they will share as a stream of a site.";

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    named: Named,
}

/// What several queries of one text share when a site keeps them.
fn together(planned: &[Planned], names: &[String]) -> String {
    let plans: Vec<Plan> = planned.iter().map(|it| it.plan.clone()).collect();
    let tables: Vec<Vec<String>> = planned
        .iter()
        .map(|it| it.tables.iter().map(|table| table.0.clone()).collect())
        .collect();
    let sources = holm_engine::sources(&plans).len();
    let mut text = format!(
        "-- together\nshared       {} queries over {sources} of their tables, which are read once; one log, one snapshot\n",
        planned.len()
    );
    let shares = holm_engine::shares(&plans, &tables);
    for (queries, pane) in &shares {
        let names: Vec<&str> = queries.iter().map(|query| names[*query].as_str()).collect();
        let (names, pane) = (names.join(", "), holm_sql::length(*pane));
        text += &format!("panes        {names} share panes of {pane}\n");
    }
    if shares.is_empty() {
        text += "panes        none are shared: windows differ in their rows, their keys or their grid, or add floats\n";
    }
    text
}

/// Prints the plan.
pub(crate) fn explain(asked: &Asked) -> Result<u8, Ended> {
    print(&asked.named)
}

/// The same of the query that EXPLAIN stands before.
pub(super) fn print(named: &Named) -> Result<u8, Ended> {
    let (planned, notes) = named.explained()?;
    let mut text = String::new();
    for note in &notes {
        text += note;
        text.push('\n');
    }
    let name = |query: &Planned| {
        query
            .into
            .as_ref()
            .map_or_else(String::new, |it| it.name.clone())
    };
    for query in &planned {
        if planned.len() > 1 {
            text += &format!("-- {}\n", name(query));
        }
        text += &holm_sql::explain(query);
    }
    if planned.len() > 1 {
        text += &together(&planned, &planned.iter().map(name).collect::<Vec<_>>());
    }
    let shown = Screen::new(false).raw(text.as_bytes());
    shown.map_err(|error| Ended::failed("write to standard output", error))?;
    Ok(0)
}
