//! HashKV against the values that etcd 3.4.23 printed (`etcdctl endpoint hashkv`) after the same
//! requests, compaction included.

use bytes::Bytes;
use holm_kv::command::{Command, DeleteRange, Put, Txn, TxnOp};

use crate::dumb::site::Site;

fn put(key: &'static str, value: &'static str) -> Put {
    Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        ..Put::default()
    }
}

fn delete(key: &'static str) -> DeleteRange {
    DeleteRange {
        key: Bytes::from_static(key.as_bytes()),
        ..DeleteRange::default()
    }
}

fn run(site: &mut Site, commands: &[Command]) {
    for command in commands {
        site.apply(command.clone()).expect("it is allowed");
    }
}

fn hash(site: &Site, revision: i64) -> (u32, i64) {
    let hash = site
        .keyspace
        .reader()
        .view()
        .hash_kv(revision)
        .expect("it is readable");
    (hash.hash, hash.compact_revision)
}

/// The requests up to revision 6, as the figures below assume them.
fn six() -> Site {
    let mut site = Site::new();
    let txn = Txn {
        success: vec![
            TxnOp::Put(put("c", "x")),
            TxnOp::Put(put("d", "y")),
            TxnOp::DeleteRange(delete("a")),
        ],
        ..Txn::default()
    };
    let commands = [
        Command::Put(put("a", "1")),
        Command::Put(put("b", "1")),
        Command::Put(put("a", "2")),
        Command::DeleteRange(delete("b")),
        Command::Txn(txn),
    ];
    run(&mut site, &commands);
    site
}

#[test]
fn a_history_hashes_as_etcd_hashes_it() {
    let mut site = Site::new();
    assert_eq!(hash(&site, 0), (1_084_519_789, -1), "empty");
    run(
        &mut site,
        &[Command::Put(put("a", "1")), Command::Put(put("b", "1"))],
    );
    assert_eq!(hash(&site, 0), (2_143_169_314, -1), "two puts");
    let site = six();
    assert_eq!(hash(&site, 0), (1_461_365_032, -1), "a txn and deletes");
    assert_eq!(hash(&site, 5), (1_416_966_122, -1), "before the txn");
    assert_eq!(hash(&site, 4), (3_086_679_940, -1), "before the delete");
    assert_eq!(
        hash(&site, 3),
        (2_143_169_314, -1),
        "two puts, looking back"
    );
}

#[test]
fn compaction_changes_the_hash_as_in_etcd_whether_swept_or_not() {
    let mut site = six();
    run(&mut site, &[Command::Compact { revision: 5 }]);
    for swept in [false, true] {
        assert_eq!(hash(&site, 0), (1_505_192_000, 5), "swept: {swept}");
        assert_eq!(hash(&site, 6), (1_505_192_000, 5), "swept: {swept}");
        site.work();
    }
    site.restart();
    assert_eq!(hash(&site, 0), (1_505_192_000, 5), "after a restart");
    run(&mut site, &[Command::Put(put("c", "z"))]);
    assert_eq!(hash(&site, 0), (1_355_340_031, 5));
    assert_eq!(hash(&site, 6), (1_505_192_000, 5));
    run(&mut site, &[Command::Compact { revision: 7 }]);
    for swept in [false, true] {
        assert_eq!(hash(&site, 0), (2_966_085_889, 7), "swept: {swept}");
        site.work();
    }
}

#[test]
fn a_delete_exactly_at_the_line_is_kept_but_never_hashed() {
    let mut site = Site::new();
    let commands = [
        Command::Put(put("a", "1")),
        Command::DeleteRange(delete("a")),
        Command::Compact { revision: 3 },
    ];
    run(&mut site, &commands);
    for swept in [false, true] {
        assert_eq!(
            hash(&site, 0),
            (1_084_519_789, 3),
            "as empty; swept: {swept}"
        );
        site.work();
    }
}
