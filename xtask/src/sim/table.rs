//! What came of the mutants: lines as they come, the table, JSON, and whether the gate is open.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bank::{Mutant, split};

/// How many of a hundred must be found in each group.
const SHARE_MIN: usize = 95;

/// What came of one mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This found it, and said so.
    Found { by: String, said: String },
    /// Nothing did.
    Missed,
    /// It cannot be judged: it does not compile, or a finder did not run.
    Spoiled { why: String },
}

/// A mutant, its fate, and what that cost.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) mutant: Mutant,
    pub(super) fate: Fate,
    pub(super) cpu_s: f64,
    /// Runs of the rehearsal that found it, or of the last that did not.
    pub(super) runs: Option<u64>,
}

impl Row {
    /// A mutant that has cost nothing so far.
    pub(super) fn new(mutant: &Mutant, fate: Fate) -> Self {
        Self {
            mutant: mutant.clone(),
            fate,
            cpu_s: 0.0,
            runs: None,
        }
    }

    pub(super) const fn is_found(&self) -> bool {
        matches!(self.fate, Fate::Found { .. })
    }

    /// One line of the table.
    pub(super) fn line(&self) -> String {
        let (by, said) = match &self.fate {
            Fate::Found { by, said } => (by.as_str(), said.as_str()),
            Fate::Missed => ("-", "MISSED"),
            Fate::Spoiled { why } => ("-", why.as_str()),
        };
        let runs = self
            .runs
            .map_or_else(|| "-".to_owned(), |runs| runs.to_string());
        let (name, cpu) = (&self.mutant.name, self.cpu_s);
        format!("{name:<5}{by:<44}{cpu:>8.1}{runs:>8}  {said}")
    }

    fn json(&self) -> Value {
        let (state, by, said) = match &self.fate {
            Fate::Found { by, said } => ("found", Some(by), Some(said)),
            Fate::Missed => ("missed", None, None),
            Fate::Spoiled { why } => ("spoiled", None, Some(why)),
        };
        json!({
            "id": self.mutant.name,
            "what": self.mutant.what,
            "checker": self.mutant.checker,
            "state": state,
            "found_by": by,
            "said": said,
            "cpu_seconds": self.cpu_s,
            "runs": self.runs,
            "expected_missed": self.mutant.missed,
        })
    }
}

/// What stands above the table.
pub(super) fn head() -> String {
    format!(
        "{:<5}{:<44}{:>8}{:>8}  {}",
        "id", "found by", "cpu s", "runs", "what was said"
    )
}

/// Everything as JSON.
pub(super) fn to_json(rows: &[Row], problems: &[String]) -> String {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let all = json!({ "mutants": rows, "problems": problems });
    format!("{all:#}")
}

/// Found and all, by group.
pub(super) fn shares(rows: &[Row]) -> BTreeMap<&str, (usize, usize)> {
    let mut shares: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for row in rows {
        let (found, all) = shares.entry(split(&row.mutant.name).0).or_default();
        *found += usize::from(row.is_found());
        *all += 1;
    }
    shares
}

/// Why the gate stays shut; nothing if it opens.
pub(super) fn problems(rows: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    for row in rows {
        let name = &row.mutant.name;
        match (&row.fate, &row.mutant.missed) {
            (Fate::Found { .. }, _) | (Fate::Missed, Some(_)) => {}
            (Fate::Missed, None) => problems.push(format!("{name} is not found any more")),
            (Fate::Spoiled { why }, _) => problems.push(format!("{name}: {why}")),
        }
    }
    for (group, (found, all)) in shares(rows) {
        if found * 100 < all * SHARE_MIN {
            problems.push(format!("{found} of {all} of group {group} were found"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::bank::Finder;
    use super::*;

    fn row(name: &str, fate: Fate, missed: Option<&str>) -> Row {
        let mutant = Mutant {
            name: name.to_owned(),
            patch: name.into(),
            what: "something".to_owned(),
            checker: "durable".to_owned(),
            finders: vec![Finder::Scenario("hunt".to_owned())],
            budget_s: 600,
            missed: missed.map(str::to_owned),
        };
        Row {
            mutant,
            fate,
            cpu_s: 1.5,
            runs: Some(7),
        }
    }

    fn found() -> Fate {
        let by = "hunt".to_owned();
        let said = "BROKEN".to_owned();
        Fate::Found { by, said }
    }

    #[test]
    fn the_gate_opens_at_nineteen_of_twenty_if_the_missed_one_is_known() {
        let mut rows: Vec<Row> = (1..20)
            .map(|it| row(&format!("R{it}"), found(), None))
            .collect();
        rows.push(row("R20", Fate::Missed, Some("rare")));
        assert_eq!(problems(&rows), Vec::<String>::new());
        rows[19].mutant.missed = None;
        assert_eq!(problems(&rows), ["R20 is not found any more"]);
    }

    #[test]
    fn a_group_below_its_share_shuts_the_gate_whatever_is_known() {
        let rows = [
            row("E1", found(), None),
            row("E2", Fate::Missed, Some("rare")),
        ];
        assert_eq!(problems(&rows), ["1 of 2 of group E were found"]);
    }

    #[test]
    fn what_does_not_compile_is_not_found() {
        let why = "does not compile".to_owned();
        let rows = [row("K1", Fate::Spoiled { why }, None)];
        assert_eq!(problems(&rows).len(), 2);
        assert!(to_json(&rows, &problems(&rows)).contains("\"state\": \"spoiled\""));
    }

    #[test]
    fn a_line_names_mutant_finder_cost_and_words() {
        let line = row("R1", found(), None).line();
        for part in ["R1", "hunt", "1.5", "7", "BROKEN"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
