//! Goals: orders of events that a hunt should bring about, with bound variables.
//!
//! ```text
//!   [[goal]]
//!   name = "a write outlives two leaders"
//!   pattern = ["ack put key=$k client=$c", "LeaderElected term=$t", "LeaderElected term>$t",
//!              "ack range client!=$c"]
//! ```
//!
//! A step is the name of an event and tests of its fields. `=$k` binds `k` where nothing has yet,
//! and compares from then on. Other events may lie between two steps.

use super::tree::{Table, Value};
use crate::refusal::Refusal;
use crate::run::facts;

const GOALS_MAX: usize = 64;
const STEPS_MAX: usize = 16;

/// An order of events.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    /// How many variables its steps have.
    pub(crate) variables: usize,
}

/// An event that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) event: &'static str,
    pub(crate) tests: Vec<Test>,
}

/// What is demanded of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) field: &'static str,
    pub(crate) relation: Relation,
    pub(crate) operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    Unequal,
    Above,
    Below,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Number(u64),
    Variable(usize),
}

pub(crate) fn read(top: &mut Table) -> Result<Vec<Goal>, Refusal> {
    let tables = top.tables("goal")?;
    if tables.len() > GOALS_MAX {
        let what = format!("a scenario has at most {GOALS_MAX} goals");
        return Err(top.refuse(top.line, what));
    }
    tables.into_iter().map(goal).collect()
}

fn goal(mut table: Table) -> Result<Goal, Refusal> {
    let name = table.need("name")?;
    let name = table.text(name, "name")?;
    let pattern: Value = table.need("pattern")?;
    let line = pattern.line;
    let texts = table.names(pattern, "pattern")?;
    if texts.is_empty() || texts.len() > STEPS_MAX {
        let what = format!("pattern has 1 to {STEPS_MAX} steps");
        return Err(table.refuse(line, what));
    }
    let mut variables = Vec::new();
    let steps: Result<Vec<Step>, String> = texts
        .iter()
        .map(|text| step(text, &mut variables))
        .collect();
    let steps = steps.map_err(|what| table.refuse(line, format!("pattern: {what}")))?;
    table.finish()?;
    Ok(Goal {
        name,
        steps,
        variables: variables.len(),
    })
}

fn step(text: &str, variables: &mut Vec<String>) -> Result<Step, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_test = |word: &&str| word.contains(['=', '<', '>']);
    let until = words.iter().position(is_test).unwrap_or(words.len());
    let (name, tests) = words.split_at(until);
    let name = name.join(" ");
    let known = facts::all().find(|(event, _)| *event == name);
    let Some((event, fields)) = known else {
        let all: Vec<&str> = facts::all().map(|(event, _)| event).collect();
        return Err(format!("{name} is no event; these are: {}", all.join(", ")));
    };
    let tests: Result<Vec<Test>, String> = tests
        .iter()
        .map(|word| test(word, event, fields, variables))
        .collect();
    Ok(Step {
        event,
        tests: tests?,
    })
}

fn test(
    word: &str,
    event: &str,
    fields: &[&'static str],
    variables: &mut Vec<String>,
) -> Result<Test, String> {
    let relations = [
        ("!=", Relation::Unequal),
        ("=", Relation::Equal),
        (">", Relation::Above),
        ("<", Relation::Below),
    ];
    let parts = relations.iter().find_map(|(sign, relation)| {
        let (field, operand) = word.split_once(sign)?;
        Some((field, *relation, operand))
    });
    let (field, relation, operand) =
        parts.ok_or_else(|| format!("{word} is no test: write FIELD=$NAME, !=, < or >"))?;
    let known = fields
        .iter()
        .chain(["node"].iter())
        .find(|it| **it == field);
    let Some(field) = known else {
        let fields = fields.join(", ");
        return Err(format!("{event} has no {field}; it has node, {fields}"));
    };
    let operand = match operand.strip_prefix('$') {
        Some(name) => {
            let at = variables.iter().position(|known| known == name);
            if at.is_none() && relation != Relation::Equal {
                return Err(format!("{word}: ${name} is bound by no = before"));
            }
            Operand::Variable(at.unwrap_or_else(|| {
                variables.push(name.to_owned());
                variables.len() - 1
            }))
        }
        None => Operand::Number(
            operand
                .parse()
                .map_err(|_error| format!("{word}: {operand} is no number and no $NAME"))?,
        ),
    };
    Ok(Test {
        field,
        relation,
        operand,
    })
}
