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
    pub(crate) limit: Option<usize>,
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
