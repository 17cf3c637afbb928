//! Every small world: compaction at each revision, a watch from each start.

use holm_kv::command::Command;
use holm_kv::{Config, HubConfig};

use crate::world::{World, delete, event, keys, put, request};

/// Two keys that are written, deleted and written again; revisions 2 to 9.
fn history() -> Vec<Command> {
    vec![
        put("a", "1"),
        put("b", "1"),
        delete("a", ""),
        put("b", "2"),
        put("a", "2"),
        delete("a", "c"),
        put("b", "3"),
        delete("b", ""),
    ]
}

/// Which of the revisions a compaction keeps: those above, the newest version of each key that
/// lives at it, and the delete exactly at it.
fn is_kept(revision: i64, compacted: i64) -> bool {
    let is_live = match compacted {
        2 => revision == 2,
        3 => revision == 2 || revision == 3,
        4 => revision == 3 || revision == 4,
        5 => revision == 5,
        6 => revision == 5 || revision == 6,
        7 => revision == 7,
        8 => revision == 8,
        9 => revision == 9,
        _ => true,
    };
    revision > compacted || is_live
}

fn check(compacted: i64, start: i64, ring_revisions: usize) {
    let hub = HubConfig {
        ring_revisions,
        ..HubConfig::default()
    };
    let mut world = World::new(Config {
        hub,
        ..Config::default()
    });
    let stream = world.stream();
    let elsewhere = world.stream();
    world.watch(elsewhere, request(keys("a", "\0"), 0));
    for command in history() {
        world.done(command);
    }
    if compacted > 0 {
        world.done(Command::Compact {
            revision: compacted,
        });
        world.work();
    }
    world.watch(stream, request(keys("a", "\0"), start));
    let answers = world.drain(stream);
    if start < compacted {
        assert_eq!(answers[1].compact_revision, compacted);
        return;
    }
    let events = answers.iter().flat_map(|it| &it.events);
    let mut seen: Vec<i64> = events.map(|it| event(it).parts.modified).collect();
    seen.dedup();
    let expected: Vec<i64> = (start.max(2)..=9)
        .filter(|it| is_kept(*it, compacted))
        .collect();
    assert_eq!(
        seen, expected,
        "compacted at {compacted}, watched from {start}"
    );
}

#[test]
fn each_compaction_and_each_start_give_what_is_kept() {
    for compacted in [0, 2, 3, 4, 5, 6, 7, 8, 9] {
        for start in 1..=10 {
            for ring_revisions in [0, 3, 100] {
                check(compacted, start, ring_revisions);
            }
        }
    }
}
