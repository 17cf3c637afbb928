//! A local-first keyspace: what its values are, and what such a keyspace has not.

use holm_local_first::{ISLANDS_MAX, Type, UPDATES_BYTES_MAX};

use super::parts::{Keyspace, Site};
use super::quantity::bytes;
use super::tree::Table;
use crate::refusal::Refusal;
use crate::site::Engine;

/// What a local-first keyspace is beside others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Islands {
    /// What concurrent writes of a key become.
    pub(crate) kind: Type,
    /// How many bytes of updates are kept for sites that lack them.
    pub(crate) updates: u64,
    /// How many nodes each island has.
    pub(crate) each: u64,
    /// In which line its guarantee stands.
    line: usize,
}

/// Reads the guarantee, and what goes with it.
pub(super) fn read(table: &mut Table) -> Result<Option<Islands>, Refusal> {
    let line = table.line;
    let (is_island, line) = match table.take("guarantee") {
        None => (false, line),
        Some(value) => {
            let line = value.line;
            match table.text(value, "guarantee")?.as_str() {
                "linearizable" => (false, line),
                "local-first" => (true, line),
                other => {
                    let what = format!(
                        "guarantee {other} is not there yet: write linearizable or local-first"
                    );
                    return Err(table.refuse(line, what));
                }
            }
        }
    };
    if !is_island {
        for key in ["type", "updates"] {
            if let Some(value) = table.take(key) {
                let what = format!("{key}: write guarantee = \"local-first\", or leave it out");
                return Err(table.refuse(value.line, what));
            }
        }
        return Ok(None);
    }
    let kind = match table.take("type") {
        None => Type::Lww,
        Some(value) => {
            let line = value.line;
            let name = table.text(value, "type")?;
            match Type::named(&name) {
                Some(kind @ (Type::Lww | Type::Mv | Type::Set | Type::Counter)) => kind,
                Some(Type::Json) | None => {
                    let what =
                        format!("type {name} is not rehearsed: write lww, mv, set or counter");
                    return Err(table.refuse(line, what));
                }
            }
        }
    };
    let updates = match table.take("updates") {
        // As at a site of `holm up`.
        None => u64::try_from(UPDATES_BYTES_MAX).expect("it fits"),
        Some(value) => super::read(table, value, "updates", bytes)?,
    };
    Ok(Some(Islands {
        kind,
        updates,
        each: 1,
        line,
    }))
}

impl Islands {
    /// Whether values are numbers.
    pub(crate) fn has_numbers(&self) -> bool {
        self.kind == Type::Counter
    }

    /// Refuses what a local-first keyspace has not, and sees how many nodes its islands have.
    pub(super) fn fit(
        &mut self,
        table: &Table,
        (own, spare, sites): (&[usize], &[usize], &[Site]),
        (engine, kept): (Engine, Option<u64>),
    ) -> Result<(), Refusal> {
        let refuse = |what: &str| Err(table.refuse(self.line, what));
        if engine == Engine::Table {
            return refuse("a table is no island: leave `engine` out");
        }
        if own.len() + spare.len() > ISLANDS_MAX {
            return refuse(&format!(
                "a local-first keyspace has at most {ISLANDS_MAX} sites: name fewer"
            ));
        }
        let each = own.first().map_or(1, |site| sites[*site].nodes);
        if own
            .iter()
            .chain(spare)
            .any(|site| sites[*site].nodes != each)
        {
            return refuse(
                "islands have as many nodes each: write the same `nodes` at their sites",
            );
        }
        if kept.is_some() && each == 1 {
            return refuse(
                "the log of an island of one node is read by nobody else: leave `kept` out",
            );
        }
        self.each = u64::try_from(each).unwrap_or(u64::MAX);
        Ok(())
    }
}

impl Keyspace {
    /// Why an operation is not asked for here, if it is not.
    pub(super) fn lacks(&self, op: &str) -> Option<String> {
        match (&self.islands, op) {
            (Some(_), "compact" | "lease") => Some(format!(
                "mix: {op} is rehearsed in linearizable keyspaces only: leave it out"
            )),
            (Some(islands), "add") if !islands.has_numbers() => {
                Some("mix: only counters are added to: write type = \"counter\"".to_owned())
            }
            (None, "add") => Some(
                "mix: only counters are added to: write guarantee = \"local-first\" and \
                 type = \"counter\""
                    .to_owned(),
            ),
            (Some(_) | None, _) => None,
        }
    }
}
