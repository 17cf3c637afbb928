//! What came of the mutants: lines as they come, the table, JSON, and whether the gate is open.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bank::{Finder, Mutant, split};

/// How many of a hundred must be found in each group.
const SHARE_MIN: usize = 95;

/// What came of one mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This found it, and said so.
    Found { by: Finder, said: String },
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
    /// What its finders took.
    pub(super) cpu_s: f64,
    /// What building took, apart from that.
    pub(super) built_s: f64,
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
            built_s: 0.0,
            runs: None,
        }
    }

    pub(super) const fn is_found(&self) -> bool {
        matches!(self.fate, Fate::Found { .. })
    }

    /// One line of the table.
    pub(super) fn line(&self) -> String {
        let (by, said) = match &self.fate {
            Fate::Found { by, said } => (by.to_string(), said.as_str()),
            Fate::Missed => ("-".to_owned(), "MISSED"),
            Fate::Spoiled { why } => ("-".to_owned(), why.as_str()),
        };
        let runs = self
            .runs
            .map_or_else(|| "-".to_owned(), |runs| runs.to_string());
        let (name, cpu, built) = (&self.mutant.name, self.cpu_s, self.built_s);
        format!("{name:<5}{by:<44}{cpu:>8.1}{built:>8.1}{runs:>8}  {said}")
    }

    /// As JSON, of which [`Row::of_json`] makes a row again.
    pub(super) fn json(&self) -> Value {
        let (state, by, said) = match &self.fate {
            Fate::Found { by, said } => ("found", Some(by.to_string()), Some(said)),
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
            "build_cpu_seconds": self.built_s,
            "runs": self.runs,
            "expected_missed": self.mutant.missed,
        })
    }
}

impl Row {
    /// What was kept of a mutant, if it is one that was judged.
    pub(super) fn of_json(mutant: &Mutant, kept: &Value) -> Option<Self> {
        let text = |key: &str| kept.get(key).and_then(Value::as_str);
        let fate = match text("state")? {
            "missed" => Fate::Missed,
            "found" => {
                let named = text("found_by")?;
                let by = mutant.finders.iter().find(|it| it.to_string() == named)?;
                let (by, said) = (by.clone(), text("said")?.to_owned());
                Fate::Found { by, said }
            }
            _ => return None,
        };
        Some(Self {
            mutant: mutant.clone(),
            fate,
            cpu_s: kept.get("cpu_seconds")?.as_f64()?,
            built_s: kept.get("build_cpu_seconds")?.as_f64()?,
            runs: kept.get("runs").and_then(Value::as_u64),
        })
    }
}

/// What stands above the table.
pub(super) fn head() -> String {
    format!(
        "{:<5}{:<44}{:>8}{:>8}{:>8}  {}",
        "id", "found by", "cpu s", "built s", "runs", "what was said"
    )
}

/// What stands below it: how many were found, by what, and which took longest.
pub(super) fn foot(rows: &[Row]) -> Vec<String> {
    let found = rows.iter().filter(|row| row.is_found());
    let by_scenario = found.clone().filter(|row| {
        matches!(
            row.fate,
            Fate::Found {
                by: Finder::Scenario(_),
                ..
            }
        )
    });
    let (all, by_scenario) = (found.clone().count(), by_scenario.count());
    let mut lines = vec![format!(
        "{all} of {} found: {by_scenario} by rehearsals, {} by tests",
        rows.len(),
        all - by_scenario
    )];
    if let Some(row) = found.max_by(|left, right| left.cpu_s.total_cmp(&right.cpu_s)) {
        let (name, cpu) = (&row.mutant.name, row.cpu_s);
        lines.push(format!(
            "the slowest to be found: {name}, {cpu:.1} s of CPU"
        ));
    }
    let cpu: f64 = rows.iter().map(|row| row.cpu_s).sum();
    let built: f64 = rows.iter().map(|row| row.built_s).sum();
    lines.push(format!(
        "{cpu:.0} s of CPU in finders, {built:.0} s in builds"
    ));
    for (group, (found, all)) in shares(rows) {
        lines.push(format!("group {group}: {found} of {all} found"));
    }
    let missed = rows.iter().filter(|row| !row.is_found());
    let missed: Vec<&str> = missed.map(|row| row.mutant.name.as_str()).collect();
    if !missed.is_empty() {
        lines.push(format!("not found: {}", missed.join(", ")));
    }
    lines
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
    use super::*;

    fn row(name: &str, fate: Fate, missed: Option<&str>) -> Row {
        let mutant = Mutant {
            name: name.to_owned(),
            patch: name.into(),
            what: "something".to_owned(),
            checker: "durable".to_owned(),
            finders: vec![Finder::Scenario("hunt".to_owned())],
            budget_s: 600,
            folder: "store/raft".to_owned(),
            digest: "0".to_owned(),
            missed: missed.map(str::to_owned),
        };
        Row {
            mutant,
            fate,
            cpu_s: 1.5,
            built_s: 20.0,
            runs: Some(7),
        }
    }

    fn found() -> Fate {
        let by = Finder::Scenario("hunt".to_owned());
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
    fn what_was_judged_is_read_again_and_what_was_not_is_not() {
        let spoiled = Fate::Spoiled {
            why: "?".to_owned(),
        };
        for (fate, is_kept) in [(found(), true), (Fate::Missed, true), (spoiled, false)] {
            let row = row("R1", fate, None);
            let again = Row::of_json(&row.mutant, &row.json());
            assert_eq!(again.is_some(), is_kept);
            if let Some(again) = again {
                assert_eq!((again.line(), again.fate), (row.line(), row.fate));
            }
        }
    }

    #[test]
    fn the_foot_counts_by_finder_and_names_the_missed() {
        let rows = [row("R1", found(), None), row("R2", Fate::Missed, None)];
        let lines = foot(&rows).join("\n");
        for part in [
            "1 of 2 found: 1 by rehearsals, 0 by tests",
            "R1, 1.5 s",
            "not found: R2",
        ] {
            assert!(lines.contains(part), "{lines}");
        }
    }

    #[test]
    fn a_line_names_mutant_finder_cost_and_words() {
        let line = row("R1", found(), None).line();
        for part in ["R1", "hunt", "1.5", "7", "BROKEN"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
