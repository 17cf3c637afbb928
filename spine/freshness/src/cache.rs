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

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use holm_base::{RequestId, Time};
use holm_machine::{Effects, Machine};

use crate::message::{Found, Item, KeyId, ToCache, ToHome};

/// Limits of a cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// How old an answer may be; a report leaves each quarter of it.
    pub bound: Duration,
    /// Bytes of keys and values that are kept.
    pub bytes_max: usize,
    /// Reads that wait for a fetch.
    pub waiting_max: usize,
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
        found: Found,
        /// How old that may be.
        age: Duration,
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
}

#[derive(Clone, Debug)]
struct Entry {
    id: KeyId,
    found: Found,
    /// Whether the home is to be told of the next read.
    is_unread: bool,
    /// When it was read last, as a count of reads.
    used: u64,
}

/// The machine of a cache.
#[derive(Clone, Debug)]
pub struct Cache {
    config: CacheConfig,
    entries: BTreeMap<Bytes, Entry>,
    names: BTreeMap<KeyId, Bytes>,
    /// Keys by when they were read last.
    order: BTreeMap<u64, Bytes>,
    bytes: usize,
    uses: u64,
    /// Reads that wait for a fetch, and since when.
    waiting: BTreeMap<Bytes, (Time, Vec<RequestId>)>,
    waiting_count: usize,
    frames: u64,
    reports: u64,
    /// When reports were sent that were not echoed yet.
    sent: VecDeque<(u64, Time)>,
    /// Everything acknowledged before then is here.
    complete: Option<Time>,
    read: Vec<KeyId>,
    report: Time,
}

impl Cache {
    /// A cache whose connection has just begun.
    #[must_use]
    pub const fn new(config: CacheConfig, now: Time) -> Self {
        Self {
            config,
            entries: BTreeMap::new(),
            names: BTreeMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            uses: 0,
            waiting: BTreeMap::new(),
            waiting_count: 0,
            frames: 0,
            reports: 0,
            sent: VecDeque::new(),
            complete: None,
            read: Vec::new(),
            report: now,
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
        self.bytes
    }

    fn read(
        &mut self,
        now: Time,
        (request, key): (RequestId, Bytes),
        effects: &mut Effects<CacheEffect>,
    ) {
        let age = self.age(now).filter(|age| *age <= self.config.bound);
        if let Some(age) = age
            && let Some(entry) = self.entries.get_mut(&key)
        {
            if core::mem::take(&mut entry.is_unread) {
                self.read.push(entry.id);
            }
            self.uses += 1;
            self.order.remove(&entry.used);
            entry.used = self.uses;
            self.order.insert(self.uses, key);
            let found = entry.found.clone();
            effects.push(CacheEffect::Answer {
                request,
                found,
                age,
            });
            return;
        }
        if age.is_none() || self.waiting_count >= self.config.waiting_max {
            effects.push(CacheEffect::Forward { request, key });
            return;
        }
        self.waiting_count += 1;
        if let Some((_since, waiting)) = self.waiting.get_mut(&key) {
            waiting.push(request);
        } else {
            self.waiting
                .insert(key.clone(), (now, Vec::from([request])));
            effects.push(CacheEffect::Send(ToHome::Fetch { key }));
        }
    }

    fn frame(
        &mut self,
        (number, echo, items): (u64, u64, Vec<Item>),
        effects: &mut Effects<CacheEffect>,
    ) {
        if number != self.frames + 1 {
            self.clear(effects);
            effects.push(CacheEffect::HangUp);
            return;
        }
        self.frames = number;
        for item in items {
            match item {
                Item::Update(id, found) => self.update(id, found, effects),
                Item::Invalidate(id) => self.remove(id),
            }
        }
        while let Some(&(sent, at)) = self.sent.front()
            && sent <= echo
        {
            self.sent.pop_front();
            self.complete = Some(at);
        }
    }

    fn update(&mut self, id: KeyId, found: Found, effects: &mut Effects<CacheEffect>) {
        let Some(entry) = self
            .names
            .get(&id)
            .and_then(|key| self.entries.get_mut(key))
        else {
            return;
        };
        self.bytes = self.bytes - weight(&entry.found) + weight(&found);
        entry.found = found;
        entry.is_unread = true;
        self.make_room(effects);
    }

    fn value(
        &mut self,
        now: Time,
        (key, id, found): (Bytes, Option<KeyId>, Found),
        effects: &mut Effects<CacheEffect>,
    ) {
        if let Some((since, requests)) = self.waiting.remove(&key) {
            self.waiting_count -= requests.len();
            // It was read after the first of them had asked.
            let age = now.since(since);
            for request in requests {
                let (key, found) = (key.clone(), found.clone());
                effects.push(if age <= self.config.bound {
                    CacheEffect::Answer {
                        request,
                        found,
                        age,
                    }
                } else {
                    CacheEffect::Forward { request, key }
                });
            }
        }
        let Some(id) = id else {
            return;
        };
        self.remove(id);
        self.uses += 1;
        self.bytes += key.len() + weight(&found);
        let entry = Entry {
            id,
            found,
            is_unread: false,
            used: self.uses,
        };
        self.names.insert(id, key.clone());
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, entry);
        self.make_room(effects);
    }

    /// Throws out what was not read for longest.
    fn make_room(&mut self, effects: &mut Effects<CacheEffect>) {
        while self.bytes > self.config.bytes_max
            && let Some((_, key)) = self.order.first_key_value()
            && let Some(entry) = self.entries.get(key)
        {
            let id = entry.id;
            self.remove(id);
            effects.push(CacheEffect::Send(ToHome::Evict { id }));
        }
    }

    fn remove(&mut self, id: KeyId) {
        if let Some(key) = self.names.remove(&id)
            && let Some(entry) = self.entries.remove(&key)
        {
            self.order.remove(&entry.used);
            self.bytes -= key.len() + weight(&entry.found);
        }
    }

    /// Forgets everything; who waits for a fetch is sent home.
    fn clear(&mut self, effects: &mut Effects<CacheEffect>) {
        for (key, (_since, requests)) in core::mem::take(&mut self.waiting) {
            for request in requests {
                let key = key.clone();
                effects.push(CacheEffect::Forward { request, key });
            }
        }
        *self = Self {
            // Numbers of reports go on, so that an old echo is never taken for a new one.
            reports: self.reports,
            report: self.report,
            ..Self::new(self.config.clone(), self.report)
        };
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
                items,
            }) => self.frame((number, echo, items), effects),
            CacheInput::Message(ToCache::Value { key, id, found }) => {
                self.value(now, (key, id, found), effects);
            }
            CacheInput::Down => self.clear(effects),
            CacheInput::Wake => {
                if now >= self.report {
                    self.reports += 1;
                    let number = self.reports;
                    self.sent.push_back((number, now));
                    // More are under way than fit into a bound only if nothing is echoed.
                    if self.sent.len() > 16 {
                        self.sent.pop_front();
                    }
                    let read = core::mem::take(&mut self.read);
                    effects.push(CacheEffect::Send(ToHome::Report { number, read }));
                    self.report = now + self.config.bound / 4;
                }
            }
        }
    }

    fn wake_at(&self) -> Option<Time> {
        Some(self.report)
    }
}

fn weight(found: &Found) -> usize {
    found.value.as_ref().map_or(0, Bytes::len) + 64
}
