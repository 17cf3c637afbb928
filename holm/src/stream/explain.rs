//! `holm stream explain`: a plan, before anything runs.

use clap::Args;

use super::Ended;
use super::named::Named;
use crate::screen::Screen;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm stream explain query.sql
  holm stream explain query.sql --input events.jsonl    for a query over stdin, whose columns come from the rows

It shows what is parsed, how long a pane is, how panes are put together, and what each way would cost.";

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    named: Named,
}

/// Prints the plan.
pub(crate) fn explain(asked: &Asked) -> Result<u8, Ended> {
    let prepared = asked.named.prepare(true)?;
    let mut text = String::new();
    for note in &prepared.notes {
        text += note;
        text.push('\n');
    }
    text += &holm_sql::explain(&prepared.planned);
    let shown = Screen::new(false).raw(text.as_bytes());
    shown.map_err(|error| Ended::failed("write to standard output", error))?;
    Ok(0)
}
