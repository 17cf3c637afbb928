//! Scenarios: commands, and beneath each what happened.
//!
//! `elect nN` lets a node's timer come first; `deliver nA->nB`, `lose nA->nB`, `repeat nA->nB`
//! and `durable nN` act on the oldest such thing; `settle` lets everything but timers happen.

use std::fmt::Write;

use holm_base::NodeId;
use holm_virtual::{Candidate, Tape, World, WorldSpec};

use crate::machine::{Bug, Register, Request, Setup};

struct Stage {
    world: World<Register>,
    seen: usize,
}

impl Stage {
    fn new(nodes: u64) -> Self {
        let setup = Setup {
            nodes,
            bug: Bug::None,
        };
        let count = usize::try_from(nodes).expect("nodes are few");
        let mut spec = WorldSpec::plain(&setup, count);
        spec.report = holm_virtual::Report::On;
        let world = World::new(spec, Tape::normal());
        Self { world, seen: 0 }
    }

    fn find(&mut self, is_meant: impl Fn(&Candidate) -> bool) -> Option<u64> {
        let pending = self.world.pending();
        let found = pending.iter().find(|one| is_meant(one));
        found.map(|one| one.seq)
    }

    fn run(&mut self, words: &[&str]) -> Result<(), String> {
        let node = |word: &str| number(word).map(NodeId::new);
        match words {
            ["request", at, "put", cell, value] => {
                let cell = index(cell)?;
                let value = number(value)?;
                self.world.request(node(at)?, Request::Put { cell, value });
            }
            ["request", at, "get", cell] => {
                let cell = index(cell)?;
                self.world.request(node(at)?, Request::Get { cell });
            }
            ["deliver" | "lose" | "repeat", way] => {
                let (source, target) = way.split_once("->").ok_or("which way?")?;
                let (source, target) = (index(source)? - 1, index(target)? - 1);
                let seq =
                    self.find(|one| one.is_message && (one.source, one.target) == (source, target));
                let seq = seq.ok_or("nothing is on that way")?;
                match words[0] {
                    "deliver" => drop(self.world.force(seq)),
                    "lose" => drop(self.world.lose(seq)),
                    _ => drop(self.world.repeat(seq)),
                }
            }
            ["wake" | "durable", at] => {
                let (kind, target) = (words[0], index(at)? - 1);
                let seq = self.find(|one| one.target == target && one.label.kind == kind);
                self.world.force(seq.ok_or("it waits for no such thing")?);
            }
            ["crash", at] => self.world.crash(node(at)?),
            ["restart", at] => self.world.restart(node(at)?),
            ["settle"] => {
                let calm = |one: &Candidate| one.label.kind != "wake";
                while let Some(seq) = self.find(calm) {
                    self.world.force(seq);
                }
            }
            _ => return Err(format!("what is {words:?}?")),
        }
        Ok(())
    }

    /// What the last command made happen.
    fn news(&mut self) -> String {
        let mut text = String::new();
        for line in &self.world.report()[self.seen..] {
            writeln!(text, "{line}").expect("text grows");
        }
        self.seen = self.world.report().len();
        text
    }

    fn state(&self) -> String {
        let mut text = String::new();
        for id in self.world.nodes() {
            match self.world.node(id) {
                None => writeln!(text, "n{id} down"),
                Some(node) => {
                    let (role, term, state) = (node.role(), node.term(), node.state());
                    let values = state.cells.map(|cell| cell.value);
                    let revision = state.revision;
                    writeln!(
                        text,
                        "n{id} {role} term {term} revision {revision} {values:?}"
                    )
                }
            }
            .expect("text grows");
        }
        text
    }
}

fn number(word: &str) -> Result<u64, String> {
    let digits = word.trim_start_matches('n');
    digits
        .parse()
        .map_err(|why| format!("{word} is no number: {why}"))
}

fn index(word: &str) -> Result<usize, String> {
    let number = number(word)?;
    usize::try_from(number).map_err(|why| format!("{word} is too large: {why}"))
}

#[test]
fn scenarios_go_as_they_are_written() {
    datadriven::walk("tests/register/script", |file| {
        let mut stage = Stage::new(3);
        file.run(|case| {
            let mut text = String::new();
            for line in case.input.lines().chain([case.directive.as_str()]) {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["run"] => text += &stage.news(),
                    ["quiet"] => drop(stage.news()),
                    ["state"] => text += &stage.state(),
                    [] => {}
                    words => {
                        if let Err(why) = stage.run(words) {
                            writeln!(text, "{line}: {why}").expect("text grows");
                        }
                    }
                }
            }
            if text.is_empty() {
                text.push_str("ok\n");
            }
            text
        });
    });
}
