//! What stands behind FROM: tables, views, queries, window functions, ROW_NUMBER.

use holm_engine::{Node, Source as Input, WindowKind};
use holm_lanes::{Comparison, Expr, Field, Kind};
use holm_window::{Grid, GridError, PANES_MAX};

use crate::bind::{Binder, no_limit};
use crate::bind_expression::Scope;
use crate::catalog::Table;
use crate::coerce::Typed;
use crate::explain::length;
use crate::refusal::{Refusal, Span, nearest};
use crate::relation::{Column, Pending, Ranked, Relation};
use crate::syntax::{Node as Ast, Over, Query, Source, Term, WindowName, Word};

/// The longest bound on disorder: beyond it times would leave their range.
const BOUND_MAX: i64 = 100 * 366 * 86_400_000_000;

impl Binder<'_> {
    pub(crate) fn source(&mut self, source: &Source) -> Result<Relation, Refusal> {
        match source {
            Source::Named { name, as_of, alias } => {
                if let Some(word) = as_of {
                    let message = "a table AS OF a time stands behind JOIN";
                    return Err(Refusal::new(word.span, message));
                }
                let relation = self.named(name)?;
                Ok(relation.called(Some(alias.as_ref().unwrap_or(name))))
            }
            Source::Query { query, alias } => Ok(self.query(query)?.called(alias.as_ref())),
            Source::Window {
                name,
                of,
                partition,
                time,
                lengths,
                alias,
                span,
            } => {
                let relation = self.named(of)?.called(Some(of));
                let relation = self.window(relation, (*name, *span), partition, (time, lengths))?;
                Ok(relation.called(alias.as_ref()))
            }
        }
    }

    fn view(&self, name: &Word) -> Option<Query> {
        let key = name.text.to_lowercase();
        let with = self.scopes.iter().rev().find_map(|scope| scope.get(&key));
        let views = &self.script.views;
        with.or_else(|| {
            views
                .iter()
                .find(|(word, _)| word.is(&name.text))
                .map(|(_, query)| query)
        })
        .cloned()
    }

    pub(crate) fn table(&self, name: &Word) -> Option<&Table> {
        self.script.tables.iter().find(|table| name.is(&table.name))
    }

    fn named(&mut self, name: &Word) -> Result<Relation, Refusal> {
        if let Some(query) = self.view(name) {
            let mut relation = self.query(&query)?;
            relation.of.clone_from(&name.text);
            return Ok(relation);
        }
        let existing = self.sources.iter().position(|source| name.is(&source.name));
        if let Some(source) = existing {
            return Ok(self.relation_of(source, name));
        }
        let source = match self.table(name).cloned() {
            Some(table) => self.declared(&table)?,
            None => self.undeclared(name)?,
        };
        self.sources.push(source);
        let source = self.sources.len() - 1;
        let described = &self.sources[source];
        let computed = described.computed.iter().map(|(field, _)| field);
        let kinds = described
            .fields
            .iter()
            .chain(computed)
            .map(|field| field.kind);
        let kinds: Vec<Kind> = kinds.collect();
        let time = described.time;
        let input = self.add(Node::Source(source), kinds.clone());
        let table = self.table(name).cloned();
        let columns = table.map(|table| table.repeats()).transpose()?;
        if let Some(columns) = columns.filter(|columns| !columns.is_empty()) {
            let node = Node::Unrepeated {
                input,
                columns,
                time,
            };
            self.add(node, kinds);
        }
        Ok(self.relation_of(source, name))
    }

    fn declared(&mut self, table: &Table) -> Result<Input, Refusal> {
        let refused = |message: String| Err(Refusal::new(table.span, message));
        let mut input = Input {
            name: table.name.clone(),
            fields: table.fields.clone(),
            computed: Vec::new(),
            time: None,
            bound: 0,
            keeps_late: false,
        };
        match table.options.get("late").map(String::as_str) {
            None | Some("drop") => {}
            Some("side") => input.keeps_late = true,
            Some(other) => {
                let message = format!("'late' is 'drop' or 'side', not '{other}'");
                return Err(Refusal::new(table.place("late"), message));
            }
        }
        table.checked()?;
        if let Some(idle) = table.idle()? {
            self.idle.insert(table.name.clone(), idle);
        }
        let mut relation = self.shape_of(&input, &table.name);
        for (name, term) in &table.computed {
            let value = self.term(term, &mut Scope::Rows(&relation))?;
            let field = Field {
                name: name.text.clone(),
                kind: value.kind,
                nullable: value.nullable,
            };
            input.computed.push((field, value.expr));
        }
        relation = self.shape_of(&input, &table.name);
        if let Some((column, bound)) = &table.time {
            let at = relation.find(None, column)?;
            let kind = relation.columns[at].kind;
            if !kind.is_time() {
                let message = format!("event time is a TIMESTAMP, {} is {kind}", column.text);
                return Err(Refusal::new(column.span, message));
            }
            input.time = Some(at);
            input.bound = self.known.late.unwrap_or(*bound);
        }
        if !(0..BOUND_MAX).contains(&input.bound) {
            return refused("the bound on disorder is from 0 to 100 years".to_owned());
        }
        Ok(input)
    }

    fn undeclared(&self, name: &Word) -> Result<Input, Refusal> {
        let shapes = &self.known.shapes;
        let Some((_, shape)) = shapes.iter().find(|(key, _)| name.is(key)) else {
            let tables = self.script.tables.iter().map(|table| table.name.as_str());
            let views = self.script.views.iter().map(|(word, _)| word.text.as_str());
            let near = nearest(&name.text, tables.chain(views).chain(["stdin"]));
            let advice = near.map_or_else(
                || "; CREATE TABLE it, or read stdin".to_owned(),
                |near| format!("; did you mean `{near}`?"),
            );
            let message = format!("there is no table `{}`{advice}", name.text);
            return Err(Refusal::new(name.span, message));
        };
        let time = shape.time.as_ref().and_then(|time| {
            let is_it = |field: &Field| field.name.eq_ignore_ascii_case(time);
            shape.fields.iter().position(is_it)
        });
        Ok(Input {
            name: name.text.clone(),
            fields: shape.fields.clone(),
            computed: Vec::new(),
            time,
            bound: self.known.late.unwrap_or(shape.bound).clamp(0, BOUND_MAX),
            keeps_late: false,
        })
    }

    fn shape_of(&self, input: &Input, name: &str) -> Relation {
        let computed = input.computed.iter().map(|(field, _)| field);
        let columns = input.fields.iter().chain(computed).enumerate();
        Relation {
            node: 0,
            columns: columns
                .map(|(at, field)| Column {
                    qualifier: Some(name.to_owned()),
                    name: field.name.clone(),
                    kind: field.kind,
                    nullable: field.nullable,
                    is_time: input.time == Some(at),
                })
                .collect(),
            windows: Vec::new(),
            pending: None,
            ranked: None,
            is_bounded: self.known.is_bounded(name),
            of: name.to_owned(),
        }
    }

    fn relation_of(&self, source: usize, name: &Word) -> Relation {
        let mut relation = self.shape_of(&self.sources[source], &name.text);
        let is_it = |node: &Node| matches!(node, Node::Source(own) if *own == source);
        let own = self.nodes.iter().position(is_it).unwrap_or(0);
        let is_behind =
            |node: &Node| matches!(node, Node::Unrepeated { input, .. } if *input == own);
        let behind = self.nodes.iter().position(is_behind);
        relation.node = behind.unwrap_or(own);
        relation
    }

    /// A window function over rows: they get three more columns, once they are in windows.
    fn window(
        &mut self,
        mut relation: Relation,
        (name, span): (WindowName, Span),
        partition: &[Word],
        (time, lengths): (&Word, &[(i64, Span)]),
    ) -> Result<Relation, Refusal> {
        if let Some(ranked) = &relation.ranked {
            return Err(no_limit(ranked.span));
        }
        let at = relation.find(None, time)?;
        if !relation.columns[at].is_time {
            let of = &relation.of;
            let message = format!(
                "{0} of {of} has no watermark; declare WATERMARK FOR {0} AS {0} - INTERVAL '5' SECOND, or run with --time {0}",
                time.text
            );
            return Err(Refusal::new(time.span, message));
        }
        let kind = kind_of(name, lengths, span)?;
        let mut columns = Vec::new();
        for word in partition {
            if name != WindowName::Session {
                let message = "PARTITION BY belongs to SESSION; GROUP BY the column instead";
                return Err(Refusal::new(word.span, message));
            }
            columns.push(relation.find(None, word)?);
        }
        let kind_of_time = relation.columns[at].kind;
        let first = relation.columns.len();
        for (added, is_time) in [
            ("window_start", false),
            ("window_end", false),
            ("window_time", true),
        ] {
            relation.columns.push(Column {
                qualifier: relation.columns[at].qualifier.clone(),
                name: added.to_owned(),
                kind: kind_of_time,
                nullable: false,
                is_time,
            });
        }
        relation.columns[at].is_time = false;
        relation.windows = vec![(first, first + 1)];
        relation.pending = Some(Pending {
            kind,
            time: at,
            partition: columns,
            span,
        });
        Ok(relation)
    }

    /// Copies each row into its windows, where that cannot wait for the groups.
    pub(crate) fn assign(&mut self, mut relation: Relation) -> Result<Relation, Refusal> {
        let Some(pending) = relation.pending.take() else {
            return Ok(relation);
        };
        let WindowKind::Grid(grid) = pending.kind else {
            let message = "rows of a SESSION are known only when it has ended: GROUP BY window_start, window_end";
            return Err(Refusal::new(pending.span, message));
        };
        let width = relation.columns.len() - 3;
        let mut kinds = self.kinds[relation.node].clone();
        let time = relation.columns[pending.time].kind;
        kinds.extend([time, time]);
        let node = Node::Assign {
            input: relation.node,
            grid,
            time: pending.time,
        };
        let node = self.add(node, kinds.clone());
        let mut columns: Vec<Expr> = (0..width + 2).map(Expr::Column).collect();
        columns.push(before(width + 1, time));
        kinds.push(time);
        relation.node = self.add(
            Node::Project {
                input: node,
                columns,
            },
            kinds,
        );
        Ok(relation)
    }

    /// ROW_NUMBER() OVER (...): hidden columns decide, and the number comes with the limit.
    pub(crate) fn ranked(
        &mut self,
        relation: &Relation,
        columns: Vec<(Typed, String, bool)>,
        (place, name): (usize, String),
        over: &Over,
    ) -> Result<Relation, Refusal> {
        let visible = columns.len();
        let mut all = columns;
        let mut hidden = |value: Typed| {
            all.push((value, String::new(), false));
            all.len() - 1
        };
        let (mut start, mut end, mut keys, mut order) = (None, None, Vec::new(), Vec::new());
        for term in &over.partition {
            let value = self.term(term, &mut Scope::Rows(relation))?;
            let is = |side: fn(&(usize, usize)) -> usize| {
                relation
                    .windows
                    .iter()
                    .any(|window| value.expr == Expr::Column(side(window)))
            };
            let (is_start, is_end) = (is(|window| window.0), is(|window| window.1));
            let at = hidden(value);
            if is_start {
                start = Some(at);
            } else if is_end {
                end = Some(at);
            } else {
                keys.push(at);
            }
        }
        let (Some(start), Some(end)) = (start, end) else {
            let message = "PARTITION BY window_start, window_end of a window function's rows: other numbers never end";
            return Err(Refusal::new(over.span, message));
        };
        for (term, falls) in &over.order {
            let value = self.term(term, &mut Scope::Rows(relation))?;
            order.push((hidden(value), *falls));
        }
        let mut ranked = self.project(relation, all);
        ranked
            .windows
            .retain(|(left, right)| *left < visible && *right < visible);
        ranked.columns.truncate(visible);
        let column = Column {
            qualifier: None,
            name,
            kind: Kind::BigInt,
            nullable: false,
            is_time: false,
        };
        ranked.columns.insert(place, column);
        let moved = |at: usize| if at >= place { at + 1 } else { at };
        for (left, right) in &mut ranked.windows {
            (*left, *right) = (moved(*left), moved(*right));
        }
        ranked.ranked = Some(Ranked {
            place,
            window: (start, end),
            keys,
            order,
            span: over.span,
        });
        Ok(ranked)
    }

    /// Takes `place <= k` out of the conditions, and the first k rows out of each window.
    pub(crate) fn rank(
        &mut self,
        mut relation: Relation,
        conditions: &mut Vec<&Term>,
    ) -> Result<Relation, Refusal> {
        let Some(ranked) = relation.ranked.take() else {
            return Ok(relation);
        };
        let name = relation.columns[ranked.place].name.clone();
        let found = conditions
            .iter()
            .position(|term| limit_of(term, &name).is_some());
        let Some(found) = found else {
            return Err(no_limit(ranked.span));
        };
        let count = limit_of(conditions.remove(found), &name).unwrap_or(0);
        let input = relation.node;
        let mut kinds = self.kinds[input].clone();
        let number = kinds.len();
        kinds.push(Kind::BigInt);
        let node = Node::Top {
            input,
            window: ranked.window,
            keys: ranked.keys,
            order: ranked.order,
            count,
        };
        let top = self.add(node, kinds);
        let columns: Vec<Expr> = (0..relation.columns.len())
            .map(|at| match at.cmp(&ranked.place) {
                std::cmp::Ordering::Less => Expr::Column(at),
                std::cmp::Ordering::Equal => Expr::Column(number),
                std::cmp::Ordering::Greater => Expr::Column(at - 1),
            })
            .collect();
        let kinds = relation.columns.iter().map(|column| column.kind).collect();
        relation.node = self.add(
            Node::Project {
                input: top,
                columns,
            },
            kinds,
        );
        Ok(relation)
    }
}

/// The microsecond-free moment before a window's end: its last millisecond.
pub(crate) fn before(end: usize, kind: Kind) -> Expr {
    Expr::Arithmetic {
        op: holm_lanes::Arithmetic::Subtract,
        left: Box::new((Expr::Column(end), kind)),
        right: Box::new((
            Expr::Literal(holm_lanes::Scalar::Int(1_000), Kind::Interval),
            Kind::Interval,
        )),
        kind,
    }
}

fn limit_of(term: &Term, name: &str) -> Option<usize> {
    let Ast::Compare(comparison, left, right) = &term.node else {
        return None;
    };
    let (Ast::Column(_, column), Ast::Number(number)) = (&left.node, &right.node) else {
        return None;
    };
    if !column.is(name) {
        return None;
    }
    let number: usize = number.parse().ok()?;
    match comparison {
        Comparison::LessOrEqual => Some(number),
        Comparison::Less => Some(number.saturating_sub(1)),
        Comparison::Equal => (number == 1).then_some(1),
        Comparison::NotEqual | Comparison::Greater | Comparison::GreaterOrEqual => None,
    }
}

fn kind_of(name: WindowName, lengths: &[(i64, Span)], span: Span) -> Result<WindowKind, Refusal> {
    let usage = |text: &str| Err(Refusal::new(span, format!("write {text}")));
    let value = |at: usize| lengths[at].0;
    let made = match (name, lengths.len()) {
        (WindowName::Tumble, 1 | 2) => {
            Grid::tumble(value(0), lengths.get(1).map_or(0, |length| length.0))
        }
        (WindowName::Hop, 2 | 3) => Grid::hop(
            value(0),
            value(1),
            lengths.get(2).map_or(0, |length| length.0),
        ),
        (WindowName::Cumulate, 2 | 3) => Grid::cumulate(
            value(0),
            value(1),
            lengths.get(2).map_or(0, |length| length.0),
        ),
        (WindowName::Session, 1) if value(0) > 0 => return Ok(WindowKind::Session(value(0))),
        (WindowName::Session, 1) => Err(GridError::NotPositive),
        (WindowName::Tumble, _) => {
            return usage("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL 'size' SECOND)");
        }
        (WindowName::Hop, _) => {
            return usage(
                "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL 'slide' SECOND, INTERVAL 'size' SECOND)",
            );
        }
        (WindowName::Cumulate, _) => {
            return usage(
                "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL 'step' SECOND, INTERVAL 'size' SECOND)",
            );
        }
        (WindowName::Session, _) => {
            return usage(
                "SESSION(TABLE t PARTITION BY key, DESCRIPTOR(ts), INTERVAL 'gap' SECOND)",
            );
        }
    };
    let whole = lengths
        .iter()
        .map(|(_, span)| *span)
        .reduce(Span::to)
        .unwrap_or(span);
    made.map(WindowKind::Grid).map_err(|error| {
        let message = match error {
            GridError::NotPositive => "a window's lengths are longer than nothing".to_owned(),
            GridError::NoMultiple => format!(
                "the size {} is no multiple of the step {}",
                length(value(1)),
                length(value(0))
            ),
            GridError::TooManyPanes { panes, pane } => format!(
                "window {}, slide {} need {panes} panes of {}; the limit is {PANES_MAX}",
                length(value(1.min(lengths.len() - 1))),
                length(value(0)),
                length(pane)
            ),
        };
        Refusal::new(whole, message)
    })
}
