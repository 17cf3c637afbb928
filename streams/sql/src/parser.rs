//! Statements and queries out of tokens.

use std::collections::BTreeMap;

use holm_lanes::{Field, Kind};

use crate::catalog::{Beside, Table};
use crate::lexer::{Token, tokens};
use crate::options;
use crate::refusal::{Refusal, Span};
use crate::syntax::{Asked, Item, Join, Query, Script, Source, Term, WindowName, Word};

/// How deep expressions and queries may nest (I3).
const DEPTH_MAX: usize = 64;

/// Words that end a source, and therefore are no alias.
const RESERVED: &[&str] = &[
    "AS",
    "ON",
    "JOIN",
    "LEFT",
    "INNER",
    "RIGHT",
    "FULL",
    "CROSS",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "EMIT",
    "FROM",
    "SELECT",
    "FOR",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "LIKE",
    "BETWEEN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "WITH",
];

/// Reads a text.
///
/// # Errors
///
/// A refusal that points at the first word that is wrong.
pub fn parse(text: &str) -> Result<Script, Refusal> {
    let parsed = tokens(text).and_then(|tokens| {
        Parser {
            tokens,
            at: 0,
            depth: 0,
        }
        .script(text)
    });
    parsed.map_err(|refusal| refusal.of(text))
}

#[derive(Debug)]
pub(crate) struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, Refusal>;

impl Parser {
    pub(crate) fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn ahead(&self, by: usize) -> &Token {
        &self.tokens[(self.at + by).min(self.tokens.len() - 1)].0
    }

    pub(crate) fn span(&self) -> Span {
        self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    /// The place of the token before.
    pub(crate) fn last(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].1
    }

    pub(crate) fn skip(&mut self) {
        self.at += 1;
    }

    pub(crate) fn back(&mut self) {
        self.at -= 1;
    }

    pub(crate) fn refuse<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(Refusal::new(self.span(), message))
    }

    /// What stands here, for messages.
    pub(crate) fn here(&self) -> String {
        match self.peek() {
            Token::Word(word) | Token::Quoted(word) => format!("`{word}`"),
            Token::Number(number) => format!("`{number}`"),
            Token::Text(text) => format!("'{text}'"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        }
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let is_here = self.is_word(word);
        self.at += usize::from(is_here);
        is_here
    }

    pub(crate) fn take_sign(&mut self, sign: &str) -> bool {
        let is_here = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(is_here);
        is_here
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word) {
            return Ok(());
        }
        self.refuse(format!("expected {word}, found {}", self.here()))
    }

    pub(crate) fn expect_sign(&mut self, sign: &str) -> Parsed<()> {
        if self.take_sign(sign) {
            return Ok(());
        }
        self.refuse(format!("expected `{sign}`, found {}", self.here()))
    }

    pub(crate) fn name(&mut self, what: &str) -> Parsed<Word> {
        let span = self.span();
        let text = match self.peek() {
            Token::Word(word) | Token::Quoted(word) => word.clone(),
            Token::Number(_) | Token::Text(_) | Token::Sign(_) | Token::End => {
                return self.refuse(format!("expected {what}, found {}", self.here()));
            }
        };
        self.skip();
        Ok(Word { text, span })
    }

    pub(crate) fn text(&mut self, what: &str) -> Parsed<(String, Span)> {
        let span = self.span();
        let Token::Text(text) = self.peek() else {
            return self.refuse(format!("expected {what} in quotes, found {}", self.here()));
        };
        let text = text.clone();
        self.skip();
        Ok((text, span))
    }

    /// Runs a part one level deeper (I3).
    pub(crate) fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return self.refuse(format!("nested more than {DEPTH_MAX} levels deep"));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }

    pub(crate) fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut list = vec![one(self)?];
        while self.take_sign(",") {
            list.push(one(self)?);
        }
        Ok(list)
    }

    fn script(mut self, text: &str) -> Parsed<Script> {
        let mut tables: Vec<Table> = Vec::new();
        let mut views: Vec<(Word, Query)> = Vec::new();
        let mut queries: Vec<Asked> = Vec::new();
        let mut explain = None;
        while *self.peek() != Token::End {
            if self.take_sign(";") {
                continue;
            }
            let start = self.span();
            if self.take_word("CREATE") {
                if self.take_word("TABLE") {
                    let table = self.table(start)?;
                    let name = table.name.clone();
                    if tables
                        .iter()
                        .any(|other| other.name.eq_ignore_ascii_case(&name))
                    {
                        let message = format!("{name} is declared twice");
                        return Err(Refusal::new(table.span, message));
                    }
                    tables.push(table);
                } else {
                    self.expect_word("VIEW").or_else(|_| {
                        self.refuse(format!("expected TABLE or VIEW, found {}", self.here()))
                    })?;
                    let name = self.name("the view's name")?;
                    self.expect_word("AS")?;
                    views.push((name, self.query()?));
                }
            } else {
                if self.explains()? {
                    explain = Some(start);
                }
                let start = self.span();
                let asked = self.asked(start, &queries)?;
                queries.push(asked);
            }
            if *self.peek() != Token::End {
                self.expect_sign(";")?;
            }
        }
        if queries.is_empty() {
            return self.refuse("the text has no query: add a SELECT or an INSERT INTO ... SELECT");
        }
        if let (Some(span), [_, _, ..]) = (explain, queries.as_slice()) {
            let message =
                "EXPLAIN is of the only query of a text; `holm stream explain` is of several";
            return Err(Refusal::new(span, message));
        }
        Ok(Script {
            text: text.to_owned(),
            tables,
            views,
            queries,
            explain,
        })
    }

    /// EXPLAIN [PLAN FOR] before a query.
    fn explains(&mut self) -> Parsed<bool> {
        if !self.take_word("EXPLAIN") {
            return Ok(false);
        }
        if self.take_word("PLAN") {
            self.expect_word("FOR")?;
        }
        if self.is_word("CREATE") {
            return self.refuse("EXPLAIN is of a query or of an INSERT INTO");
        }
        Ok(true)
    }

    /// A query behind others: of several each goes into a table of its own.
    fn asked(&mut self, start: Span, others: &[Asked]) -> Parsed<Asked> {
        let into = if self.take_word("INSERT") {
            self.expect_word("INTO")?;
            Some(self.name("the table that rows go into")?)
        } else if self.is_word("SELECT") || self.is_word("WITH") {
            None
        } else {
            return self.refuse(format!(
                "expected CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT or EXPLAIN, found {}",
                self.here()
            ));
        };
        let is_apart = |other: &Asked| match (&into, &other.into) {
            (Some(own), Some(other)) => !own.is(&other.text),
            (None, _) | (_, None) => false,
        };
        if !others.iter().all(is_apart) {
            let message =
                "a second query; of several in one text each is an INSERT INTO a table of its own";
            return Err(Refusal::new(start, message));
        }
        let query = self.query()?;
        let span = start.to(self.last());
        Ok(Asked { query, into, span })
    }

    fn table(&mut self, start: Span) -> Parsed<Table> {
        let name = self.name("the table's name")?;
        let mut table = Table {
            name: name.text,
            fields: Vec::new(),
            options: BTreeMap::new(),
            computed: Vec::new(),
            time: None,
            key: Vec::new(),
            span: start.to(name.span),
            places: BTreeMap::new(),
            beside: Vec::new(),
        };
        self.expect_sign("(")?;
        loop {
            self.table_part(&mut table)?;
            if !self.take_sign(",") {
                break;
            }
        }
        self.expect_sign(")")?;
        if self.take_word("WITH") {
            self.expect_sign("(")?;
            let options = self.list(|parser| {
                let key = parser.text("an option")?;
                parser.expect_sign("=")?;
                Ok((key, parser.text("its value")?))
            })?;
            let mut keys = Vec::new();
            for ((key, at), (value, place)) in options {
                keys.push((key.clone(), at));
                table.places.insert(key.clone(), place);
                table.options.insert(key, value);
            }
            options::check(&table.connector(), &keys)?;
            self.expect_sign(")")?;
        }
        Ok(table)
    }

    fn table_part(&mut self, table: &mut Table) -> Parsed<()> {
        if self.take_word("WATERMARK") {
            self.expect_word("FOR")?;
            let column = self.name("the column of event time")?;
            self.expect_word("AS")?;
            let again = self.name("the same column")?;
            if !again.is(&column.text) {
                let message = format!("a watermark is {0} or {0} - INTERVAL", column.text);
                return Err(Refusal::new(again.span, message));
            }
            let bound = if self.take_sign("-") {
                self.interval()?.0
            } else {
                0
            };
            table.time = Some((column, bound));
            return Ok(());
        }
        if self.is_word("PRIMARY")
            && matches!(self.ahead(1), Token::Word(word) if word.eq_ignore_ascii_case("KEY"))
        {
            self.skip();
            self.skip();
            self.expect_sign("(")?;
            table.key = self
                .list(|parser| parser.name("a column"))?
                .into_iter()
                .map(|word| word.text)
                .collect();
            self.expect_sign(")")?;
            if self.take_word("NOT") {
                self.expect_word("ENFORCED")?;
            }
            return Ok(());
        }
        let name = self.name("a column")?;
        let is_double = table.fields.iter().any(|field| name.is(&field.name));
        if is_double || table.computed.iter().any(|(other, _)| name.is(&other.text)) {
            let message = format!("{} has this column already", table.name);
            return Err(Refusal::new(name.span, message));
        }
        if self.take_word("AS") {
            let term = self.term()?;
            table.computed.push((name, term));
            return Ok(());
        }
        let kind = self.kind()?;
        let nullable = !self.take_word("NOT");
        if !nullable {
            self.expect_word("NULL")?;
        }
        let column = table.fields.len();
        table.beside.extend(self.metadata(&name, column)?);
        table.fields.push(Field {
            name: name.text,
            kind,
            nullable,
        });
        Ok(())
    }

    /// METADATA [FROM 'name'] [VIRTUAL] behind a column.
    fn metadata(&mut self, column: &Word, at: usize) -> Parsed<Option<Beside>> {
        if !self.take_word("METADATA") {
            return Ok(None);
        }
        let (name, span) = if self.take_word("FROM") {
            self.text("what the connector calls it")?
        } else {
            (column.text.clone(), column.span)
        };
        Ok(Some(Beside {
            column: at,
            name,
            is_virtual: self.take_word("VIRTUAL"),
            span,
        }))
    }

    pub(crate) fn query(&mut self) -> Parsed<Query> {
        self.deeper(|parser| {
            let mut with = Vec::new();
            if parser.take_word("WITH") {
                with = parser.list(|parser| {
                    let name = parser.name("a name")?;
                    parser.expect_word("AS")?;
                    parser.expect_sign("(")?;
                    let query = parser.query()?;
                    parser.expect_sign(")")?;
                    Ok((name, query))
                })?;
            }
            let mut query = parser.select()?;
            query.with = with;
            query.union = parser.union()?;
            if parser.take_word("ORDER") {
                parser.expect_word("BY")?;
                query.order = parser.list(Self::ordered)?;
            }
            query.limit = parser.limit()?;
            if parser.take_word("EMIT") {
                parser.expect_word("ON")?;
                if parser.is_word("CHANGES") {
                    return parser.refuse("EMIT ON CHANGES is not built yet; EMIT ON CLOSE is");
                }
                parser.expect_word("CLOSE")?;
            }
            Ok(query)
        })
    }

    /// Further SELECTs behind UNION ALL.
    fn union(&mut self) -> Parsed<Vec<Query>> {
        let mut parts = Vec::new();
        loop {
            for word in ["INTERSECT", "EXCEPT"] {
                if self.is_word(word) {
                    return self.refuse(format!("{word} is not built; UNION ALL is"));
                }
            }
            if !self.is_word("UNION") {
                return Ok(parts);
            }
            let word = self.span();
            self.skip();
            if !self.take_word("ALL") {
                let message = "UNION drops rows that are there twice, which is not built; write UNION ALL, and GROUP BY the columns around it";
                return Err(Refusal::new(word, message));
            }
            parts.push(self.select()?);
        }
    }

    fn select(&mut self) -> Parsed<Query> {
        let span = self.span();
        self.expect_word("SELECT")?;
        if self.is_word("DISTINCT") {
            return self.refuse("SELECT DISTINCT is not built; GROUP BY the columns");
        }
        let items = self.list(Self::item)?;
        self.expect_word("FROM")?;
        let from = self.source()?;
        let mut joins = Vec::new();
        while let Some(join) = self.join()? {
            joins.push(join);
        }
        let condition = self.after("WHERE")?;
        let mut group = Vec::new();
        if self.take_word("GROUP") {
            self.expect_word("BY")?;
            group = self.list(Self::term)?;
        }
        let having = self.after("HAVING")?;
        Ok(Query {
            with: Vec::new(),
            items,
            from,
            joins,
            condition,
            group,
            having,
            union: Vec::new(),
            order: Vec::new(),
            limit: None,
            span,
        })
    }

    fn after(&mut self, word: &str) -> Parsed<Option<Term>> {
        self.take_word(word).then(|| self.term()).transpose()
    }

    fn limit(&mut self) -> Parsed<Option<(usize, Span)>> {
        let start = self.span();
        if !self.take_word("LIMIT") {
            return Ok(None);
        }
        let Token::Number(number) = self.peek() else {
            return self.refuse(format!("expected a number of rows, found {}", self.here()));
        };
        let Ok(limit) = number.parse() else {
            return self.refuse("a number of rows is a whole number");
        };
        self.skip();
        Ok(Some((limit, start.to(self.last()))))
    }

    pub(crate) fn ordered(&mut self) -> Parsed<(Term, bool)> {
        let term = self.term()?;
        let falls = self.take_word("DESC");
        if !falls {
            self.take_word("ASC");
        }
        if self.is_word("NULLS") {
            return self.refuse("NULLS FIRST and LAST are not built; NULLs are the smallest");
        }
        Ok((term, falls))
    }

    fn item(&mut self) -> Parsed<Item> {
        let span = self.span();
        if self.take_sign("*") {
            return Ok(Item::Star(None, span));
        }
        let is_star = *self.ahead(1) == Token::Sign(".") && *self.ahead(2) == Token::Sign("*");
        if is_star {
            let name = self.name("a table")?;
            self.skip();
            self.skip();
            let span = span.to(self.last());
            return Ok(Item::Star(Some(name), span));
        }
        let term = self.term()?;
        let alias = self.alias("the column's name")?;
        Ok(Item::Term(term, alias))
    }

    fn alias(&mut self, what: &str) -> Parsed<Option<Word>> {
        if self.take_word("AS") {
            return self.name(what).map(Some);
        }
        let is_name = match self.peek() {
            Token::Quoted(_) => true,
            Token::Word(word) => !RESERVED.iter().any(|it| word.eq_ignore_ascii_case(it)),
            Token::Number(_) | Token::Text(_) | Token::Sign(_) | Token::End => false,
        };
        is_name.then(|| self.name(what)).transpose()
    }

    fn join(&mut self) -> Parsed<Option<Join>> {
        let span = self.span();
        for word in ["RIGHT", "FULL", "CROSS"] {
            if self.is_word(word) {
                return self.refuse(format!("{word} JOIN is not built; JOIN and LEFT JOIN are"));
            }
        }
        let keeps_left = self.take_word("LEFT");
        if keeps_left {
            self.take_word("OUTER");
        }
        let is_inner = !keeps_left && self.take_word("INNER");
        if !self.take_word("JOIN") {
            if keeps_left || is_inner {
                return self.refuse(format!("expected JOIN, found {}", self.here()));
            }
            return Ok(None);
        }
        let source = self.source()?;
        self.expect_word("ON")?;
        let on = self.term()?;
        Ok(Some(Join {
            source,
            keeps_left,
            on,
            span,
        }))
    }

    fn source(&mut self) -> Parsed<Source> {
        if self.take_sign("(") {
            let query = Box::new(self.query()?);
            self.expect_sign(")")?;
            let alias = self.alias("a name for the rows")?;
            return Ok(Source::Query { query, alias });
        }
        let start = self.span();
        if self.is_word("TABLE") && *self.ahead(1) == Token::Sign("(") {
            self.skip();
            self.skip();
            let window = self.window(start)?;
            self.expect_sign(")")?;
            return self.aliased(window);
        }
        if *self.ahead(1) == Token::Sign("(") {
            let window = self.window(start)?;
            return self.aliased(window);
        }
        let name = self.name("a table, a view or a window function")?;
        let mut as_of = None;
        if self.take_word("FOR") {
            self.expect_word("SYSTEM_TIME")?;
            self.expect_word("AS")?;
            self.expect_word("OF")?;
            let mut word = self.name("a column of event time")?;
            if self.take_sign(".") {
                word = self.name("a column of event time")?;
            }
            as_of = Some(word);
        }
        let alias = self.alias("a name for the rows")?;
        Ok(Source::Named { name, as_of, alias })
    }

    fn aliased(&mut self, mut window: Source) -> Parsed<Source> {
        let found = self.alias("a name for the rows")?;
        if let Source::Window { alias, .. } = &mut window {
            *alias = found;
        }
        Ok(window)
    }

    fn window(&mut self, start: Span) -> Parsed<Source> {
        let word = self.name("a window function")?;
        let name = match word.text.to_ascii_uppercase().as_str() {
            "TUMBLE" => WindowName::Tumble,
            "HOP" => WindowName::Hop,
            "CUMULATE" => WindowName::Cumulate,
            "SESSION" => WindowName::Session,
            _ => {
                let message = format!(
                    "{} is no window function; use TUMBLE, HOP, CUMULATE or SESSION",
                    word.text
                );
                return Err(Refusal::new(word.span, message));
            }
        };
        self.expect_sign("(")?;
        self.expect_word("TABLE")?;
        let of = self.name("a table or view")?;
        let mut partition = Vec::new();
        if self.take_word("PARTITION") {
            self.expect_word("BY")?;
            let is_enclosed = self.take_sign("(");
            partition.push(self.name("a column")?);
            while *self.peek() == Token::Sign(",")
                && !matches!(self.ahead(1), Token::Word(word) if word.eq_ignore_ascii_case("DESCRIPTOR"))
            {
                self.skip();
                partition.push(self.name("a column")?);
            }
            if is_enclosed {
                self.expect_sign(")")?;
            }
        }
        self.expect_sign(",")?;
        self.expect_word("DESCRIPTOR")?;
        self.expect_sign("(")?;
        let time = self.name("the column of event time")?;
        self.expect_sign(")")?;
        let mut lengths = Vec::new();
        while self.take_sign(",") {
            lengths.push(self.interval()?);
        }
        self.expect_sign(")")?;
        Ok(Source::Window {
            name,
            of,
            partition,
            time,
            lengths,
            alias: None,
            span: start.to(self.last()),
        })
    }

    /// A type's name.
    pub(crate) fn kind(&mut self) -> Parsed<Kind> {
        let word = self.name("a type")?;
        let name = word.text.to_ascii_uppercase();
        let numbers = self.numbers()?;
        let first = numbers.first().copied();
        let digits = || match first.unwrap_or(6) {
            0..=3 => Ok(3),
            4..=6 => Ok(6),
            _ => Err(Refusal::new(
                word.span,
                "times have 3 or 6 digits of a second",
            )),
        };
        let kind = match name.as_str() {
            "BOOLEAN" => Kind::Boolean,
            "TINYINT" => Kind::TinyInt,
            "SMALLINT" => Kind::SmallInt,
            "INT" | "INTEGER" => Kind::Int,
            "BIGINT" => Kind::BigInt,
            "FLOAT" | "REAL" => Kind::Float,
            "DOUBLE" => {
                self.take_word("PRECISION");
                Kind::Double
            }
            "DECIMAL" | "DEC" | "NUMERIC" => {
                let precision = first.unwrap_or(10);
                let scale = numbers.get(1).copied().unwrap_or(0);
                if !(1..=38).contains(&precision) || scale > precision {
                    let message = "DECIMAL(p, s) has 1 to 38 digits, s of them behind the point";
                    return Err(Refusal::new(word.span, message));
                }
                Kind::Decimal { precision, scale }
            }
            "STRING" | "VARCHAR" | "CHAR" => Kind::String,
            "BYTES" | "VARBINARY" | "BINARY" => Kind::Bytes,
            "DATE" => Kind::Date,
            "TIMESTAMP_LTZ" => Kind::TimestampLtz { digits: digits()? },
            "TIMESTAMP" => {
                let digits = digits()?;
                if self.take_word("WITH") {
                    self.take_word("LOCAL");
                    self.expect_word("TIME")?;
                    self.expect_word("ZONE")?;
                    Kind::TimestampLtz { digits }
                } else {
                    Kind::Timestamp { digits }
                }
            }
            "ROW" | "ARRAY" | "MAP" | "TIME" => {
                return Err(Refusal::new(word.span, format!("{name} is not built yet")));
            }
            _ => {
                let message = format!(
                    "{} is no type; there are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, \
                     DECIMAL(p, s), STRING, BYTES, DATE, TIMESTAMP(3|6) and TIMESTAMP_LTZ(3|6)",
                    word.text
                );
                return Err(Refusal::new(word.span, message));
            }
        };
        Ok(kind)
    }

    fn numbers(&mut self) -> Parsed<Vec<u8>> {
        if !self.take_sign("(") {
            return Ok(Vec::new());
        }
        let numbers = self.list(|parser| {
            let Token::Number(number) = parser.peek() else {
                return parser.refuse(format!("expected a number, found {}", parser.here()));
            };
            // VARCHAR(300) and the like: the length is not held.
            let number = number.parse::<u32>().unwrap_or(u32::MAX).min(255);
            parser.skip();
            Ok(u8::try_from(number).unwrap_or(u8::MAX))
        })?;
        self.expect_sign(")")?;
        Ok(numbers)
    }
}
