//! A state that travels in chunks is the same at the other end; a crash at any write leaves the
//! old engine or the new one.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use holm_base::{ByteCount, Op, Prng, Revision, Term, Time};
use holm_kv::command::{Access, AlarmKind, AuthChange, Command, Permission, Range};
use holm_kv::snapshot::{Build, BuildError, ChunkId, Done, Places, Survey, Task};
use holm_kv::{Change, Config, Keyspace, StoreConfig, StoreError, View, WatchRequest};
use holm_virtual::{Storage, Survival};

use crate::world::{
    GROUP, World, all, bytes, delete, event, export, keys, leased, load, name_all, put, request,
    run,
};

const CHUNK: u32 = 512;

/// A command out of all kinds that leave something to see.
fn any(prng: &mut Prng, world: &World) -> Command {
    let key = format!("key{}", prng.below(40));
    match prng.below(24) {
        0..3 => delete(&key, ""),
        3 => delete("key1", "key2"),
        4 => Command::LeaseGrant {
            id: 1 + i64::try_from(prng.below(9)).unwrap(),
            ttl: 100,
            ttl_min: 2,
        },
        5 => leased(&key, 1 + i64::try_from(prng.below(9)).unwrap()),
        6 => Command::LeaseCheckpoint {
            remaining: vec![(3, 17)],
        },
        7 => Command::Compact {
            revision: world.view().revision().value() - i64::try_from(prng.below(30)).unwrap(),
        },
        8 => Command::Cluster {
            name: format!("member{}", prng.below(3)),
            value: Some(bytes(&key)),
        },
        9 => Command::Auth(AuthChange::RoleAdd { name: key }),
        10 => Command::Auth(AuthChange::UserAdd {
            name: key,
            password_hash: "hash".to_owned(),
            no_password: false,
        }),
        11 => Command::Auth(AuthChange::RoleGrantPermission {
            name: key,
            permission: Permission {
                access: Access::Read,
                key: bytes("a"),
                range_end: bytes("z"),
            },
        }),
        12 => Command::Alarm {
            raise: prng.below(2) == 0,
            member: 7,
            kind: AlarmKind::NoSpace,
            by_node: false,
        },
        _ => {
            let value = "v".repeat(usize::try_from(prng.below(200)).unwrap());
            put(&key, &value)
        }
    }
}

fn grown(seed: u64, commands: u64) -> World {
    let (mut prng, mut world) = (Prng::new(seed), World::new(Config::default()));
    for _ in 0..commands {
        let command = any(&mut prng, &world);
        // What is refused changes nothing, and is the same everywhere.
        drop(world.command(command));
        if prng.below(10) == 0 {
            world.work();
        }
    }
    world.work();
    world.publish();
    world
}

fn changes(view: &View) -> Vec<Change> {
    let mut all = Vec::new();
    let mut from = Revision::ZERO;
    while from <= view.revision() {
        let read = view
            .root
            .changes(from, view.revision(), 1 << 16, &mut |it| all.push(it));
        from = read.expect("it is sound");
    }
    all
}

/// All questions that clients can ask have the same answers.
fn assert_same(left: &View, right: &View, what: &str) {
    assert_eq!(left.revision(), right.revision(), "{what}");
    assert_eq!(left.root.compacted(), right.root.compacted(), "{what}");
    assert_eq!(
        (left.applied, left.term),
        (right.applied, right.term),
        "{what}"
    );
    assert_eq!(left.auth, right.auth, "{what}");
    assert_eq!(left.alarms, right.alarms, "{what}");
    assert_eq!(left.cluster, right.cluster, "{what}");
    let leases = |view: &View| {
        let mut all = Vec::new();
        view.each_lease(&mut |id, ttl, left| all.push((id, ttl, left)));
        all
    };
    assert_eq!(leases(left), leases(right), "{what}");
    assert_eq!(changes(left), changes(right), "{what}");
    for revision in left.root.compacted().value().max(1)..=left.revision().value() {
        let range = Range { revision, ..all() };
        assert_eq!(left.read(&range), right.read(&range), "{what}: {revision}");
        assert_eq!(
            left.hash_kv(revision),
            right.hash_kv(revision),
            "{what}: {revision}"
        );
    }
}

#[test]
fn what_arrives_answers_as_what_was_sent_and_goes_on_as_that() {
    for seed in 0..60 {
        let mut sent = grown(seed, 150);
        let mut got = World::new(Config::default());
        got.jump(|it| {
            for (term, body) in sent.log() {
                it.again(*term, body);
            }
            it.work();
        });
        assert_same(&sent.view(), &got.view(), &format!("seed {seed}"));
        let mut prng = Prng::new(seed + 1_000);
        for _ in 0..40 {
            let command = any(&mut prng, &sent);
            let (left, right) = (sent.command(command.clone()), got.command(command));
            assert_eq!(left.result, right.result, "seed {seed}");
            got.work();
        }
        sent.work();
        assert_same(&sent.view(), &got.view(), &format!("seed {seed}, later"));
        got.reopen();
        sent.reopen();
        assert_same(&sent.view(), &got.view(), &format!("seed {seed}, reopened"));
    }
}

#[test]
fn the_same_state_has_the_same_chunks_whatever_its_files_are() {
    for seed in 0..10 {
        let mut one = grown(seed, 200);
        let other = {
            let mut other = World::new(Config::default());
            for (term, body) in one.log() {
                other.again(*term, body);
            }
            other.publish();
            other
        };
        let (left, right) = (
            name_all(&one.keyspace, CHUNK),
            name_all(&other.keyspace, CHUNK),
        );
        assert!(left.ids().len() > 5, "{}", left.ids().len());
        assert_eq!(left.ids(), right.ids(), "seed {seed}");
        // What is added changes the end only.
        for number in 0..5 {
            one.put("more", &number.to_string());
        }
        let before: BTreeSet<_> = left.ids().iter().collect();
        let later = name_all(&one.keyspace, CHUNK);
        let kept = later.ids().iter().filter(|id| before.contains(id)).count();
        assert!(
            kept + 3 >= later.ids().len().min(left.ids().len()),
            "seed {seed}: {kept}"
        );
    }
}

#[test]
fn after_a_compaction_most_chunks_keep_their_names() {
    let mut world = World::new(Config::default());
    let mut prng = Prng::new(5);
    for number in 0..12_000 {
        let value = "v".repeat(usize::try_from(prng.below(60)).unwrap());
        world.put(&format!("key{number}"), &value);
    }
    for _ in 0..20 {
        world.put("key7", "again");
    }
    // Borders by content are rare, so the chunks must have room for some.
    let before = name_all(&world.keyspace, 64 << 10);
    world.done(Command::Compact { revision: 12_015 });
    world.work();
    let after = name_all(&world.keyspace, 64 << 10);
    let known: BTreeSet<_> = before.ids().iter().collect();
    let kept = after.ids().iter().filter(|id| known.contains(id)).count();
    assert!(
        kept * 2 > after.ids().len(),
        "{kept} of {}",
        after.ids().len()
    );
}

#[test]
fn a_pinned_state_gives_its_chunks_while_the_engine_goes_on() {
    let mut world = grown(3, 200);
    let pinned = name_all(&world.keyspace, CHUNK);
    let before: Vec<Bytes> = (0..pinned.chunk_count())
        .map(|it| load(&pinned, it))
        .collect();
    for round in 0..2_000 {
        world.put(&format!("key{}", round % 40), &"w".repeat(3_000));
        if round % 200 == 0 {
            let revision = world.view().revision().value();
            drop(world.command(Command::Compact { revision }));
            world.pass(std::time::Duration::from_secs(2));
        }
    }
    for (index, bytes) in (0..).zip(&before) {
        assert_eq!(load(&pinned, index), *bytes, "chunk {index}");
    }
}

#[test]
fn a_watch_whose_next_event_is_compacted_in_the_new_state_is_told_so() {
    let mut world = World::new(Config::default());
    let stream = world.stream();
    world.put("a", "1");
    let wanting = WatchRequest {
        prev_kv: true,
        ..request(keys("a", ""), 1)
    };
    world.watch(stream, wanting);
    world.watch(stream, request(keys("a", ""), 9));
    assert_eq!(world.drain(stream).len(), 3, "two created, one event");
    world.jump(|it| {
        it.put("a", "2");
        it.put("a", "3");
    });
    let answers = world.drain(stream);
    let seen: Vec<_> = answers
        .iter()
        .flat_map(|it| &it.events)
        .map(event)
        .collect();
    let values: Vec<_> = seen.iter().map(|it| it.parts.value.clone()).collect();
    assert_eq!(values, ["2", "3"], "no gap, no repeat");
    assert_eq!(seen[0].previous.as_ref().unwrap().value, "1");
    world.jump(|it| {
        for number in 4..12 {
            it.put("a", &number.to_string());
        }
        it.done(Command::Compact { revision: 8 });
        it.work();
    });
    let answers = world.drain(stream);
    let canceled: Vec<_> = answers.iter().filter(|it| it.canceled).collect();
    assert_eq!(canceled.len(), 1, "{answers:?}");
    assert_eq!((canceled[0].watch_id, canceled[0].compact_revision), (0, 8));
    let others = answers.iter().filter(|it| it.watch_id == 1);
    let seen: Vec<_> = others.flat_map(|it| &it.events).map(event).collect();
    let mains: Vec<_> = seen.iter().map(|it| it.parts.modified).collect();
    assert_eq!(mains, [9, 10, 11, 12], "one from there on goes on");
}

fn small() -> StoreConfig {
    StoreConfig {
        segment_bytes: ByteCount::new(16 << 10),
        ..StoreConfig::default()
    }
}

/// Takes a snapshot as a node does: what is here is looked for, what is missing is kept, a store
/// is built, and once the log says so (`is_said`) it is placed and the rest removed.
fn take(
    places: &Places,
    of: &Keyspace,
    (ids, chunks): (&Arc<[ChunkId]>, &[Bytes]),
    is_said: &mut bool,
) -> Result<usize, StoreError> {
    let mut survey = Box::new(Survey::new(places.clone(), Arc::clone(ids)));
    let missing = loop {
        match run(Task::Survey(survey)) {
            Done::Survey(done, Ok(true)) => break done.missing().to_vec(),
            Done::Survey(more, Ok(false)) => survey = more,
            Done::Survey(_, Err(error)) => return Err(error),
            other => panic!("{other:?}"),
        }
    };
    for index in &missing {
        let at = usize::try_from(*index).unwrap();
        let (places, id, bytes) = (places.clone(), ids[at], chunks[at].clone());
        match run(Task::Keep { places, id, bytes }) {
            Done::Keep(kept) => assert!(kept?, "it has its name"),
            other => panic!("{other:?}"),
        }
    }
    let at = (of.applied(), of.term());
    let build = Build::new(places.clone(), small(), Arc::clone(ids), at, Bytes::new());
    let mut build = Box::new(build);
    loop {
        match run(Task::Build(build)) {
            Done::Build(_, Ok(true)) => break,
            Done::Build(more, Ok(false)) => build = more,
            Done::Build(_, Err(BuildError::Store(error))) => return Err(error),
            other => panic!("{other:?}"),
        }
    }
    *is_said = true;
    let places = match run(Task::Place(places.clone())) {
        Done::Place(placed) => placed?,
        other => panic!("{other:?}"),
    };
    match run(Task::Tidy(places)) {
        Done::Tidy(tidied) => tidied?,
        other => panic!("{other:?}"),
    }
    Ok(missing.len())
}

/// A node's disk with an engine that knows a little.
fn old_engine() -> Storage {
    let storage = Storage::new();
    let places = Places::open(storage.root(), GROUP, None).unwrap();
    let config = Config {
        store: small(),
        ..Config::default()
    };
    let mut keyspace = Keyspace::open(places.engine().unwrap(), config).unwrap();
    let body = Bytes::new();
    drop(keyspace.apply(Time::ZERO, Op::new(1), Term::new(1), &body));
    keyspace.hurry();
    while let Some(job) = keyspace.next_job(Time::ZERO) {
        keyspace.finish(job.run()).unwrap();
    }
    storage
}

fn opened(storage: &Storage, said: Option<(Op, Term)>) -> (Places, Keyspace) {
    let places = Places::open(storage.root(), GROUP, said).expect("the places are found");
    let config = Config {
        store: small(),
        ..Config::default()
    };
    let keyspace = Keyspace::open(places.engine().unwrap(), config).expect("an engine is there");
    (places, keyspace)
}

#[test]
fn a_crash_at_any_write_leaves_the_old_engine_or_the_new_one() {
    let sent = grown(11, 60);
    let (named, chunks) = export(&sent.keyspace, CHUNK);
    let ids: Arc<[ChunkId]> = named.ids().into();
    let at = (sent.keyspace.applied(), sent.keyspace.term());
    let start = old_engine();
    let whole = start.reopen(Survival::Keep);
    let (places, _old) = opened(&whole, None);
    let first = whole.steps();
    let mut is_said = false;
    let taken = take(&places, &sent.keyspace, (&ids, &chunks), &mut is_said);
    assert_eq!(taken, Ok(chunks.len()));
    let last = whole.steps();
    assert!(
        last - first > 40,
        "it crosses many writes: {first} to {last}"
    );
    let survivals = [
        Survival::Keep,
        Survival::Drop,
        Survival::Torn { seed: 1 },
        Survival::Reordered { seed: 2 },
    ];
    for step in first + 1..=last {
        let storage = start.reopen(Survival::Keep);
        let (places, _old) = opened(&storage, None);
        storage.crash_at(step);
        let mut is_said = false;
        let taken = take(&places, &sent.keyspace, (&ids, &chunks), &mut is_said);
        assert!(taken.is_err(), "step {step}");
        for survival in survivals {
            let what = format!("step {step}, {survival:?}, said: {is_said}");
            let storage = storage.reopen(survival);
            let said = is_said.then_some(at);
            let (places, keyspace) = opened(&storage, said);
            if is_said {
                assert_same(&sent.view(), &keyspace.reader().view(), &what);
            } else {
                assert_eq!(keyspace.applied(), Op::new(1), "{what}");
                let mut again = false;
                let missing = take(&places, &sent.keyspace, (&ids, &chunks), &mut again);
                let missing = missing.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(missing <= chunks.len(), "{what}");
                drop(keyspace);
            }
            let (_, keyspace) = opened(&storage, Some(at));
            assert_same(&sent.view(), &keyspace.reader().view(), &what);
            let left = storage.names();
            let is_left = |name: &&String| name.contains(".building") || name.contains(".built");
            assert_eq!(left.iter().find(is_left), None, "{what}");
        }
    }
}

#[test]
fn a_transfer_goes_on_where_a_kill_stopped_it_and_spoiled_chunks_are_no_part_of_it() {
    let sent = grown(15, 400);
    let (named, chunks) = export(&sent.keyspace, CHUNK);
    let ids: Arc<[ChunkId]> = named.ids().into();
    let storage = old_engine();
    let (places, old) = opened(&storage, None);
    assert!(chunks.len() > 8, "{}", chunks.len());
    for (id, bytes) in ids.iter().zip(&chunks).take(6) {
        let (places, id, bytes) = (places.clone(), *id, bytes.clone());
        assert!(matches!(
            run(Task::Keep { places, id, bytes }),
            Done::Keep(Ok(true))
        ));
    }
    let (id, bytes) = (ids[7], chunks[8].clone());
    let wrong = Task::Keep { places, id, bytes };
    assert!(
        matches!(run(wrong), Done::Keep(Ok(false))),
        "it has another name"
    );
    drop(old);
    let names = storage.names();
    let spoiled = names.iter().find(|name| name.contains(".chunks/")).unwrap();
    let storage = storage.reopen(Survival::Keep);
    storage.flip(spoiled, ByteCount::new(40), 1);
    let (places, _old) = opened(&storage, None);
    let mut is_said = false;
    let fetched = take(&places, &sent.keyspace, (&ids, &chunks), &mut is_said);
    assert_eq!(
        fetched,
        Ok(chunks.len() - 5),
        "six were kept, one was spoiled since"
    );
    let (_, keyspace) = opened(
        &storage,
        Some((sent.keyspace.applied(), sent.keyspace.term())),
    );
    assert_same(&sent.view(), &keyspace.reader().view(), "after a kill");
    assert!(!storage.names().iter().any(|name| name.contains(".chunks/")));
}

#[test]
fn chunks_that_hold_no_state_are_refused_and_the_engine_stays() {
    let sent = grown(13, 60);
    let (named, chunks) = export(&sent.keyspace, CHUNK);
    let storage = old_engine();
    let (places, old) = opened(&storage, None);
    let build = |ids: Vec<ChunkId>, at: (Op, Term)| {
        let build = Build::new(places.clone(), small(), ids.into(), at, Bytes::new());
        let mut build = Box::new(build);
        loop {
            match run(Task::Build(build)) {
                Done::Build(more, Ok(false)) => build = more,
                Done::Build(_, Ok(true)) => return Ok(()),
                Done::Build(_, Err(error)) => return Err(error),
                other => panic!("{other:?}"),
            }
        }
    };
    let at = (sent.keyspace.applied(), sent.keyspace.term());
    let missing = build(named.ids().to_vec(), at);
    assert_eq!(missing, Err(BuildError::Spoiled { index: 0 }));
    for (id, bytes) in named.ids().iter().zip(&chunks) {
        let (places, id, bytes) = (places.clone(), *id, bytes.clone());
        run(Task::Keep { places, id, bytes });
    }
    let mut ids = named.ids().to_vec();
    ids.swap(0, 1);
    let nonsense = |built| matches!(built, Err(BuildError::Nonsense { .. }));
    assert!(nonsense(build(ids, at)), "out of order");
    let mut ids = named.ids().to_vec();
    ids.pop();
    assert!(nonsense(build(ids, at)), "without its end");
    let of_another = (at.0.next(), at.1);
    assert!(
        nonsense(build(named.ids().to_vec(), of_another)),
        "another op"
    );
    assert_eq!(build(named.ids().to_vec(), at), Ok(()));
    assert_eq!(old.applied(), Op::new(1));
    let (_, keyspace) = opened(&storage, None);
    assert_eq!(keyspace.applied(), Op::new(1), "the log did not say so");
}

#[test]
fn what_waits_for_the_disk_is_walked_once_though_facts_stand_between() {
    let mut world = World::new(Config::default());
    for number in 0..20 {
        world.put(&format!("key{number}"), &"v".repeat(300));
        world.done(Command::LeaseGrant {
            id: number + 1,
            ttl: 100,
            ttl_min: 2,
        });
    }
    // Slices so small that one ends behind a fact.
    let view = world.view();
    let (mut mains, mut from) = (Vec::new(), Revision::ZERO);
    while from <= view.revision() {
        let read = view.root.changes(from, view.revision(), 300, &mut |it| {
            mains.push(it.main.value());
        });
        from = read.expect("it is sound");
    }
    assert_eq!(mains, (2..22).collect::<Vec<_>>());
}
