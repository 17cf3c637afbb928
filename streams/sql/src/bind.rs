//! What a script means: queries become nodes of a plan.

use std::collections::BTreeMap;

use holm_engine::{Node, Plan, Source};
use holm_lanes::{Expr, Field, Kind};

use crate::bind_expression::Scope;
use crate::catalog::{Known, Table};
use crate::coerce::Typed;
use crate::needed;
use crate::refusal::{Refusal, Span};
use crate::relation::{Column, Relation};
use crate::sort::{self, By, Selected};
use crate::syntax::{Asked, Item, Node as Ast, Otherwise, Query, Script, Term};

/// A plan, and where its rows come from and go to.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What is to be done.
    pub plan: Plan,
    /// For each source and each of its columns, whether anything reads it.
    pub needed: Vec<Vec<bool>>,
    /// For each source after how much silence it is left out of watermarks, in microseconds.
    pub idle: Vec<Option<i64>>,
    /// For each source and each of its columns what its connector calls it, if it stands beside the
    /// rows.
    pub beside: Vec<Vec<Option<String>>>,
    /// The tables that rows are enriched from, with their columns.
    pub tables: Vec<(String, Vec<Field>)>,
    /// The table that rows go into.
    pub into: Option<Table>,
    /// Its statement, as it stands in the text.
    pub text: String,
}

/// Makes a plan of a script that has one query.
///
/// # Errors
///
/// A refusal that points at what is wrong.
pub fn plan(script: &Script, known: &Known) -> Result<Planned, Refusal> {
    if let Some(second) = script.queries.get(1) {
        let message =
            "a second query; several INSERTs of one text are kept by `holm stream create`";
        return Err(Refusal::new(second.span, message).of(&script.text));
    }
    let first = script.queries.first().expect("a text has a query");
    bound(script, known, first)
}

/// Makes a plan of each query of a script, in their order.
///
/// # Errors
///
/// A refusal that points at what is wrong.
pub fn plans(script: &Script, known: &Known) -> Result<Vec<Planned>, Refusal> {
    let queries = script.queries.iter();
    queries.map(|asked| bound(script, known, asked)).collect()
}

fn bound(script: &Script, known: &Known, asked: &Asked) -> Result<Planned, Refusal> {
    let mut binder = Binder {
        script,
        known,
        sources: Vec::new(),
        nodes: Vec::new(),
        kinds: Vec::new(),
        tables: Vec::new(),
        scopes: Vec::new(),
        depth: 0,
        idle: BTreeMap::new(),
    };
    let bound = binder.bind(asked);
    bound.map_err(|refusal| refusal.of(&script.text))
}

#[derive(Debug)]
pub(crate) struct Binder<'a> {
    pub(crate) script: &'a Script,
    pub(crate) known: &'a Known,
    pub(crate) sources: Vec<Source>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) kinds: Vec<Vec<Kind>>,
    pub(crate) tables: Vec<(String, Vec<Field>)>,
    pub(crate) scopes: Vec<BTreeMap<String, Query>>,
    pub(crate) depth: usize,
    /// By the names of tables.
    pub(crate) idle: BTreeMap<String, i64>,
}

impl Binder<'_> {
    fn bind(&mut self, asked: &Asked) -> Result<Planned, Refusal> {
        let script = self.script;
        let mut relation = self.query(&asked.query)?;
        let into = asked.into.as_ref().map(|word| {
            let found = script.tables.iter().find(|table| word.is(&table.name));
            let message = format!(
                "there is no table `{}` to insert into; CREATE TABLE it",
                word.text
            );
            found
                .cloned()
                .ok_or_else(|| Refusal::new(word.span, message))
        });
        let into = into.transpose()?;
        if let (Some(table), Some(word)) = (&into, &asked.into) {
            relation = self.fit(relation, table, word.span)?;
        }
        if let Some(ranked) = &relation.ranked {
            return Err(no_limit(ranked.span));
        }
        if let Some(pending) = &relation.pending {
            return Err(Refusal::new(pending.span, "windows without a SELECT"));
        }
        let fields = relation
            .columns
            .iter()
            .map(|column| Field {
                name: column.name.clone(),
                kind: column.kind,
                nullable: column.nullable,
            })
            .collect();
        crate::push_down::filters(&mut self.nodes, &mut self.kinds);
        let plan = Plan {
            sources: std::mem::take(&mut self.sources),
            nodes: std::mem::take(&mut self.nodes),
            kinds: std::mem::take(&mut self.kinds),
            fields,
        };
        let idle = plan.sources.iter();
        let beside = plan.sources.iter().map(|source| {
            let mut tables = script.tables.iter();
            let table = tables.find(|table| table.name == source.name);
            table.map_or_else(|| vec![None; source.fields.len()], Table::beside)
        });
        Ok(Planned {
            beside: beside.collect(),
            needed: needed::columns(&plan),
            idle: idle.map(|it| self.idle.get(&it.name).copied()).collect(),
            plan,
            tables: std::mem::take(&mut self.tables),
            into,
            text: script.text[asked.span.start..asked.span.end].to_owned(),
        })
    }

    /// The columns of a query as those of the table that they go into.
    fn fit(&mut self, relation: Relation, table: &Table, span: Span) -> Result<Relation, Refusal> {
        let fields = table.written()?;
        if relation.columns.len() != fields.len() {
            let message = format!(
                "{} has {} columns, the query gives {}",
                table.name,
                fields.len(),
                relation.columns.len()
            );
            return Err(Refusal::new(span, message));
        }
        let mut columns = Vec::new();
        for (at, (column, field)) in relation.columns.iter().zip(fields).enumerate() {
            let fits = crate::coerce::common(column.kind, field.kind);
            if fits.is_none() {
                let message = format!(
                    "column {} of {} is {}, the query gives {}; CAST it",
                    field.name, table.name, field.kind, column.kind
                );
                return Err(Refusal::new(span, message));
            }
            let value = Typed {
                expr: Expr::Column(at),
                kind: column.kind,
                nullable: column.nullable,
                span,
            };
            let value = value.cast(field.kind);
            columns.push((value, field.name.clone(), false));
        }
        Ok(self.project(&relation, columns))
    }

    pub(crate) fn add(&mut self, node: Node, kinds: Vec<Kind>) -> usize {
        self.nodes.push(node);
        self.kinds.push(kinds);
        self.nodes.len() - 1
    }

    /// Other columns of the rows of a relation.
    pub(crate) fn project(
        &mut self,
        from: &Relation,
        columns: Vec<(Typed, String, bool)>,
    ) -> Relation {
        let kinds = columns.iter().map(|(value, ..)| value.kind).collect();
        let place = |wanted: usize| {
            columns
                .iter()
                .position(|(value, ..)| value.expr == Expr::Column(wanted))
        };
        let windows = from
            .windows
            .iter()
            .filter_map(|(start, end)| Some((place(*start)?, place(*end)?)))
            .collect();
        let described = columns.iter().map(|(value, name, is_time)| Column {
            qualifier: None,
            name: name.clone(),
            kind: value.kind,
            nullable: value.nullable,
            is_time: *is_time,
        });
        let described = described.collect();
        let node = Node::Project {
            input: from.node,
            columns: columns.into_iter().map(|(value, ..)| value.expr).collect(),
        };
        Relation {
            node: self.add(node, kinds),
            columns: described,
            windows,
            pending: None,
            ranked: None,
            is_bounded: from.is_bounded,
            of: from.of.clone(),
        }
    }

    pub(crate) fn filter(&mut self, mut relation: Relation, condition: Expr) -> Relation {
        let kinds = self.kinds[relation.node].clone();
        let node = Node::Filter {
            input: relation.node,
            condition,
        };
        relation.node = self.add(node, kinds);
        relation
    }

    pub(crate) fn query(&mut self, query: &Query) -> Result<Relation, Refusal> {
        const DEPTH_MAX: usize = 32;
        // Views that are named twice by views that are named twice ...
        const NODES_MAX: usize = 4_096;
        if self.nodes.len() > NODES_MAX {
            let message = format!("views that come to more than {NODES_MAX} steps");
            return Err(Refusal::new(query.span, message));
        }
        if self.depth >= DEPTH_MAX {
            let message = "views that name one another more than 32 levels deep, or in a circle";
            return Err(Refusal::new(query.span, message));
        }
        self.depth += 1;
        let mut names = BTreeMap::new();
        for (name, inner) in &query.with {
            names.insert(name.text.to_lowercase(), inner.clone());
        }
        self.scopes.push(names);
        let relation = self.whole(query);
        self.scopes.pop();
        self.depth -= 1;
        relation
    }

    /// All SELECTs of a query, in their order.
    fn whole(&mut self, query: &Query) -> Result<Relation, Refusal> {
        let selected = self.select(query)?;
        let selected = if query.union.is_empty() {
            selected
        } else {
            let united = self.union(selected.relation, query)?;
            self.sorted(united, query)?
        };
        if query.order.is_empty() && query.limit.is_none() {
            return Ok(selected.relation);
        }
        self.order(query, selected)
    }

    pub(crate) fn select(&mut self, query: &Query) -> Result<Selected, Refusal> {
        let mut relation = self.source(&query.from)?;
        for join in &query.joins {
            relation = self.join(relation, join)?;
        }
        let mut conditions = Vec::new();
        if let Some(condition) = &query.condition {
            split(condition, &mut conditions);
        }
        if relation.ranked.is_some() {
            relation = self.rank(relation, &mut conditions)?;
        }
        let is_grouped = !query.group.is_empty()
            || query.having.is_some()
            || query
                .items
                .iter()
                .any(|item| matches!(item, Item::Term(term, _) if has_aggregate(term)));
        if relation.pending.is_some() && !(is_grouped && can_fuse(&relation, &conditions)) {
            relation = self.assign(relation)?;
        }
        for condition in conditions {
            let value = self.condition(condition, &relation)?;
            relation = self.filter(relation, value);
        }
        if is_grouped {
            self.group(query, relation)
        } else {
            self.items(query, relation)
        }
    }

    pub(crate) fn condition(&mut self, term: &Term, relation: &Relation) -> Result<Expr, Refusal> {
        let value = self.term(term, &mut Scope::Rows(relation))?;
        if value.kind != Kind::Boolean {
            let message = format!("a condition is BOOLEAN, this is {}", value.kind);
            return Err(Refusal::new(value.span, message));
        }
        Ok(value.expr)
    }

    /// The columns of a SELECT without groups.
    fn items(&mut self, query: &Query, relation: Relation) -> Result<Selected, Refusal> {
        let mut columns: Vec<(Typed, String, bool)> = Vec::new();
        let mut ranked = None;
        for item in &query.items {
            match item {
                Item::Star(qualifier, span) => {
                    let before = columns.len();
                    for (at, column) in relation.columns.iter().enumerate() {
                        let wanted = qualifier.as_ref().is_none_or(|wanted| {
                            column
                                .qualifier
                                .as_ref()
                                .is_some_and(|have| wanted.is(have))
                        });
                        if wanted {
                            columns.push(column_of(&relation, at, *span));
                        }
                    }
                    if columns.len() == before {
                        return Err(Refusal::new(*span, "there is no such table here"));
                    }
                }
                Item::Term(term, alias) => {
                    if let Ast::Call(call) = &term.node
                        && let Some(over) = &call.over
                    {
                        if ranked.is_some() || !call.name.is("ROW_NUMBER") {
                            let message = "ROW_NUMBER() OVER (...) is built, once in a SELECT; nothing else is over";
                            return Err(Refusal::new(term.span, message));
                        }
                        let name = alias.as_ref().map_or("place", |alias| &alias.text);
                        ranked = Some((columns.len(), name.to_owned(), over));
                        continue;
                    }
                    let value = self.term(term, &mut Scope::Rows(&relation))?;
                    let name = name_of(term, alias.as_ref(), columns.len());
                    let is_time =
                        matches!(&value.expr, Expr::Column(at) if relation.columns[*at].is_time);
                    columns.push((value, name, is_time));
                }
            }
        }
        let relation = match ranked {
            None => {
                let (order, visible) = (sort::terms(query)?, columns.len());
                let order = order.iter().map(|by| match by {
                    By::Place(place, span) => sort::within(*place, visible, *span),
                    By::Term(term) => {
                        let value = self.term(term, &mut Scope::Rows(&relation))?;
                        Ok(sort::place(&mut columns, value))
                    }
                });
                let order = order.collect::<Result<_, _>>()?;
                let relation = self.project(&relation, columns);
                return Ok(Selected {
                    relation,
                    order,
                    visible,
                });
            }
            Some((place, name, over)) => self.ranked(&relation, columns, (place, name), over)?,
        };
        Ok(Selected {
            visible: relation.columns.len(),
            order: Vec::new(),
            relation,
        })
    }
}

pub(crate) fn no_limit(span: Span) -> Refusal {
    let message =
        "ROW_NUMBER needs an outer WHERE that bounds it: SELECT ... FROM (...) WHERE place <= 3";
    Refusal::new(span, message)
}

/// Whether conditions can be applied before rows are in windows.
fn can_fuse(relation: &Relation, conditions: &[&Term]) -> bool {
    let is_of_window = |name: &str| {
        ["window_start", "window_end", "window_time"]
            .iter()
            .any(|it| it.eq_ignore_ascii_case(name))
    };
    let mut is_any = false;
    for condition in conditions {
        visit(condition, &mut |term| {
            if let Ast::Column(_, name) = &term.node {
                is_any |= is_of_window(&name.text);
            }
        });
    }
    relation.pending.is_some() && !is_any
}

/// The parts of a condition that must all hold.
pub(crate) fn split<'a>(term: &'a Term, parts: &mut Vec<&'a Term>) {
    if let Ast::And(left, right) = &term.node {
        split(left, parts);
        split(right, parts);
    } else {
        parts.push(term);
    }
}

/// Visits a term and all in it.
pub(crate) fn visit(term: &Term, seen: &mut dyn FnMut(&Term)) {
    seen(term);
    let mut each = |terms: &[&Term]| terms.iter().for_each(|term| visit(term, seen));
    match &term.node {
        Ast::Column(..)
        | Ast::Number(_)
        | Ast::Text(_)
        | Ast::Bytes(_)
        | Ast::Bool(_)
        | Ast::Null
        | Ast::Interval(_)
        | Ast::Typed(..) => {}
        Ast::Negate(value)
        | Ast::Not(value)
        | Ast::IsNull(value)
        | Ast::Cast(value, ..)
        | Ast::Extract(_, value) => each(&[value]),
        Ast::And(left, right)
        | Ast::Or(left, right)
        | Ast::Compare(_, left, right)
        | Ast::Compute(_, left, right)
        | Ast::Like(left, right, _) => each(&[left, right]),
        Ast::Between(value, low, high) => each(&[value, low, high]),
        Ast::In(value, list) => {
            each(&[value]);
            list.iter().for_each(|term| visit(term, seen));
        }
        Ast::Case(operand, branches, otherwise) => {
            operand
                .iter()
                .chain(otherwise)
                .for_each(|term| visit(term, seen));
            for (condition, result) in branches {
                visit(condition, seen);
                visit(result, seen);
            }
        }
        Ast::Json(json) => {
            visit(&json.text, seen);
            for otherwise in json.instead.iter().flatten() {
                if let Otherwise::Term(term) = otherwise {
                    visit(term, seen);
                }
            }
        }
        Ast::Call(call) => {
            call.arguments.iter().for_each(|term| visit(term, seen));
            call.filter.iter().for_each(|term| visit(term, seen));
        }
    }
}

/// Whether an aggregate is somewhere in a term.
pub(crate) fn has_aggregate(term: &Term) -> bool {
    let mut found = false;
    visit(term, &mut |term| {
        if let Ast::Call(call) = &term.node {
            found |= call.over.is_none() && crate::bind_call::is_aggregate(&call.name.text);
        }
    });
    found
}

pub(crate) fn column_of(relation: &Relation, at: usize, span: Span) -> (Typed, String, bool) {
    let column = &relation.columns[at];
    let value = Typed {
        expr: Expr::Column(at),
        kind: column.kind,
        nullable: column.nullable,
        span,
    };
    (value, column.name.clone(), column.is_time)
}

/// What a column of a SELECT is called.
pub(crate) fn name_of(term: &Term, alias: Option<&crate::syntax::Word>, place: usize) -> String {
    match (alias, &term.node) {
        (Some(alias), _) => alias.text.clone(),
        (None, Ast::Column(_, name)) => name.text.clone(),
        (None, _) => format!("EXPR${place}"),
    }
}
