//! What a text says, before anybody knows what its names mean.

use holm_lanes::{Comparison, Kind};

use crate::catalog::Table;
use crate::refusal::Span;

/// A name with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Word {
    /// Whether it is this name; names do not differ by capitals.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.text.eq_ignore_ascii_case(name)
    }
}

/// An expression with its place.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) node: Node,
    pub(crate) span: Span,
}

/// An operator between two numbers or strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Concat,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Column(Option<Word>, Word),
    Number(String),
    Text(String),
    /// Bytes, as letters.
    Bytes(String),
    Bool(bool),
    Null,
    /// A length of time in microseconds.
    Interval(i64),
    /// A literal of a kind: TIMESTAMP '...'.
    Typed(Kind, String),
    Negate(Box<Term>),
    Not(Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    Compare(Comparison, Box<Term>, Box<Term>),
    Compute(Operator, Box<Term>, Box<Term>),
    IsNull(Box<Term>),
    In(Box<Term>, Vec<Term>),
    Between(Box<Term>, Box<Term>, Box<Term>),
    Like(Box<Term>, Box<Term>, Option<char>),
    Case(Option<Box<Term>>, Vec<(Term, Term)>, Option<Box<Term>>),
    Cast(Box<Term>, Kind, bool),
    Extract(Word, Box<Term>),
    Call(Box<Call>),
    Json(Box<Json>),
}

/// JSON_VALUE(...).
#[derive(Clone, Debug)]
pub(crate) struct Json {
    pub(crate) text: Term,
    pub(crate) path: (String, Span),
    pub(crate) kind: Option<(Kind, Span)>,
    /// ON EMPTY and ON ERROR, as far as they are said.
    pub(crate) instead: [Option<Otherwise>; 2],
}

/// What stands for a value that is not there.
#[derive(Clone, Debug)]
pub(crate) enum Otherwise {
    Null,
    Error,
    Term(Term),
}

/// A call of a function or an aggregate.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: Word,
    pub(crate) is_distinct: bool,
    pub(crate) is_star: bool,
    pub(crate) arguments: Vec<Term>,
    pub(crate) filter: Option<Term>,
    pub(crate) over: Option<Over>,
}

/// OVER (...).
#[derive(Clone, Debug)]
pub(crate) struct Over {
    pub(crate) partition: Vec<Term>,
    pub(crate) order: Vec<(Term, bool)>,
    pub(crate) span: Span,
}

/// A column of a SELECT.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Star(Option<Word>, Span),
    Term(Term, Option<Word>),
}

/// A window function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowName {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

/// What rows come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Named {
        name: Word,
        as_of: Option<Word>,
        alias: Option<Word>,
    },
    Query {
        query: Box<Query>,
        alias: Option<Word>,
    },
    Window {
        name: WindowName,
        of: Word,
        partition: Vec<Word>,
        time: Word,
        lengths: Vec<(i64, Span)>,
        alias: Option<Word>,
        span: Span,
    },
}

/// A source beside others.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) source: Source,
    pub(crate) keeps_left: bool,
    pub(crate) on: Term,
    pub(crate) span: Span,
}

/// A query.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) with: Vec<(Word, Self)>,
    pub(crate) items: Vec<Item>,
    pub(crate) from: Source,
    pub(crate) joins: Vec<Join>,
    pub(crate) condition: Option<Term>,
    pub(crate) group: Vec<Term>,
    pub(crate) having: Option<Term>,
    /// Further SELECTs whose rows come beside its own: UNION ALL.
    pub(crate) union: Vec<Self>,
    pub(crate) order: Vec<(Term, bool)>,
    pub(crate) limit: Option<(usize, Span)>,
    pub(crate) span: Span,
}

/// All that a text says: tables, views, and queries.
#[derive(Clone, Debug)]
pub struct Script {
    pub(crate) text: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) views: Vec<(Word, Query)>,
    /// One at least; where there are several, each goes into a table of its own.
    pub(crate) queries: Vec<Asked>,
    /// Where EXPLAIN stands.
    pub(crate) explain: Option<Span>,
}

/// A query, and where its rows go.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) query: Query,
    pub(crate) into: Option<Word>,
    /// Where its statement is.
    pub(crate) span: Span,
}

impl Script {
    /// The tables that it declares.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Whether its query is to be explained, and not to be run.
    #[must_use]
    pub const fn is_explained(&self) -> bool {
        self.explain.is_some()
    }

    /// Whether the query reads a table that nothing declares, by this name.
    #[must_use]
    pub fn reads_undeclared(&self, name: &str) -> bool {
        let is_declared = self
            .tables
            .iter()
            .any(|table| table.name.eq_ignore_ascii_case(name));
        !is_declared
            && self
                .names()
                .iter()
                .any(|word| word.eq_ignore_ascii_case(name))
    }

    /// The column of event time that window functions over a table name.
    #[must_use]
    pub fn time_of(&self, table: &str) -> Option<String> {
        let mut found = None;
        self.sources(&mut |source| {
            if let Source::Window { of, time, .. } = source
                && of.is(table)
            {
                found = Some(time.text.clone());
            }
        });
        found
    }

    /// All names that stand where tables do.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.sources(&mut |source| match source {
            Source::Named { name, .. } => names.push(name.text.clone()),
            Source::Window { of, .. } => names.push(of.text.clone()),
            Source::Query { .. } => {}
        });
        names
    }

    fn sources(&self, visit: &mut dyn FnMut(&Source)) {
        let queries = self.queries.iter();
        queries.for_each(|asked| asked.query.sources(visit));
        self.views.iter().for_each(|(_, view)| view.sources(visit));
    }
}

impl Query {
    fn sources(&self, visit: &mut dyn FnMut(&Source)) {
        self.with.iter().for_each(|(_, query)| query.sources(visit));
        self.union.iter().for_each(|query| query.sources(visit));
        let joined = self.joins.iter().map(|join| &join.source);
        for source in std::iter::once(&self.from).chain(joined) {
            visit(source);
            if let Source::Query { query, .. } = source {
                query.sources(visit);
            }
        }
    }
}

/// A term in which names stand for what they name. What has a table before it is no such name, nor
/// is what stands in an aggregate, which is of rows.
pub(crate) fn replace(term: &Term, named: &dyn Fn(&str) -> Option<Node>) -> Term {
    let one = |term: &Term| replace(term, named);
    let boxed = |term: &Term| Box::new(replace(term, named));
    let node = match &term.node {
        Node::Column(None, name) => named(&name.text).unwrap_or_else(|| term.node.clone()),
        Node::Column(Some(_), _)
        | Node::Number(_)
        | Node::Text(_)
        | Node::Bytes(_)
        | Node::Bool(_)
        | Node::Null
        | Node::Interval(_)
        | Node::Typed(..) => term.node.clone(),
        Node::Negate(value) => Node::Negate(boxed(value)),
        Node::Not(value) => Node::Not(boxed(value)),
        Node::And(left, right) => Node::And(boxed(left), boxed(right)),
        Node::Or(left, right) => Node::Or(boxed(left), boxed(right)),
        Node::Compare(how, left, right) => Node::Compare(*how, boxed(left), boxed(right)),
        Node::Compute(how, left, right) => Node::Compute(*how, boxed(left), boxed(right)),
        Node::IsNull(value) => Node::IsNull(boxed(value)),
        Node::In(value, list) => Node::In(boxed(value), list.iter().map(one).collect()),
        Node::Between(value, low, high) => Node::Between(boxed(value), boxed(low), boxed(high)),
        Node::Like(value, pattern, escape) => Node::Like(boxed(value), boxed(pattern), *escape),
        Node::Case(operand, branches, otherwise) => Node::Case(
            operand.as_deref().map(boxed),
            branches
                .iter()
                .map(|(when, then)| (one(when), one(then)))
                .collect(),
            otherwise.as_deref().map(boxed),
        ),
        Node::Cast(value, kind, is_try) => Node::Cast(boxed(value), *kind, *is_try),
        Node::Extract(part, value) => Node::Extract(part.clone(), boxed(value)),
        Node::Call(call) if crate::bind_call::is_aggregate(&call.name.text) => term.node.clone(),
        Node::Call(call) => {
            let mut call = call.clone();
            call.arguments = call.arguments.iter().map(one).collect();
            call.filter = call.filter.as_ref().map(one);
            Node::Call(call)
        }
        Node::Json(json) => {
            let mut json = json.clone();
            json.text = one(&json.text);
            for otherwise in json.instead.iter_mut().flatten() {
                if let Otherwise::Term(term) = otherwise {
                    *term = one(term);
                }
            }
            Node::Json(json)
        }
    };
    Term {
        node,
        span: term.span,
    }
}
