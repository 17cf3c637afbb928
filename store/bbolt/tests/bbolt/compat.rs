//! A file that a genuine etcd made stays readable.
//!
//! `compat/etcd-3.4.23.db` is the output of `etcdctl snapshot save` of a member with a few
//! keys, deletes, a compaction, a lease, users and roles. All of its buckets are small enough
//! to lie within the root's page.

use std::ops::ControlFlow;

use crate::support::Memory;
use bytes::Bytes;
use holm_bbolt::{Database, Sum, check_sum};

fn file() -> Memory {
    Memory(include_bytes!("compat/etcd-3.4.23.db").to_vec())
}

#[test]
fn genuine_buckets_are_found() {
    let file = file();
    assert!(matches!(check_sum(&file), Ok(Sum::Right(_))));
    let database = Database::open(&file).expect("etcd made it");
    database.check().expect("etcd made it");
    let names: Vec<&[u8]> = database.buckets().map(AsRef::as_ref).collect();
    let wanted = "alarm auth authRoles authUsers cluster key lease members members_removed meta";
    assert_eq!(names.join(&b' '), wanted.as_bytes());
    assert_eq!((database.txid(), database.used_bytes()), (12, 24_576));
}

#[test]
fn genuine_revisions_are_read_in_order() {
    let file = file();
    let database = Database::open(&file).expect("etcd made it");
    let mut keys: Vec<Bytes> = Vec::new();
    database
        .read(b"key", &mut |key, _| {
            keys.push(key);
            ControlFlow::Continue(())
        })
        .expect("etcd made it");
    let tail = |key: &Bytes| (key[7], key.len());
    let found: Vec<_> = keys.iter().map(tail).collect();
    assert_eq!(found, [(3, 17), (4, 17), (5, 18), (6, 17)]);
}
