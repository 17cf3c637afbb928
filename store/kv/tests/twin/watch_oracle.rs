//! The watch oracle: rebuilds the keyspace from what watchers were sent, and nothing else, and
//! compares it with reads at each revision. Some watchers are slow, some come back, some take
//! fragments or filter, and compaction races with all.

use std::collections::BTreeMap;

use crate::dumb::site::Site;
use crate::dumb::watch::{Watcher, request};
use crate::dumb::{Dumb, Version, generate};
use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use bytes::Bytes;
use holm_kv::command::{Command, Put, Range, Txn, TxnOp};
use holm_kv::record::Parts;
use holm_kv::{Config, HubConfig, KeyRange, Record, WatchRequest};

/// A hub that soon forgets, so that slow watchers must catch up from the store.
fn forgetful(revisions: usize) -> Config {
    Config {
        hub: HubConfig {
            ring_revisions: revisions,
            ..HubConfig::default()
        },
        ..Config::default()
    }
}

fn everything() -> KeyRange {
    KeyRange::From(Bytes::new())
}

fn put(key: &'static str, len: usize) -> Command {
    Command::Put(Put {
        key: Bytes::from_static(key.as_bytes()),
        value: vec![b'v'; len].into(),
        ..Put::default()
    })
}

/// Rebuilds the state after each revision from events alone, and compares with reads.
fn rebuild(site: &Site, events: &[Version], since: i64) {
    let view = site.keyspace.reader().view();
    let mut state: BTreeMap<Bytes, Parts> = BTreeMap::new();
    let mut left = events.iter().peekable();
    for revision in since..=view.root.revision().value() {
        while let Some(event) = left.next_if(|it| it.main <= revision) {
            match &event.parts {
                Some(parts) => state.insert(event.key.clone(), parts.clone()),
                None => state.remove(&event.key),
            };
        }
        if revision < view.root.compacted().value() {
            continue;
        }
        let all = Range {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            revision,
            ..Range::default()
        };
        let read = view.read(&all).expect("it is not compacted").records;
        let rebuilt: Vec<_> = state.values().map(Record::encode).collect();
        assert_eq!(read, rebuilt, "at {revision}");
    }
}

#[derive(Debug)]
struct Open {
    watcher: Watcher,
    request: WatchRequest,
    /// The first revision that it must be sent.
    from: i64,
    bytes_max: usize,
    /// The revision at which it last had taken everything.
    seen: i64,
}

fn open(u: &mut Unstructured<'_>, site: &Site, revision: i64) -> Result<Open> {
    let ranges = [
        everything(),
        KeyRange::One(Bytes::from_static(b"a")),
        KeyRange::Between(Bytes::from_static(b"a"), Bytes::from_static(b"c")),
        KeyRange::From(Bytes::from_static(b"b")),
    ];
    let start = u.int_in_range(0..=revision + 2)?;
    let request = WatchRequest {
        prev_kv: u.arbitrary()?,
        fragment: u.arbitrary()?,
        no_put: u.ratio(1, 5)?,
        no_delete: u.ratio(1, 5)?,
        ..request(u.choose(&ranges)?.clone(), start)
    };
    Ok(Open {
        watcher: Watcher::ask(site, request.clone()),
        request,
        from: if start == 0 { revision + 1 } else { start },
        bytes_max: *u.choose(&[1, 100, 1 << 20])?,
        seen: 0,
    })
}

fn judge(open: &mut Open, site: &Site, dumb: &Dumb) {
    while open.watcher.step(site, open.bytes_max) {}
    let mut expected = dumb.events(&open.request.range, open.from);
    expected.retain(|it| match it.parts {
        Some(_) => !open.request.no_put,
        None => !open.request.no_delete,
    });
    let plain = |events: Vec<Version>| {
        let each = events.into_iter().map(|it| (it.main, it.key, it.parts));
        each.collect::<Vec<_>>()
    };
    let (sent, expected) = (plain(open.watcher.versions()), plain(expected));
    if let Some(compacted) = open.watcher.compacted {
        let sent_until = sent.last().map_or(0, |it| it.0);
        let cursor = open.from.max(sent_until + 1).max(open.seen + 1);
        assert!(cursor < compacted, "canceled without cause: {open:?}");
        assert_eq!(sent[..], expected[..sent.len()], "{open:?}");
    } else {
        assert_eq!(sent, expected, "{open:?}");
    }
    for event in &open.watcher.events {
        let before = dumb.at(&event.kv.key, event.kv.modified - 1);
        if let Some(prev) = &event.prev {
            assert!(open.request.prev_kv);
            assert_eq!(Some(prev), before.as_ref(), "{event:?}");
        } else if open.request.prev_kv && event.kv.modified > dumb.compacted {
            assert_eq!(before, None, "a previous version is missing: {event:?}");
        }
    }
}

fn one_world(u: &mut Unstructured<'_>) -> Result<()> {
    let mut site = Site::with(forgetful(u.int_in_range(1..=8)?));
    let mut dumb = Dumb::new();
    let mut first = Watcher::open(&site, everything(), 1);
    let mut all = Vec::new();
    for _ in 0..u.int_in_range(1..=25)? {
        match u.int_in_range(0..=9)? {
            0..=5 => {
                let command = generate::command(u, dumb.revision)?;
                assert_eq!(site.apply(command.clone()), dumb.apply(&command));
            }
            6..=7 => all.push(open(u, &site, dumb.revision)?),
            8 => {
                for it in &mut all {
                    let is_done = u.arbitrary()? && !it.watcher.step(&site, it.bytes_max);
                    if is_done && it.watcher.compacted.is_none() {
                        it.seen = dumb.revision;
                    }
                }
            }
            _ => site.work(),
        }
        first.settle(&site);
    }
    for it in &mut all {
        judge(it, &site, &dumb);
    }
    assert_eq!(first.compacted, None, "it took everything at once");
    rebuild(&site, &first.versions(), 1);
    Ok(())
}

#[test]
fn what_watchers_are_sent_is_what_happened() {
    arbtest(one_world).size_max(4096).budget_ms(4_000);
}

#[test]
fn a_watcher_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    arbtest(|u| {
        let (mut site, mut dumb) = (Site::with(forgetful(3)), Dumb::new());
        let mut events = Vec::new();
        let mut next = 1;
        for _ in 0..6 {
            let mut watcher = Watcher::open(&site, everything(), next);
            for _ in 0..u.int_in_range(0..=4)? {
                let command = generate::command(u, dumb.revision)?;
                if !matches!(command, Command::Compact { .. }) {
                    assert_eq!(site.apply(command.clone()), dumb.apply(&command));
                }
                if u.arbitrary()? {
                    watcher.step(&site, 1);
                }
            }
            events.extend(watcher.versions());
            next = next.max(watcher.revision().value() + 1);
        }
        let mut watcher = Watcher::open(&site, everything(), next);
        watcher.settle(&site);
        events.extend(watcher.versions());
        assert_eq!(events, dumb.events(&everything(), 1));
        rebuild(&site, &events, 1);
        Ok(())
    })
    .budget_ms(1_500);
}

#[test]
#[should_panic(expected = "failed: at ")]
fn the_oracle_notices_a_lost_event() {
    let mut site = Site::new();
    let mut watcher = Watcher::open(&site, everything(), 1);
    for len in 1..4 {
        site.apply(put("a", len)).expect("it is a put");
    }
    watcher.settle(&site);
    let mut events = watcher.versions();
    events.remove(1);
    rebuild(&site, &events, 1);
}

#[test]
#[should_panic(expected = "failed: at ")]
fn the_oracle_notices_a_changed_value() {
    let mut site = Site::new();
    let mut watcher = Watcher::open(&site, everything(), 1);
    site.apply(put("a", 3)).expect("it is a put");
    watcher.settle(&site);
    let mut events = watcher.versions();
    if let Some(parts) = &mut events[0].parts {
        parts.version += 1;
    }
    rebuild(&site, &events, 1);
}

#[test]
fn progress_is_told_once_everything_was_sent() {
    let mut site = Site::with(forgetful(2));
    for len in 1..6 {
        site.apply(put("a", len)).expect("it is a put");
    }
    let mut watcher = Watcher::open(&site, everything(), 1);
    watcher.request_progress();
    while watcher.progress.is_empty() {
        assert!(
            watcher.step(&site, 1),
            "progress comes without another word"
        );
    }
    assert_eq!(watcher.events.len(), 5);
    assert_eq!(watcher.progress, [6]);
}

#[test]
fn a_watch_from_the_future_is_told_nothing_until_then() {
    let mut site = Site::new();
    let mut watcher = Watcher::open(&site, everything(), 5);
    watcher.request_progress();
    site.apply(put("a", 1)).expect("it is a put");
    site.apply(put("a", 2)).expect("it is a put");
    watcher.settle(&site);
    assert!(watcher.events.is_empty() && watcher.progress.is_empty());
    site.apply(put("a", 3)).expect("it is a put");
    site.apply(put("b", 4)).expect("it is a put");
    watcher.settle(&site);
    assert_eq!((watcher.events.len(), watcher.revision().value()), (1, 5));
}

#[test]
fn a_huge_revision_comes_in_flagged_pieces_only_to_who_asked() {
    let config = Config {
        hub: HubConfig {
            fragment_bytes: 4_000,
            ..HubConfig::default()
        },
        ..Config::default()
    };
    let mut site = Site::with(config);
    let whole = request(everything(), 0);
    let pieces = WatchRequest {
        fragment: true,
        ..whole.clone()
    };
    let (mut whole, mut pieces) = (Watcher::ask(&site, whole), Watcher::ask(&site, pieces));
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let ops = keys.map(|key| match put(key, 1_000) {
        Command::Put(put) => TxnOp::Put(put),
        other => panic!("no put: {other:?}"),
    });
    let txn = Txn {
        success: ops.to_vec(),
        ..Txn::default()
    };
    site.apply(Command::Txn(txn)).expect("a txn of puts");
    whole.settle(&site);
    pieces.settle(&site);
    assert_eq!(whole.versions(), pieces.versions());
    assert_eq!((whole.answers, pieces.answers > 1), (1, true));
}

#[test]
fn odd_requests_are_created_and_canceled_at_once() {
    let site = Site::new();
    let between = |first: &'static str, end: &'static str| {
        KeyRange::Between(
            Bytes::from_static(first.as_bytes()),
            Bytes::from_static(end.as_bytes()),
        )
    };
    for (range, start) in [
        (everything(), -1),
        (between("b", "a"), 0),
        (between("b", "b"), 0),
    ] {
        let mut watcher = Watcher::open(&site, range, start);
        watcher.settle(&site);
        let reason = watcher.canceled.expect("it is canceled");
        assert!(!reason.is_empty());
    }
}
