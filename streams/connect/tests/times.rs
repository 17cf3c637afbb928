//! What becomes of windows when time does what it does: rows at an edge, late ones, long silence,
//! clocks that jump, sources that are apart.
//!
//! Each file in tests/times is a scenario: why, the query, and behind an empty line the rows as
//! they come, with what came out beneath each. A line is a batch, `table time number, time number`;
//! times are of 2026-01-05, or whole. `cargo xtask bless tests` records.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use holm_connect::{Format, Reader, write};
use holm_engine::{Limits, Run};
use holm_sql::{Known, Planned, parse, plan};

struct Scene {
    planned: Planned,
    run: Run,
    readers: Vec<Reader>,
    lines: u64,
    told: (u64, u64),
}

impl Scene {
    fn new(query: &str) -> Self {
        let script = parse(query).unwrap_or_else(|refusal| panic!("{refusal}"));
        let planned =
            plan(&script, &Known::default()).unwrap_or_else(|refusal| panic!("{refusal}"));
        let sources = planned.plan.sources.iter().zip(&planned.needed);
        let readers = sources.map(|(source, needed)| {
            let (fields, needed) = (source.fields.clone(), needed.clone());
            Reader::new(Format::JsonLines, fields, needed, None).expect("JSON has no header")
        });
        Self {
            readers: readers.collect(),
            run: Run::new(&planned.plan, Limits::default(), Vec::new()),
            planned,
            lines: 1,
            told: (0, 0),
        }
    }

    fn source(&self, name: &str) -> usize {
        let sources = &self.planned.plan.sources;
        let found = sources.iter().position(|source| source.name == name);
        found.unwrap_or_else(|| panic!("no table {name}"))
    }

    /// What came out of a line, each row on a line of its own.
    fn play(&mut self, line: &str) -> String {
        let (word, rest) = line.split_once(' ').expect("a command and its table");
        let out = if word == "end" {
            let source = self.source(rest);
            self.run.end(source).expect("there is room")
        } else {
            let source = self.source(word);
            let mut text = String::new();
            for row in rest.split(", ") {
                let (time, k) = row.rsplit_once(' ').expect("a time and a number");
                let day = if time.contains('-') {
                    ""
                } else {
                    "2026-01-05 "
                };
                writeln!(text, "{{\"ts\":\"{day}{time}\",\"k\":{k}}}").expect("a string takes all");
            }
            let read = self.readers[source].read(text.as_bytes(), self.lines);
            assert!(read.bad.is_empty(), "{line}: {:?}", read.bad);
            self.lines += read.lines;
            self.run.push(source, read.batch).expect("there is room")
        };
        let mut text = String::new();
        write(
            Format::JsonLines,
            &self.planned.plan.fields,
            &out,
            &mut text,
        );
        let counts = self.run.counts();
        if (counts.late, counts.diverted) != self.told {
            self.told = (counts.late, counts.diverted);
            writeln!(text, "{} late, {} diverted", counts.late, counts.diverted)
                .expect("a string takes all");
        }
        let gauge = self.run.gauge();
        if line.starts_with("end") {
            writeln!(text, "{} panes are open", gauge.panes).expect("a string takes all");
        }
        text.replace("2026-01-05T", "")
    }
}

/// The scenario again, with what came out now.
fn played(text: &str) -> String {
    let (query, rest) = text.split_once("\n\n").expect("an empty line");
    let mut scene = Scene::new(query);
    let mut again = format!("{query}\n\n");
    for line in rest.lines().filter(|line| !line.starts_with(' ')) {
        writeln!(again, "{line}").expect("a string takes all");
        for out in scene.play(line).lines() {
            writeln!(again, "    {out}").expect("a string takes all");
        }
    }
    again
}

/// The files of scenarios with what they say.
#[expect(clippy::disallowed_methods, reason = "scenarios are files of the tree")]
fn scenarios() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/times");
    let entries = fs::read_dir(&folder).expect("it is there");
    let files = entries.map(|entry| {
        let path = entry.expect("it is there").path();
        let text = fs::read_to_string(&path).expect("it is text");
        (path, text)
    });
    files.collect()
}

#[test]
fn windows_end_when_their_scenario_says() {
    let mut count = 0;
    for (path, text) in scenarios() {
        expect_file![&path].assert_eq(&played(&text));
        count += 1;
    }
    assert!(count >= 9, "{count} scenarios");
}

/// The rows of a line one by one give what they give together.
#[test]
fn batches_do_not_show_in_scenarios() {
    for (path, text) in scenarios() {
        let (query, rest) = text.split_once("\n\n").expect("an empty line");
        let [mut whole, mut single] = [Scene::new(query), Scene::new(query)];
        for line in rest.lines().filter(|line| !line.starts_with(' ')) {
            let together = whole.play(line);
            let (word, rows) = line.split_once(' ').expect("a command and its table");
            let mut apart = String::new();
            for row in rows.split(", ") {
                apart += &single.play(&format!("{word} {row}"));
            }
            // How many were late is told after each batch.
            let rows = |text: &str| {
                let lines = text.lines().filter(|line| line.starts_with('{'));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(rows(&together), rows(&apart), "{}: {line}", path.display());
            assert_eq!(whole.told, single.told, "{}: {line}", path.display());
        }
    }
}
