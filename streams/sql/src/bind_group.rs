//! GROUP BY, HAVING and the aggregates of a SELECT.

use holm_engine::{Node, WindowKind};
use holm_lanes::{Expr, Kind};

use crate::bind::{Binder, name_of};
use crate::bind_expression::{Groups, Scope};
use crate::bind_source::before;
use crate::coerce::Typed;
use crate::refusal::{Refusal, Span};
use crate::relation::{Column, Relation};
use crate::sort::{self, By, Selected};
use crate::syntax::{Item, Query};

/// What a GROUP BY names.
#[derive(Debug, Default)]
struct Named {
    keys: Vec<Typed>,
    start: Option<usize>,
    end: Option<usize>,
    time: Option<usize>,
}

/// Values with their names, and whether they are event time.
type Columns = Vec<(Typed, String, bool)>;

impl Binder<'_> {
    pub(crate) fn group(&mut self, query: &Query, relation: Relation) -> Result<Selected, Refusal> {
        let named = self.named_keys(query, &relation)?;
        let has_window = named.start.is_some();
        let physical = self.kinds[relation.node].len();
        let offset = if has_window { 2 } else { 0 };
        let mut groups = Groups {
            terms: Vec::new(),
            added: Vec::new(),
            calls: Vec::new(),
            first: offset + named.keys.len(),
            spans: Vec::new(),
            input: relation,
        };
        let mut keys = Vec::new();
        for (at, key) in named.keys.iter().enumerate() {
            groups.terms.push((key.expr.clone(), offset + at, key.kind));
            keys.push(place(&mut groups, physical, key.clone()));
        }
        for (start, end) in groups.input.windows.clone() {
            let kind = groups.input.columns[start].kind;
            groups.terms.push((Expr::Column(start), 0, kind));
            groups.terms.push((Expr::Column(end), 1, kind));
        }
        // The place of window_time is known when all results are; until then it is the last.
        if let Some(time) = named.time {
            let kind = groups.input.columns[time].kind;
            groups.terms.push((Expr::Column(time), usize::MAX, kind));
        }
        let (columns, order, visible) = self.listed(query, &mut groups)?;
        let having = query.having.as_ref();
        let having = having
            .map(|term| self.boolean(term, &mut Scope::Groups(&mut groups)))
            .transpose()?;
        let mut grouped = self.grouped(&groups, keys, has_window, query.span)?;
        if let Some(time) = named.time {
            let kind = groups.input.columns[time].kind;
            grouped = self.with_time(grouped, kind);
        }
        let last = self.kinds[grouped.node].len().saturating_sub(1);
        let settle = |mut expr: Expr| {
            if let Expr::Column(at) = &mut expr
                && *at == usize::MAX
            {
                *at = last;
            }
            expr
        };
        if let Some(having) = having {
            grouped = self.filter(grouped, settle(having.expr));
        }
        let columns = columns
            .into_iter()
            .map(|(value, name, _)| {
                let is_time = named.time.is_some() && value.expr == Expr::Column(usize::MAX);
                let expr = settle(value.expr);
                (Typed { expr, ..value }, name, is_time)
            })
            .collect();
        Ok(Selected {
            relation: self.project(&grouped, columns),
            order,
            visible,
        })
    }

    /// The columns of a SELECT among groups, those that it is put in order by, and how many of them
    /// are shown.
    fn listed(
        &mut self,
        query: &Query,
        groups: &mut Groups,
    ) -> Result<(Columns, Vec<usize>, usize), Refusal> {
        let mut columns = Vec::new();
        for item in &query.items {
            let Item::Term(term, alias) = item else {
                let span = query.span;
                return Err(Refusal::new(
                    span,
                    "* has no meaning among groups; name the columns",
                ));
            };
            let value = self.term(term, &mut Scope::Groups(groups))?;
            columns.push((value, name_of(term, alias.as_ref(), columns.len()), false));
        }
        let visible = columns.len();
        let mut order = Vec::new();
        for by in sort::terms(query)? {
            order.push(match by {
                By::Place(place, span) => sort::within(place, visible, span)?,
                By::Term(term) => {
                    let value = self.term(&term, &mut Scope::Groups(groups))?;
                    sort::place(&mut columns, value)
                }
            });
        }
        Ok((columns, order, visible))
    }

    fn named_keys(&mut self, query: &Query, relation: &Relation) -> Result<Named, Refusal> {
        let mut named = Named::default();
        let mut window_span = query.span;
        for term in &query.group {
            let value = self.term(term, &mut Scope::Rows(relation))?;
            let is = |side: fn(&(usize, usize)) -> usize| {
                relation
                    .windows
                    .iter()
                    .map(side)
                    .find(|at| value.expr == Expr::Column(*at))
            };
            if let Some(start) = is(|window| window.0) {
                (named.start, window_span) = (Some(start), term.span);
            } else if let Some(end) = is(|window| window.1) {
                (named.end, window_span) = (Some(end), term.span);
            } else if let Expr::Column(at) = value.expr
                && relation.columns[at].name == "window_time"
                && !relation.windows.is_empty()
            {
                named.time = Some(at);
            } else {
                named.keys.push(value);
            }
        }
        if named.start.is_some() != named.end.is_some() {
            let message = "a window is its start and its end: GROUP BY window_start, window_end";
            return Err(Refusal::new(window_span, message));
        }
        if named.start.is_none() && named.time.is_some() {
            let message = "GROUP BY window_start, window_end, window_time";
            return Err(Refusal::new(query.span, message));
        }
        if named.start.is_none()
            && let Some(pending) = &relation.pending
        {
            let message = "rows in windows are grouped by them: GROUP BY window_start, window_end";
            return Err(Refusal::new(pending.span, message));
        }
        if named.start.is_none() && !relation.is_bounded {
            return Err(endless(query, relation));
        }
        Ok(named)
    }

    fn grouped(
        &mut self,
        groups: &Groups,
        keys: Vec<usize>,
        has_window: bool,
        span: Span,
    ) -> Result<Relation, Refusal> {
        let relation = &groups.input;
        let mut input = relation.node;
        let mut kinds = self.kinds[input].clone();
        if !groups.added.is_empty() {
            let mut columns: Vec<Expr> = (0..kinds.len()).map(Expr::Column).collect();
            columns.extend(groups.added.iter().map(|value| value.expr.clone()));
            kinds.extend(groups.added.iter().map(|value| value.kind));
            input = self.add(Node::Project { input, columns }, kinds.clone());
        }
        let mut out = Vec::new();
        if let (true, Some((start, end))) = (has_window, relation.windows.first()) {
            out.extend([relation.columns[*start].kind, relation.columns[*end].kind]);
        }
        out.extend(keys.iter().map(|key| kinds[*key]));
        out.extend(groups.calls.iter().map(|call| call.aggregate.gives()));
        let node = match (&relation.pending, has_window) {
            (Some(pending), true) => {
                if let WindowKind::Session(_) = pending.kind {
                    let mut wanted = pending.partition.clone();
                    let mut have = keys.clone();
                    wanted.sort_unstable();
                    have.sort_unstable();
                    if wanted != have {
                        let message = "sessions are grouped by window_start, window_end and what they are PARTITIONed BY, and by nothing else";
                        return Err(Refusal::new(pending.span.to(pending.span), message));
                    }
                }
                Node::Window {
                    input,
                    kind: pending.kind,
                    time: pending.time,
                    keys,
                    calls: groups.calls.clone(),
                    strategy: self.known.strategy,
                }
            }
            (_, has_window) => Node::Group {
                input,
                window: has_window.then(|| relation.windows[0]),
                keys,
                calls: groups.calls.clone(),
            },
        };
        let columns = out.iter().map(|kind| Column {
            qualifier: None,
            name: String::new(),
            kind: *kind,
            nullable: true,
            is_time: false,
        });
        let columns = columns.collect();
        if out.is_empty() {
            return Err(Refusal::new(span, "a group without a column"));
        }
        Ok(Relation {
            node: self.add(node, out),
            columns,
            windows: if has_window { vec![(0, 1)] } else { Vec::new() },
            pending: None,
            ranked: None,
            is_bounded: relation.is_bounded,
            of: relation.of.clone(),
        })
    }

    fn with_time(&mut self, mut relation: Relation, kind: Kind) -> Relation {
        let mut kinds = self.kinds[relation.node].clone();
        let mut columns: Vec<Expr> = (0..kinds.len()).map(Expr::Column).collect();
        columns.push(before(1, kind));
        kinds.push(kind);
        let input = relation.node;
        relation.node = self.add(Node::Project { input, columns }, kinds);
        relation
    }
}

/// The column of a value for the aggregates: its own, or one that is added.
pub(crate) fn place(groups: &mut Groups, physical: usize, value: Typed) -> usize {
    if let Expr::Column(at) = value.expr {
        return at;
    }
    let same = groups
        .added
        .iter()
        .position(|other| other.expr == value.expr);
    physical
        + same.unwrap_or_else(|| {
            groups.added.push(value);
            groups.added.len() - 1
        })
}

fn endless(query: &Query, relation: &Relation) -> Refusal {
    let (span, what) = match query.group.as_slice() {
        [] => (query.span, "an aggregate".to_owned()),
        [first, .., last] | [first @ last] => {
            let name = if let crate::syntax::Node::Column(_, name) = &first.node {
                name.text.as_str()
            } else {
                "an expression"
            };
            (first.span.to(last.span), format!("GROUP BY {name}"))
        }
    };
    let message = format!(
        "{what} over unbounded {} has no window and never ends; use TUMBLE, HOP, CUMULATE or SESSION",
        relation.of
    );
    Refusal::new(span, message)
}
