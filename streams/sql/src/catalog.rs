//! The tables that a text declares, and what is known of those that it does not.

use std::collections::BTreeMap;

use holm_lanes::{Field, Kind};

use crate::refusal::{Refusal, Span};
use crate::syntax::{Term, Word};

/// A table that a text declares.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The columns that its input has.
    pub fields: Vec<Field>,
    /// What stands behind WITH.
    pub options: BTreeMap<String, String>,
    pub(crate) computed: Vec<(Word, Term)>,
    pub(crate) time: Option<(Word, i64)>,
    pub(crate) key: Vec<String>,
    pub(crate) span: Span,
    /// Where the value of each option stands.
    pub(crate) places: BTreeMap<String, Span>,
    /// Columns that its connector knows beside each row.
    pub(crate) beside: Vec<Beside>,
}

/// A METADATA column.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    /// Which column it is.
    pub(crate) column: usize,
    /// What the connector calls it.
    pub(crate) name: String,
    /// Whether it is left out where rows are written.
    pub(crate) is_virtual: bool,
    pub(crate) span: Span,
}

/// What connectors know beside a row. Names and kinds are Flink's, for Kafka and for Upsert Kafka,
/// where it has such a connector.
const KNOWN: [(&str, &str, Kind); 4] = [
    ("mqtt", "topic", Kind::String),
    ("mqtt", "timestamp", Kind::TimestampLtz { digits: 3 }),
    ("http", "timestamp", Kind::TimestampLtz { digits: 3 }),
    ("keyspace", "key", Kind::String),
];

impl Table {
    /// Its connector, in small letters.
    #[must_use]
    pub fn connector(&self) -> String {
        let connector = self.options.get("connector");
        connector.map_or_else(String::new, |connector| connector.to_lowercase())
    }

    /// The columns that tell a row from one that is sent again, as 'dedup' names them; none if it
    /// does not.
    ///
    /// # Errors
    ///
    /// If it names what is no column.
    pub(crate) fn repeats(&self) -> Result<Vec<usize>, Refusal> {
        let Some(names) = self.options.get("dedup") else {
            return Ok(Vec::new());
        };
        let place = |name: &str| {
            let is_it = |field: &Field| field.name.eq_ignore_ascii_case(name.trim());
            self.fields.iter().position(is_it).ok_or_else(|| {
                let (name, table) = (name.trim(), &self.name);
                let message = format!(
                    "'dedup' names {name:?}, and {table} has no such column that is read; write 'dedup'='device,n'"
                );
                Refusal::new(self.place("dedup"), message)
            })
        };
        names.split(',').map(place).collect()
    }

    /// Where an option stands, for a refusal.
    pub(crate) fn place(&self, option: &str) -> Span {
        self.places.get(option).copied().unwrap_or(self.span)
    }

    /// After how much silence it is left out of watermarks, in microseconds; never, if nothing
    /// says so.
    ///
    /// # Errors
    ///
    /// If that is no length of time, or there is no watermark.
    pub(crate) fn idle(&self) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.options.get("idle") else {
            return Ok(None);
        };
        let wrong = |message: String| Err(Refusal::new(self.place("idle"), message));
        if self.time.is_none() {
            let message = format!("{} has no WATERMARK that 'idle' could let go", self.name);
            return wrong(message);
        }
        match millis(text) {
            Some(millis @ 100..=86_400_000) => Ok(Some(millis * 1_000)),
            Some(_) | None => wrong(format!(
                "'{text}' is no length of time from 100 ms to 24 h; '30 s' is one"
            )),
        }
    }

    /// For each column what its connector calls it, if it stands beside the rows.
    #[must_use]
    pub fn beside(&self) -> Vec<Option<String>> {
        let mut names = vec![None; self.fields.len()];
        for beside in &self.beside {
            names[beside.column] = Some(beside.name.clone());
        }
        names
    }

    /// Looks whether its connector knows the METADATA columns, as what they are declared to be.
    ///
    /// # Errors
    ///
    /// If it does not, at the name.
    pub(crate) fn checked(&self) -> Result<(), Refusal> {
        let connector = self.connector();
        // A page that is pulled comes as a whole.
        let is_pulled = connector == "http" && self.options.contains_key("url");
        let known = || {
            let own = KNOWN.iter().filter(|it| it.0 == connector && !is_pulled);
            own.map(|it| (it.1, it.2))
        };
        for beside in &self.beside {
            let (column, name) = (&self.fields[beside.column], &beside.name);
            let message = match known().find(|it| it.0 == *name) {
                Some((_, kind)) if kind == column.kind => continue,
                Some((_, kind)) => format!(
                    "METADATA '{name}' is {kind}, not {}; declare it so, and CAST it in a column of its own",
                    column.kind
                ),
                None => {
                    let names: Vec<String> = known().map(|it| format!("'{}'", it.0)).collect();
                    let of = match connector.as_str() {
                        "" => "a table without a connector",
                        "http" if is_pulled => "a page that is pulled",
                        other => other,
                    };
                    match names.as_slice() {
                        [] => format!("{of} knows no METADATA of its rows"),
                        names => format!(
                            "{of} knows no METADATA '{name}'; there is {}",
                            names.join(", ")
                        ),
                    }
                }
            };
            return Err(Refusal::new(beside.span, message));
        }
        Ok(())
    }

    /// The columns that rows are written into.
    ///
    /// # Errors
    ///
    /// If one would be written beside the rows.
    pub(crate) fn written(&self) -> Result<Vec<&Field>, Refusal> {
        if let Some(beside) = self.beside.iter().find(|it| !it.is_virtual) {
            let message = format!(
                "no connector writes METADATA '{}' yet; behind it, VIRTUAL leaves it out where rows are written",
                beside.name
            );
            return Err(Refusal::new(beside.span, message));
        }
        let is_own = |at: &usize| self.beside.iter().all(|it| it.column != *at);
        let own = (0..self.fields.len()).filter(is_own);
        Ok(own.map(|at| &self.fields[at]).collect())
    }

    /// The columns of its key.
    #[must_use]
    pub fn key(&self) -> &[String] {
        &self.key
    }
}

/// A length of time as an option says it: a number and `ms`, `s`, `min` or `h`.
fn millis(text: &str) -> Option<i64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let unit = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

/// The schema of a table that nothing declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// The columns.
    pub fields: Vec<Field>,
    /// The column of event time.
    pub time: Option<String>,
    /// How far rows are out of order, in microseconds.
    pub bound: i64,
}

/// What is known beside the text.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Tables that nothing declares, by name.
    pub shapes: BTreeMap<String, TableShape>,
    /// Tables that end: those whose rows come from a file or from standard input.
    pub bounded: Vec<String>,
    /// Another bound on disorder for every source, in microseconds.
    pub late: Option<i64>,
    /// The strategy of all windows, whatever it costs.
    pub strategy: Option<holm_window::Strategy>,
}

impl Known {
    pub(crate) fn is_bounded(&self, name: &str) -> bool {
        self.bounded
            .iter()
            .any(|bounded| bounded.eq_ignore_ascii_case(name))
    }
}
