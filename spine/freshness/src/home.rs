//! The side that has the data: one for each cache that is connected.
//!
//! What would surprise: a report is echoed only after a read index that was taken when it came is
//! carried out here. Without that, a home which is itself behind would say that nothing happened.

use alloc::collections::{BTreeMap, BTreeSet};
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
    /// How old what a cache answers may be.
    pub bound: Duration,
    /// How many keys the home knows of for one cache.
    pub keys_max: usize,
    /// How many items a frame has; more leave in further frames.
    pub items_max: usize,
    /// How many bytes of values wait for the next frame; more, and it leaves at once.
    pub bytes_max: usize,
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
        /// For which fetch.
        number: u64,
        /// The key.
        key: Bytes,
        /// What it holds.
        found: Found,
    },
    /// All that was acknowledged before [`HomeEffect::Confirm`] is carried out here.
    Confirmed {
        /// Of which report.
        number: u64,
        /// All changes up to there were told.
        revision: Revision,
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
        /// For which fetch.
        number: u64,
        /// The key.
        key: Bytes,
    },
}

/// A key that the cache asked for.
#[derive(Clone, Debug)]
struct Interest {
    id: KeyId,
    /// The fetch from which on its changes count.
    since: u64,
    policy: Policy,
    /// Whether an answer to a fetch is being read.
    is_fetching: bool,
    /// What it holds, if that changed since the last frame.
    changed: Option<Found>,
    /// The newest of its changes that is known here.
    revision: Revision,
    /// How long the value is that it held last.
    length: u64,
}

/// The machine of a home.
#[derive(Clone, Debug)]
pub struct Home {
    config: HomeConfig,
    interests: BTreeMap<Bytes, Interest>,
    names: BTreeMap<KeyId, Bytes>,
    /// Keys that changed since the last frame, and the bytes of what they hold now.
    changed: BTreeSet<KeyId>,
    held: usize,
    /// Keys of which the cache has nothing: the first to be forgotten.
    idle: BTreeSet<KeyId>,
    /// Keys that were forgotten since the last frame, though the cache has them.
    forgotten: Vec<KeyId>,
    ids: u64,
    frames: u64,
    echo: u64,
    revision: Revision,
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
            flush: now + config.bound / 2,
            config,
            interests: BTreeMap::new(),
            names: BTreeMap::new(),
            changed: BTreeSet::new(),
            held: 0,
            idle: BTreeSet::new(),
            forgotten: Vec::new(),
            ids: 0,
            frames: 0,
            echo: 0,
            revision: Revision::ZERO,
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
                    // One that it was told is over meanwhile it will fetch.
                    if let Some((length, interest)) =
                        interest.filter(|(_length, it)| it.policy.is_held())
                    {
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
            ToHome::Fetch { number, key } => {
                // Its changes count from here on: read first, one of them could be missed.
                self.register(&key, number);
                effects.push(HomeEffect::Read { number, key });
            }
            ToHome::Evict { id } => self.forget(id),
        }
    }

    /// Counts a key's changes for a fetch. One that is known begins anew, for what was sent or
    /// read for an earlier fetch is no answer to this one; only what its past teaches is kept.
    fn register(&mut self, key: &Bytes, number: u64) {
        let known = self.interests.get(key).map(|it| (it.id, it.policy));
        if let Some((id, policy)) = known {
            self.forget(id);
            if policy.is_held() {
                self.forgotten.push(id);
            }
        }
        let policy = known.map_or_else(Policy::new, |(_id, policy)| policy);
        if self.interests.len() >= self.config.keys_max && !self.make_room() {
            return;
        }
        self.ids += 1;
        let id = KeyId(self.ids);
        let interest = Interest {
            id,
            since: number,
            policy,
            is_fetching: true,
            changed: None,
            revision: Revision::ZERO,
            length: 0,
        };
        self.names.insert(id, key.clone());
        self.interests.insert(key.clone(), interest);
    }

    /// Forgets a key: one of which the cache has nothing, or else the one that has been known
    /// for longest. Whether there was one.
    fn make_room(&mut self) -> bool {
        if let Some(id) = self.idle.first().copied() {
            self.forget(id);
            return true;
        }
        let oldest = self.names.iter().find_map(|(id, key)| {
            let interest = self.interests.get(key)?;
            (!interest.is_fetching).then_some(*id)
        });
        let Some(id) = oldest else {
            return false;
        };
        self.forget(id);
        self.forgotten.push(id);
        true
    }

    fn forget(&mut self, id: KeyId) {
        let Some(key) = self.names.remove(&id) else {
            return;
        };
        self.idle.remove(&id);
        self.changed.remove(&id);
        let interest = self.interests.remove(&key).expect("each number has a key");
        self.held -= weight(interest.changed.as_ref());
    }

    fn written(&mut self, key: &Bytes, found: Found, effects: &mut Effects<HomeEffect>) {
        let Some(interest) = self.interests.get_mut(key) else {
            return;
        };
        let is_wanted = interest.is_fetching || interest.policy.is_held();
        // What was read for a fetch may have been newer than what is still being told.
        if !is_wanted || found.revision < interest.revision {
            return;
        }
        interest.revision = found.revision;
        self.held -= weight(interest.changed.as_ref());
        interest.changed = Some(found);
        self.held += weight(interest.changed.as_ref());
        self.changed.insert(interest.id);
        if self.held > self.config.bytes_max {
            self.flush(effects);
        }
    }

    fn read(
        &mut self,
        (number, key): (u64, Bytes),
        found: Found,
        effects: &mut Effects<HomeEffect>,
    ) {
        let mut answer = found;
        let mut id = None;
        if let Some(interest) = self.interests.get_mut(&key) {
            if number < interest.since {
                // The key was fetched again meanwhile: that fetch is answered.
                return;
            }
            // A change that overtook the reading is newer than what was read.
            self.held -= weight(interest.changed.as_ref());
            let changed = interest.changed.take();
            if let Some(newer) = changed.filter(|it| it.revision > answer.revision) {
                answer = newer;
            }
            interest.revision = interest.revision.max(answer.revision);
            interest.length = length(&answer);
            interest.is_fetching = false;
            let prices = prices(key.len(), interest.length);
            if !interest.policy.is_held() {
                interest.policy.read(prices);
            }
            id = Some(interest.id);
        }
        let value = ToCache::Value {
            number,
            key,
            id,
            found: answer,
        };
        effects.push(HomeEffect::Send(value));
    }

    /// What the next frame says of a key that changed.
    fn item(&mut self, id: KeyId) -> Option<Item> {
        let key = self.names.get(&id)?;
        let interest = self.interests.get_mut(key)?;
        if interest.is_fetching {
            // It goes with the answer to the fetch.
            return None;
        }
        let found = interest.changed.take()?;
        self.held -= weight(Some(&found));
        interest.length = length(&found);
        match interest.policy.write(prices(key.len(), interest.length)) {
            Choice::Update => Some(Item::Update(id, found)),
            Choice::Invalidate => {
                self.idle.insert(id);
                Some(Item::Invalidate(id))
            }
            Choice::Nothing => None,
        }
    }

    /// Sends what happened since the last frame, and what is known to be complete.
    fn flush(&mut self, effects: &mut Effects<HomeEffect>) {
        let forgotten = core::mem::take(&mut self.forgotten);
        let mut items: Vec<Item> = forgotten.into_iter().map(Item::Invalidate).collect();
        for id in core::mem::take(&mut self.changed) {
            items.extend(self.item(id));
        }
        let mut rest = items.into_iter();
        loop {
            let items: Vec<Item> = rest.by_ref().take(self.config.items_max.max(1)).collect();
            let is_last = rest.len() == 0;
            self.frames += 1;
            // Only the last one makes it complete.
            let (echo, revision) = if is_last {
                (self.echo, self.revision)
            } else {
                (0, Revision::ZERO)
            };
            let frame = ToCache::Frame {
                number: self.frames,
                echo,
                revision,
                items,
            };
            effects.push(HomeEffect::Send(frame));
            if is_last {
                return;
            }
        }
    }

    fn confirmed(
        &mut self,
        now: Time,
        (number, revision): (u64, Revision),
        effects: &mut Effects<HomeEffect>,
    ) {
        self.echo = self.echo.max(number);
        self.revision = self.revision.max(revision);
        // At once, so that the cache's next quarter begins with what is known now.
        self.flush(effects);
        self.flush = now + self.config.bound / 2;
        self.confirming = self.waiting.take();
        if let Some(number) = self.confirming {
            effects.push(HomeEffect::Confirm { number });
        }
    }
}

impl Machine for Home {
    type Input = HomeInput;
    type Effect = HomeEffect;

    fn step(&mut self, now: Time, input: HomeInput, effects: &mut Effects<HomeEffect>) {
        match input {
            HomeInput::Message(message) => self.message(message, effects),
            HomeInput::Written { key, found } => self.written(&key, found, effects),
            HomeInput::Read { number, key, found } => self.read((number, key), found, effects),
            HomeInput::Confirmed { number, revision } => {
                self.confirmed(now, (number, revision), effects);
            }
            HomeInput::Wake => {
                // Reports come each quarter, and a frame follows each: this is for when none do.
                if now >= self.flush {
                    self.flush(effects);
                    self.flush = now + self.config.bound / 2;
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

/// What a change that waits counts for.
fn weight(found: Option<&Found>) -> usize {
    let value = found.and_then(|it| it.value.as_ref());
    value.map_or(0, Bytes::len)
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
