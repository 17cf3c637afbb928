//! Against the twin: random commands, reads at every revision, restarts in between.

use crate::dumb::site::Site;
use crate::dumb::{Dumb, generate};
use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use bytes::Bytes;
use holm_base::Revision;
use holm_kv::KeyRange;
use holm_kv::command::{Command, Range, Txn, TxnOp};

/// Whether every read of the engine, at every revision, is the twin's.
fn compare_all(site: &Site, dumb: &Dumb) {
    let view = site.keyspace.reader().view();
    assert_eq!(view.root.revision(), Revision::new(dumb.revision));
    assert_eq!(view.root.compacted(), Revision::new(dumb.compacted));
    for revision in 0..=dumb.revision + 1 {
        let all = Range {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            revision,
            ..Range::default()
        };
        assert_eq!(view.read(&all), dumb.range(&all), "at {revision}");
    }
    // They come in the order in which they end; the twin knows no time.
    let mut leases = site.keyspace.leases();
    leases.sort_unstable();
    assert_eq!(leases, dumb.leases.keys().copied().collect::<Vec<_>>());
    for (&lease, &ttl) in &dumb.leases {
        let seen = site.keyspace.time_to_live(site.now, lease, true);
        assert_eq!((seen.granted_ttl, seen.keys), (ttl, dumb.keys_of(lease)));
    }
}

fn one_world(u: &mut Unstructured<'_>) -> Result<()> {
    let (mut site, mut dumb) = (Site::new(), Dumb::new());
    for _ in 0..u.int_in_range(1..=25)? {
        let command = generate::command(u, dumb.revision)?;
        let expected = dumb.apply(&command);
        let applied = site.ask(None, command.clone());
        assert_eq!(applied.result, expected, "{command:?}");
        assert_eq!(
            applied.revision,
            Revision::new(dumb.revision),
            "{command:?}"
        );
        let range = generate::range(u, dumb.revision)?;
        let view = site.keyspace.reader().view();
        assert_eq!(view.read(&range), dumb.range(&range), "{range:?}");
        if u.ratio(1, 8)? {
            site.work();
        }
        if u.ratio(1, 16)? {
            site.restart();
        }
    }
    compare_all(&site, &dumb);
    site.restart();
    compare_all(&site, &dumb);
    Ok(())
}

#[test]
fn random_commands_give_what_the_twin_gives() {
    arbtest(one_world).size_max(4096).budget_ms(4_000);
}

#[test]
fn a_read_only_txn_needs_no_log() {
    arbtest(|u| {
        let (mut site, mut dumb) = (Site::new(), Dumb::new());
        for _ in 0..6 {
            let command = generate::command(u, dumb.revision)?;
            assert_eq!(site.apply(command.clone()), dumb.apply(&command));
        }
        let mut txn = generate::txn(u, dumb.revision, 0)?;
        for branch in [&mut txn.success, &mut txn.failure] {
            branch.retain(|op| matches!(op, TxnOp::Range(_)));
        }
        let nested = Txn {
            success: vec![TxnOp::Txn(txn.clone())],
            ..txn
        };
        let view = site.keyspace.reader().view();
        let expected = dumb.apply(&Command::Txn(nested.clone()));
        assert_eq!(view.read_txn(&nested), expected);
        Ok(())
    })
    .budget_ms(1_000);
}

#[test]
fn a_view_that_is_held_never_changes() {
    arbtest(|u| {
        let (mut site, mut dumb) = (Site::new(), Dumb::new());
        let mut held = Vec::new();
        for _ in 0..12 {
            let command = generate::command(u, dumb.revision)?;
            assert_eq!(site.apply(command.clone()), dumb.apply(&command));
            held.push((site.keyspace.reader().view(), dumb.clone()));
            site.work();
        }
        let range = KeyRange::From(Bytes::new());
        for (view, dumb) in held {
            let count = dumb.all(&range, i64::MAX).len();
            assert_eq!(view.root.count(&range), u64::try_from(count).expect("few"));
            let asked = generate::range(u, dumb.revision)?;
            assert_eq!(view.read(&asked), dumb.range(&asked));
        }
        Ok(())
    })
    .budget_ms(1_000);
}

/// The comparison itself must be able to fail: a twin that forgot one change is caught.
#[test]
#[should_panic(expected = "failed: at ")]
fn a_lost_change_is_noticed() {
    let (mut site, mut dumb) = (Site::new(), Dumb::new());
    for value in ["x", "y"] {
        let command = Command::Put(holm_kv::command::Put {
            key: Bytes::from_static(b"a"),
            value: Bytes::from_static(value.as_bytes()),
            ..holm_kv::command::Put::default()
        });
        assert_eq!(site.apply(command.clone()), dumb.apply(&command));
    }
    dumb.log.remove(0);
    compare_all(&site, &dumb);
}
