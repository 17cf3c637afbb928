//! Scenarios: commands, and beneath each what happened. `REWRITE=1` records them anew.
//!
//! What would surprise: `end=0` stands for the end that means "all from the key on".

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use datadriven::TestCase;
use holm_kv::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, SortOrder, SortTarget,
    Txn, TxnOp,
};
use holm_kv::outcome::{Outcome, RangeOutcome};
use holm_kv::record::Parts;
use holm_kv::{KeyRange, Record, Refusal, WatchRequest};

use crate::dumb::site::Site;
use crate::dumb::watch::{Event, Watcher, request};

#[test]
fn scenarios() {
    datadriven::walk("tests/script", |file| {
        let mut stage = Stage {
            site: Site::new(),
            watchers: BTreeMap::new(),
        };
        file.run(|case| stage.play(&mut case.clone()));
    });
}

struct Stage {
    site: Site,
    watchers: BTreeMap<String, Watcher>,
}

impl Stage {
    fn play(&mut self, case: &mut TestCase) -> String {
        match case.directive.as_str() {
            "put" => self.apply(Command::Put(put(case))),
            "delete" => self.apply(Command::DeleteRange(delete(case))),
            "txn" => self.apply(Command::Txn(txn(&case.input))),
            "compact" => self.apply(Command::Compact {
                revision: number(case, "rev"),
            }),
            "grant" => self.apply(Command::LeaseGrant {
                id: number(case, "id"),
                ttl: number(case, "ttl"),
                ttl_min: 2,
            }),
            "revoke" => self.apply(Command::LeaseRevoke {
                id: number(case, "id"),
            }),
            "get" => {
                let found = self.site.keyspace.reader().view().read(&range(case));
                found.map_or_else(|refusal| refused(&refusal), |it| show_range(&it))
            }
            "watch" => {
                let name = case.take_arg::<String>("name").expect("watch name=");
                let watcher = Watcher::ask(&self.site, watch(case));
                self.watchers.insert(name.clone(), watcher);
                self.poll(&name)
            }
            "poll" => {
                let name = case.take_arg::<String>("name").expect("poll name=");
                self.poll(&name)
            }
            "progress" => {
                let name = case.take_arg::<String>("name").expect("progress name=");
                self.watchers[&name].request_progress();
                self.poll(&name)
            }
            "restart" => {
                self.watchers.clear();
                self.site.restart();
                "ok\n".to_owned()
            }
            "work" => {
                self.site.work();
                "ok\n".to_owned()
            }
            other => panic!("{other} is no command"),
        }
    }

    fn apply(&mut self, command: Command) -> String {
        let applied = self.site.ask(None, command);
        match applied.result {
            Ok(outcome) => {
                let mut out = format!("revision {}\n", applied.revision);
                show(&mut out, 0, &outcome);
                out
            }
            Err(refusal) => refused(&refusal),
        }
    }

    fn poll(&mut self, name: &str) -> String {
        let watcher = self.watchers.get_mut(name).expect("a watcher of that name");
        watcher.settle(&self.site);
        let mut out = String::new();
        for event in watcher.events.drain(..) {
            show_event(&mut out, &event);
        }
        for revision in watcher.progress.drain(..) {
            writeln!(out, "progress {revision}").expect("a string grows");
        }
        if let Some(compacted) = watcher.compacted {
            writeln!(out, "canceled, compacted {compacted}").expect("a string grows");
        } else if watcher.canceled.is_some() {
            out.push_str("canceled\n");
        }
        if out.is_empty() {
            "nothing\n".to_owned()
        } else {
            out
        }
    }
}

fn refused(refusal: &Refusal) -> String {
    format!("refused: {refusal}\n")
}

fn show(out: &mut String, indent: usize, outcome: &Outcome) {
    let pad = "  ".repeat(indent);
    match outcome {
        Outcome::Put { prev } => {
            if let Some(prev) = prev {
                writeln!(out, "{pad}prev {}", show_record(prev)).expect("a string grows");
            }
        }
        Outcome::DeleteRange { deleted, prev } => {
            writeln!(out, "{pad}deleted {deleted}").expect("a string grows");
            for prev in prev {
                writeln!(out, "{pad}prev {}", show_record(prev)).expect("a string grows");
            }
        }
        Outcome::Range(range) => {
            for line in show_range(range).lines() {
                writeln!(out, "{pad}{line}").expect("a string grows");
            }
        }
        Outcome::Txn {
            succeeded,
            responses,
        } => {
            writeln!(out, "{pad}{}", if *succeeded { "then" } else { "else" })
                .expect("a string grows");
            for response in responses {
                show(out, indent + 1, response);
            }
        }
        Outcome::LeaseGrant { id, ttl } => {
            writeln!(out, "{pad}lease {id} ttl {ttl}").expect("a string grows");
        }
        Outcome::Alarms(alarms) => {
            writeln!(out, "{pad}alarms {alarms:?}").expect("a string grows");
        }
        Outcome::Done => {}
    }
}

fn show_range(range: &RangeOutcome) -> String {
    let mut out = String::new();
    for record in &range.records {
        writeln!(out, "{}", show_record(record)).expect("a string grows");
    }
    let more = if range.more { ", more" } else { "" };
    writeln!(out, "count {}{more}", range.count).expect("a string grows");
    out
}

fn show_record(record: &Record) -> String {
    show_parts(&record.decode().expect("a whole record"))
}

fn show_parts(parts: &Parts) -> String {
    let mut out = format!(
        "{}={} create {} mod {} version {}",
        String::from_utf8_lossy(&parts.key),
        String::from_utf8_lossy(&parts.value),
        parts.create,
        parts.modified,
        parts.version,
    );
    if parts.lease != 0 {
        write!(out, " lease {}", parts.lease).expect("a string grows");
    }
    out
}

fn show_event(out: &mut String, event: &Event) {
    if event.is_delete {
        let key = String::from_utf8_lossy(&event.kv.key);
        write!(out, "delete {key} mod {}", event.kv.modified).expect("a string grows");
    } else {
        write!(out, "put {}", show_parts(&event.kv)).expect("a string grows");
    }
    if let Some(prev) = &event.prev {
        write!(out, " | prev {}", show_parts(prev)).expect("a string grows");
    }
    out.push('\n');
}

fn number(case: &mut TestCase, name: &str) -> i64 {
    let given = case.try_take_arg(name).expect("a number");
    given.unwrap_or(0)
}

fn text(case: &mut TestCase, name: &str) -> Bytes {
    let given: Option<String> = case.try_take_arg(name).expect("a text");
    end(given.unwrap_or_default())
}

fn end(text: String) -> Bytes {
    if text == "0" {
        Bytes::from_static(b"\0")
    } else {
        text.into()
    }
}

fn flag(case: &mut TestCase, name: &str) -> bool {
    case.take_flag(name).expect("a flag")
}

fn put(case: &mut TestCase) -> Put {
    Put {
        key: text(case, "key"),
        value: text(case, "value"),
        lease: number(case, "lease"),
        prev_kv: flag(case, "prev"),
        ignore_value: flag(case, "ignore_value"),
        ignore_lease: flag(case, "ignore_lease"),
    }
}

fn delete(case: &mut TestCase) -> DeleteRange {
    DeleteRange {
        key: text(case, "key"),
        range_end: text(case, "end"),
        prev_kv: flag(case, "prev"),
    }
}

fn range(case: &mut TestCase) -> Range {
    let order: Option<String> = case.try_take_arg("sort").expect("an order");
    let target: Option<String> = case.try_take_arg("by").expect("a target");
    Range {
        key: text(case, "key"),
        range_end: text(case, "end"),
        limit: number(case, "limit"),
        revision: number(case, "rev"),
        sort_order: match order.as_deref() {
            None => SortOrder::None,
            Some("ascend") => SortOrder::Ascend,
            Some("descend") => SortOrder::Descend,
            Some(other) => panic!("{other} is no order"),
        },
        sort_target: match target.as_deref() {
            None | Some("key") => SortTarget::Key,
            Some("version") => SortTarget::Version,
            Some("create") => SortTarget::Create,
            Some("mod") => SortTarget::Mod,
            Some("value") => SortTarget::Value,
            Some(other) => panic!("{other} is no target"),
        },
        keys_only: flag(case, "keys_only"),
        count_only: flag(case, "count_only"),
        min_mod_revision: number(case, "min_mod"),
        max_mod_revision: number(case, "max_mod"),
        min_create_revision: number(case, "min_create"),
        max_create_revision: number(case, "max_create"),
    }
}

fn watch(case: &mut TestCase) -> WatchRequest {
    let range = KeyRange::new(text(case, "key"), text(case, "end"));
    WatchRequest {
        prev_kv: flag(case, "prev"),
        fragment: flag(case, "fragment"),
        no_put: flag(case, "no_put"),
        no_delete: flag(case, "no_delete"),
        ..request(range, number(case, "start"))
    }
}

/// Reads lines `if TARGET KEY[..END] = VALUE`, `then OP`, `else OP`; a `then txn` or `else txn`
/// takes the lines below it that are indented deeper.
fn txn(input: &str) -> Txn {
    let lines: Vec<&str> = input.lines().collect();
    block(&lines)
}

fn block(lines: &[&str]) -> Txn {
    let mut txn = Txn::default();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let within = lines[at + 1..].iter();
        let below = within.take_while(|it| depth(it) > depth(line)).count();
        let inner = &lines[at + 1..at + 1 + below];
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "if" => txn.compare.push(compare(&words[1..])),
            "then" => txn.success.push(op(&words[1..], inner)),
            "else" => txn.failure.push(op(&words[1..], inner)),
            other => panic!("{other} begins no line of a txn"),
        }
        at += 1 + below;
    }
    txn
}

fn keys(word: &str) -> (Bytes, Bytes) {
    let (key, last) = word.split_once("..").unwrap_or((word, ""));
    (key.to_owned().into(), end(last.to_owned()))
}

fn compare(words: &[&str]) -> Compare {
    let (key, range_end) = keys(words[1]);
    let value = words.get(3).copied().unwrap_or_default();
    let number = || value.parse().expect("a number");
    Compare {
        key,
        range_end,
        result: match words[2] {
            "=" => CompareResult::Equal,
            ">" => CompareResult::Greater,
            "<" => CompareResult::Less,
            "!=" => CompareResult::NotEqual,
            other => panic!("{other} is no relation"),
        },
        target: match words[0] {
            "version" => CompareTarget::Version(number()),
            "create" => CompareTarget::Create(number()),
            "mod" => CompareTarget::Mod(number()),
            "value" => CompareTarget::Value(value.to_owned().into()),
            "lease" => CompareTarget::Lease(number()),
            other => panic!("{other} is no target"),
        },
    }
}

fn op(words: &[&str], inner: &[&str]) -> TxnOp {
    let (key, range_end) = keys(words.get(1).copied().unwrap_or_default());
    match words[0] {
        "get" => TxnOp::Range(Range {
            key,
            range_end,
            revision: words.get(2).map_or(0, |it| it.parse().expect("a revision")),
            ..Range::default()
        }),
        "put" => TxnOp::Put(Put {
            key,
            value: words.get(2).copied().unwrap_or_default().to_owned().into(),
            ..Put::default()
        }),
        "keep" => TxnOp::Put(Put {
            key,
            ignore_value: true,
            ..Put::default()
        }),
        "delete" => TxnOp::DeleteRange(DeleteRange {
            key,
            range_end,
            ..DeleteRange::default()
        }),
        "txn" => TxnOp::Txn(block(inner)),
        other => panic!("{other} is no operation"),
    }
}
