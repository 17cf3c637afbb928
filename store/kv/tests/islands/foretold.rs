//! What a site that was left out says before it is taken in again: which writes nobody else has.

use bytes::Bytes;
use holm_kv::command::{Command, Put, Txn, TxnOp};
use holm_kv::{Foretelling, ForetoldFrom};
use holm_local_first::{Chain, ForetoldKind, Members, Proposal as Entry, Roster, Type};

use crate::where_deletes_win;
use crate::world::{Site, World, bytes, delete, slot};

/// A site hears that these slots were left out, of which so much counts.
fn leave_out(world: &mut World, at: usize, slots: &[(u8, u64)]) {
    let all = (1..=9).map(|it| (slot(it), 0));
    let mut members = Members::new(all);
    for (number, through) in slots {
        let next = members.let_go(slot(*number), *through, Chain::default());
        members = next.expect("others stay");
    }
    let nodes = members
        .active()
        .keys()
        .map(|it| (*it, vec![u64::from(it.value())]));
    let nodes = nodes.collect();
    let entry = Entry::Follow(Roster { members, nodes });
    assert!(world.command(at, Command::Island(entry)).result.is_ok());
}

/// All parts of what it says.
fn parts(site: &Site) -> Vec<Foretelling> {
    let (view, mut from, mut all) = (site.view(), ForetoldFrom::default(), Vec::new());
    loop {
        let part = view.foretold(&from).expect("nothing is damaged");
        let part = part.expect("it was left out");
        let next = part.next.clone();
        all.push(part);
        let Some(next) = next else {
            return all;
        };
        assert_ne!(next, from, "it goes on");
        from = next;
    }
}

type Line = (Bytes, ForetoldKind, u8, Bytes);

fn lines(site: &Site) -> Vec<Line> {
    let parts = parts(site);
    let all = parts.iter().flat_map(|it| &it.writes);
    let line = |(key, it): &(Bytes, holm_local_first::Foretold)| {
        let (by, value) = (it.party.dot.slot.value(), it.party.value.clone());
        (key.clone(), it.kind, by, value)
    };
    all.map(line).collect()
}

fn line(key: &str, kind: ForetoldKind, by: u8, value: &str) -> Line {
    (bytes(key), kind, by, bytes(value))
}

fn fill(world: &mut World, at: usize, keys: impl Iterator<Item = String>) {
    let puts = keys.map(|key| {
        TxnOp::Put(Put {
            key: Bytes::from(key),
            value: bytes("x"),
            ..Put::default()
        })
    });
    let puts: Vec<TxnOp> = puts.collect();
    for some in puts.chunks(1_000) {
        let txn = Command::Txn(Txn {
            success: some.to_vec(),
            ..Txn::default()
        });
        assert!(world.command(at, txn).result.is_ok());
    }
}

#[test]
fn who_was_left_out_tells_what_only_it_has_and_changes_nothing() {
    let mut world = World::new(3, Type::Lww);
    for key in ["gone", "over", "kept", "gone before"] {
        world.put(0, key, "of a");
    }
    world.carry(0, 1);
    world.put(1, "early", "of b");
    world.command(1, delete("gone before", ""));
    world.put(2, "lost", "of c");
    world.carry(2, 1);
    world.put(1, "only", "of b");
    world.put(1, "over", "of b");
    world.put(1, "for a while", "of b");
    world.command(1, delete("for a while", ""));
    world.command(1, delete("gone", ""));
    let view = world.sites[1].view();
    assert_eq!(view.foretold(&ForetoldFrom::default()), Ok(None));

    leave_out(&mut world, 1, &[(2, 2), (3, 0)]);
    let states = world.sites[1].states();
    let found = lines(&world.sites[1]);
    let expected = [
        line("for a while", ForetoldKind::Delete, 2, ""),
        line("gone", ForetoldKind::Delete, 2, ""),
        line("lost", ForetoldKind::Put, 3, "of c"),
        line("only", ForetoldKind::Put, 2, "of b"),
        line("over", ForetoldKind::Put, 2, "of b"),
    ];
    assert_eq!(found, expected);
    let parts = parts(&world.sites[1]);
    assert_eq!((parts.len(), parts[0].made, parts[0].counted), (1, 7, 2));
    assert!(!parts[0].was_back);
    assert_eq!(world.sites[1].states(), states);

    // It is in the log, and deletes are known until compaction.
    world.sites[1].crash();
    assert_eq!(lines(&world.sites[1]), expected);
    let revision = world.sites[1].view().revision().value();
    world.command(1, Command::Compact { revision });
    assert_eq!(
        lines(&world.sites[1]),
        expected[1..],
        "the last one is kept"
    );
}

#[test]
fn many_keys_are_told_in_parts_that_are_bounded() {
    let mut world = World::new(2, Type::Lww);
    fill(&mut world, 1, (0..9_000).map(|it| format!("a{it:04}")));
    let counted = world.sites[1].vector().seq(slot(2));
    fill(&mut world, 1, (0..600).map(|it| format!("b{it:03}")));
    leave_out(&mut world, 1, &[(2, counted)]);
    let parts = parts(&world.sites[1]);
    assert!(parts[0].writes.is_empty(), "of the first keys all count");
    assert!(parts.iter().all(|it| it.writes.len() <= 256));
    let keys = parts.iter().flat_map(|it| &it.writes);
    let keys: Vec<Bytes> = keys.map(|it| it.0.clone()).collect();
    let expected = (0..600).map(|it| Bytes::from(format!("b{it:03}")));
    assert_eq!(keys, expected.collect::<Vec<_>>());
}

#[test]
fn a_document_of_many_parts_goes_on_in_the_next() {
    let mut world = World::new(2, Type::Json);
    let fields = (0..700).map(|it| format!("\"f{it:03}\":{it}"));
    let fields: Vec<String> = fields.collect();
    world.put(1, "doc", "{\"z\":0}");
    world.put(1, "doc", &format!("{{{},\"z\":0}}", fields.join(",")));
    world.put(1, "next", "1");
    leave_out(&mut world, 1, &[(2, 1)]);
    let found = lines(&world.sites[1]);
    let parts = found.iter().filter(|it| it.1 == ForetoldKind::Part);
    let values: Vec<Bytes> = parts.map(|it| it.3.clone()).collect();
    let expected = (0..700).map(|it| it.to_string());
    let expected = ["{}".to_owned()].into_iter().chain(expected);
    let expected = expected.map(Bytes::from);
    assert_eq!(values, expected.collect::<Vec<_>>());
    assert_eq!(found.last(), Some(&line("next", ForetoldKind::Put, 2, "1")));
}

#[test]
fn where_deletes_win_they_are_told_after_compaction_too() {
    let mut world = where_deletes_win(Type::Lww);
    world.put(1, "gone", "1");
    world.command(1, delete("gone", ""));
    world.put(1, "again", "1");
    world.command(1, delete("again", ""));
    world.put(1, "again", "2");
    leave_out(&mut world, 1, &[(2, 1)]);
    let expected = [
        line("again", ForetoldKind::Put, 2, "2"),
        line("again", ForetoldKind::Delete, 2, ""),
        line("gone", ForetoldKind::Delete, 2, ""),
    ];
    assert_eq!(lines(&world.sites[1]), expected);
    let revision = world.sites[1].view().revision().value();
    world.command(1, Command::Compact { revision });
    while world.sites[1].keyspace.sweep() {}
    // What was swept is seen behind the next command.
    leave_out(&mut world, 1, &[(2, 1)]);
    assert_eq!(lines(&world.sites[1]), expected);
}
