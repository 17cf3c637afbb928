//! Islands of several nodes: two sites of three, each a group with engines, logs and disks, cut
//! apart within and between, ended by power cuts, and held against a twin that keeps every update.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{NodeId, Prng, RequestId, Time};
use holm_kv::IslandConfig;
use holm_kv::command::{Command, DeleteRange, Proposal, Put};
use holm_local_first::{
    Dot, Members, Note, Proposal as Entry, Roster, Rules, Sealed, Slot, State, Type, Update, Vector,
};
use holm_raft::Event as Raft;
use holm_replica::{Answer, Event, Input, Message, Neighbour, Shores};

use crate::islands::plain;
use crate::site::Site;

const TICK: Duration = Duration::from_millis(5);
const UNIX_MS: u64 = 1_800_000_000_000;
const NODES: usize = 6;
/// How many nodes a site has.
const EACH: usize = 3;
/// How many random worlds; sixty of each were played when this was written.
const SEEDS: u64 = 8;

fn slot_of(at: usize) -> Slot {
    let number = u8::try_from(at / EACH + 1).expect("two sites");
    Slot::new(number).expect("slots begin at 1")
}

/// The nodes of the site of a node, by their places.
fn mates(at: usize) -> std::ops::Range<usize> {
    let first = at / EACH * EACH;
    first..first + EACH
}

fn id(at: usize) -> u64 {
    u64::try_from(at).expect("a few") + 1
}

/// A node that is not up.
fn node(at: usize, kind: Type, updates_bytes_max: usize) -> Site {
    let voters: Vec<u64> = mates(at).map(id).collect();
    let mut site = Site::new(id(at), &voters);
    let others = (0..NODES).filter(|other| slot_of(*other) != slot_of(at));
    let peers = others.map(|other| (slot_of(other), NodeId::new(id(other))));
    let island = IslandConfig {
        slot: slot_of(at),
        epoch: 1,
        since_unix_ms: UNIX_MS,
        rules: Rules {
            kind,
            ..Rules::default()
        },
        updates_bytes_max,
    };
    site.island = Some((island, Shores::new(peers.collect())));
    site
}

/// What a client waits for.
enum Asked {
    Put(String),
    Delete,
    Read { at_least: i64 },
    Entry,
    Standing,
}

struct World {
    nodes: Vec<Site>,
    /// Frames on their way from one to another, in order.
    mail: BTreeMap<(usize, usize), VecDeque<(u8, Bytes)>>,
    /// Pairs that do not hear each other.
    cut: BTreeSet<(usize, usize)>,
    now: Time,
    ticks: u64,
    /// A node whose clock goes at a quarter of the pace, and what it says.
    slow: Option<(usize, Time)>,
    prng: Prng,
    next_request: u64,
    asked: BTreeMap<(usize, u64), Asked>,
    /// The highest revision that anybody was told at a site.
    told: [i64; 2],
    /// Values that were acknowledged, and the slot under which.
    acknowledged: BTreeMap<String, Slot>,
    reads: u64,
    neighbours: Vec<Neighbour>,
    refused: u64,
    /// Every update that a site has committed, with its bytes, and how far each slot is known.
    all: Vec<Update>,
    bytes: BTreeMap<Dot, Bytes>,
    known: BTreeMap<Slot, Vector>,
}

impl World {
    fn new(seed: u64, updates_bytes_max: usize, kept_ops: u64) -> Self {
        let kind = [Type::Lww, Type::Mv][usize::from(seed.is_multiple_of(3))];
        let mut nodes: Vec<Site> = (0..NODES)
            .map(|at| node(at, kind, updates_bytes_max))
            .collect();
        for site in &mut nodes {
            site.kept_ops = kept_ops;
            site.laggard_bytes_min = kept_ops * 100;
            site.start(Time::ZERO);
        }
        Self {
            nodes,
            mail: BTreeMap::new(),
            cut: BTreeSet::new(),
            now: Time::ZERO,
            ticks: 0,
            slow: None,
            prng: Prng::new(seed),
            next_request: 0,
            asked: BTreeMap::new(),
            told: [0; 2],
            acknowledged: BTreeMap::new(),
            reads: 0,
            neighbours: Vec::new(),
            refused: 0,
            all: Vec::new(),
            bytes: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.prng.below(bound)).expect("a few")
    }

    /// What a node's clock says: since its start, and of the day. They are half a second apart.
    fn clocks(&self, at: usize) -> (Time, u64) {
        let since = u64::try_from(self.now.since(Time::ZERO).as_millis()).expect("it is short");
        let now = self.slow.filter(|(slow, _)| *slow == at);
        let unix_ms = UNIX_MS + since + id(at) * 500;
        (now.map_or(self.now, |(_, now)| now), unix_ms)
    }

    fn is_cut(&self, one: usize, two: usize) -> bool {
        self.cut.contains(&(one.min(two), one.max(two)))
    }

    fn cut_off(&mut self, one: usize, others: impl IntoIterator<Item = usize>) {
        for other in others.into_iter().filter(|it| *it != one) {
            self.cut.insert((one.min(other), one.max(other)));
        }
    }

    fn part_the_sites(&mut self) {
        (0..EACH).for_each(|at| self.cut_off(at, EACH..NODES));
    }

    fn propose(&mut self, at: usize, asked: Asked, command: Command) {
        self.next_request += 1;
        let (now, unix_ms) = self.clocks(at);
        self.asked.insert((at, self.next_request), asked);
        let proposal = Proposal {
            caller: None,
            command,
        };
        let input = Input::Propose {
            request: RequestId::new(self.next_request),
            body: proposal.encode_at(unix_ms),
            takes_space: true,
        };
        self.nodes[at].step(now, input);
    }

    fn put(&mut self, at: usize, key: &str) {
        let value = format!("{at}-{}", self.next_request);
        let put = Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from(value.clone()),
            ..Put::default()
        };
        self.propose(at, Asked::Put(value), Command::Put(put));
    }

    fn read(&mut self, at: usize) {
        self.next_request += 1;
        let at_least = self.told[at / EACH];
        let asked = Asked::Read { at_least };
        self.asked.insert((at, self.next_request), asked);
        let request = RequestId::new(self.next_request);
        let (now, _) = self.clocks(at);
        self.nodes[at].step(now, Input::Read { request });
    }

    fn do_something(&mut self, at: usize) {
        let key = self.below(6);
        match self.below(6) {
            0 => {
                let delete = DeleteRange {
                    key: Bytes::from(format!("k{key}")),
                    range_end: Bytes::from(format!("k{}", key + 2)),
                    prev_kv: false,
                };
                self.propose(at, Asked::Delete, Command::DeleteRange(delete));
            }
            1 => self.read(at),
            _ => self.put(at, &format!("k{key}")),
        }
    }

    fn crash(&mut self, at: usize) {
        self.nodes[at].crash();
        self.mail.retain(|(from, to), _| *from != at && *to != at);
        self.asked.retain(|(node, _), _| *node != at);
        self.slow.take_if(|(slow, _)| *slow == at);
    }

    fn restart(&mut self, at: usize) {
        let now = self.now;
        if self.nodes[at].up.is_none() {
            self.nodes[at].start(now);
        }
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        self.ticks += 1;
        if let Some((_, now)) = &mut self.slow {
            *now = *now + TICK / 4;
        }
        for ((from, to), frames) in core::mem::take(&mut self.mail) {
            if self.is_cut(from, to) || self.nodes[to].up.is_none() {
                continue;
            }
            let (node, (now, unix_ms)) = (self.nodes[from].node, self.clocks(to));
            for (kind, body) in frames {
                let site = &mut self.nodes[to];
                let up = site.up.as_mut().expect("it is up");
                up.replica.set_wall(now, unix_ms);
                site.hear(now, node, kind, &body);
            }
        }
        for at in 0..NODES {
            let (now, unix_ms) = self.clocks(at);
            let site = &mut self.nodes[at];
            let Some(up) = site.up.as_mut() else {
                continue;
            };
            up.replica.set_wall(now, unix_ms);
            site.sweep();
            site.step(now, Input::Wake);
            site.settle(now);
            while site.has_unflushed() {
                site.flush(now);
            }
            self.post(at);
            self.hear_answers(at);
            self.collect(at);
        }
    }

    fn post(&mut self, at: usize) {
        let leads = self.nodes[at].replica().standing().leads;
        for (to, kind, body) in core::mem::take(&mut self.nodes[at].out) {
            assert!(
                leads || kind != Message::KIND_ISLAND,
                "only who leads speaks to other islands"
            );
            let to = usize::try_from(to.value() - 1).expect("a few");
            if to < NODES {
                let frames = self.mail.entry((at, to)).or_default();
                frames.push_back((kind, body));
            }
        }
    }

    fn hear_answers(&mut self, at: usize) {
        for (request, answer) in core::mem::take(&mut self.nodes[at].answers) {
            let asked = self.asked.remove(&(at, request.value()));
            let asked = asked.expect("each request is answered once");
            let seen = self.nodes[at].revision();
            match (asked, answer) {
                (Asked::Read { at_least }, Answer::Read) => {
                    self.reads += 1;
                    assert!(
                        seen >= at_least,
                        "a read at {at} saw {seen}, not {at_least}"
                    );
                }
                (asked, Answer::Applied(Ok(applied))) => {
                    assert!(applied.result.is_ok(), "{applied:?}");
                    let told = &mut self.told[at / EACH];
                    *told = (*told).max(applied.revision.value());
                    if let Asked::Put(value) = asked {
                        let before = self.acknowledged.insert(value, slot_of(at));
                        assert!(before.is_none(), "each value is put once");
                    }
                }
                (Asked::Standing, Answer::Standing(it)) => self.neighbours = it.neighbours,
                (_, Answer::Refused(_)) => self.refused += 1,
                (_, other) => panic!("answered with {other:?}"),
            }
        }
    }

    /// What the site of a node has committed; a name is given once, whoever led (I3).
    fn collect(&mut self, at: usize) {
        let keyspace = self.nodes[at].replica().keyspace();
        let own = slot_of(at);
        let known = self.known.entry(own).or_default();
        let found = keyspace.updates(own, known.seq(own), usize::MAX);
        for bytes in found.expect("what is new is kept") {
            let sealed = Sealed::decode(&bytes, known).expect("its own");
            *known = sealed.update.deps.clone();
            known.raise(own, sealed.update.dot.seq);
            self.bytes.insert(sealed.update.dot, bytes);
            self.all.push(sealed.update);
        }
        let here = keyspace.island().expect("it is one").vector().seq(own);
        let Some(newest) = keyspace.updates(own, here.saturating_sub(1), usize::MAX) else {
            return;
        };
        for bytes in newest {
            let dot = Dot {
                slot: own,
                seq: here,
            };
            assert_eq!(self.bytes.get(&dot), Some(&bytes), "{dot:?} at {at}");
        }
    }

    fn run(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.now < until {
            self.tick();
        }
    }

    fn run_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..8_000 {
            if holds(self) {
                return;
            }
            self.tick();
        }
        let stands = (0..NODES).filter(|at| self.nodes[*at].up.is_some());
        let stand = |at: usize| {
            let standing = self.nodes[at].replica().standing();
            let (role, term) = (standing.role, standing.term);
            format!("{at}: {role:?} {term:?} {}\n", self.vector(at))
        };
        panic!(
            "{what} does not come about\n{}",
            stands.map(stand).collect::<String>()
        );
    }

    /// Who leads the site of a node; the one of the highest term if several think so.
    fn leader(&self, at: usize) -> Option<usize> {
        let leads = |at: &usize| {
            let up = self.nodes[*at].up.as_ref();
            up.is_some_and(|up| up.replica.standing().leads)
        };
        mates(at)
            .filter(leads)
            .max_by_key(|at| self.nodes[*at].replica().term())
    }

    fn states(&self, at: usize) -> BTreeMap<Bytes, State> {
        self.nodes[at].states()
    }

    fn vector(&self, at: usize) -> Vector {
        self.nodes[at].vector()
    }

    /// Each node that is up shows what the twin says.
    fn judge(&self) {
        for at in (0..NODES).filter(|at| self.nodes[*at].up.is_some()) {
            let vector = self.vector(at);
            let expected = plain::twin(&self.all, &vector);
            assert_eq!(self.states(at), expected, "node {at} at {vector}");
        }
    }

    /// Faults end: all nodes come to have every update, and the nodes of a site are alike.
    fn heal(&mut self) {
        self.cut.clear();
        self.slow = None;
        (0..NODES).for_each(|at| self.restart(at));
        self.run_until("an answer to everything", |it| it.asked.is_empty());
        self.run_until("one state", |it| {
            let first = it.vector(0);
            let is_equal = (0..NODES).all(|at| it.vector(at) == first);
            is_equal && first.count() == u64::try_from(it.all.len()).expect("a few")
        });
        self.run_until("logs that are applied", |it| {
            let applied = |at: usize| it.nodes[at].replica().keyspace().applied();
            (0..NODES).all(|at| applied(at) == applied(mates(at).start))
        });
        self.judge();
        for at in 0..NODES {
            let hash = |at: usize| {
                let view = self.nodes[at].replica().keyspace().reader().view();
                (view.hash_kv(0).expect("it is whole"), view.revision())
            };
            assert_eq!(hash(at), hash(mates(at).start), "node {at}");
        }
        let is_there = |(value, slot): (&String, &Slot)| {
            let value = value.as_bytes();
            let puts = |update: &Update| {
                let mut changes = update.changes.iter();
                let is_it = |change: &_| matches!(change, holm_local_first::Change::Put { value: it, .. } if it == value);
                update.dot.slot == *slot && changes.any(is_it)
            };
            self.all.iter().filter(|it| puts(it)).count() == 1
        };
        for it in &self.acknowledged {
            assert!(is_there(it), "{} was acknowledged, and is there once", it.0);
        }
    }

    fn notes(&self, at: usize) -> impl Iterator<Item = &Note> {
        self.nodes[at]
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Island(note) => Some(note),
                _other => None,
            })
    }

    fn count(&self, wanted: fn(&Event) -> bool) -> usize {
        let all = self.nodes.iter().flat_map(|it| &it.events);
        all.filter(|event| wanted(event)).count()
    }
}

fn play(seed: u64, updates_bytes_max: usize, kept_ops: u64) -> World {
    let mut world = World::new(seed, updates_bytes_max, kept_ops);
    world.run(4_000);
    for _ in 0..120 {
        let (at, other) = (world.below(6), world.below(6));
        match world.below(24) {
            0..=11 => {
                // Where logs are short, there is more than they keep.
                let count = if kept_ops < 100 { 8 } else { 1 };
                for _ in 0..count {
                    // What waits for a leader comes all at once, and is to be seen before it is let go.
                    if world.nodes[at].up.is_some() && world.asked.len() < 40 {
                        world.do_something(at);
                    }
                }
            }
            12 => world.cut_off(at, [other]),
            13 => world.cut_off(at, mates(at)),
            14 => world.part_the_sites(),
            15 | 16 => world.cut.clear(),
            17 => world.crash(at),
            18 => {
                if let Some(leader) = world.leader(at) {
                    world.crash(leader);
                }
            }
            19 | 20 => world.restart(at),
            21 => world.run(3_000),
            _ => {}
        }
        let millis = world.prng.below(80);
        world.run(millis);
        world.judge();
    }
    world.heal();
    world
}

#[test]
fn sites_of_three_nodes_survive_cuts_and_power_cuts_and_become_one() {
    let (mut acknowledged, mut reads, mut led) = (0, 0, 0);
    for seed in 0..SEEDS {
        let world = play(seed, 1 << 20, 1_000);
        acknowledged += world.acknowledged.len();
        reads += world.reads;
        led += world.count(|it| matches!(it, Event::Leads { .. }));
    }
    assert!(acknowledged > 150, "only {acknowledged} puts");
    assert!(reads > 20, "only {reads} reads");
    assert!(led > 30, "only {led} leaders");
}

#[test]
fn who_leads_next_goes_on_with_sessions_and_snapshots() {
    let (mut sessions, mut snapshots) = (0, 0);
    for seed in 0..SEEDS {
        let world = play(seed, 8_000, 20);
        sessions += world.count(|it| matches!(it, Event::Island(Note::SessionDone(_))));
        snapshots += world.count(|it| matches!(it, Event::Raft(Raft::SnapshotInstalled { .. })));
    }
    assert!(sessions > 3, "only {sessions} sessions");
    assert!(snapshots > 3, "only {snapshots} snapshots");
}

/// Two sites that have leaders and have written.
fn calm(updates_bytes_max: usize, kept_ops: u64) -> World {
    let mut world = World::new(1, updates_bytes_max, kept_ops);
    world.run_until("two leaders", |it| {
        it.leader(0).is_some() && it.leader(EACH).is_some()
    });
    for number in 0..12 {
        world.put(number % NODES, &format!("k{number}"));
        world.run(20);
    }
    world.run(2_000);
    world
}

#[test]
fn a_put_is_acknowledged_once_most_nodes_of_its_site_have_it() {
    let mut world = calm(1 << 20, 1_000);
    world.part_the_sites();
    let leader = world.leader(0).expect("it is calm");
    let before = world.acknowledged.len();
    world.put((leader + 1) % EACH, "cut off from the other site");
    world.run(500);
    assert_eq!(world.acknowledged.len(), before + 1, "the site goes on");
    mates(0).filter(|it| *it != leader).for_each(|at| {
        world.crash(at);
    });
    world.put(leader, "alone");
    world.run(3_000);
    assert_eq!(world.acknowledged.len(), before + 1, "one of three");
    world.heal();
}

#[test]
fn who_lags_gets_the_island_by_a_snapshot_and_leads_it() {
    for updates_bytes_max in [1 << 20, 900] {
        let mut world = calm(updates_bytes_max, 20);
        let away = (world.leader(0).expect("it is calm") + 1) % EACH;
        world.crash(away);
        for number in 0..300 {
            let at = (away + 1 + number % 2) % EACH;
            world.put(at, &format!("k{}", number % 40));
            world.put(EACH + number % EACH, &format!("k{}", number % 50));
            world.run(10);
        }
        world.run(3_000);
        world.restart(away);
        let is_installed = |it: &World| {
            let mut events = it.nodes[away].events.iter();
            events.any(|it| matches!(it, Event::Raft(Raft::SnapshotInstalled { .. })))
        };
        world.run_until("a snapshot", is_installed);
        world.judge();
        // Of the two that are left, that one leads which has it from the snapshot alone.
        for _ in 0..20 {
            world.run_until("a leader", |it| it.leader(0).is_some());
            let leader = world.leader(0).expect("it was just there");
            if leader == away {
                break;
            }
            world.crash(leader);
            world.run(4_000);
            world.restart(leader);
        }
        assert_eq!(world.leader(0), Some(away));
        for number in 0..10 {
            world.put(away, &format!("k{number}"));
            world.run(50);
        }
        world.heal();
    }
}

#[test]
fn a_leader_that_was_replaced_does_not_take_its_successors_writes_for_a_set_back() {
    let mut world = calm(1 << 20, 1_000);
    let old = world.leader(0).expect("it is calm");
    // Its clock is slow, so it believes to lead for longer than the others wait.
    world.slow = Some((old, world.now));
    world.cut_off(old, mates(old));
    world.run_until("a successor", |it| it.leader(0).is_some_and(|it| it != old));
    let new = world.leader(0).expect("it was just there");
    (0..5).for_each(|number| world.put(new, &format!("k{number}")));
    world.run(1_500);
    let noticed = world.notes(old).any(|it| matches!(it, Note::SetBack(_)));
    assert!(noticed, "it led on and heard of what it has not");
    world.slow = None;
    world.cut.clear();
    world.run(3_000);
    for at in mates(0) {
        let view = world.nodes[at].replica().keyspace().reader().view();
        let island = view.island.as_ref().expect("it is one");
        assert!(!island.is_ended, "node {at} takes writes");
    }
    world.put(old, "goes on");
    world.heal();
}

#[test]
fn other_nodes_of_a_site_are_followed_by_the_table() {
    let mut world = calm(1 << 20, 1_000);
    // Site 2 is told that site 1 has its first two nodes only, and a name was changed with that.
    let members = Members::new((1..=2).map(|it| (Slot::new(it).expect("it is not 0"), 0)));
    let third = Slot::new(3).expect("it is not 0");
    let members = members.with(third, 0).expect("it is new");
    let nodes = BTreeMap::from([
        (slot_of(0), vec![1, 2]),
        (slot_of(EACH), vec![4, 5, 6]),
        (third, vec![9]),
    ]);
    let roster = Roster { members, nodes };
    let at = world.leader(EACH).expect("it is calm");
    let entry = Command::Island(Entry::Follow(roster));
    world.propose(at, Asked::Entry, entry);
    world.run(500);
    for at in mates(EACH) {
        world.next_request += 1;
        let request = RequestId::new(world.next_request);
        world
            .asked
            .insert((at, world.next_request), Asked::Standing);
        let now = world.now;
        world.nodes[at].step(now, Input::Stand { request });
        world.tick();
        let neighbours = core::mem::take(&mut world.neighbours);
        let nodes: Vec<u64> = neighbours.iter().map(|it| it.node.value()).collect();
        assert!(matches!(nodes[..], [1 | 2, 9]), "{nodes:?} at {at}");
        let leads = world.leader(EACH) == Some(at);
        assert_eq!(
            neighbours[0].judged.is_some(),
            leads,
            "who follows judges nothing"
        );
        assert_eq!(neighbours[1].judged, None, "9 never spoke");
    }
}
