//! Joins: of rows with equal windows, and with a table that rows are enriched from.

use holm_engine::Node;
use holm_lanes::{Comparison, Expr};

use crate::bind::{Binder, split};
use crate::bind_expression::Scope;
use crate::catalog::Table;
use crate::refusal::Refusal;
use crate::relation::{Column, Relation};
use crate::syntax::{Join, Node as Ast, Source, Term, Word};

impl Binder<'_> {
    pub(crate) fn join(&mut self, left: Relation, join: &Join) -> Result<Relation, Refusal> {
        if let Some(ranked) = &left.ranked {
            return Err(crate::bind::no_limit(ranked.span));
        }
        if let Source::Named {
            name,
            as_of: Some(time),
            alias,
        } = &join.source
        {
            return self.lookup(left, join, (name, time, alias.as_ref()));
        }
        let left = self.assign(left)?;
        let right = self.source(&join.source)?;
        let right = self.assign(right)?;
        if let Some(ranked) = &right.ranked {
            return Err(crate::bind::no_limit(ranked.span));
        }
        let both = beside(&left, &right, join.keeps_left);
        let width = left.columns.len();
        let mut parts = Vec::new();
        split(&join.on, &mut parts);
        let (mut keys, mut rest) = (Vec::new(), None);
        for part in parts {
            if let Some((ours, theirs)) = self.equal(part, &both, width)? {
                keys.push((ours, theirs - width));
                continue;
            }
            let condition = self.condition(part, &both)?;
            rest = Some(match rest {
                None => condition,
                Some(before) => Expr::And(Box::new(before), Box::new(condition)),
            });
        }
        let mut find = |side: fn(&(usize, usize)) -> usize| {
            let found = keys.iter().position(|(ours, theirs)| {
                left.windows.iter().any(|window| side(window) == *ours)
                    && right.windows.iter().any(|window| side(window) == *theirs)
            });
            found.map(|at| keys.remove(at))
        };
        let (start, end) = (find(|window| window.0), find(|window| window.1));
        let (Some(start), Some(end)) = (start, end) else {
            let message = format!(
                "{0} JOIN {1} keeps every row for ever; bound it by windows: ON {0}.window_start = {1}.window_start AND {0}.window_end = {1}.window_end",
                left.of, right.of
            );
            return Err(Refusal::new(join.span.to(join.on.span), message));
        };
        same_kinds(&keys, (&left, &right), join)?;
        let node = Node::Join {
            inputs: (left.node, right.node),
            windows: ((start.0, end.0), (start.1, end.1)),
            keys,
            condition: rest,
            keeps_left: join.keeps_left,
        };
        Ok(self.joined(both, node, &left, &right))
    }

    fn joined(
        &mut self,
        mut both: Relation,
        node: Node,
        left: &Relation,
        right: &Relation,
    ) -> Relation {
        let mut kinds = self.kinds[left.node].clone();
        kinds.extend(self.kinds[right.node].iter().copied());
        both.node = self.add(node, kinds);
        both
    }

    /// The two columns of `a.x = b.y`, the left side's first.
    fn equal(
        &mut self,
        part: &Term,
        both: &Relation,
        width: usize,
    ) -> Result<Option<(usize, usize)>, Refusal> {
        let Ast::Compare(Comparison::Equal, one, other) = &part.node else {
            return Ok(None);
        };
        let one = self.term(one, &mut Scope::Rows(both))?;
        let other = self.term(other, &mut Scope::Rows(both))?;
        let (Expr::Column(one), Expr::Column(other)) = (one.expr, other.expr) else {
            return Ok(None);
        };
        let (first, second) = (one.min(other), one.max(other));
        Ok((first < width && second >= width).then_some((first, second)))
    }

    /// A table AS OF a time: all of it is there before the first row.
    fn lookup(
        &mut self,
        left: Relation,
        join: &Join,
        (name, time, alias): (&Word, &Word, Option<&Word>),
    ) -> Result<Relation, Refusal> {
        if left.pending.is_some() {
            let message = "enrich rows before they are in windows: in a view, as in FROM (SELECT ... JOIN ...)";
            return Err(Refusal::new(join.span, message));
        }
        let at = left.find(None, time).or_else(|_| {
            left.find(
                Some(&Word {
                    text: left.of.clone(),
                    span: time.span,
                }),
                time,
            )
        })?;
        if !left.columns[at].is_time {
            let message = format!("{} is no event time", time.text);
            return Err(Refusal::new(time.span, message));
        }
        let Some(table) = self.table(name).cloned() else {
            let message = format!(
                "there is no table `{}`; CREATE TABLE it with its PRIMARY KEY",
                name.text
            );
            return Err(Refusal::new(name.span, message));
        };
        plain(&table, name)?;
        let right = enriching(&table, alias.unwrap_or(name));
        let width = left.columns.len();
        let mut both = beside(&left, &right, join.keeps_left);
        both.windows.clone_from(&left.windows);
        let mut parts = Vec::new();
        split(&join.on, &mut parts);
        let mut keys = Vec::new();
        for part in parts {
            let Some((ours, theirs)) = self.equal(part, &both, width)? else {
                let message = "a table is joined by equal columns: ON a.x = t.key";
                return Err(Refusal::new(part.span, message));
            };
            if both.columns[ours].kind.shape() != both.columns[theirs].kind.shape() {
                return Err(Refusal::new(
                    part.span,
                    "the columns are of different kinds; CAST one in a view",
                ));
            }
            keys.push((ours, theirs - width));
        }
        by_key(&table, &keys, &join.on)?;
        table.checked()?;
        let is_it = |(known, _): &(String, Vec<_>)| *known == table.name;
        let number = self
            .tables
            .iter()
            .position(is_it)
            .unwrap_or(self.tables.len());
        if number == self.tables.len() {
            self.tables.push((table.name.clone(), table.fields.clone()));
        }
        let mut kinds = self.kinds[left.node].clone();
        kinds.extend(table.fields.iter().map(|field| field.kind));
        let node = Node::Lookup {
            input: left.node,
            table: number,
            keys,
            keeps_left: join.keeps_left,
        };
        both.node = self.add(node, kinds);
        Ok(both)
    }
}

/// Refuses a table that has more than its columns.
fn plain(table: &Table, name: &Word) -> Result<(), Refusal> {
    let message = if table.options.contains_key("dedup") {
        "a table to enrich from has a PRIMARY KEY; 'dedup' is for what comes as events"
    } else if table.computed.is_empty() {
        return Ok(());
    } else {
        "a table to enrich from has no computed columns yet"
    };
    Err(Refusal::new(name.span, message))
}

/// Refuses keys of different kinds: nothing is converted in a join.
fn same_kinds(
    keys: &[(usize, usize)],
    (left, right): (&Relation, &Relation),
    join: &Join,
) -> Result<(), Refusal> {
    for (ours, theirs) in keys {
        let (ours, theirs) = (left.columns[*ours].kind, right.columns[*theirs].kind);
        let is_integer = ours.is_integer() && theirs.is_integer();
        let is_same = ours.shape() == theirs.shape() && ours.decimal() == theirs.decimal();
        if !is_same && !is_integer {
            let message = format!("{ours} and {theirs} are not equal kinds; CAST one in a view");
            return Err(Refusal::new(join.on.span, message));
        }
    }
    Ok(())
}

/// Refuses a join by anything but the whole key of a table.
fn by_key(table: &Table, keys: &[(usize, usize)], on: &Term) -> Result<(), Refusal> {
    let is_named = |key: &String| {
        let mut names = keys.iter().map(|(_, theirs)| &table.fields[*theirs].name);
        names.any(|name| name.eq_ignore_ascii_case(key))
    };
    if table.key.is_empty() || !table.key.iter().all(is_named) || keys.len() != table.key.len() {
        let message = format!(
            "{} is joined by its PRIMARY KEY, which is ({})",
            table.name,
            table.key.join(", ")
        );
        return Err(Refusal::new(on.span, message));
    }
    Ok(())
}

/// A table that rows are enriched from, as a relation.
fn enriching(table: &Table, name: &Word) -> Relation {
    let columns = table.fields.iter().map(|field| Column {
        qualifier: Some(name.text.clone()),
        name: field.name.clone(),
        kind: field.kind,
        nullable: field.nullable,
        is_time: false,
    });
    Relation {
        node: 0,
        columns: columns.collect(),
        windows: Vec::new(),
        pending: None,
        ranked: None,
        is_bounded: true,
        of: table.name.clone(),
    }
}

/// The columns of both.
fn beside(left: &Relation, right: &Relation, keeps_left: bool) -> Relation {
    let width = left.columns.len();
    let mut both = left.clone();
    both.columns
        .extend(right.columns.iter().cloned().map(|mut column| {
            column.nullable |= keeps_left;
            column.is_time = false;
            column
        }));
    let moved = |(start, end): &(usize, usize)| (start + width, end + width);
    // Of a left join without a partner the right side's window is NULL.
    if !keeps_left {
        both.windows.extend(right.windows.iter().map(moved));
    }
    both.is_bounded &= right.is_bounded;
    both
}
