//! The tables that a text declares, and what is known of those that it does not.

use std::collections::BTreeMap;

use holm_lanes::Field;

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
}

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
                Refusal::new(self.span, message)
            })
        };
        names.split(',').map(place).collect()
    }

    /// The columns of its key.
    #[must_use]
    pub fn key(&self) -> &[String] {
        &self.key
    }
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
