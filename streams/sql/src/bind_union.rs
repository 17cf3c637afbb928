//! UNION ALL: the rows of several SELECTs, under the names of the first.

use holm_engine::Node;
use holm_lanes::{Expr, Kind};

use crate::bind::{Binder, no_limit};
use crate::coerce::{Typed, common};
use crate::refusal::{Refusal, Span};
use crate::relation::{Column, Relation};
use crate::syntax::{Item, Query};

impl Binder<'_> {
    pub(crate) fn union(&mut self, first: Relation, query: &Query) -> Result<Relation, Refusal> {
        let mut parts = vec![first];
        for part in &query.union {
            parts.push(self.select(part)?.relation);
        }
        if let Some(ranked) = parts.iter().find_map(|part| part.ranked.as_ref()) {
            return Err(no_limit(ranked.span));
        }
        let mut kinds: Vec<Kind> = parts[0].columns.iter().map(|column| column.kind).collect();
        for (part, query) in parts[1..].iter().zip(&query.union) {
            fit(&mut kinds, part, query)?;
        }
        let columns = kinds.iter().enumerate().map(|(at, kind)| {
            let each = || parts.iter().map(|part| &part.columns[at]);
            Column {
                qualifier: None,
                name: parts[0].columns[at].name.clone(),
                kind: *kind,
                nullable: each().any(|column| column.nullable),
                is_time: each().all(|column| column.is_time && column.kind == *kind),
            }
        });
        let columns: Vec<Column> = columns.collect();
        let is_in_all = |window: &(usize, usize)| {
            let mut rest = parts[1..].iter();
            rest.all(|part| part.windows.contains(window))
        };
        let windows = parts[0].windows.iter().copied().filter(is_in_all);
        let windows = windows.collect();
        let names: Vec<&str> = parts.iter().map(|part| part.of.as_str()).collect();
        let (of, is_bounded) = (names.join(", "), parts.iter().all(|part| part.is_bounded));
        let inputs = parts.iter().map(|part| self.as_kinds(part, &kinds));
        let inputs = inputs.collect();
        Ok(Relation {
            node: self.add(Node::Union { inputs }, kinds),
            columns,
            windows,
            pending: None,
            ranked: None,
            is_bounded,
            of,
        })
    }

    /// The node that gives the columns of a part as these kinds.
    fn as_kinds(&mut self, part: &Relation, kinds: &[Kind]) -> usize {
        if self.kinds[part.node] == kinds {
            return part.node;
        }
        let columns = part.columns.iter().zip(kinds).enumerate();
        let columns = columns.map(|(at, (column, kind))| {
            let value = Typed {
                expr: Expr::Column(at),
                kind: column.kind,
                nullable: column.nullable,
                span: Span::default(),
            };
            (value.cast(*kind), column.name.clone(), column.is_time)
        });
        let columns = columns.collect();
        self.project(part, columns).node
    }
}

/// Widens kinds to those of one more SELECT.
fn fit(kinds: &mut [Kind], part: &Relation, query: &Query) -> Result<(), Refusal> {
    if part.columns.len() != kinds.len() {
        let (here, before) = (part.columns.len(), kinds.len());
        let message = format!("{here} columns here, and {before} before UNION ALL");
        return Err(Refusal::new(query.span, message));
    }
    for (at, (kind, column)) in kinds.iter_mut().zip(&part.columns).enumerate() {
        *kind = common(*kind, column.kind).ok_or_else(|| {
            let message = format!(
                "column {} is {} here and {kind} before; CAST one",
                at + 1,
                column.kind
            );
            Refusal::new(place(query, at), message)
        })?;
    }
    Ok(())
}

/// Where a column of a SELECT stands, if it can be told.
fn place(query: &Query, at: usize) -> Span {
    let is_star = |item: &Item| matches!(item, Item::Star(..));
    match query.items.get(at) {
        Some(Item::Term(term, _)) if !query.items.iter().any(is_star) => term.span,
        Some(_) | None => query.span,
    }
}
