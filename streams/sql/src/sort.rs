//! ORDER BY and LIMIT: by columns of the result, and by values that are computed for it alone.

use holm_engine::Node;

use crate::bind::{Binder, column_of, name_of};
use crate::bind_expression::Scope;
use crate::coerce::Typed;
use crate::refusal::{Refusal, Span};
use crate::relation::Relation;
use crate::syntax::{Item, Node as Ast, Query, Term, replace};

/// A SELECT with the columns that it is put in order by.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) relation: Relation,
    /// The column of each value of ORDER BY.
    pub(crate) order: Vec<usize>,
    /// How many columns are shown; those behind are for the order alone.
    pub(crate) visible: usize,
}

/// One value of ORDER BY.
#[derive(Debug)]
pub(crate) enum By {
    /// A column by its place, from zero.
    Place(usize, Span),
    /// A value, in which names of the SELECT stand for what they name.
    Term(Term),
}

/// The values that a query is put in order by; none where UNION ALL is put in order as a whole.
pub(crate) fn terms(query: &Query) -> Result<Vec<By>, Refusal> {
    if !query.union.is_empty() {
        return Ok(Vec::new());
    }
    let named = |name: &str| {
        let found = query.items.iter().enumerate().find_map(|(place, item)| {
            let Item::Term(term, alias) = item else {
                return None;
            };
            let is_it = name_of(term, alias.as_ref(), place).eq_ignore_ascii_case(name);
            is_it.then_some(&term.node)
        });
        found.cloned()
    };
    let terms = query.order.iter().map(|(term, _)| by(term, &named));
    terms.collect()
}

fn by(term: &Term, named: &dyn Fn(&str) -> Option<Ast>) -> Result<By, Refusal> {
    if let Ast::Number(number) = &term.node {
        let place = number.parse::<usize>().ok();
        let place = place.and_then(|place| place.checked_sub(1));
        return place
            .map(|place| By::Place(place, term.span))
            .ok_or_else(|| missing(term.span));
    }
    Ok(By::Term(replace(term, named)))
}

fn missing(span: Span) -> Refusal {
    Refusal::new(span, "there is no such column")
}

/// A place that is one of so many.
pub(crate) fn within(place: usize, columns: usize, span: Span) -> Result<usize, Refusal> {
    (place < columns)
        .then_some(place)
        .ok_or_else(|| missing(span))
}

/// The column that has a value: one that is there, or one more.
pub(crate) fn place(columns: &mut Vec<(Typed, String, bool)>, value: Typed) -> usize {
    let same = columns
        .iter()
        .position(|(have, ..)| have.expr == value.expr);
    same.unwrap_or_else(|| {
        columns.push((value, String::new(), false));
        columns.len() - 1
    })
}

impl Binder<'_> {
    /// Rows that are there, with what they are put in order by: only their own columns count.
    pub(crate) fn sorted(
        &mut self,
        relation: Relation,
        query: &Query,
    ) -> Result<Selected, Refusal> {
        let visible = relation.columns.len();
        let columns = (0..visible).map(|at| column_of(&relation, at, query.span));
        let mut columns: Vec<_> = columns.collect();
        let mut order = Vec::new();
        for (term, _) in &query.order {
            order.push(match by(term, &|_name| None)? {
                By::Place(place, span) => within(place, visible, span)?,
                By::Term(term) => {
                    let value = self.term(&term, &mut Scope::Rows(&relation))?;
                    place(&mut columns, value)
                }
            });
        }
        let relation = if columns.len() == visible {
            relation
        } else {
            self.project(&relation, columns)
        };
        Ok(Selected {
            relation,
            order,
            visible,
        })
    }

    /// Puts all rows in order when they have ended, and takes the first.
    pub(crate) fn order(&mut self, query: &Query, selected: Selected) -> Result<Relation, Refusal> {
        let Selected {
            mut relation,
            order,
            visible,
        } = selected;
        if let Some(ranked) = &relation.ranked {
            return Err(crate::bind::no_limit(ranked.span));
        }
        if !relation.is_bounded {
            let (word, span) = match (query.order.first(), query.limit) {
                (Some((term, _)), _) => ("ORDER BY", term.span),
                (None, limit) => ("LIMIT", limit.map_or(query.span, |(_, span)| span)),
            };
            let message = format!(
                "{word} is for input that ends, and {} does not; for the first rows of each window take ROW_NUMBER",
                relation.of
            );
            return Err(Refusal::new(span, message));
        }
        let falls = query.order.iter().map(|(_, falls)| *falls);
        let kinds = self.kinds[relation.node].clone();
        let node = Node::Order {
            input: relation.node,
            order: order.into_iter().zip(falls).collect(),
            limit: query.limit.map(|(limit, _)| limit),
        };
        relation.node = self.add(node, kinds);
        relation.windows.clear();
        relation
            .columns
            .iter_mut()
            .for_each(|column| column.is_time = false);
        if relation.columns.len() == visible {
            return Ok(relation);
        }
        let shown = (0..visible).map(|at| column_of(&relation, at, query.span));
        let shown = shown.collect();
        Ok(self.project(&relation, shown))
    }
}
