//! Every small world: two keys, four changes, every compaction and every start of a watch; and
//! every transaction of depth two over two keys.

use crate::dumb::Dumb;
use crate::dumb::site::Site;
use crate::dumb::watch::Watcher;
use bytes::Bytes;
use holm_kv::KeyRange;
use holm_kv::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Put, Range, Txn, TxnOp,
};

fn put(key: &'static str) -> Put {
    Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"v"),
        prev_kv: true,
        ..Put::default()
    }
}

fn delete(key: &'static str) -> DeleteRange {
    DeleteRange {
        key: Bytes::from_static(key.as_bytes()),
        prev_kv: true,
        ..DeleteRange::default()
    }
}

fn changes() -> [Command; 4] {
    [
        Command::Put(put("a")),
        Command::Put(put("b")),
        Command::DeleteRange(delete("a")),
        Command::DeleteRange(delete("b")),
    ]
}

/// Every list of `len` numbers below `of`.
fn lists(of: usize, len: u32) -> impl Iterator<Item = Vec<usize>> {
    (0..of.pow(len)).map(move |mut code| {
        let digit = |_| {
            let digit = code % of;
            code /= of;
            digit
        };
        (0..len).map(digit).collect()
    })
}

#[test]
fn after_compaction_at_each_revision_a_watch_from_each_start_is_whole_or_canceled() {
    let all = KeyRange::From(Bytes::new());
    for list in lists(4, 4) {
        let (mut site, mut dumb) = (Site::new(), Dumb::new());
        for &at in &list {
            let command = &changes()[at];
            assert_eq!(site.apply(command.clone()), dumb.apply(command));
        }
        for compacted in 2..=dumb.revision {
            let command = Command::Compact {
                revision: compacted,
            };
            assert_eq!(site.apply(command.clone()), dumb.apply(&command));
            site.work();
            for start in 1..=dumb.revision + 1 {
                let mut watcher = Watcher::open(&site, all.clone(), start);
                watcher.settle(&site);
                let canceled = if start < compacted {
                    Some(compacted)
                } else {
                    None
                };
                assert_eq!(watcher.compacted, canceled, "{list:?} from {start}");
                if canceled.is_none() {
                    let expected = dumb.events(&all, start);
                    assert_eq!(watcher.versions(), expected, "{list:?} from {start}");
                }
            }
        }
    }
}

#[test]
fn after_a_restart_too_a_watch_from_each_start_is_whole() {
    let all = KeyRange::From(Bytes::new());
    for list in lists(4, 3) {
        let (mut site, mut dumb) = (Site::new(), Dumb::new());
        for &at in &list {
            let command = &changes()[at];
            assert_eq!(site.apply(command.clone()), dumb.apply(command));
        }
        site.work();
        site.restart();
        for start in 1..=dumb.revision {
            let mut watcher = Watcher::open(&site, all.clone(), start);
            watcher.settle(&site);
            assert_eq!(watcher.versions(), dumb.events(&all, start), "{list:?}");
        }
    }
}

fn compares() -> Vec<Vec<Compare>> {
    let targets = [
        CompareTarget::Version(1),
        CompareTarget::Version(0),
        CompareTarget::Value(Bytes::new()),
        CompareTarget::Value(Bytes::from_static(b"v")),
    ];
    let results = [CompareResult::Equal, CompareResult::NotEqual];
    let mut all = vec![Vec::new()];
    for target in &targets {
        for result in results {
            for end in ["", "\0"] {
                all.push(vec![Compare {
                    key: Bytes::from_static(b"a"),
                    range_end: Bytes::from_static(end.as_bytes()),
                    result,
                    target: target.clone(),
                }]);
            }
        }
    }
    all
}

fn ops() -> Vec<TxnOp> {
    let range = Range {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"\0"),
        ..Range::default()
    };
    let wide = DeleteRange {
        range_end: Bytes::from_static(b"\0"),
        ..delete("a")
    };
    let keep = Put {
        value: Bytes::new(),
        ignore_value: true,
        ..put("b")
    };
    vec![
        TxnOp::Range(range),
        TxnOp::Put(put("a")),
        TxnOp::Put(keep),
        TxnOp::DeleteRange(wide),
    ]
}

#[test]
fn every_txn_of_depth_two_gives_what_the_twin_gives() {
    let inner = compares().into_iter().flat_map(|compare| {
        ops().into_iter().map(move |op| Txn {
            compare: compare.clone(),
            success: vec![op],
            failure: vec![TxnOp::Range(Range {
                key: Bytes::from_static(b"b"),
                ..Range::default()
            })],
        })
    });
    let inner: Vec<_> = inner.collect();
    for before in lists(4, 2) {
        let (mut site, mut dumb) = (Site::new(), Dumb::new());
        for &at in &before {
            let command = &changes()[at];
            assert_eq!(site.apply(command.clone()), dumb.apply(command));
        }
        for first in ops() {
            for nested in &inner {
                let outer = Txn {
                    success: vec![first.clone(), TxnOp::Txn(nested.clone())],
                    ..Txn::default()
                };
                let command = Command::Txn(outer);
                assert_eq!(
                    site.apply(command.clone()),
                    dumb.apply(&command),
                    "{command:?}"
                );
            }
            // Histories stay short, for the twin looks through all of them.
            (site, dumb) = (Site::new(), Dumb::new());
            for &at in &before {
                let command = &changes()[at];
                assert_eq!(site.apply(command.clone()), dumb.apply(command));
            }
        }
    }
}
