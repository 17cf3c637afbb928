//! The watch oracle: from a watch's answers alone, the state at every revision.
//!
//! Watchers are slow, filtered, fragmented, started in the past and the future, behind a tiny
//! ring, with compaction racing. Each must get exactly what history says, or a cancel.

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_base::Prng;
use holm_kv::command::{Command, DeleteRange, Put, Range, Txn, TxnOp};
use holm_kv::record::Parts;
use holm_kv::{Config, HubConfig, KeyRange, StreamId, WatchAnswer, WatchRequest};

use crate::world::{Seen, World, all, bytes, delete, event, keys, put, request};

/// What happened, by the oracle's own books.
#[derive(Default)]
struct History {
    changes: Vec<(bool, Parts)>,
    live: BTreeMap<Bytes, Parts>,
    states: BTreeMap<i64, BTreeMap<Bytes, Parts>>,
}

impl History {
    fn put(&mut self, revision: i64, key: &Bytes, value: &Bytes) {
        let before = self.live.get(key);
        let parts = Parts {
            key: key.clone(),
            create: before.map_or(revision, |it| it.create),
            modified: revision,
            version: before.map_or(0, |it| it.version) + 1,
            value: value.clone(),
            lease: 0,
            mark: Bytes::new(),
        };
        self.live.insert(key.clone(), parts.clone());
        self.changes.push((false, parts));
    }

    fn delete(&mut self, revision: i64, range: &KeyRange) {
        let gone: Vec<Bytes> = self
            .live
            .keys()
            .filter(|it| range.contains(it))
            .cloned()
            .collect();
        for key in gone {
            self.live.remove(&key);
            let parts = Parts {
                key,
                modified: revision,
                ..Parts::default()
            };
            self.changes.push((true, parts));
        }
    }

    fn obey(&mut self, revision: i64, command: &Command) {
        let deletion = |it: &DeleteRange| KeyRange::new(it.key.clone(), it.range_end.clone());
        match command {
            Command::Put(it) => self.put(revision, &it.key, &it.value),
            Command::DeleteRange(it) => self.delete(revision, &deletion(it)),
            Command::Txn(txn) => {
                for op in &txn.success {
                    match op {
                        TxnOp::Put(it) => self.put(revision, &it.key, &it.value),
                        TxnOp::DeleteRange(it) => self.delete(revision, &deletion(it)),
                        TxnOp::Range(_) | TxnOp::Txn(_) => unreachable!("not generated"),
                    }
                }
            }
            other => unreachable!("{other:?} is not generated"),
        }
        self.states.insert(revision, self.live.clone());
    }

    fn expected(&self, watch: &Watch) -> Vec<Seen> {
        let wanted = self.changes.iter().filter(|(is_delete, parts)| {
            let filtered = if *is_delete {
                watch.request.no_delete
            } else {
                watch.request.no_put
            };
            !filtered && parts.modified >= watch.start && watch.request.range.contains(&parts.key)
        });
        let seen = wanted.map(|(is_delete, parts)| Seen {
            is_delete: *is_delete,
            parts: parts.clone(),
            previous: watch
                .request
                .prev_kv
                .then(|| {
                    self.states
                        .get(&(parts.modified - 1))?
                        .get(&parts.key)
                        .cloned()
                })
                .flatten(),
        });
        seen.collect()
    }
}

/// What one watch was told.
struct Watch {
    request: WatchRequest,
    start: i64,
    id: i64,
    seen: Vec<Seen>,
    /// A piece came whose rest is missing.
    is_open: bool,
    told: i64,
    compacted: Option<i64>,
}

/// One stream: watches in the order of their creation until they are told their ids.
struct Client {
    stream: StreamId,
    watches: BTreeMap<i64, Watch>,
    ended: Vec<Watch>,
    starting: Vec<(WatchRequest, i64)>,
}

impl Client {
    fn take(&mut self, answers: Vec<WatchAnswer>) {
        for answer in answers {
            if answer.created {
                let (request, start) = self.starting.remove(0);
                let watch = Watch {
                    request,
                    start,
                    id: answer.watch_id,
                    seen: Vec::new(),
                    is_open: false,
                    told: 0,
                    compacted: None,
                };
                assert!(!answer.canceled, "{answer:?}");
                assert!(self.watches.insert(answer.watch_id, watch).is_none());
            } else if answer.canceled {
                assert!(answer.compact_revision > 0, "{answer:?}");
                let mut watch = self
                    .watches
                    .remove(&answer.watch_id)
                    .expect("created first");
                watch.compacted = Some(answer.compact_revision);
                self.ended.push(watch);
            } else if answer.watch_id == -1 {
                for watch in self.watches.values_mut() {
                    watch.told = watch.told.max(answer.revision);
                }
            } else {
                let watch = self
                    .watches
                    .get_mut(&answer.watch_id)
                    .expect("created first");
                assert_eq!(watch.id, answer.watch_id);
                watch.take(&answer);
            }
        }
    }
}

impl Watch {
    fn take(&mut self, answer: &WatchAnswer) {
        assert!(!answer.events.is_empty(), "an emptied answer is not sent");
        for (at, bytes) in answer.events.iter().enumerate() {
            let seen = event(bytes);
            let main = seen.parts.modified;
            assert!(
                main > self.told,
                "progress {} came before {main}",
                self.told
            );
            assert!(answer.revision >= main || answer.fragment, "{answer:?}");
            if let Some(last) = self.seen.last() {
                let is_new = at == 0 && !self.is_open;
                assert!(last.parts.modified <= main);
                assert!(
                    !is_new || last.parts.modified < main,
                    "a revision was split"
                );
            }
            self.seen.push(seen);
        }
        self.is_open = answer.fragment;
        assert!(!answer.fragment || self.request.fragment);
    }
}

fn config() -> Config {
    Config {
        hub: HubConfig {
            ring_bytes: 4_000,
            ring_revisions: 12,
            fragment_bytes: 200,
            catch_up_bytes: 500,
            catch_ups_max: 1,
            ..HubConfig::default()
        },
        ..Config::default()
    }
}

fn number(prng: &mut Prng, bound: i64) -> i64 {
    i64::try_from(prng.below(u64::try_from(bound).unwrap())).unwrap()
}

fn any_key(prng: &mut Prng) -> String {
    ["a", "b", "c", "d", "e", "f"][usize::try_from(prng.below(6)).unwrap()].to_owned()
}

fn change(prng: &mut Prng) -> Command {
    let value = "v".repeat(usize::try_from(prng.below(60)).unwrap());
    match prng.below(6) {
        0 => delete(&any_key(prng), ""),
        1 => delete("b", "d"),
        2 => {
            let one = |key: &str| {
                TxnOp::Put(Put {
                    key: bytes(key),
                    value: bytes(&value),
                    ..Put::default()
                })
            };
            let gone = TxnOp::DeleteRange(DeleteRange {
                key: bytes("e"),
                ..DeleteRange::default()
            });
            Command::Txn(Txn {
                success: vec![one("a"), one("d"), gone, one("c")],
                ..Txn::default()
            })
        }
        _ => put(&any_key(prng), &value),
    }
}

fn start_watch(prng: &mut Prng, world: &World, client: &mut Client) {
    let range = match prng.below(4) {
        0 => keys(&any_key(prng), ""),
        1 => keys("b", "e"),
        2 => keys("c", "\0"),
        _ => keys("\0", "\0"),
    };
    let current = world.view().revision().value();
    let oldest = world.view().root.compacted().value().max(1);
    let start = match prng.below(3) {
        0 => 0,
        1 => oldest + number(prng, current - oldest + 1),
        _ => current + 1 + number(prng, 6),
    };
    let request = WatchRequest {
        prev_kv: prng.below(2) == 0,
        fragment: prng.below(2) == 0,
        no_put: prng.below(6) == 0,
        no_delete: prng.below(6) == 0,
        ..request(range, start)
    };
    world.watch(client.stream, request.clone());
    let from = if start == 0 { current + 1 } else { start };
    client.starting.push((request, from));
}

fn check(watch: &Watch, history: &History, current: i64) {
    let expected = history.expected(watch);
    let is_cut = watch.compacted.is_some();
    assert!(!watch.is_open, "the last piece is missing");
    assert!(
        is_cut || watch.seen.len() == expected.len(),
        "{current}: {:?}",
        watch.request
    );
    for (seen, expected) in watch.seen.iter().zip(&expected) {
        assert_eq!(
            (seen.is_delete, &seen.parts),
            (expected.is_delete, &expected.parts)
        );
        let has_lost_previous = seen.previous.is_none() && watch.request.prev_kv;
        assert!(seen.previous == expected.previous || has_lost_previous);
    }
    if let Some(compacted) = watch.compacted {
        let next = expected.get(watch.seen.len()).map(|it| it.parts.modified);
        let next = next.unwrap_or(current);
        assert!(
            watch.start < compacted,
            "{} {next} {compacted}",
            watch.start
        );
    }
}

/// Rebuilds each state from a watch of everything and compares it with what a read gives.
fn check_states(world: &World, watch: &Watch) {
    let view = world.view();
    let mut state: BTreeMap<Bytes, Parts> = BTreeMap::new();
    let mut at = 0;
    for revision in 1..=view.revision().value() {
        while let Some(seen) = watch.seen.get(at)
            && seen.parts.modified == revision
        {
            if seen.is_delete {
                state.remove(&seen.parts.key);
            } else {
                state.insert(seen.parts.key.clone(), seen.parts.clone());
            }
            at += 1;
        }
        if revision >= view.root.compacted().value().max(1) {
            let range = Range { revision, ..all() };
            let found = view.read(&range).expect("it is not compacted");
            let found: Vec<Parts> = found
                .records
                .iter()
                .map(|it| it.decode().unwrap())
                .collect();
            assert_eq!(
                found,
                state.values().cloned().collect::<Vec<_>>(),
                "at {revision}"
            );
        }
    }
}

fn run(seed: u64, jumps: bool) {
    let mut prng = Prng::new(seed);
    let mut world = World::new(config());
    let mut history = History::default();
    let mut clients: Vec<Client> = (0..3)
        .map(|_| Client {
            stream: world.stream(),
            watches: BTreeMap::new(),
            ended: Vec::new(),
            starting: Vec::new(),
        })
        .collect();
    // One watch sees everything from the start; it is polled often enough to stay ahead.
    let whole = request(keys("\0", "\0"), 1);
    let mut witness = Client {
        stream: world.stream(),
        watches: BTreeMap::new(),
        ended: Vec::new(),
        starting: vec![(whole.clone(), 1)],
    };
    world.watch(witness.stream, whole);
    for _ in 0..150 {
        let pick = usize::try_from(prng.below(3)).unwrap();
        match prng.below(20) {
            0 if jumps => world.jump(|it| {
                for _ in 0..=prng.below(4) {
                    step(&mut prng, it, &mut history);
                }
            }),
            0..10 => step(&mut prng, &mut world, &mut history),
            10..12 => start_watch(&mut prng, &world, &mut clients[pick]),
            12 => world.keyspace.hub().request_progress(clients[pick].stream),
            13 => {
                witness.take(world.drain(witness.stream));
                let (low, high) = (world.view().root.compacted(), world.view().revision());
                let revision = low.value() + number(&mut prng, high.value() - low.value() + 1);
                if revision > low.value() {
                    world.done(Command::Compact { revision });
                    world.work();
                }
            }
            _ => {
                let bytes_max = [1, 300, 100_000][usize::try_from(prng.below(3)).unwrap()];
                let answers = world.poll(clients[pick].stream, bytes_max);
                clients[pick].take(answers);
            }
        }
    }
    let current = world.view().revision().value();
    for client in &mut clients {
        client.take(world.drain(client.stream));
        assert!(client.starting.is_empty());
        for watch in client.watches.values().chain(&client.ended) {
            check(watch, &history, current);
        }
    }
    witness.take(world.drain(witness.stream));
    check(&witness.watches[&0], &history, current);
    check_states(&world, &witness.watches[&0]);
}

/// A batch of one to three changes becomes visible at once.
fn step(prng: &mut Prng, world: &mut World, history: &mut History) {
    for _ in 0..=prng.below(3) {
        let command = change(prng);
        let before = world.keyspace.applied();
        let proposal = holm_kv::command::Proposal {
            caller: None,
            command,
        };
        let was = history.changes.len();
        let applied = world.apply_only(&proposal);
        assert!(applied.op > before && applied.result.is_ok());
        history.obey(applied.revision.value(), &proposal.command);
        let main = history.changes[was..].iter().map(|it| it.1.modified);
        assert!(main.into_iter().all(|it| it == applied.revision.value()));
    }
    world.publish();
}

#[test]
fn every_watch_gets_exactly_what_happened_or_a_cancel() {
    for seed in 0..400 {
        run(seed, false);
    }
}

#[test]
fn a_watch_goes_on_over_a_state_that_is_replaced_without_gap_or_repeat() {
    for seed in 0..100 {
        run(seed, true);
    }
}
