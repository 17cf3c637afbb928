//! Scenarios: commands on a log with segments of 32 KiB, and beneath each what happened.
//!
//! `open`, `flush COUNT LEN [reserve]`, `term N`, `cut OP`, `prepare`, `close`, `crash SURVIVAL`,
//! `capacity KIB|none`, `harm FILE AT flip|blank`, `state`, `files`, `trace` (steps since last).
//! For a node among others: `peers`, `hard TERM VOTE|- [recovering]`, `raft COUNT LEN`,
//! `back OP`, `install OP TERM suffix|alone`, `read FIRST LAST BYTES`, `all`.

mod support;

use std::fmt::Write;

use holm_base::{ByteCount, NodeId, Op, Term};
use holm_log::{Hard, Installed, Log, LogConfig, LogError, Urgency};
use holm_sequencer::Record;
use holm_virtual::{Storage, Survival};
use support::{GROUP, config, kept, raft_record, record};

struct Stage {
    storage: Storage,
    log: Option<Log>,
    seen: usize,
    has_peers: bool,
}

impl Stage {
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["open"] => self.open(),
            ["close"] => said(self.log.take().expect("the log is open").close(), "closed"),
            ["crash", survival] => self.crash(survival),
            ["capacity", size] => self.capacity(size),
            ["harm", file, at, how] => self.harm(file, number(at), how),
            ["files"] => self.files(),
            ["trace"] => self.trace(),
            ["peers"] => {
                self.has_peers = true;
                "there are others".to_owned()
            }
            other => self.call(other),
        }
    }

    fn call(&mut self, words: &[&str]) -> String {
        let Some(log) = self.log.as_mut() else {
            return "the log is not open".to_owned();
        };
        match words {
            ["flush", count, len, rest @ ..] => {
                let urgency = if rest.is_empty() {
                    Urgency::Ordinary
                } else {
                    Urgency::Reserve
                };
                let first = log.last(GROUP).value() + 1;
                let len = usize::try_from(number(len)).expect("it is small");
                let term = log.hard(GROUP).term.value();
                let records: Vec<Record> = (first..first + number(count))
                    .map(|op| record(term, op, len))
                    .collect();
                said(log.flush(GROUP, &records, urgency), "flushed")
            }
            ["term", term] => {
                let term = Term::new(number(term));
                said(
                    log.flush(GROUP, &[Record::of_term(term)], Urgency::Ordinary),
                    "flushed",
                )
            }
            ["cut", op] => said(log.cut(GROUP, Op::new(number(op))), "cut"),
            ["prepare"] => log
                .prepare_next()
                .map_or_else(|error| text(&error), |done| format!("{done:?}")),
            ["state"] => {
                let (first, last, term) = (log.first(GROUP), log.last(GROUP), log.hard(GROUP).term);
                let count = kept(log, GROUP).len();
                format!("term {term}, ops {first}..={last}, {count} read back")
            }
            other => among_others(log, other),
        }
    }

    fn open(&mut self) -> String {
        let folder = self
            .storage
            .root()
            .folder("log")
            .expect("it is only a name");
        let config = LogConfig {
            segment_bytes: ByteCount::new(32 << 10),
            has_peers: self.has_peers,
            ..config()
        };
        match Log::open(folder, config) {
            Ok(log) => {
                let (opens, torn, closed) = (log.opens(), log.torn(), log.was_closed());
                let damage = log.damage().map(|it| format!("; {it}"));
                self.log = Some(log);
                let damage = damage.unwrap_or_default();
                format!("open {opens}, closed before: {closed}, torn bytes zeroed: {torn}{damage}")
            }
            Err(error) => text(&error),
        }
    }

    fn crash(&mut self, survival: &str) -> String {
        let survival = match survival {
            "keep" => Survival::Keep,
            "drop" => Survival::Drop,
            "torn" => Survival::Torn { seed: 1 },
            seed => Survival::Reordered { seed: number(seed) },
        };
        self.log = None;
        self.storage = self.storage.reopen(survival);
        self.seen = 0;
        "rebooted".to_owned()
    }

    fn capacity(&self, size: &str) -> String {
        let bytes = if size == "none" {
            u64::MAX
        } else {
            number(size) << 10
        };
        self.storage.set_capacity(ByteCount::new(bytes));
        format!("{} bytes used", self.storage.used())
    }

    fn harm(&self, file: &str, at: u64, how: &str) -> String {
        let path = format!("log/{file}");
        match how {
            "flip" => self.storage.flip(&path, ByteCount::new(at), 1),
            _ => self.storage.blank(&path, ByteCount::new(at), 512),
        }
        "harmed".to_owned()
    }

    fn files(&self) -> String {
        let mut list = String::new();
        for name in self.storage.names() {
            let bytes = self.storage.bytes(&name).expect("it was listed");
            let used = bytes
                .iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |last| last + 1);
            writeln!(
                list,
                "{name} {} written of {}",
                used.next_multiple_of(512),
                bytes.len()
            )
            .expect("a string takes all");
        }
        list
    }

    fn trace(&mut self) -> String {
        let all = self.storage.trace();
        let new = all[self.seen..].join("\n");
        self.seen = all.len();
        new
    }
}

/// What a log does for a node among others.
fn among_others(log: &mut Log, words: &[&str]) -> String {
    let mut flush = |record| said(log.flush(GROUP, &[record], Urgency::Ordinary), "flushed");
    match words {
        ["hard", term, vote, rest @ ..] => flush(Record::Hard {
            term: Term::new(number(term)),
            vote: (*vote != "-").then(|| NodeId::new(number(vote))),
            is_recovering: !rest.is_empty(),
        }),
        ["raft", count, len] => {
            let (first, term) = (log.last(GROUP).value() + 1, log.hard(GROUP).term.value());
            let len = usize::try_from(number(len)).expect("it is small");
            let records: Vec<Record> = (first..first + number(count))
                .map(|op| raft_record(term, op, len))
                .collect();
            said(log.flush(GROUP, &records, Urgency::Ordinary), "flushed")
        }
        ["back", op] => flush(Record::CutTo {
            last: Op::new(number(op)),
        }),
        ["install", op, term, how] => flush(Record::Installed {
            term: Term::new(number(term)),
            op: Op::new(number(op)),
            is_suffix_kept: *how == "suffix",
            body: format!("snapshot at {op}").into(),
        }),
        ["read", first, last, bytes_max] => {
            let range = (Op::new(number(first)), Op::new(number(last)));
            match log.entries(GROUP, range.0, range.1, number(bytes_max)) {
                Ok(found) => ops(found.iter().map(|it| (it.0.value(), it.1.value()))),
                Err(error) => text(&error),
            }
        }
        ["all"] => all(log),
        other => format!("no such command: {other:?}"),
    }
}

fn all(log: &Log) -> String {
    let Hard {
        term,
        vote,
        is_recovering,
    } = log.hard(GROUP);
    let vote = vote.map_or_else(|| "nobody".to_owned(), |it| it.to_string());
    let mut out = format!("term {term}, vote for {vote}");
    if is_recovering {
        out += ", recovering";
    }
    if log.is_damaged(GROUP) {
        out += ", damaged";
    }
    let (term, op) = log.base(GROUP);
    write!(out, "; base {term}.{op}").expect("a string takes all");
    if let Some(it) = log.installed(GROUP) {
        let Installed {
            term, op, ref body, ..
        } = *it;
        let how = if it.is_suffix_kept { "suffix" } else { "alone" };
        write!(out, "; installed {term}.{op} {how} {body:?}").expect("a string takes all");
    }
    let kept = kept(log, GROUP);
    out + "; " + &ops(kept.iter().map(|it| (it.0, it.1)))
}

/// Runs of ops of one term, as term.first-last.
fn ops(all: impl Iterator<Item = (u64, u64)>) -> String {
    let mut runs: Vec<(u64, u64, u64)> = Vec::new();
    for (term, op) in all {
        match runs.last_mut() {
            Some((last_term, _, last)) if *last_term == term && *last + 1 == op => *last = op,
            Some(_) | None => runs.push((term, op, op)),
        }
    }
    let runs: Vec<String> = runs
        .iter()
        .map(|(term, first, last)| format!("{term}.{first}-{last}"))
        .collect();
    format!("[{}]", runs.join(" "))
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn said(answer: Result<(), LogError>, done: &str) -> String {
    answer.map_or_else(|error| text(&error), |()| done.to_owned())
}

fn text(error: &LogError) -> String {
    format!("refused: {error}")
}

#[test]
fn scenarios_happen_as_recorded() {
    datadriven::walk("tests/script", |file| {
        let mut stage = Stage {
            storage: Storage::new(),
            log: None,
            seen: 0,
            has_peers: false,
        };
        file.run(|case| {
            let mut out = String::new();
            for line in std::iter::once(case.directive.as_str()).chain(case.input.lines()) {
                if line == "do" {
                    continue;
                }
                writeln!(out, "{line}: {}", stage.run(line).trim_end())
                    .expect("a string takes all");
            }
            out
        });
    });
}
