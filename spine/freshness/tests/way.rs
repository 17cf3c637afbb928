//! A cache and its home over a way of fixed length: when reads are answered, and when they go home.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{RequestId, Revision, Time};
use holm_freshness::{
    Cache, CacheConfig, CacheEffect, CacheInput, Found, Home, HomeConfig, HomeEffect, HomeInput,
    OnCut, ToCache, ToHome,
};
use holm_machine::{Effects, Machine};

const BOUND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(1);

struct World {
    now: Time,
    way: Duration,
    cache: Cache,
    home: Home,
    to_home: VecDeque<(Time, ToHome)>,
    to_cache: VecDeque<(Time, ToCache)>,
    is_silent: bool,
    request: RequestId,
    told: Told,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    answered: u64,
    forwarded: u64,
    slow: u64,
    quick: u64,
    oldest: Duration,
}

fn config(on_cut: OnCut) -> CacheConfig {
    CacheConfig {
        bound: BOUND,
        bytes_max: 1 << 20,
        waiting_max: 10_000,
        on_cut,
    }
}

impl World {
    fn new(way: Duration) -> Self {
        let home = HomeConfig {
            bound: BOUND,
            keys_max: 2,
            items_max: 10,
            bytes_max: 1 << 20,
        };
        Self {
            now: Time::ZERO,
            way,
            cache: Cache::new(config(OnCut::Serve), Time::ZERO),
            home: Home::new(home, Time::ZERO),
            to_home: VecDeque::new(),
            to_cache: VecDeque::new(),
            is_silent: false,
            request: RequestId::ZERO,
            told: Told::default(),
        }
    }

    fn tell_cache(&mut self, input: CacheInput) {
        let mut effects = Effects::new();
        self.cache.step(self.now, input, &mut effects);
        for effect in effects.drain() {
            match effect {
                CacheEffect::Send(message) => {
                    self.to_home.push_back((self.now + self.way, message));
                }
                CacheEffect::Answer { answer, .. } => {
                    self.told.answered += 1;
                    self.told.oldest = self.told.oldest.max(answer.age);
                }
                CacheEffect::Forward { .. } => self.told.forwarded += 1,
                CacheEffect::HangUp => panic!("nothing is lost here"),
                CacheEffect::Slow { round_trip } => {
                    assert!(round_trip > BOUND / 2);
                    self.told.slow += 1;
                }
                CacheEffect::Quick { round_trip } => {
                    assert!(round_trip <= BOUND * 3 / 8);
                    self.told.quick += 1;
                }
            }
        }
    }

    fn tell_home(&mut self, input: HomeInput) {
        let mut effects = Effects::new();
        self.home.step(self.now, input, &mut effects);
        for effect in effects.drain().collect::<Vec<_>>() {
            match effect {
                HomeEffect::Send(message) => {
                    self.to_cache.push_back((self.now + self.way, message));
                }
                HomeEffect::Confirm { number } => {
                    let revision = Revision::new(5);
                    self.tell_home(HomeInput::Confirmed { number, revision });
                }
                HomeEffect::Read { number, key } => {
                    let found = Found {
                        value: Some(key.clone()),
                        revision: Revision::new(5),
                    };
                    self.tell_home(HomeInput::Read { number, key, found });
                }
            }
        }
    }

    fn read(&mut self, key: &'static str) {
        self.request = self.request.next();
        let (request, key) = (self.request, Bytes::from_static(key.as_bytes()));
        self.tell_cache(CacheInput::Read { request, key });
    }

    /// Lets time pass, with a read every ten milliseconds.
    fn pass(&mut self, time: Duration) -> Told {
        self.told = Told::default();
        let end = self.now + time;
        for tick in 0_u64.. {
            if self.now >= end {
                break;
            }
            self.now = self.now + TICK;
            let due = |at: Option<Time>, now| at.is_some_and(|at| at <= now);
            if due(self.cache.wake_at(), self.now) {
                self.tell_cache(CacheInput::Wake);
            }
            if !self.is_silent {
                if due(self.home.wake_at(), self.now) {
                    self.tell_home(HomeInput::Wake);
                }
                while self.to_home.front().is_some_and(|(at, _)| *at <= self.now) {
                    let (_, message) = self.to_home.pop_front().expect("it is there");
                    self.tell_home(HomeInput::Message(message));
                }
            }
            while self.to_cache.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, message) = self.to_cache.pop_front().expect("it is there");
                self.tell_cache(CacheInput::Message(message));
            }
            if tick % 10 == 0 {
                self.read("a");
            }
        }
        self.told
    }
}

#[test]
fn within_half_the_bound_every_read_is_answered() {
    for millis in [0, 50, 150, 245] {
        let mut world = World::new(Duration::from_millis(millis));
        world.pass(BOUND * 3);
        let told = world.pass(BOUND * 10);
        assert_eq!((told.forwarded, told.slow), (0, 0), "{millis} ms: {told:?}");
        assert!(told.answered >= 1_000, "{millis} ms: {told:?}");
        let most = Duration::from_millis(2 * millis) + BOUND / 4 + 5 * TICK;
        assert!(told.oldest <= most, "{millis} ms: {told:?}");
    }
}

#[test]
fn beyond_half_the_bound_reads_go_home_until_the_way_is_short_again() {
    let mut world = World::new(Duration::from_millis(20));
    world.pass(BOUND * 3);
    world.way = Duration::from_millis(300);
    let told = world.pass(BOUND * 5);
    assert_eq!(told.slow, 1, "{told:?}");
    assert!(world.cache.is_slow());
    let told = world.pass(BOUND * 5);
    assert_eq!(told.answered, 0, "{told:?}");
    world.way = Duration::from_millis(200);
    let told = world.pass(BOUND * 5);
    assert_eq!(
        told.quick, 0,
        "a little shorter is not short again: {told:?}"
    );
    world.way = Duration::from_millis(100);
    let told = world.pass(BOUND * 5);
    assert_eq!((told.quick, told.slow), (1, 0), "{told:?}");
    assert_eq!(world.pass(BOUND).forwarded, 0);
}

#[test]
fn a_silent_home_keeps_no_reader_and_its_return_is_not_a_long_way() {
    let mut world = World::new(Duration::from_millis(20));
    world.pass(BOUND * 3);
    world.is_silent = true;
    let asked = world.request;
    world.read("never read before");
    let told = world.pass(BOUND * 3);
    let reads = world.request.value() - asked.value();
    assert_eq!(
        told.answered + told.forwarded,
        reads,
        "nobody waits: {told:?}"
    );
    assert!(told.forwarded > 150 && told.oldest <= BOUND, "{told:?}");
    let key = Bytes::from_static(b"a");
    let stale = world.cache.stale(world.now, &key).expect("it is kept");
    assert!(stale.age > BOUND * 2, "{stale:?}");
    world.is_silent = false;
    world.pass(BOUND / 2);
    let told = world.pass(BOUND * 3);
    assert_eq!(
        (told.forwarded, told.slow, told.quick),
        (0, 0, 0),
        "{told:?}"
    );
}

#[test]
fn what_a_gone_home_said_is_kept_only_where_it_is_asked_for() {
    let key = Bytes::from_static(b"a");
    for on_cut in [OnCut::Serve, OnCut::Refuse] {
        let mut world = World::new(Duration::from_millis(20));
        world.cache = Cache::new(config(on_cut), Time::ZERO);
        world.pass(BOUND * 3);
        world.tell_cache(CacheInput::Down);
        let stale = world.cache.stale(world.now, &key);
        assert_eq!(stale.is_some(), on_cut == OnCut::Serve, "{stale:?}");
        assert_eq!(world.cache.bytes() > 0, on_cut == OnCut::Serve);
        let (told, asked) = (world.told, world.request);
        world.read("a");
        assert_eq!(world.told.forwarded, told.forwarded + 1, "{asked:?}");
        world.tell_cache(CacheInput::Barred);
        assert_eq!(
            world.cache.stale(world.now, &key),
            None,
            "it may not be told"
        );
        assert_eq!(world.cache.bytes(), 0);
    }
}

#[test]
fn a_full_home_forgets_a_key_and_says_so() {
    let mut world = World::new(Duration::from_millis(20));
    world.pass(BOUND);
    world.read("b");
    world.read("c");
    world.pass(BOUND / 10);
    // Two are known at most: one of the three was declared over.
    world.pass(BOUND);
    assert_eq!(world.home.keys(), 2);
    assert!(world.cache.keys() <= 2);
    assert!(world.cache.tally().invalidations >= 1);
}
