//! Rows as names see them: columns with kinds, and the windows that they carry.

use holm_engine::WindowKind;
use holm_lanes::Kind;

use crate::refusal::{Refusal, Span, nearest};
use crate::syntax::Word;

/// A column of a relation.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) qualifier: Option<String>,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// Whether it is event time, with a watermark.
    pub(crate) is_time: bool,
}

/// A window function whose rows are not yet in windows.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) kind: WindowKind,
    pub(crate) time: usize,
    pub(crate) partition: Vec<usize>,
    pub(crate) span: Span,
}

/// ROW_NUMBER() that waits for its outer WHERE.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    /// Where the number stands among the columns.
    pub(crate) place: usize,
    pub(crate) window: (usize, usize),
    pub(crate) keys: Vec<usize>,
    pub(crate) order: Vec<(usize, bool)>,
    pub(crate) span: Span,
}

/// What a source gives.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) node: usize,
    pub(crate) columns: Vec<Column>,
    /// Pairs of columns that are the start and end of a row's window.
    pub(crate) windows: Vec<(usize, usize)>,
    pub(crate) pending: Option<Pending>,
    pub(crate) ranked: Option<Ranked>,
    /// Whether its rows end.
    pub(crate) is_bounded: bool,
    /// The table that it is, for messages.
    pub(crate) of: String,
}

impl Relation {
    /// The place of a column by its name.
    pub(crate) fn find(&self, qualifier: Option<&Word>, name: &Word) -> Result<usize, Refusal> {
        let fits = |column: &Column| {
            let qualified = qualifier.is_none_or(|wanted| {
                column
                    .qualifier
                    .as_ref()
                    .is_some_and(|have| wanted.is(have))
            });
            qualified && name.is(&column.name)
        };
        let mut found = (0..self.columns.len()).filter(|at| fits(&self.columns[*at]));
        let Some(first) = found.next() else {
            return Err(self.missing(qualifier, name));
        };
        if found.next().is_some() {
            let message = format!("`{0}` is in both; write table.{0}", name.text);
            return Err(Refusal::new(name.span, message));
        }
        Ok(first)
    }

    fn missing(&self, qualifier: Option<&Word>, name: &Word) -> Refusal {
        if let Some(word) = qualifier {
            let has = |column: &Column| column.qualifier.as_ref().is_some_and(|have| word.is(have));
            if !self.columns.iter().any(has) {
                let message = format!("there is no table `{}` here", word.text);
                return Refusal::new(word.span, message);
            }
        }
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let advice = match nearest(&name.text, names()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => {
                let names: Vec<&str> = names().take(12).collect();
                format!("; there are {}", names.join(", "))
            }
        };
        Refusal::new(
            name.span,
            format!("there is no column `{}`{advice}", name.text),
        )
    }

    /// Gives all columns another table's name.
    pub(crate) fn called(mut self, alias: Option<&Word>) -> Self {
        if let Some(alias) = alias {
            for column in &mut self.columns {
                column.qualifier = Some(alias.text.clone());
            }
            self.of.clone_from(&alias.text);
        }
        self
    }
}
