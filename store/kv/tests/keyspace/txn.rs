//! How much a transaction may read.

use holm_kv::command::{Command, DeleteRange, Put, Range, Txn, TxnOp};
use holm_kv::{Config, Refusal};

use crate::world::{World, bytes};

/// Half a mebibyte: 127 of them may be read together.
const VALUE: usize = 512 << 10;

fn read(key: &str) -> TxnOp {
    TxnOp::Range(Range {
        key: bytes(key),
        ..Range::default()
    })
}

fn write(key: &str, value: &str) -> TxnOp {
    TxnOp::Put(Put {
        key: bytes(key),
        value: bytes(value),
        ..Put::default()
    })
}

fn txn(success: Vec<TxnOp>) -> Command {
    Command::Txn(Txn {
        success,
        ..Txn::default()
    })
}

fn with_reads(first: TxnOp, key: &str, count: usize) -> Command {
    let reads = (0..count).map(|_| read(key));
    txn([first].into_iter().chain(reads).collect())
}

#[test]
fn a_transaction_that_reads_too_much_is_refused_and_changes_nothing() {
    let mut world = World::new(Config::default());
    let revision = world.put("large", &"v".repeat(VALUE));
    let refused = world.command(with_reads(write("a", "1"), "large", 128));
    assert_eq!(refused.result, Err(Refusal::ReadsTooMuch));
    assert_eq!(refused.revision.value(), revision);
    assert_eq!(world.view().root.get(b"a"), None);
    world.done(with_reads(write("a", "1"), "large", 127));
}

#[test]
fn what_a_transaction_writes_itself_counts_when_it_reads_it() {
    let mut world = World::new(Config::default());
    let large = || write("large", &"v".repeat(VALUE));
    let refused = world.command(with_reads(large(), "large", 128));
    assert_eq!(refused.result, Err(Refusal::ReadsTooMuch));
    world.done(with_reads(large(), "other", 128));
}

#[test]
fn counts_bare_keys_and_limits_cost_little() {
    let mut world = World::new(Config::default());
    for number in 0..4 {
        world.put(&format!("large{number}"), &"v".repeat(VALUE));
    }
    let range = |change: fn(&mut Range)| {
        let mut range = Range {
            key: bytes("large"),
            range_end: bytes("m"),
            ..Range::default()
        };
        change(&mut range);
        let many = (0..100).map(|_| TxnOp::Range(range.clone()));
        txn([write("a", "1")].into_iter().chain(many).collect())
    };
    let whole = world.command(range(|_| {}));
    assert_eq!(whole.result, Err(Refusal::ReadsTooMuch));
    world.done(range(|it| it.count_only = true));
    world.done(range(|it| it.keys_only = true));
    world.done(range(|it| it.limit = 1));
    let delete = TxnOp::DeleteRange(DeleteRange {
        key: bytes("large"),
        range_end: bytes("m"),
        prev_kv: true,
    });
    let reads = (0..124).map(|_| read("large0"));
    let refused = world.command(txn(reads.chain([delete]).collect()));
    assert_eq!(refused.result, Err(Refusal::ReadsTooMuch));
}
