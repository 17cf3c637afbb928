//! Keyspaces that are islands: what each shows against a twin that keeps every update, and what
//! its history says against what it shows.

mod edges;
mod foretold;
mod world;

use holm_base::Prng;
use holm_kv::command::Command;
use holm_kv::outcome::Outcome;
use holm_local_first::{Proposal as Entry, Session, Type};
use world::{Mistake, World, bytes, put, slot};

/// Random worlds: commands, updates carried and not, crashes, work for the disk.
fn play(seed: u64, mistake: Mistake) -> Option<String> {
    let mut prng = Prng::new(seed);
    let mut world = World::new(
        3,
        [Type::Lww, Type::Mv][usize::from(seed.is_multiple_of(2))],
    );
    world.mistake = mistake;
    let one = |prng: &mut Prng| usize::try_from(prng.below(3)).expect("it fits");
    for _ in 0..60 {
        let (at, to) = (one(&mut prng), one(&mut prng));
        if seed.is_multiple_of(3) {
            // From here on each command keeps it up to date.
            drop(world.sites[at].index());
        }
        match prng.below(12) {
            0..=5 => world.change_something(&mut prng, at),
            6..=7 if at != to => world.carry(at, to),
            8 => world.pass(&mut prng),
            9 => world.sites[at].crash(),
            10 if mistake == Mistake::SlotReused => world.begin_anew(at),
            _ => {}
        }
        if let Some(wrong) = world.wrong() {
            return Some(wrong);
        }
    }
    for _ in 0..3 {
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)] {
            world.carry(from, to);
        }
    }
    let first = world.sites[0].states();
    let are_equal = world.sites.iter().all(|it| it.states() == first);
    let wrong = (!are_equal).then(|| "they did not become one".to_owned());
    world.wrong().or(wrong)
}

#[test]
fn islands_show_what_the_twin_says_and_become_one() {
    for seed in 0..400 {
        assert_eq!(play(seed, Mistake::None), None, "seed {seed}");
    }
}

#[test]
fn while_an_index_is_made_commands_go_on() {
    let mut world = World::new(1, Type::Lww);
    let mut prng = Prng::new(3);
    for number in 0..300 {
        world.put(0, &format!("k{number:03}"), "1");
    }
    let mut slices = 0;
    while let Some(holm_kv::Indexed::NotYet) = world.sites[0].keyspace.index() {
        world.sites[0].keyspace.sweep();
        world.put(0, &format!("k{:03}", prng.below(300)), "2");
        world.put(0, &format!("m{:03}", prng.below(300)), "3");
        world.command(0, world::delete(&format!("k{:03}", prng.below(300)), ""));
        slices += 1;
    }
    assert!(slices > 4, "{slices}");
    assert_eq!(world.wrong(), None, "the index too");
}

#[test]
fn long_keys_differ_and_are_deleted_by_sessions() {
    let mut world = World::new(2, Type::Lww);
    let keys = [1_023, 1_024, 1_025, 4_000].map(|length| "k".repeat(length));
    for key in &keys {
        world.put(0, key, "1");
        world.put(1, key, "2");
    }
    world.session(0, 1);
    world.session(1, 0);
    assert_eq!(world.sites[0].states(), world.sites[1].states());
    assert_eq!(world.sites[0].states().len(), 4);
    for key in &keys[1..] {
        world.command(0, world::delete(key, ""));
    }
    world.session(0, 1);
    assert_eq!(world.sites[1].states().len(), 1);
    assert_eq!(world.wrong(), None);
}

#[test]
fn a_session_that_lists_all_keys_is_still_read_from_a_log() {
    let mut world = World::new(2, Type::Lww);
    world.put(0, "both", "1");
    world.old_session(0, 1);
    world.command(0, world::delete("both", ""));
    world.put(0, "new", "2");
    world.put(1, "own", "3");
    world.old_session(0, 1);
    let read = world.sites[1].read();
    assert_eq!(read.len(), 2, "what the other side has deleted is gone");
    world.sites[1].crash();
    assert_eq!(world.sites[1].read(), read);
    assert_eq!(world.wrong(), None);
}

#[test]
fn mistakes_are_found() {
    for mistake in [Mistake::KeyLeftOut, Mistake::SlotReused] {
        let found = (0..400).find_map(|seed| {
            let played = std::panic::catch_unwind(|| play(seed, mistake));
            played.unwrap_or_else(|_panic| Some("an assertion".to_owned()))
        });
        assert!(found.is_some(), "{mistake:?}");
    }
}

#[test]
fn a_cut_is_healed_and_what_lost_is_kept_until_it_is_seen() {
    let mut world = World::new(2, Type::Lww);
    world.put(0, "door", "open");
    world.unix_ms += 10;
    world.put(1, "door", "shut");
    world.carry(0, 1);
    let before = world.sites[1].view().revision();
    world.carry(1, 0);
    for site in &world.sites {
        assert_eq!(site.read()[&bytes("door")], bytes("shut"), "the later one");
        assert_eq!(site.states()[&bytes("door")].siblings().len(), 2);
        assert_eq!(site.view().island.as_ref().map(|it| it.conflicts), Some(1));
    }
    let ids = |world: &World| {
        let met = world.sites.iter().map(|site| {
            let (lines, oldest) = site.view().conflicts(None, 10);
            assert_eq!((lines.len(), oldest), (1, 0), "it is told once at each");
            match holm_local_first::Entry::decode(lines[0].1.clone()) {
                Ok(holm_local_first::Entry::Met { conflict, .. }) => (conflict.id, conflict.losers),
                other => panic!("{other:?}"),
            }
        });
        met.collect::<Vec<_>>()
    };
    let met = ids(&world);
    assert_eq!(met[0], met[1], "the same at each");
    assert_eq!(met[0].1[0].value, bytes("open"));
    world.sites[0].crash();
    assert_eq!(ids(&world), met);
    let (none, _) = world.sites[0].view().conflicts(Some(0), 10);
    assert!(none.is_empty(), "nothing behind the last");
    let after = world.sites[1].view().revision();
    assert_eq!(before, after, "the loser is no change that anyone sees");
    world.put(0, "door", "ajar");
    world.carry(0, 1);
    assert_eq!(world.sites[1].states()[&bytes("door")].siblings().len(), 1);
    assert_eq!(
        world.sites[1].view().island.as_ref().map(|it| it.conflicts),
        Some(0)
    );
    assert_eq!(world.wrong(), None);
}

#[test]
fn a_sibling_is_a_change_where_siblings_are_shown() {
    let mut world = World::new(2, Type::Mv);
    world.put(0, "door", "open");
    world.unix_ms += 10;
    world.put(1, "door", "shut");
    let before = world.sites[1].view().revision();
    world.carry(0, 1);
    assert!(world.sites[1].view().revision() > before);
    assert_eq!(world.wrong(), None);
}

#[test]
fn a_transaction_of_another_island_is_one_revision() {
    let mut world = World::new(2, Type::Lww);
    let mut prng = Prng::new(7);
    world.put(0, "k1", "old");
    world.carry(0, 1);
    let before = world.sites[1].view().revision();
    let txn = holm_kv::command::Txn {
        compare: Vec::new(),
        success: ["a", "b", "c"]
            .map(|key| match put(key, "new", 0) {
                Command::Put(put) => holm_kv::command::TxnOp::Put(put),
                other => panic!("{other:?}"),
            })
            .to_vec(),
        failure: Vec::new(),
    };
    world.command(0, Command::Txn(txn));
    world.carry(0, 1);
    let view = world.sites[1].view();
    let mut mains = Vec::new();
    view.root
        .changes(before.next(), view.revision(), 1 << 20, &mut |change| {
            mains.push(change.main);
        })
        .expect("nothing is damaged");
    assert_eq!(mains, vec![view.revision(); 3]);
    world.change_something(&mut prng, 1);
    assert_eq!(world.wrong(), None);
}

#[test]
fn a_lease_ends_what_hangs_on_it_and_nothing_that_others_wrote() {
    let mut world = World::new(2, Type::Lww);
    let grant = Command::LeaseGrant {
        id: 5,
        ttl: 60,
        ttl_min: 1,
    };
    assert!(matches!(
        world.command(0, grant).result,
        Ok(Outcome::LeaseGrant { id: 5, .. })
    ));
    world.unix_ms += 10;
    world.command(0, put("alone", "mine", 5));
    world.command(0, put("both", "mine", 5));
    world.put(1, "both", "theirs");
    world.carry(1, 0);
    assert_eq!(world.sites[0].read()[&bytes("both")], bytes("mine"));
    let revoked = world.command(0, Command::LeaseRevoke { id: 5 });
    assert!(revoked.result.is_ok());
    world.carry(0, 1);
    for site in &world.sites {
        assert_eq!(site.read().get(&bytes("alone")), None);
        assert_eq!(site.read()[&bytes("both")], bytes("theirs"));
    }
    assert_eq!(world.wrong(), None);
    // A lease is its island's alone.
    let foreign = world.command(1, put("x", "y", 5));
    assert_eq!(foreign.result, Err(holm_kv::Refusal::LeaseNotFound));
}

#[test]
fn revisions_are_dense_in_time_and_survive_a_crash() {
    let mut world = World::new(1, Type::Lww);
    let one = world.put(0, "a", "1").revision;
    let two = world.put(0, "a", "2").revision;
    assert_eq!(two, one.next(), "within a millisecond they count");
    world.unix_ms += 1;
    let three = world.put(0, "a", "3").revision;
    assert!(three.value() - two.value() > 1 << 20, "{three} after {two}");
    world.unix_ms -= 500;
    let four = world.put(0, "a", "4").revision;
    assert_eq!(four, three.next(), "no clock lowers them");
    world.sites[0].crash();
    assert_eq!(world.sites[0].view().revision(), four);
    assert_eq!(world.sites[0].vector().seq(slot(1)), 4);
    assert_eq!(world.wrong(), None);
}

#[test]
fn additions_of_all_islands_count_and_are_folded_once_they_are_stable() {
    let mut world = World::new(2, Type::Counter);
    world.put(0, "n", "10");
    world.carry(0, 1);
    for at in [0, 1] {
        assert!(world.put(at, "n", "+5").result.is_ok());
        assert!(world.put(at, "n", "-1").result.is_ok());
    }
    assert_eq!(world.sites[0].read()[&bytes("n")], bytes("14"));
    world.carry(0, 1);
    world.carry(1, 0);
    for at in [0, 1] {
        assert_eq!(world.sites[at].read()[&bytes("n")], bytes("18"));
        assert!(world.sites[at].keyspace.has_to_forget());
        let before = world.sites[at].view().revision();
        let stable = world.sites[at].vector();
        let forget = holm_local_first::Proposal::Forget(stable);
        assert!(world.command(at, Command::Island(forget)).result.is_ok());
        assert!(!world.sites[at].keyspace.has_to_forget(), "they are folded");
        assert_eq!(
            world.sites[at].view().revision(),
            before,
            "nobody sees that"
        );
        world.sites[at].crash();
        assert_eq!(world.sites[at].read()[&bytes("n")], bytes("18"));
    }
    world.put(1, "n", "7");
    world.carry(1, 0);
    assert_eq!(
        world.sites[0].read()[&bytes("n")],
        bytes("7"),
        "a base saw them all"
    );
    let refused = world.put(0, "n", "many");
    assert!(matches!(refused.result, Err(holm_kv::Refusal::Unfit(_))));
}

#[test]
fn documents_merge_part_by_part() {
    let mut world = World::new(2, Type::Json);
    world.put(0, "box", r#"{"door": "shut", "lamp": {"on": false}}"#);
    world.carry(0, 1);
    world.put(0, "box", r#"{"door": "open", "lamp": {"on": false}}"#);
    world.put(
        1,
        "box",
        r#"{"door": "shut", "lamp": {"on": true}, "at": "b"}"#,
    );
    world.carry(0, 1);
    world.carry(1, 0);
    let merged = bytes(r#"{"at":"b","door":"open","lamp":{"on":true}}"#);
    for site in &world.sites {
        assert_eq!(site.read()[&bytes("box")], merged);
    }
    world.sites[0].crash();
    assert_eq!(world.sites[0].read()[&bytes("box")], merged);
    world.command(0, world::delete("box", ""));
    world.carry(0, 1);
    assert!(world.sites[1].read().is_empty());
    let refused = world.put(0, "box", "{");
    assert!(matches!(refused.result, Err(holm_kv::Refusal::Unfit(_))));
}

#[test]
fn a_session_with_a_clock_far_ahead_or_with_no_states_is_given_up() {
    let mut world = World::new(2, Type::Lww);
    let now = world.unix_ms;
    world.unix_ms = now + 3_600_000;
    world.put(1, "early", "of b");
    world.unix_ms = now;
    world.session(1, 0);
    assert!(
        world.sites[0].read().is_empty(),
        "an hour ahead is not let in"
    );
    assert_eq!(world.sites[0].vector().count(), 0);
    let entries = [
        Entry::Begin(Session {
            id: 77,
            tips: world.sites[1]
                .keyspace
                .island()
                .expect("it is one")
                .tips()
                .clone(),
        }),
        Entry::Stage {
            session: 77,
            states: vec![(bytes("k"), bytes("no state"))],
        },
        Entry::Join {
            session: 77,
            keys: 1,
        },
    ];
    for entry in entries {
        assert!(world.command(0, Command::Island(entry)).result.is_ok());
    }
    assert_eq!(world.sites[0].keyspace.harm(), None);
    assert!(world.sites[0].read().is_empty());
    world.unix_ms = now + 3_600_000;
    world.session(1, 0);
    assert_eq!(world.sites[0].read()[&bytes("early")], bytes("of b"));
    world.unix_ms += 10;
    world.put(0, "later", "of a");
    assert_eq!(world.wrong(), None);
}

/// Two islands at which deletes win.
pub(crate) fn where_deletes_win(kind: Type) -> World {
    let mut world = World::new(2, kind);
    for (number, site) in (1..).zip(&mut world.sites) {
        *site = world::Site::of(world::deleting(number, kind));
    }
    world
}

#[test]
pub(crate) fn where_deletes_win_a_put_that_did_not_see_one_goes_by_updates_and_by_sessions() {
    for by_session in [false, true] {
        let mut world = where_deletes_win(Type::Lww);
        world.put(0, "door", "open");
        world.carry(0, 1);
        world.command(0, world::delete("door", ""));
        world.put(1, "door", "ajar");
        if by_session {
            world.session(0, 1);
            world.session(1, 0);
        } else {
            world.carry(0, 1);
            world.carry(1, 0);
        }
        for at in [0, 1] {
            assert!(world.sites[at].read().is_empty(), "{by_session} {at}");
            let view = world.sites[at].view();
            assert_eq!(view.island.as_ref().expect("one").conflicts, 0);
            world.sites[at].crash();
            assert!(world.sites[at].read().is_empty());
        }
        // A put that has seen the delete stays, at both.
        world.put(1, "door", "shut");
        world.carry(1, 0);
        for at in [0, 1] {
            assert_eq!(world.sites[at].read()[&bytes("door")], bytes("shut"));
        }
        // Once nothing concurrent can come any more the marker goes.
        assert!(world.sites[0].keyspace.has_to_forget());
        let stable = world.sites[0].vector();
        let forget = Command::Island(Entry::Forget(stable));
        assert!(world.command(0, forget).result.is_ok());
        assert!(!world.sites[0].keyspace.has_to_forget());
        assert_eq!(world.sites[0].read()[&bytes("door")], bytes("shut"));
        world.command(0, world::delete("door", ""));
        let stable = world.sites[0].vector();
        let forget = Command::Island(Entry::Forget(stable));
        assert!(world.command(0, forget).result.is_ok());
        assert!(world.sites[0].read().is_empty());
        assert!(!world.sites[0].keyspace.has_to_forget());
    }
}

#[test]
fn a_put_and_a_delete_that_did_not_see_each_other_are_told_at_both_sites() {
    for (deletes_win, kind) in [(false, "put_beat_delete"), (true, "delete_beat_put")] {
        let mut world = if deletes_win {
            where_deletes_win(Type::Lww)
        } else {
            World::new(2, Type::Lww)
        };
        world.put(0, "door", "open");
        world.carry(0, 1);
        world.command(0, world::delete("door", ""));
        world.put(1, "door", "ajar");
        world.carry(0, 1);
        world.carry(1, 0);
        let ids = [0, 1].map(|at| told(&world, at, kind));
        assert_eq!(ids[0], ids[1], "it is the same");
    }
}

/// The one conflict that a site tells.
fn told(world: &World, at: usize, kind: &str) -> [u8; 32] {
    let (lines, _oldest) = world.sites[at].view().conflicts(None, 10);
    let [(_number, line)] = &lines[..] else {
        panic!("{kind} at {at}: {} conflicts", lines.len());
    };
    let told = holm_local_first::Entry::decode(line.clone()).expect("its own");
    let holm_local_first::Entry::Met { conflict, .. } = told else {
        panic!("none was dropped");
    };
    assert_eq!(conflict.kind.name(), kind, "at {at}");
    conflict.id
}

#[test]
fn what_met_a_delete_is_told_after_a_crash_too() {
    for (is_remote, flushes) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new(3, Type::Lww);
        world.put(0, "door", "open");
        world.carry(0, 1);
        world.carry(0, 2);
        world.command(0, world::delete("door", ""));
        world.put(1, "door", "ajar");
        let at = if is_remote { 2 } else { 0 };
        if is_remote {
            world.carry(0, 2);
        }
        if flushes {
            world.flush(at);
        }
        world.sites[at].crash();
        world.carry(1, at);
        let id = told(&world, at, "put_beat_delete");
        // The delete lies in the engine, the put in the log alone.
        world.sites[at].crash();
        assert_eq!(told(&world, at, "put_beat_delete"), id, "it is told again");
    }
}

#[test]
fn of_a_delete_that_was_compacted_nothing_is_told() {
    let mut world = World::new(2, Type::Lww);
    world.put(0, "door", "open");
    world.carry(0, 1);
    world.command(0, world::delete("door", ""));
    world.put(1, "door", "ajar");
    world.put(0, "other", "key");
    let revision = world.sites[0].view().revision().value();
    let compact = Command::Compact { revision };
    assert!(world.command(0, compact).result.is_ok());
    world.carry(1, 0);
    let (lines, _oldest) = world.sites[0].view().conflicts(None, 10);
    assert!(lines.is_empty());
    assert_eq!(world.sites[0].read()[&bytes("door")], bytes("ajar"));
}
