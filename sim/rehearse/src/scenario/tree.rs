//! TOML as a tree in which every value knows its line, and every table knows what nobody asked
//! it for.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use crate::refusal::Refusal;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Text(String),
    Number(f64),
    Bool(bool),
    List(Vec<Value>),
    Table(Table),
}

/// A table. What is left in it when it is finished is unknown.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) file: String,
    pub(crate) line: usize,
    /// What it is called in refusals.
    pub(crate) name: String,
    entries: BTreeMap<String, Value>,
    /// What was asked for, to be named to those who ask for something else.
    asked: Vec<&'static str>,
}

pub(crate) fn refuse(file: &str, line: usize, what: impl Into<String>) -> Refusal {
    Refusal {
        file: file.to_owned(),
        line,
        what: what.into(),
    }
}

/// Reads a whole file, and puts what was set elsewhere in place of what it says.
pub(crate) fn read(text: &str, file: &str, sets: &[(String, String)]) -> Result<Table, Refusal> {
    let parsed = parse(text, file, |at| line_of(text, at))?;
    let mut top = parsed;
    for (path, value) in sets {
        // A bare word is meant as text.
        let quoted = format!("value = {value}");
        let wrapped = parse(&quoted, file, |_| 0)
            .or_else(|_| parse(&format!("value = {value:?}"), file, |_| 0))?;
        let value = wrapped.entries.get("value").cloned();
        let value = value.ok_or_else(|| refuse(file, 0, format!("{path} was set to nothing")))?;
        set(&mut top, path, value)?;
    }
    Ok(top)
}

fn parse(text: &str, file: &str, line: impl Fn(usize) -> usize) -> Result<Table, Refusal> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        refuse(file, line(at), error.message())
    })?;
    let at = line(0);
    table_of(table.into_inner(), file, "the scenario", at, &line)
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.bytes().filter(|&byte| byte == b'\n').count() + 1
}

fn table_of(
    table: DeTable<'_>,
    file: &str,
    name: &str,
    at: usize,
    line: &impl Fn(usize) -> usize,
) -> Result<Table, Refusal> {
    let mut entries = BTreeMap::new();
    for (key, value) in table {
        let at = line(key.span().start);
        let key = key.into_inner().into_owned();
        let value = value_of(value.into_inner(), file, &key, at, line)?;
        entries.insert(key, value);
    }
    Ok(Table {
        file: file.to_owned(),
        line: at,
        name: name.to_owned(),
        entries,
        asked: Vec::new(),
    })
}

fn value_of(
    value: DeValue<'_>,
    file: &str,
    name: &str,
    at: usize,
    line: &impl Fn(usize) -> usize,
) -> Result<Value, Refusal> {
    let number = |text: &str| {
        let plain: String = text.chars().filter(|&one| one != '_').collect();
        let parsed = plain.parse::<f64>().ok().filter(|one| one.is_finite());
        parsed.ok_or_else(|| refuse(file, at, format!("{name}: {text} is no number to use")))
    };
    let kind = match value {
        DeValue::String(text) => Kind::Text(text.into_owned()),
        DeValue::Integer(whole) => Kind::Number(number(whole.as_str())?),
        DeValue::Float(float) => Kind::Number(number(float.as_str())?),
        DeValue::Boolean(truth) => Kind::Bool(truth),
        DeValue::Datetime(_) => {
            return Err(refuse(file, at, format!("{name}: no date is wanted here")));
        }
        DeValue::Array(list) => {
            let mut values = Vec::new();
            for one in list {
                let at = line(one.span().start);
                values.push(value_of(one.into_inner(), file, name, at, line)?);
            }
            Kind::List(values)
        }
        DeValue::Table(table) => Kind::Table(table_of(table, file, name, at, line)?),
    };
    Ok(Value { line: at, kind })
}

/// Puts a value where `path` says; in lists of tables, names choose the table.
fn set(top: &mut Table, path: &str, value: Value) -> Result<(), Refusal> {
    let file = top.file.clone();
    let missing = |part: &str| {
        let what = format!("{path} names nothing: there is no {part} in the scenario");
        refuse(&file, 0, what)
    };
    let mut parts: Vec<&str> = path.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut table = top;
    let mut parts = parts.into_iter();
    while let Some(part) = parts.next() {
        let inner = table.entries.get_mut(part).ok_or_else(|| missing(part))?;
        table = match &mut inner.kind {
            Kind::Table(inner) => inner,
            Kind::List(list) => {
                let name = parts.next().unwrap_or_default();
                let found = list.iter_mut().find_map(|one| match &mut one.kind {
                    Kind::Table(one) if one.is_called(name) => Some(one),
                    Kind::Table(_)
                    | Kind::Text(_)
                    | Kind::Number(_)
                    | Kind::Bool(_)
                    | Kind::List(_) => None,
                });
                found.ok_or_else(|| missing(name))?
            }
            Kind::Text(_) | Kind::Number(_) | Kind::Bool(_) => return Err(missing(part)),
        };
    }
    table.entries.insert(last.to_owned(), value);
    Ok(())
}

impl Table {
    fn is_called(&self, name: &str) -> bool {
        let says = |key: &str| {
            let value = self.entries.get(key).map(|value| &value.kind);
            match value {
                Some(Kind::Text(text)) => text == name,
                Some(Kind::List(list)) => list
                    .iter()
                    .any(|one| matches!(&one.kind, Kind::Text(text) if text == name)),
                Some(Kind::Number(_) | Kind::Bool(_) | Kind::Table(_)) | None => false,
            }
        };
        says("name") || says("names")
    }

    pub(crate) fn refuse(&self, line: usize, what: impl Into<String>) -> Refusal {
        refuse(&self.file, line, what)
    }

    /// Takes a value out; what is left at the end is unknown.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.entries.remove(key)
    }

    /// Takes a value that must be there.
    pub(crate) fn need(&mut self, key: &'static str) -> Result<Value, Refusal> {
        let found = self.take(key);
        found.ok_or_else(|| {
            let what = format!("{} has no `{key}`: say it", self.name);
            self.refuse(self.line, what)
        })
    }

    /// Takes everything that is left, under the names it has.
    pub(crate) fn rest(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.entries).into_iter().collect()
    }

    /// Takes a list of tables: `[[key]]`.
    pub(crate) fn tables(&mut self, key: &'static str) -> Result<Vec<Self>, Refusal> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        let line = value.line;
        let Kind::List(list) = value.kind else {
            let what = format!("{key} is a list of tables: write [[{key}]]");
            return Err(self.refuse(line, what));
        };
        let mut tables = Vec::new();
        for one in list {
            let line = one.line;
            let Kind::Table(mut table) = one.kind else {
                return Err(self.refuse(line, format!("{key} is a list of tables")));
            };
            table.name = format!("[[{key}]]");
            table.line = line;
            tables.push(table);
        }
        Ok(tables)
    }

    /// Takes one table: `[key]`.
    pub(crate) fn table(&mut self, key: &'static str) -> Result<Option<Self>, Refusal> {
        match self.take(key) {
            None => Ok(None),
            Some(Value {
                kind: Kind::Table(mut table),
                ..
            }) => {
                table.name = format!("[{key}]");
                Ok(Some(table))
            }
            Some(other) => Err(self.refuse(other.line, format!("{key} is a table: write [{key}]"))),
        }
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        match self.entries.iter().min_by_key(|(_, value)| value.line) {
            None => Ok(()),
            Some((key, value)) => {
                let known = self.asked.join(", ");
                let what = format!("{} knows no `{key}`; it knows {known}", self.name);
                Err(self.refuse(value.line, what))
            }
        }
    }

    pub(crate) fn text(&self, value: Value, key: &str) -> Result<String, Refusal> {
        match value.kind {
            Kind::Text(text) => Ok(text),
            Kind::Number(_) | Kind::Bool(_) | Kind::List(_) | Kind::Table(_) => {
                Err(self.refuse(value.line, format!("{key} is text: put it in quotes")))
            }
        }
    }

    pub(crate) fn number(&self, value: &Value, key: &str) -> Result<f64, Refusal> {
        match &value.kind {
            Kind::Number(number) => Ok(*number),
            Kind::Text(_) | Kind::Bool(_) | Kind::List(_) | Kind::Table(_) => {
                Err(self.refuse(value.line, format!("{key} is a number")))
            }
        }
    }

    /// One name or a list of them.
    pub(crate) fn names(&self, value: Value, key: &str) -> Result<Vec<String>, Refusal> {
        match value.kind {
            Kind::List(list) => list.into_iter().map(|one| self.text(one, key)).collect(),
            Kind::Text(text) => Ok(vec![text]),
            Kind::Number(_) | Kind::Bool(_) | Kind::Table(_) => {
                Err(self.refuse(value.line, format!("{key} is a name or a list of names")))
            }
        }
    }
}
