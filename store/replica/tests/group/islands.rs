//! Islands: three groups of one with engines, logs and disks, cut apart, ended by power cuts, and
//! held against a twin that keeps every update.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{NodeId, Prng, RequestId, Time};
use holm_kv::command::{Command, DeleteRange, Proposal, Put};
use holm_kv::{IslandConfig, Refusal};
use holm_local_first::{
    Members, Note, Proposal as Entry, Roster, Rules, Sealed, Slot, State, Type, Update, Vector,
};
use holm_replica::{Answer, Event, Input, Shores};

use crate::site::Site;

#[path = "../../../local_first/tests/twins/plain.rs"]
pub mod plain;
mod returns;

const TICK: Duration = Duration::from_millis(5);
const UNIX_MS: u64 = 1_800_000_000_000;
const SITES: u8 = 3;
/// How many random worlds; sixty of each were played when this was written.
const SEEDS: u64 = 10;

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

/// How far the clock of a site is off, in milliseconds; the second is ten seconds ahead.
type ClocksOff = [u64; 3];

/// A site of so many, which is not up.
fn island(number: u8, of: u8, (kind, updates_bytes_max): (Type, usize)) -> Site {
    let mut site = Site::new(u64::from(number), &[u64::from(number)]);
    let others = (1..=of).filter(|other| *other != number);
    let peers = others.map(|other| (slot(other), NodeId::new(u64::from(other))));
    let island = IslandConfig {
        slot: slot(number),
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

struct World {
    sites: Vec<Site>,
    /// Frames on their way from one to another, in order.
    mail: BTreeMap<(usize, usize), VecDeque<(u8, Bytes)>>,
    cut: Vec<(usize, usize)>,
    now: Time,
    prng: Prng,
    off: ClocksOff,
    /// Every update that its site has committed, and what the next of a slot is read with.
    all: Vec<Update>,
    known: BTreeMap<Slot, Vector>,
    /// Puts that were acknowledged: at which site, key and value.
    acknowledged: u64,
    asked: u64,
    /// Commands that were refused because the site takes no more.
    ended: u64,
}

impl World {
    fn new(seed: u64, updates_bytes_max: usize, off: ClocksOff) -> Self {
        let mut sites = Vec::new();
        let kind = [Type::Lww, Type::Mv][usize::from(seed.is_multiple_of(3))];
        for number in 1..=SITES {
            let mut site = island(number, SITES, (kind, updates_bytes_max));
            site.start(Time::ZERO);
            sites.push(site);
        }
        Self {
            sites,
            mail: BTreeMap::new(),
            cut: Vec::new(),
            now: Time::ZERO,
            prng: Prng::new(seed),
            off,
            all: Vec::new(),
            known: BTreeMap::new(),
            acknowledged: 0,
            asked: 0,
            ended: 0,
        }
    }

    fn unix_ms(&self, at: usize) -> u64 {
        let since = self.now.since(Time::ZERO).as_millis();
        let off = self.off.get(at).copied().unwrap_or(0);
        UNIX_MS + u64::try_from(since).expect("it is short") + off
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.prng.below(bound)).expect("a few")
    }

    /// A client's command at a site that is up.
    fn change(&mut self, at: usize, command: Command) {
        let unix_ms = self.unix_ms(at);
        self.asked += 1;
        let proposal = Proposal {
            caller: None,
            command,
        };
        let input = Input::Propose {
            request: RequestId::new(self.asked),
            body: proposal.encode_at(unix_ms),
            takes_space: true,
        };
        let now = self.now;
        self.sites[at].step(now, input);
    }

    fn put(&mut self, at: usize, key: &str, value: &str) {
        let put = Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..Put::default()
        };
        self.change(at, Command::Put(put));
    }

    fn change_something(&mut self, at: usize) {
        let (key, number) = (self.below(6), self.asked);
        if self.below(5) == 0 {
            let delete = DeleteRange {
                key: Bytes::from(format!("k{key}")),
                range_end: Bytes::from(format!("k{}", key + 2)),
                prev_kv: false,
            };
            self.change(at, Command::DeleteRange(delete));
        } else {
            self.put(at, &format!("k{key}"), &format!("{at}-{number}"));
        }
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        for ((from, to), frames) in core::mem::take(&mut self.mail) {
            let is_cut = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
            let (node, unix_ms, now) = (self.sites[from].node, self.unix_ms(to), self.now);
            for (kind, body) in frames {
                let site = &mut self.sites[to];
                if is_cut || site.up.is_none() {
                    continue;
                }
                let up = site.up.as_mut().expect("it is up");
                up.replica.set_wall(now, unix_ms);
                site.hear(now, node, kind, &body);
            }
        }
        for at in 0..self.sites.len() {
            let (now, unix_ms) = (self.now, self.unix_ms(at));
            let site = &mut self.sites[at];
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
            self.collect(at);
        }
    }

    fn collect(&mut self, at: usize) {
        let site = &mut self.sites[at];
        for (to, kind, body) in core::mem::take(&mut site.out) {
            let to = usize::try_from(to.value() - 1).expect("a few");
            self.mail
                .entry((at, to))
                .or_default()
                .push_back((kind, body));
        }
        for (_request, answer) in core::mem::take(&mut site.answers) {
            if let Answer::Applied(Ok(applied)) = answer {
                if applied.result == Err(Refusal::Ended) {
                    self.ended += 1;
                    continue;
                }
                assert!(applied.result.is_ok(), "{applied:?}");
                self.acknowledged += 1;
            }
        }
        let keyspace = site.replica().keyspace();
        let own = keyspace.island().expect("it is one").slot();
        let known = self.known.entry(own).or_default();
        let found = keyspace.updates(own, known.seq(own), usize::MAX);
        for bytes in found.expect("what is new is kept") {
            let sealed = Sealed::decode(&bytes, known).expect("its own");
            *known = sealed.update.deps.clone();
            known.raise(own, sealed.update.dot.seq);
            self.all.push(sealed.update);
        }
    }

    fn run(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.now < until {
            self.tick();
        }
    }

    fn states(&self, at: usize) -> BTreeMap<Bytes, State> {
        self.sites[at].states()
    }

    fn vector(&self, at: usize) -> Vector {
        self.sites[at].vector()
    }

    /// Each site that is up shows what the twin says.
    fn judge(&self) {
        for at in 0..self.sites.len() {
            if self.sites[at].up.is_some() {
                let vector = self.vector(at);
                let expected = plain::twin(&self.all, &vector);
                assert_eq!(self.states(at), expected, "site {at} at {vector}");
            }
        }
    }

    fn heal(&mut self) {
        self.cut.clear();
        for at in 0..self.sites.len() {
            if self.sites[at].up.is_none() {
                let now = self.now;
                self.sites[at].start(now);
            }
        }
        self.become_one(&[0, 1, 2]);
    }

    /// These sites come to have every update.
    fn become_one(&mut self, sites: &[usize]) {
        for _ in 0..4_000 {
            self.tick();
            let first = self.vector(sites[0]);
            let is_equal = sites.iter().all(|at| self.vector(*at) == first);
            if is_equal && first.count() == u64::try_from(self.all.len()).expect("a few") {
                self.judge();
                return;
            }
        }
        let all = sites.iter().map(|at| self.vector(*at).to_string());
        panic!("they do not become one: {:?}", all.collect::<Vec<_>>());
    }

    /// An entry about which sites there are, at each of these.
    fn tell(&mut self, sites: &[usize], entry: &Entry) {
        for at in sites {
            self.change(*at, Command::Island(entry.clone()));
            self.run(20);
        }
    }

    fn write_some(&mut self, sites: &[usize]) {
        for _ in 0..10 {
            sites.iter().for_each(|at| self.change_something(*at));
            self.run(10);
        }
    }

    fn notes(&self, at: usize) -> impl Iterator<Item = &Note> {
        self.sites[at]
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Island(note) => Some(note),
                _other => None,
            })
    }
}

fn play(seed: u64, updates_bytes_max: usize) -> World {
    let mut world = World::new(seed, updates_bytes_max, [0, 900, 1_700]);
    world.run(3_000);
    for _ in 0..120 {
        let (at, other) = (world.below(3), world.below(3));
        match world.below(20) {
            0..=9 if world.sites[at].up.is_some() => world.change_something(at),
            10 if at != other => world.cut.push((at, other)),
            11 => world.cut.clear(),
            12 => {
                world.sites[at].crash();
                world.mail.retain(|(from, to), _| *from != at && *to != at);
            }
            13 => {
                let now = world.now;
                if world.sites[at].up.is_none() {
                    world.sites[at].start(now);
                }
            }
            14 => world.run(6_000),
            _ => {}
        }
        let millis = world.prng.below(60);
        world.run(millis);
        world.judge();
    }
    world.heal();
    world
}

#[test]
fn islands_survive_cuts_and_power_cuts_and_become_one() {
    let mut acknowledged = 0;
    for seed in 0..SEEDS {
        acknowledged += play(seed, 1 << 20).acknowledged;
    }
    assert!(acknowledged > 200, "only {acknowledged} answers");
}

#[test]
fn who_lacks_what_is_not_kept_any_more_is_sent_what_differs() {
    let mut sessions = 0;
    for seed in 0..SEEDS {
        let world = play(seed, 900);
        let done = |note: &&Note| matches!(note, Note::SessionDone(_));
        sessions += (0..3)
            .map(|at| world.notes(at).filter(done).count())
            .sum::<usize>();
    }
    assert!(sessions > 3, "only {sessions} sessions");
}

/// Ends a site by a power cut so many ticks after a session began, while all sites write on.
/// Whether the session was over by then.
fn end_within_a_session(ticks: u64, ended: usize) -> bool {
    let mut world = World::new(ticks, 900, [0, 900, 1_700]);
    world.run(2_000);
    world.cut = vec![(0, 2), (1, 2)];
    world.run(6_000);
    for _ in 0..12 {
        (0..3).for_each(|at| world.change_something(at));
        world.run(10);
    }
    world.cut.clear();
    let has =
        |world: &World, wanted: fn(&Note) -> bool| (0..3).any(|at| world.notes(at).any(wanted));
    let opened = |note: &Note| matches!(note, Note::SessionOpened(_));
    for _ in 0..1_000 {
        if has(&world, opened) {
            break;
        }
        world.tick();
    }
    assert!(has(&world, opened), "no session began");
    for _ in 0..ticks {
        (0..3).for_each(|at| world.change_something(at));
        world.tick();
        world.judge();
    }
    let is_over = has(&world, |note| matches!(note, Note::SessionDone(_)));
    world.sites[ended].crash();
    world
        .mail
        .retain(|(from, to), _| *from != ended && *to != ended);
    world.change_something((ended + 1) % 3);
    world.run(100);
    let now = world.now;
    world.sites[ended].start(now);
    world.change_something(ended);
    world.heal();
    is_over
}

#[test]
fn a_session_that_a_power_cut_ends_at_any_step_does_no_harm() {
    for ended in [0, 2] {
        let over = (0..20).filter(|ticks| end_within_a_session(*ticks, ended));
        let over = over.count();
        assert!((1..=16).contains(&over), "{over} were over in time");
    }
}

#[test]
fn what_a_clock_far_ahead_wrote_waits_until_it_is_time() {
    let mut world = World::new(1, 1 << 20, [0, 10_000, 0]);
    world.run(3_000);
    world.put(1, "early", "of b");
    world.run(2_000);
    assert!(world.states(0).is_empty(), "it is held back at a");
    assert!(world.notes(0).any(|note| matches!(note, Note::Held(..))));
    world.put(0, "now", "of a");
    world.run(1_000);
    assert_eq!(world.states(1).len(), 2, "nothing of a is held at b");
    world.run(8_000);
    assert_eq!(world.states(0).len(), 2, "its time has come");
    world.heal();
}

fn roster(members: &Members) -> Entry {
    let nodes = members.active().keys();
    let nodes = nodes.map(|slot| (*slot, vec![u64::from(slot.value())]));
    Entry::Follow(Roster {
        members: members.clone(),
        nodes: nodes.collect(),
    })
}

/// Three sites that have written, and a fourth that was taken in.
fn with_a_fourth(updates_bytes_max: usize) -> (World, Members) {
    let mut world = World::new(1, updates_bytes_max, [0, 900, 1_700]);
    world.run(2_000);
    world.write_some(&[0, 1, 2]);
    let members = Members::new((1..=3).map(|it| (slot(it), 0)));
    let members = members.with(slot(4), 0).expect("it is new");
    let mut fourth = island(4, 4, (Type::Lww, updates_bytes_max));
    fourth.start(world.now);
    world.sites.push(fourth);
    world.run(3_000);
    // Who does not know of it yet does not hear it, and what it writes waits for the table.
    world.tell(&[3, 0], &roster(&members));
    world.run(1_500);
    world.put(3, "fourth", "is here");
    // Two of its three have not spoken to it.
    world.run(6_000);
    let all = (0..4).map(|at| world.vector(at).to_string());
    let all = all.collect::<Vec<_>>();
    assert_eq!(world.vector(0).seq(slot(4)), 1, "{all:?}");
    assert_eq!(world.vector(1).seq(slot(4)), 0, "it does not know of it");
    world.write_some(&[0, 1, 2]);
    world.tell(&[1, 2], &roster(&members));
    world.become_one(&[0, 1, 2, 3]);
    (world, members)
}

#[test]
fn a_site_that_is_taken_in_gets_all_and_takes_part() {
    for updates_bytes_max in [1 << 20, 900] {
        let (mut world, _members) = with_a_fourth(updates_bytes_max);
        world.sites[3].crash();
        let now = world.now;
        world.sites[3].start(now);
        world.write_some(&[0, 1, 2, 3]);
        world.become_one(&[0, 1, 2, 3]);
    }
}

#[test]
fn a_table_that_no_checkpoint_has_counts_after_a_power_cut() {
    let mut world = World::new(1, 1 << 20, [0, 900, 1_700]);
    world.run(2_000);
    world.write_some(&[0, 1, 2]);
    let members = Members::new((1..=3).map(|it| (slot(it), 0)));
    let members = members.with(slot(4), 0).expect("it is new");
    let mut fourth = island(4, 4, (Type::Lww, 1 << 20));
    fourth.start(world.now);
    world.sites.push(fourth);
    world.tell(&[3, 0], &roster(&members));
    world.cut = vec![(0, 3)];
    world.sites[0].crash();
    let now = world.now;
    world.sites[0].start(now);
    world.run(3_000);
    world.cut.clear();
    world.run(3_000);
    let replica = world.sites[0].replica();
    let charter = replica.keyspace().charter().and_then(|it| it.roster());
    assert!(charter.is_some(), "its log has it");
    world.put(3, "fourth", "is here");
    world.run(3_000);
    assert_eq!(world.vector(0).seq(slot(4)), 1, "it is heard");
}

#[test]
fn a_site_that_is_started_twice_unheard_keeps_back_what_both_runs_wrote() {
    let mut world = World::new(1, 1 << 20, [0, 900, 1_700]);
    world.run(2_000);
    world.write_some(&[0, 1, 2]);
    let said = world.vector(0).seq(slot(1));
    let hush = |world: &World| {
        let island = world.sites[0].replica().keyspace().island();
        island.and_then(|it| it.hush().map(holm_local_first::Hush::through))
    };
    assert_eq!(hush(&world), None, "all have spoken");
    world.cut = vec![(0, 1), (0, 2)];
    for key in ["first", "second"] {
        world.sites[0].crash();
        let now = world.now;
        world.sites[0].start(now);
        world.run(1_000);
        world.put(0, key, "unheard");
        world.run(6_000);
        assert_eq!(hush(&world), Some(said));
    }
    assert_eq!(world.vector(0).seq(slot(1)), said + 2);
    world.cut.clear();
    world.run(3_000);
    assert_eq!(hush(&world), None);
    assert_eq!(world.vector(1).seq(slot(1)), said + 2);
    world.heal();
}

#[test]
fn a_site_that_is_let_go_counts_up_to_where_it_said_it_was() {
    for updates_bytes_max in [1 << 20, 900] {
        let (mut world, members) = with_a_fourth(updates_bytes_max);
        world.cut = vec![(1, 2)];
        world.write_some(&[0, 1, 2, 3]);
        world.tell(&[2], &Entry::Stop(slot(3)));
        let before = world.vector(2).seq(slot(3));
        world.put(2, "late", "refused");
        world.run(3_000);
        assert_eq!((world.ended, world.vector(2).seq(slot(3))), (1, before));
        assert_eq!(world.vector(0).seq(slot(3)), before, "a has all of it");
        let tip = world.sites[2].replica().keyspace().island().expect("one");
        let chain = tip.tips()[&slot(3)].chain;
        let members = members.let_go(slot(3), before, chain).expect("others stay");
        world.sites[2].crash();
        world.tell(&[1, 3, 0], &roster(&members));
        world.write_some(&[0, 1, 3]);
        world.become_one(&[0, 1, 3]);
        assert!(world.notes(1).count() < 40, "nobody is asked for ever");
    }
}

#[test]
fn of_a_site_that_was_lost_nothing_counts_that_no_other_had() {
    let (mut world, members) = with_a_fourth(1 << 20);
    world.write_some(&[2]);
    world.run(2_000);
    let through = world.vector(0).seq(slot(3));
    world.cut = vec![(0, 2), (1, 2), (3, 2)];
    world.write_some(&[2]);
    world.tell(&[0, 1, 3], &Entry::Stop(slot(3)));
    // It is back, and nobody takes anything more of it, by whichever way.
    world.cut.clear();
    world.run(8_000);
    for at in [0, 1, 3] {
        assert_eq!(world.vector(at).seq(slot(3)), through);
    }
    let tip = world.sites[0].replica().keyspace().island().expect("one");
    let chain = tip.tips()[&slot(3)].chain;
    let members = members
        .let_go(slot(3), through, chain)
        .expect("others stay");
    world.tell(&[0, 1, 3], &roster(&members));
    world.write_some(&[0, 1, 2, 3]);
    world.run(8_000);
    world.judge();
    let of_others = |world: &World, at: usize| world.vector(at).seq(slot(3));
    assert!([0, 1, 3].iter().all(|at| of_others(&world, *at) == through));
    assert_eq!(world.vector(0), world.vector(1));
    assert_eq!(world.vector(0), world.vector(3));
}

#[test]
fn who_was_absent_for_longer_than_updates_are_kept_brings_its_writes_and_no_deleted_key() {
    let mut world = World::new(1, 900, [0, 900, 1_700]);
    world.run(2_000);
    (0..5).for_each(|number| world.put(0, &format!("gone{number}"), "of a"));
    world.run(2_000);
    world.cut = vec![(0, 2), (1, 2)];
    world.run(6_000);
    let delete = DeleteRange {
        key: Bytes::from("gone"),
        range_end: Bytes::from("gonf"),
        prev_kv: false,
    };
    world.change(0, Command::DeleteRange(delete));
    for number in 0..40 {
        world.put(0, &format!("a{number}"), "of a");
        world.put(2, &format!("c{number}"), "of c");
        world.run(10);
    }
    world.sites[2].crash();
    world.run(100);
    let now = world.now;
    world.sites[2].start(now);
    world.run(3_000);
    world.put(2, "c40", "of c");
    world.heal();
    for at in 0..3 {
        let keys = world.states(at);
        let begins = |with: &str| {
            keys.keys()
                .filter(|key| key.starts_with(with.as_bytes()))
                .count()
        };
        assert_eq!((begins("gone"), begins("a"), begins("c")), (0, 40, 41));
    }
    let session = |at: usize| world.notes(at).any(|it| matches!(it, Note::SessionDone(_)));
    assert!(session(2) && session(0), "both needed one");
}
