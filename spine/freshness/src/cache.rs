//! The side that answers reads, and knows how old what it answers may be.
//!
//! ```text
//!  cache:  report 7 ──────────►  home: read index, carried out
//!     │                            │ frames, each with all that happened
//!   sent at s                      ▼
//!     └─ everything acknowledged before s is here ◄── frame that echoes 7
//! ```
//!
//! So an entry is at most `now - s` old, by this side's clock alone, whatever the network did.
//!
//! What would surprise: reports leave each quarter of the bound, and each is echoed at once. So a
//! round trip of half the bound leaves a quarter for a late report. A longer one lets nothing be
//! answered here now and then, which nobody could plan with: all reads go home until it is
//! shorter again.

mod entries;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use holm_base::{RequestId, Revision, Time};
use holm_machine::{Effects, Machine};

use crate::message::{Found, Item, KeyId, ToCache, ToHome};
use entries::Entries;

/// Reports that may be under way. There are more only if nothing is echoed.
const REPORTS_MAX: usize = 16;
/// The shortest of so many round trips counts: one that was slow is chance.
const ROUND_TRIPS: usize = 4;

/// What becomes of a read that cannot be answered within the bound while the home is out of
/// reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCut {
    /// It is refused, and nothing is kept for it.
    #[default]
    Refuse,
    /// It is answered with what there is, and with its age.
    Serve,
}

/// Limits of a cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// How old an answer may be; a report leaves each quarter of it.
    pub bound: Duration,
    /// Bytes of keys and values that are kept, and of what keeping them takes.
    pub bytes_max: usize,
    /// Reads that wait for a fetch.
    pub waiting_max: usize,
    /// Whether what is over is kept for when nothing better can be had.
    pub on_cut: OnCut,
}

/// What can happen to a cache.
#[derive(Clone, Debug)]
pub enum CacheInput {
    /// Somebody reads a key.
    Read {
        /// Who.
        request: RequestId,
        /// The key.
        key: Bytes,
    },
    /// The home spoke.
    Message(ToCache),
    /// The connection is gone; the next one begins with a fresh home.
    Down,
    /// The home may not tell anything any more: nothing that it said is kept.
    Barred,
    /// The time that was asked for has come.
    Wake,
}

/// What a cache wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheEffect {
    /// Tell the home something.
    Send(ToHome),
    /// Answer a read.
    Answer {
        /// Who asked.
        request: RequestId,
        /// What the key holds.
        answer: Answer,
    },
    /// It cannot be answered here within the bound: it goes home.
    Forward {
        /// Who asked.
        request: RequestId,
        /// The key.
        key: Bytes,
    },
    /// The connection is of no use any more: the home has missed a frame.
    HangUp,
    /// The way home takes so long that reads go home from now on.
    Slow {
        /// How long a round trip takes.
        round_trip: Duration,
    },
    /// It does not any more.
    Quick {
        /// How long a round trip takes.
        round_trip: Duration,
    },
}

/// What a read is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the key holds.
    pub found: Found,
    /// A revision as of which it does.
    pub revision: Revision,
    /// How old that may be.
    pub age: Duration,
}

/// What a cache has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads that were answered from what was there.
    pub hits: u64,
    /// Reads that were answered once their key had been fetched.
    pub misses: u64,
    /// Reads that went home.
    pub forwarded: u64,
    /// Values that the home sent unasked.
    pub updates: u64,
    /// Values of which the home said that they are over.
    pub invalidations: u64,
    /// Values that were thrown out for room.
    pub evictions: u64,
    /// Frames.
    pub frames: u64,
    /// Times that a frame was missing.
    pub gaps: u64,
}

/// Reads that wait for a fetch.
#[derive(Clone, Debug)]
struct Waiting {
    /// The number of the fetch.
    fetch: u64,
    /// When it was sent.
    since: Time,
    requests: Vec<RequestId>,
}

/// The machine of a cache.
#[derive(Clone, Debug)]
pub struct Cache {
    config: CacheConfig,
    entries: Entries,
    waiting: BTreeMap<Bytes, Waiting>,
    waiting_count: usize,
    fetches: u64,
    frames: u64,
    reports: u64,
    /// When reports were sent that were not echoed yet.
    sent: VecDeque<(u64, Time)>,
    /// Everything acknowledged before then is here.
    complete: Option<Time>,
    /// All up to this revision is here.
    revision: Revision,
    /// The shortest round trip since the last report, and those of the quarters before.
    shortest: Option<Duration>,
    round_trips: VecDeque<Duration>,
    is_slow: bool,
    read: Vec<KeyId>,
    report: Time,
    tally: Tally,
}

impl Cache {
    /// A cache whose connection has just begun.
    #[must_use]
    pub fn new(config: CacheConfig, now: Time) -> Self {
        Self {
            entries: Entries::new(config.bytes_max, config.on_cut),
            config,
            waiting: BTreeMap::new(),
            waiting_count: 0,
            fetches: 0,
            frames: 0,
            reports: 0,
            sent: VecDeque::new(),
            complete: None,
            revision: Revision::ZERO,
            shortest: None,
            round_trips: VecDeque::new(),
            is_slow: false,
            read: Vec::new(),
            report: now,
            tally: Tally::default(),
        }
    }

    /// How old what is here may be; none if nothing is known of that.
    #[must_use]
    pub fn age(&self, now: Time) -> Option<Duration> {
        self.complete.map(|at| now.since(at))
    }

    /// How many bytes are kept.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.entries.bytes()
    }

    /// How many keys are kept.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.entries.len()
    }

    /// Whether the way home takes so long that all reads go home.
    #[must_use]
    pub const fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// How long a round trip took of late; none if there was none.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trips.iter().min().copied()
    }

    /// What it has done so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is known of a key, however old: for a read that was sent home in vain, under
    /// [`OnCut::Serve`].
    #[must_use]
    pub fn stale(&self, now: Time, key: &Bytes) -> Option<Answer> {
        let (found, revision, complete) = self.entries.stale(key, self.complete, self.revision)?;
        Some(Answer {
            revision: revision.max(found.revision),
            found,
            age: now.since(complete),
        })
    }

    fn read(
        &mut self,
        now: Time,
        (request, key): (RequestId, Bytes),
        effects: &mut Effects<CacheEffect>,
    ) {
        let age = self.age(now);
        let age = age.filter(|age| *age <= self.config.bound && !self.is_slow);
        if let Some(age) = age
            && let Some((found, news)) = self.entries.read(&key)
        {
            self.read.extend(news);
            self.tally.hits += 1;
            let revision = self.revision.max(found.revision);
            let answer = Answer {
                found,
                revision,
                age,
            };
            effects.push(CacheEffect::Answer { request, answer });
            return;
        }
        if age.is_none() || self.waiting_count >= self.config.waiting_max {
            self.forward((request, key), effects);
            return;
        }
        self.waiting_count += 1;
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.requests.push(request);
        } else {
            self.fetches += 1;
            let number = self.fetches;
            let waiting = Waiting {
                fetch: number,
                since: now,
                requests: Vec::from([request]),
            };
            self.waiting.insert(key.clone(), waiting);
            effects.push(CacheEffect::Send(ToHome::Fetch { number, key }));
        }
    }

    fn forward(&mut self, (request, key): (RequestId, Bytes), effects: &mut Effects<CacheEffect>) {
        self.tally.forwarded += 1;
        effects.push(CacheEffect::Forward { request, key });
    }

    fn frame(
        &mut self,
        now: Time,
        (number, echo, revision): (u64, u64, Revision),
        items: Vec<Item>,
        effects: &mut Effects<CacheEffect>,
    ) {
        if number != self.frames + 1 {
            self.tally.gaps += 1;
            self.clear(effects);
            effects.push(CacheEffect::HangUp);
            return;
        }
        self.frames = number;
        self.tally.frames += 1;
        for item in items {
            match item {
                Item::Update(id, found) => {
                    self.tally.updates += 1;
                    self.entries.update(id, found);
                    self.make_room(effects);
                }
                Item::Invalidate(id) => {
                    self.tally.invalidations += 1;
                    self.entries.remove(id);
                }
            }
        }
        self.revision = self.revision.max(revision);
        while let Some(&(report, at)) = self.sent.front()
            && report <= echo
        {
            self.sent.pop_front();
            self.complete = Some(at);
            if report == echo {
                let took = now.since(at);
                self.shortest = Some(self.shortest.map_or(took, |it| it.min(took)));
            }
        }
    }

    /// Judges, once a quarter, whether the way home is quick enough to promise anything. What
    /// comes in a burst after a pause counts once.
    fn judge_way(&mut self, effects: &mut Effects<CacheEffect>) {
        let Some(took) = self.shortest.take() else {
            return;
        };
        if self.round_trips.len() >= ROUND_TRIPS {
            self.round_trips.pop_front();
        }
        self.round_trips.push_back(took);
        if self.round_trips.len() < ROUND_TRIPS {
            return;
        }
        let round_trip = self.round_trip().unwrap_or(took);
        // It has to be a good deal shorter to count as quick again, or it would flutter.
        if !self.is_slow && round_trip > self.config.bound / 2 {
            self.is_slow = true;
            effects.push(CacheEffect::Slow { round_trip });
        } else if self.is_slow && round_trip <= self.config.bound * 3 / 8 {
            self.is_slow = false;
            effects.push(CacheEffect::Quick { round_trip });
        }
    }

    fn value(
        &mut self,
        now: Time,
        number: u64,
        (key, id, found): (Bytes, Option<KeyId>, Found),
        effects: &mut Effects<CacheEffect>,
    ) {
        // An answer to an earlier fetch, whose readers went home, was read too early for these.
        let is_theirs = |it: &Waiting| it.fetch <= number;
        if self.waiting.get(&key).is_some_and(is_theirs)
            && let Some(waiting) = self.waiting.remove(&key)
        {
            self.waiting_count -= waiting.requests.len();
            // It was read after the first of them had asked.
            let age = now.since(waiting.since);
            for request in waiting.requests {
                if age > self.config.bound {
                    self.forward((request, key.clone()), effects);
                    continue;
                }
                self.tally.misses += 1;
                let answer = Answer {
                    revision: self.revision.max(found.revision),
                    found: found.clone(),
                    age,
                };
                effects.push(CacheEffect::Answer { request, answer });
            }
        }
        if let Some(id) = id {
            self.entries.insert(key, id, found);
            self.make_room(effects);
        }
    }

    /// Throws out what was not read for longest.
    fn make_room(&mut self, effects: &mut Effects<CacheEffect>) {
        while let Some(thrown) = self.entries.make_room() {
            self.tally.evictions += 1;
            if let Some(id) = thrown {
                effects.push(CacheEffect::Send(ToHome::Evict { id }));
            }
        }
    }

    /// Forgets everything; who waits for a fetch is sent home.
    fn clear(&mut self, effects: &mut Effects<CacheEffect>) {
        self.release(effects, |_since| true);
        self.entries.end(self.complete, self.revision);
        while self.entries.make_room().is_some() {
            self.tally.evictions += 1;
        }
        self.frames = 0;
        // Numbers of reports go on, so that an old echo is never taken for a new one.
        self.sent.clear();
        self.complete = None;
        self.revision = Revision::ZERO;
        self.shortest = None;
        self.round_trips.clear();
        self.is_slow = false;
        self.read.clear();
        // The next home is to be asked at once.
        self.report = Time::ZERO;
    }

    /// Sends reads home whose fetch began at a time of which `is_over` is true.
    fn release(&mut self, effects: &mut Effects<CacheEffect>, is_over: impl Fn(Time) -> bool) {
        let waiting = core::mem::take(&mut self.waiting);
        for (key, waiting) in waiting {
            if !is_over(waiting.since) {
                self.waiting.insert(key, waiting);
                continue;
            }
            self.waiting_count -= waiting.requests.len();
            for request in waiting.requests {
                self.forward((request, key.clone()), effects);
            }
        }
    }

    fn report(&mut self, now: Time, effects: &mut Effects<CacheEffect>) {
        self.reports += 1;
        let number = self.reports;
        self.sent.push_back((number, now));
        if self.sent.len() > REPORTS_MAX {
            self.sent.pop_front();
        }
        self.judge_way(effects);
        let read = core::mem::take(&mut self.read);
        effects.push(CacheEffect::Send(ToHome::Report { number, read }));
        self.report = now + self.config.bound / 4;
        // A home that is silent must not keep its readers.
        let bound = self.config.bound;
        self.release(effects, |since| now.since(since) > bound);
    }
}

impl Machine for Cache {
    type Input = CacheInput;
    type Effect = CacheEffect;

    fn step(&mut self, now: Time, input: CacheInput, effects: &mut Effects<CacheEffect>) {
        match input {
            CacheInput::Read { request, key } => self.read(now, (request, key), effects),
            CacheInput::Message(ToCache::Frame {
                number,
                echo,
                revision,
                items,
            }) => self.frame(now, (number, echo, revision), items, effects),
            CacheInput::Message(ToCache::Value {
                number,
                key,
                id,
                found,
            }) => self.value(now, number, (key, id, found), effects),
            CacheInput::Down => self.clear(effects),
            CacheInput::Barred => {
                self.clear(effects);
                self.entries.forget();
            }
            CacheInput::Wake => {
                if now >= self.report {
                    self.report(now, effects);
                }
            }
        }
    }

    fn wake_at(&self) -> Option<Time> {
        Some(self.report)
    }
}
