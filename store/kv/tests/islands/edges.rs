//! Where something is as large as it may be, and where leases, deletes that win and sites that go
//! meet.

use bytes::Bytes;
use holm_kv::Refusal;
use holm_kv::command::{Command, DeleteRange, Put, Txn, TxnOp};
use holm_local_first::{
    CHANGES_MAX, Change, Proposal as Entry, Sealed, Session, Type, UPDATE_MAX, Update, Vector,
};

use crate::where_deletes_win;
use crate::world::{Site, World, bytes, config, delete, deleting, put, slot};

fn txn(success: Vec<TxnOp>) -> Command {
    Command::Txn(Txn {
        success,
        ..Txn::default()
    })
}

fn erased(key: &str, range_end: &str) -> TxnOp {
    TxnOp::DeleteRange(DeleteRange {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    })
}

/// A site writes so many keys with names of that length.
fn fill(world: &mut World, count: usize, (length, lease): (usize, i64)) {
    let puts = (0..count).map(|number| {
        TxnOp::Put(Put {
            key: Bytes::from(format!("k{number:0length$}")),
            lease,
            ..Put::default()
        })
    });
    let puts: Vec<TxnOp> = puts.collect();
    for some in puts.chunks((200_000 / length).min(16_384)) {
        assert!(world.command(0, txn(some.to_vec())).result.is_ok());
    }
    assert_eq!(world.sites[0].read().len(), count);
}

fn keep_updates(world: &mut World, deletes_win: bool) {
    for (number, site) in (1..).zip(&mut world.sites) {
        let mut config = if deletes_win {
            deleting(number, Type::Lww)
        } else {
            config(number, Type::Lww)
        };
        let island = config.island.as_mut().expect("it is one");
        island.updates_bytes_max = 64 << 20;
        *site = Site::of(config);
    }
}

fn assert_is_read(update: &Update) {
    let none = Vector::new();
    let sealed = Sealed::new(update.clone(), &none);
    assert!(sealed.bytes.len() <= UPDATE_MAX);
    assert_eq!(Sealed::decode(&sealed.bytes, &none), Ok(sealed));
}

#[test]
fn where_deletes_win_a_delete_of_more_keys_than_an_update_holds_changes_nothing() {
    let mut world = where_deletes_win(Type::Lww);
    fill(&mut world, CHANGES_MAX + 1, (6, 0));
    let before = world.sites[0].vector();
    let all = delete("k", "\0");
    assert_eq!(world.command(0, all.clone()).result, Err(Refusal::TooLarge));
    let halves = txn(vec![erased("k", "k04"), erased("k04", "l")]);
    assert_eq!(world.command(0, halves).result, Err(Refusal::TooLarge));
    assert_eq!(world.sites[0].vector(), before);
    world.sites[0].crash();
    assert_eq!(world.sites[0].read().len(), CHANGES_MAX + 1);
    assert!(world.command(0, delete("k000000", "")).result.is_ok());
    assert!(world.command(0, all).result.is_ok(), "so many fit");
    let last = world.all.last().expect("it was made");
    assert_eq!(last.changes.len(), CHANGES_MAX);
    assert_is_read(last);
    world.sites[0].crash();
    assert!(world.sites[0].read().is_empty());
}

#[test]
fn where_deletes_win_names_are_counted_too() {
    let mut world = where_deletes_win(Type::Lww);
    keep_updates(&mut world, true);
    fill(&mut world, 1_100, (4_000, 0));
    let all = delete("k", "\0");
    assert_eq!(world.command(0, all.clone()).result, Err(Refusal::TooLarge));
    let first = Bytes::from(format!("k{:04000}", 100));
    let few = Command::DeleteRange(DeleteRange {
        key: bytes("k"),
        range_end: first,
        prev_kv: false,
    });
    assert!(world.command(0, few).result.is_ok());
    assert!(world.command(0, all).result.is_ok());
    assert_is_read(world.all.last().expect("it was made"));
    world.carry(0, 1);
    assert!(world.sites[1].read().is_empty());
    assert_eq!(world.sites[1].vector(), world.sites[0].vector());
}

#[test]
fn a_lease_with_more_keys_than_an_update_holds_ends_in_several() {
    for deletes_win in [false, true] {
        let mut world = World::new(2, Type::Lww);
        keep_updates(&mut world, deletes_win);
        let grant = Command::LeaseGrant {
            id: 5,
            ttl: 60,
            ttl_min: 1,
        };
        assert!(world.command(0, grant).result.is_ok());
        fill(&mut world, CHANGES_MAX + 10, (6, 5));
        world.carry(0, 1);
        let before = world.all.len();
        let revoked = world.command(0, Command::LeaseRevoke { id: 5 });
        assert!(revoked.result.is_ok());
        let made = world.all[before..].iter().map(|it| it.changes.len());
        assert_eq!(made.collect::<Vec<_>>(), [CHANGES_MAX, 10]);
        world.all[before..].iter().for_each(assert_is_read);
        world.carry(0, 1);
        world.sites[0].crash();
        for site in &world.sites {
            assert!(site.read().is_empty(), "{deletes_win}");
        }
        assert_eq!(world.sites[0].vector(), world.sites[1].vector());
    }
}

#[test]
fn where_deletes_win_a_lease_still_ends_nothing_that_others_wrote() {
    let mut world = where_deletes_win(Type::Lww);
    let grant = Command::LeaseGrant {
        id: 5,
        ttl: 60,
        ttl_min: 1,
    };
    assert!(world.command(0, grant).result.is_ok());
    world.put(0, "again", "first");
    world.command(0, delete("again", ""));
    world.unix_ms += 10;
    for key in ["alone", "both", "unseen", "again"] {
        assert!(world.command(0, put(key, "mine", 5)).result.is_ok());
    }
    world.put(1, "both", "theirs");
    world.carry(1, 0);
    assert_eq!(world.sites[0].read()[&bytes("both")], bytes("mine"));
    world.put(1, "unseen", "theirs");
    let revoked = world.command(0, Command::LeaseRevoke { id: 5 });
    assert!(revoked.result.is_ok());
    let ended = &world.all.last().expect("it was made").changes;
    assert!(!ended.iter().any(|it| matches!(it, Change::Erase { .. })));
    assert_eq!(world.wrong(), None);
    world.carry(0, 1);
    world.carry(1, 0);
    for site in &world.sites {
        let read = site.read();
        assert_eq!(read.len(), 2, "{read:?}");
        assert_eq!(read[&bytes("both")], bytes("theirs"));
        assert_eq!(read[&bytes("unseen")], bytes("theirs"));
    }
    let again = &world.sites[0].states()[&bytes("both")];
    assert!(again.is_plain());
    assert_eq!(world.wrong(), None);
}

#[test]
fn a_slot_that_goes_while_a_session_is_open_ends_it() {
    let mut world = World::new(2, Type::Lww);
    for number in 0..5 {
        world.put(1, &format!("k{number}"), "1");
    }
    world.carry(1, 0);
    for number in 5..9 {
        world.put(1, &format!("k{number}"), "1");
    }
    let states = world.sites[1].keyspace.states().expect("it is an island");
    let (listed, _is_last) = states.list(None, usize::MAX).expect("it is well");
    let (session, keys) = (7, u64::try_from(listed.len()).expect("a few"));
    let entries = [
        Entry::Begin(Session {
            id: session,
            tips: states.tips().clone(),
        }),
        Entry::Stage {
            session,
            states: listed,
        },
        Entry::Stop(slot(2)),
        Entry::Install { session, keys },
    ];
    for entry in entries {
        assert!(world.command(0, Command::Island(entry)).result.is_ok());
    }
    for _start in 0..2 {
        let island = world.sites[0].keyspace.island().expect("it is one");
        assert_eq!(island.vector().seq(slot(2)), 5, "no more of it counts");
        assert!(island.session().is_none());
        assert_eq!(world.sites[0].read().len(), 5);
        world.sites[0].crash();
    }
    world.put(0, "after", "of a");
    let last = world.all.last().expect("it was made");
    assert_eq!(last.deps.seq(slot(2)), 5, "whoever stays can take it in");
    assert_eq!(world.wrong(), None);
}

#[test]
fn markers_stay_until_they_are_stable() {
    let mut world = where_deletes_win(Type::Lww);
    for key in ["a", "b"] {
        world.put(0, key, "1");
        world.command(0, delete(key, ""));
    }
    let forget = |seq| {
        let mut stable = Vector::new();
        stable.raise(slot(1), seq);
        Command::Island(Entry::Forget(stable))
    };
    // The updates 2 and 4 are the deletes.
    for (seq, is_left) in [(0, true), (1, true), (2, true), (3, true), (4, false)] {
        assert!(world.command(0, forget(seq)).result.is_ok());
        assert_eq!(world.sites[0].keyspace.has_to_forget(), is_left, "{seq}");
    }
}

#[test]
fn long_keys_that_were_erased_are_found_by_their_names() {
    let mut world = where_deletes_win(Type::Lww);
    let keys = [1_024, 1_025, 4_000].map(|length| "k".repeat(length));
    for key in &keys {
        world.put(0, key, "1");
    }
    world.session(0, 1);
    for key in &keys {
        world.command(0, delete(key, ""));
    }
    world.session(0, 1);
    assert!(world.sites[1].read().is_empty());
    assert_eq!(
        world.sites[0].index().total(),
        world.sites[1].index().total()
    );
}

#[test]
fn an_index_of_erased_keys_is_made_in_slices_while_commands_go_on() {
    let mut world = where_deletes_win(Type::Lww);
    for number in 0..300 {
        world.put(0, &format!("k{number:03}"), "1");
    }
    world.command(0, delete("k010", "\0"));
    let mut slices = 0;
    while let Some(holm_kv::Indexed::NotYet) = world.sites[0].keyspace.index() {
        world.sites[0].keyspace.sweep();
        // Before and behind where it is, what was there and what was not.
        for number in [slices, 9 + slices * 31, 299 - slices] {
            let key = format!("k{:03}", number % 300);
            if number % 2 == 0 {
                world.put(0, &key, "2");
            } else {
                world.command(0, delete(&key, ""));
            }
        }
        slices += 1;
    }
    assert!(slices > 4, "{slices}");
    let made = world.sites[0].index().total();
    world.sites[0].crash();
    assert_eq!(world.sites[0].index().total(), made);
}
