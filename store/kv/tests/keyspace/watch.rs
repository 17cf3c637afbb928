//! Watches, rule by rule.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holm_kv::command::Command;
use holm_kv::{Config, HubConfig, WatchAnswer, WatchRequest};

use crate::world::{World, event, keys, request};

fn world() -> World {
    World::new(Config::default())
}

fn ids(answers: &[WatchAnswer]) -> Vec<i64> {
    answers.iter().map(|it| it.watch_id).collect()
}

#[test]
fn answers_to_requests_come_in_order_and_before_events() {
    let mut world = world();
    let stream = world.stream();
    world.watch(stream, request(keys("a", ""), 1));
    world.put("a", "1");
    world.watch(stream, request(keys("b", "a"), 0));
    world.watch(stream, request(keys("a", ""), -1));
    let seven = WatchRequest {
        watch_id: 7,
        ..request(keys("z", ""), 0)
    };
    world.watch(stream, seven.clone());
    world.watch(stream, seven);
    let answers = world.drain(stream);
    assert_eq!(ids(&answers), [0, -1, -1, 7, -1, 0]);
    assert!(
        answers[..5]
            .iter()
            .all(|it| it.created && it.events.is_empty())
    );
    assert_eq!(answers[1].cancel_reason, "mvcc: watcher range is empty");
    assert_eq!(
        answers[2].cancel_reason,
        "etcdserver: mvcc: required revision has been compacted"
    );
    assert!(answers[4].cancel_reason.contains("duplicate watch ID"));
    assert_eq!(event(&answers[5].events[0]).parts.value, "1");
}

#[test]
fn a_start_below_the_compaction_is_canceled_with_its_revision() {
    let mut world = world();
    let stream = world.stream();
    world.put("a", "1");
    world.put("a", "2");
    world.put("a", "3");
    world.done(Command::Compact { revision: 3 });
    world.watch(stream, request(keys("a", ""), 2));
    let answers = world.drain(stream);
    assert!(answers[0].created && answers[1].canceled);
    assert_eq!(answers[1].compact_revision, 3);
    world.watch(stream, request(keys("a", ""), 3));
    let answers = world.drain(stream);
    assert_eq!(answers[1].events.len(), 2, "the line itself is legal");
}

#[test]
fn a_watch_at_the_line_sees_the_delete_that_is_exactly_there() {
    let mut world = world();
    let stream = world.stream();
    world.put("a", "1");
    world.done(crate::world::delete("a", ""));
    world.done(Command::Compact { revision: 3 });
    world.work();
    world.watch(stream, request(keys("a", ""), 3));
    let answers = world.drain(stream);
    let seen = event(&answers[1].events[0]);
    assert!(seen.is_delete && seen.parts.modified == 3);
}

#[test]
fn progress_comes_once_behind_all_events_and_not_before_a_future_start() {
    let mut world = world();
    let stream = world.stream();
    world.watch(stream, request(keys("a", ""), 1));
    world.put("a", "1");
    world.keyspace.hub().request_progress(stream);
    world.keyspace.hub().request_progress(stream);
    let answers = world.drain(stream);
    assert_eq!(ids(&answers), [0, 0, -1]);
    assert_eq!(answers[2].revision, 2);
    world.watch(stream, request(keys("a", ""), 9));
    world.keyspace.hub().request_progress(stream);
    assert_eq!(ids(&world.drain(stream)), [1]);
    for _ in 3..9 {
        world.put("b", "");
    }
    assert_eq!(ids(&world.drain(stream)), [-1], "the start is next");
}

#[test]
fn a_stream_without_watchers_hears_no_progress() {
    let world = world();
    let stream = world.stream();
    world.keyspace.hub().request_progress(stream);
    assert!(world.drain(stream).is_empty());
}

#[test]
fn an_idle_watcher_is_told_the_revision_now_and_then() {
    let mut world = world();
    let stream = world.stream();
    let wanted = WatchRequest {
        progress_notify: true,
        ..request(keys("a", ""), 0)
    };
    world.watch(stream, wanted);
    world.drain(stream);
    world.put("b", "1");
    let at = world.keyspace.hub().next_progress(stream).unwrap();
    assert!(at.nanos() >= 600 * 1_000_000_000 && at.nanos() <= 660 * 1_000_000_000);
    world.now = at;
    let answers = world.drain(stream);
    assert_eq!((ids(&answers), answers[0].revision), (vec![0], 2));
    assert!(world.keyspace.hub().next_progress(stream).unwrap() > at);
    assert!(world.drain(stream).is_empty());
}

#[test]
fn a_canceled_watch_says_so_and_falls_silent() {
    let mut world = world();
    let stream = world.stream();
    world.watch(stream, request(keys("a", ""), 0));
    world.put("a", "1");
    world.keyspace.hub().cancel(stream, 0);
    world.keyspace.hub().cancel(stream, 5);
    world.put("a", "2");
    let answers = world.drain(stream);
    assert_eq!(ids(&answers), [0, 0]);
    assert!(answers[1].canceled && answers[1].events.is_empty());
    assert_eq!(world.keyspace.hub().watchers(), 0);
}

/// As in etcd, whose client cancels once more what it was told had ended.
#[test]
fn a_watch_that_compaction_ended_keeps_its_id_until_it_is_canceled() {
    let mut world = world();
    let stream = world.stream();
    world.put("a", "1");
    world.put("a", "2");
    world.done(Command::Compact { revision: 3 });
    let old = WatchRequest {
        watch_id: 7,
        ..request(keys("a", ""), 2)
    };
    world.watch(stream, old.clone());
    world.watch(stream, old);
    world.keyspace.hub().cancel(stream, 7);
    world.keyspace.hub().cancel(stream, 7);
    let answers = world.drain(stream);
    assert_eq!(
        ids(&answers),
        [7, 7, -1, 7],
        "the second cancel is passed over"
    );
    assert!(answers[2].cancel_reason.contains("duplicate watch ID"));
    assert!(answers[3].canceled && answers[3].compact_revision == 0);
}

#[test]
fn one_watcher_too_many_is_told_so() {
    let config = HubConfig {
        stream_watchers_max: 2,
        watchers_max: 3,
        ..HubConfig::default()
    };
    let world = World::new(Config {
        hub: config,
        ..Config::default()
    });
    let (one, two) = (world.stream(), world.stream());
    for _ in 0..3 {
        world.watch(one, request(keys("a", ""), 0));
        world.watch(two, request(keys("a", ""), 0));
    }
    let refused = |stream| {
        let answers = world.drain(stream);
        let refused = answers.iter().filter(|it| it.canceled);
        refused
            .map(|it| it.cancel_reason.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(refused(one), ["etcdserver: too many requests"]);
    assert_eq!(refused(two).len(), 2);
    world.keyspace.hub().close_stream(one);
    assert_eq!(
        (
            world.keyspace.hub().watchers(),
            world.keyspace.hub().streams()
        ),
        (1, 1)
    );
}

#[test]
fn a_thousand_watchers_are_woken_once_for_a_publication() {
    let mut world = world();
    let streams: Vec<_> = (0..1_000).map(|_| world.stream()).collect();
    for stream in &streams {
        world.watch(*stream, request(keys("a", ""), 0));
        assert_eq!(world.drain(*stream).len(), 1);
    }
    let before = world.wakes.load(Ordering::Relaxed);
    for _ in 0..3 {
        world.apply_only(&holm_kv::command::Proposal {
            caller: None,
            command: crate::world::put("a", "v"),
        });
    }
    world.publish();
    assert_eq!(world.wakes.load(Ordering::Relaxed) - before, 1_000);
    world.put("a", "again");
    assert_eq!(
        world.wakes.load(Ordering::Relaxed) - before,
        1_000,
        "they know already"
    );
    for stream in &streams {
        let answers = world.drain(*stream);
        assert_eq!(answers.iter().map(|it| it.events.len()).sum::<usize>(), 4);
    }
    world.pass(Duration::from_secs(1));
}

#[test]
fn a_watcher_counts_as_slow_while_it_is_behind_and_no_longer() {
    let mut world = world();
    let hub = world.keyspace.hub();
    let stream = world.stream();
    world.watch(stream, request(keys("a", ""), 0));
    world.drain(stream);
    for number in 0..16 {
        world.put("a", &number.to_string());
    }
    assert_eq!(hub.slow_watchers(), 0, "what it is to be sent is noted");
    world.put("a", "one more");
    assert_eq!(hub.slow_watchers(), 1);
    assert_eq!(hub.events_sent(), 0);
    world.drain(stream);
    assert_eq!((hub.slow_watchers(), hub.events_sent()), (0, 17));
    let late = world.stream();
    world.watch(late, request(keys("a", ""), 2));
    assert_eq!(hub.slow_watchers(), 1, "history comes first");
    world.drain(late);
    assert_eq!((hub.slow_watchers(), hub.events_sent()), (0, 34));
}

#[test]
fn history_comes_in_polls_no_larger_than_asked_and_one_revision() {
    let mut world = world();
    let value = "v".repeat(50_000);
    for _ in 0..20 {
        world.put("a", &value);
    }
    let stream = world.stream();
    for _ in 0..10 {
        world.watch(stream, request(keys("a", ""), 1));
    }
    let mut seen = 0;
    while seen < 200 {
        let answers = world.poll(stream, 100_000);
        let events: Vec<_> = answers.iter().flat_map(|it| &it.events).collect();
        seen += events.len();
        // Events of the watchers share their bytes.
        let places: BTreeSet<_> = events.iter().map(|it| it.as_ptr()).collect();
        assert!(places.len() <= 2, "{} events in one poll", places.len());
    }
    assert_eq!(seen, 200);
}
