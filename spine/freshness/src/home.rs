//! The side that has the data: one for each cache that is connected.
//!
//! What would surprise: a report is echoed only after a read index that was taken when it came is
//! carried out here. Without that, a home which is itself behind would say that nothing happened.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use holm_base::{Revision, Time};
use holm_machine::{Effects, Machine};

use crate::message::{Found, Item, KeyId, ToCache, ToHome};
use crate::policy::{Choice, Policy, Prices};

/// What an item costs beside its value, and a fetch beside key and value, in bytes.
const ITEM: u64 = 16;
const FETCH: u64 = 32;

/// Limits of a home.
#[derive(Clone, Debug)]
pub struct HomeConfig {
    /// How old what a cache answers may be; a frame leaves each quarter of it.
    pub bound: Duration,
    /// How many keys the home knows of for one cache.
    pub keys_max: usize,
    /// How many items a frame has; more leave in further frames.
    pub items_max: usize,
}

/// What can happen to a home.
#[derive(Clone, Debug)]
pub enum HomeInput {
    /// The cache spoke.
    Message(ToHome),
    /// A key was changed, in the order of revisions.
    Written {
        /// The key.
        key: Bytes,
        /// What it holds now.
        found: Found,
    },
    /// What [`HomeEffect::Read`] asked for.
    Read {
        /// The key.
        key: Bytes,
        /// What it holds.
        found: Found,
    },
    /// All that was acknowledged before [`HomeEffect::Confirm`] is carried out here.
    Confirmed {
        /// Of which report.
        number: u64,
    },
    /// The time that was asked for has come.
    Wake,
}

/// What a home wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeEffect {
    /// Tell the cache something.
    Send(ToCache),
    /// Take a read index, wait until it is carried out here, and say so.
    Confirm {
        /// For which report.
        number: u64,
    },
    /// Read a key behind a read index that is taken from now on.
    Read {
        /// The key.
        key: Bytes,
    },
}

/// A key that the cache asked for.
#[derive(Clone, Debug)]
struct Interest {
    id: KeyId,
    policy: Policy,
    /// Whether an answer to a fetch is being read.
    is_fetching: bool,
    /// What it holds, if that changed since the last frame.
    changed: Option<Found>,
    /// How long the value is that it held last.
    length: u64,
}

/// The machine of a home.
#[derive(Clone, Debug)]
pub struct Home {
    config: HomeConfig,
    interests: BTreeMap<Bytes, Interest>,
    names: BTreeMap<KeyId, Bytes>,
    ids: u32,
    frames: u64,
    echo: u64,
    /// The newest report, while it waits for its read index; and one that came meanwhile.
    confirming: Option<u64>,
    waiting: Option<u64>,
    flush: Time,
}

impl Home {
    /// A home of a cache that has just connected.
    #[must_use]
    pub fn new(config: HomeConfig, now: Time) -> Self {
        Self {
            flush: now + config.bound / 4,
            config,
            interests: BTreeMap::new(),
            names: BTreeMap::new(),
            ids: 0,
            frames: 0,
            echo: 0,
            confirming: None,
            waiting: None,
        }
    }

    /// How many keys it knows of for the cache.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.interests.len()
    }

    fn message(&mut self, message: ToHome, effects: &mut Effects<HomeEffect>) {
        match message {
            ToHome::Report { number, read } => {
                for id in read {
                    let interest = self
                        .names
                        .get(&id)
                        .and_then(|key| self.interests.get_mut(key).map(|it| (key.len(), it)));
                    if let Some((length, interest)) = interest {
                        let prices = prices(length, interest.length);
                        interest.policy.read(prices);
                    }
                }
                if self.confirming.is_some() {
                    self.waiting = Some(number);
                } else {
                    self.confirming = Some(number);
                    effects.push(HomeEffect::Confirm { number });
                }
            }
            ToHome::Fetch { key } => {
                // Its changes count from here on: read first, one of them could be missed.
                self.register(&key);
                effects.push(HomeEffect::Read { key });
            }
            ToHome::Evict { id } => {
                if let Some(key) = self.names.remove(&id) {
                    self.interests.remove(&key);
                }
            }
        }
    }

    fn register(&mut self, key: &Bytes) {
        if let Some(known) = self.interests.get_mut(key) {
            known.is_fetching = true;
            return;
        }
        if self.interests.len() >= self.config.keys_max {
            return;
        }
        self.ids += 1;
        let id = KeyId(self.ids);
        let interest = Interest {
            id,
            policy: Policy::new(),
            is_fetching: true,
            changed: None,
            length: 0,
        };
        self.names.insert(id, key.clone());
        self.interests.insert(key.clone(), interest);
    }

    fn read(&mut self, key: Bytes, found: Found, effects: &mut Effects<HomeEffect>) {
        let mut answer = found;
        let mut id = None;
        if let Some(interest) = self.interests.get_mut(&key) {
            // A change that overtook the reading is newer than what was read.
            let changed = interest.changed.take();
            if let Some(newer) = changed.filter(|it| it.revision > answer.revision) {
                answer = newer;
            }
            interest.length = length(&answer);
            interest.is_fetching = false;
            let prices = prices(key.len(), interest.length);
            if !interest.policy.is_held() {
                interest.policy.read(prices);
            }
            id = Some(interest.id);
        }
        let value = ToCache::Value {
            key,
            id,
            found: answer,
        };
        effects.push(HomeEffect::Send(value));
    }

    /// Sends what happened since the last frame, and what is known to be complete.
    fn flush(&mut self, effects: &mut Effects<HomeEffect>) {
        let mut items = Vec::new();
        for (key, interest) in &mut self.interests {
            if interest.is_fetching {
                continue;
            }
            let Some(found) = interest.changed.take() else {
                continue;
            };
            interest.length = length(&found);
            match interest.policy.write(prices(key.len(), interest.length)) {
                Choice::Update => items.push(Item::Update(interest.id, found)),
                Choice::Invalidate => items.push(Item::Invalidate(interest.id)),
                Choice::Nothing => {}
            }
        }
        let mut rest = items.into_iter();
        loop {
            let items: Vec<Item> = rest.by_ref().take(self.config.items_max.max(1)).collect();
            let is_last = rest.len() == 0;
            self.frames += 1;
            let frame = ToCache::Frame {
                number: self.frames,
                // Only the last one makes it complete.
                echo: if is_last { self.echo } else { 0 },
                items,
            };
            effects.push(HomeEffect::Send(frame));
            if is_last {
                return;
            }
        }
    }
}

impl Machine for Home {
    type Input = HomeInput;
    type Effect = HomeEffect;

    fn step(&mut self, now: Time, input: HomeInput, effects: &mut Effects<HomeEffect>) {
        match input {
            HomeInput::Message(message) => self.message(message, effects),
            HomeInput::Written { key, found } => {
                if let Some(interest) = self.interests.get_mut(&key)
                    && (interest.is_fetching || interest.policy.is_held())
                {
                    interest.changed = Some(found);
                }
            }
            HomeInput::Read { key, found } => self.read(key, found, effects),
            HomeInput::Confirmed { number } => {
                self.echo = self.echo.max(number);
                self.confirming = self.waiting.take();
                if let Some(number) = self.confirming {
                    effects.push(HomeEffect::Confirm { number });
                }
            }
            HomeInput::Wake => {
                if now >= self.flush {
                    self.flush(effects);
                    self.flush = now + self.config.bound / 4;
                }
            }
        }
    }

    fn wake_at(&self) -> Option<Time> {
        Some(self.flush)
    }
}

fn length(found: &Found) -> u64 {
    let value = found.value.as_ref().map_or(0, Bytes::len);
    u64::try_from(value).expect("a value is short")
}

fn prices(key: usize, value: u64) -> Prices {
    let key = u64::try_from(key).expect("a key is short");
    Prices {
        update: ITEM + value,
        invalidate: ITEM / 2,
        miss: FETCH + 2 * key + value,
    }
}

/// What a key that was never written holds.
impl Default for Found {
    fn default() -> Self {
        Self {
            value: None,
            revision: Revision::ZERO,
        }
    }
}
