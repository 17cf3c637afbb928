//! What all of the cache's connections share: the machine that keeps the keys, who waits for it,
//! and how the way home is.
//!
//! Everything happens under one lock that is never held across a wait: a read that is answered
//! from memory costs that lock and a look at the clock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holm_base::{RequestId, Time};
use holm_etcd::holm::cache::{CacheAsk, Opened};
use holm_freshness::{Answer, Cache, CacheConfig, CacheEffect, CacheInput, OnCut, Tally, ToCache};
use holm_machine::{Effects, Machine as _};
use tokio::sync::{mpsc, oneshot, watch};

/// What waits to be said to the home; more, and the connection begins anew.
pub(super) const ASKS_MAX: usize = 16_384;

/// The shortest silence of a home that makes it useless to ask it.
const HICCUP: Duration = Duration::from_secs(1);

/// How the way home is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing is open.
    Down,
    /// The home tells what happens.
    Up,
    /// The home is there, and will not: everything goes home.
    Refused(String),
}

/// What a read comes to.
#[derive(Debug)]
pub(super) enum Reading {
    /// Answered from here.
    Known(Box<Answer>),
    /// It has to go home.
    Forward,
    /// It waits for the home to say what the key holds.
    Waits(oneshot::Receiver<Option<Answer>>),
}

/// The state of it, for people and programs.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) link: Link,
    pub(super) age: Option<Duration>,
    pub(super) is_slow: bool,
    pub(super) round_trip: Option<Duration>,
    pub(super) keys: usize,
    pub(super) bytes: usize,
    pub(super) tally: Tally,
    /// Reads that could not be answered because the home was out of reach.
    pub(super) refused: u64,
    /// Reads that were answered beyond the bound, with their age.
    pub(super) stale: u64,
}

/// The machine and what belongs to it.
#[derive(Debug)]
pub(super) struct Keeper {
    state: Mutex<State>,
    start: Instant,
    bound: Duration,
    on_cut: OnCut,
    /// Counts how often the connection home turned out to be of no use.
    hang_up: watch::Sender<u64>,
    /// Counts how often the home was given up: what is under way to it is over.
    given_up: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    cache: Cache,
    effects: Effects<CacheEffect>,
    readers: HashMap<RequestId, oneshot::Sender<Option<Answer>>>,
    next: RequestId,
    asks: Option<mpsc::Sender<CacheAsk>>,
    home: Opened,
    link: Link,
    /// When the home was heard last; at first, when this began.
    heard: Time,
    /// As of when everything was known last.
    complete: Option<Time>,
    refused: u64,
    stale: u64,
}

impl Keeper {
    pub(super) fn new(config: CacheConfig) -> Self {
        let (bound, on_cut) = (config.bound, config.on_cut);
        Self {
            state: Mutex::new(State {
                cache: Cache::new(config, Time::ZERO),
                effects: Effects::new(),
                readers: HashMap::new(),
                next: RequestId::ZERO,
                asks: None,
                home: Opened::default(),
                link: Link::Down,
                heard: Time::ZERO,
                complete: None,
                refused: 0,
                stale: 0,
            }),
            start: Instant::now(),
            bound,
            on_cut,
            hang_up: watch::Sender::new(0),
            given_up: watch::Sender::new(0),
        }
    }

    /// How old an answer may be.
    pub(super) const fn bound(&self) -> Duration {
        self.bound
    }

    fn now(&self) -> Time {
        let nanos = u64::try_from(self.start.elapsed().as_nanos());
        Time::from_nanos(nanos.unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a key.
    pub(super) fn read(&self, key: Bytes) -> Reading {
        let mut state = self.lock();
        let request = state.next.next();
        state.next = request;
        let own = self.step(&mut state, CacheInput::Read { request, key }, Some(request));
        match own {
            Some(Some(answer)) => Reading::Known(Box::new(answer)),
            Some(None) => Reading::Forward,
            None => {
                let (sender, receiver) = oneshot::channel();
                state.readers.insert(request, sender);
                Reading::Waits(receiver)
            }
        }
    }

    /// Carries out what the machine wants; what it wants for the read `own` is given back.
    fn step(
        &self,
        state: &mut State,
        input: CacheInput,
        own: Option<RequestId>,
    ) -> Option<Option<Answer>> {
        // Within the lock, so that time never goes back between two steps.
        let now = self.now();
        let State {
            cache,
            effects,
            asks,
            readers,
            complete,
            ..
        } = state;
        cache.step(now, input, effects);
        let mut come = None;
        for effect in effects.drain() {
            let (request, answer) = match effect {
                CacheEffect::Answer { request, answer } => (request, Some(answer)),
                CacheEffect::Forward { request, key: _ } => (request, None),
                CacheEffect::Send(message) => {
                    // A queue that is full belongs to a connection that does not move.
                    if asks
                        .as_ref()
                        .is_some_and(|it| it.try_send(message.into()).is_err())
                    {
                        self.hang_up.send_modify(|count| *count += 1);
                    }
                    continue;
                }
                CacheEffect::HangUp => {
                    tracing::warn!("the home's frames have a gap: all keys are read anew");
                    self.hang_up.send_modify(|count| *count += 1);
                    continue;
                }
                CacheEffect::Slow { round_trip } => {
                    let bound = self.bound;
                    tracing::warn!(
                        ?round_trip,
                        ?bound,
                        "the way home takes more than half the bound: all reads go home"
                    );
                    continue;
                }
                CacheEffect::Quick { round_trip } => {
                    tracing::info!(
                        ?round_trip,
                        "the way home is short again: reads are answered here"
                    );
                    continue;
                }
            };
            if own == Some(request) {
                come = Some(answer);
            } else if let Some(reader) = readers.remove(&request) {
                // A reader that has left needs no answer.
                reader.send(answer).ok();
            }
        }
        if let Some(age) = cache.age(now) {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            *complete = Some(Time::from_nanos(now.nanos().saturating_sub(age)));
        }
        come
    }

    /// A connection home is open: what is asked goes into `asks`.
    pub(super) fn up(&self, home: Opened, asks: mpsc::Sender<CacheAsk>) {
        let mut state = self.lock();
        state.asks = Some(asks);
        state.home = home;
        state.link = Link::Up;
        state.heard = self.now();
        // Reports of the meantime went nowhere.
        self.step(&mut state, CacheInput::Down, None);
        self.step(&mut state, CacheInput::Wake, None);
    }

    /// It is gone.
    pub(super) fn down(&self, link: Link) {
        let mut state = self.lock();
        if state.asks.take().is_some() {
            self.give_up();
        }
        let input = match link {
            Link::Refused(_) => CacheInput::Barred,
            Link::Up | Link::Down => CacheInput::Down,
        };
        state.link = link;
        self.step(&mut state, input, None);
    }

    /// The home spoke.
    pub(super) fn hear(&self, message: ToCache) {
        let mut state = self.lock();
        state.heard = self.now();
        self.step(&mut state, CacheInput::Message(message), None);
    }

    /// Lets the machine do what is due; for how long nothing will be.
    pub(super) fn wake(&self) -> Duration {
        let mut state = self.lock();
        self.step(&mut state, CacheInput::Wake, None);
        let now = self.now();
        state.cache.wake_at().map_or(self.bound, |at| at.since(now))
    }

    /// Since when the home has been silent.
    pub(super) fn silence(&self) -> Duration {
        self.now().since(self.lock().heard)
    }

    /// Whether there is no use in asking the home: it has been silent for longer than a hiccup.
    pub(super) fn is_cut(&self) -> bool {
        let state = self.lock();
        let is_silent = self.now().since(state.heard) > self.bound.max(HICCUP);
        is_silent && !matches!(state.link, Link::Refused(_))
    }

    /// What a read is told when the home is out of reach: an answer of whatever age, if that is
    /// wanted and there is one, or why there is none.
    pub(super) fn cut(&self, key: &Bytes) -> Result<Answer, String> {
        let mut state = self.lock();
        let now = self.now();
        let known = (self.on_cut == OnCut::Serve).then(|| state.cache.stale(now, key));
        if let Some(answer) = known.flatten() {
            state.stale += 1;
            return Ok(answer);
        }
        state.refused += 1;
        let bound = seconds(self.bound);
        Err(match state.complete {
            Some(at) => format!("cache is {} old, bound is {bound}", seconds(now.since(at))),
            None => format!("cache has not heard from its home yet, bound is {bound}"),
        })
    }

    /// Who the home is.
    pub(super) fn home(&self) -> Opened {
        self.lock().home
    }

    /// Gives the home up: calls that are under way to it end.
    pub(super) fn give_up(&self) {
        self.given_up.send_modify(|count| *count += 1);
    }

    /// Changes when the connection home is of no use any more.
    pub(super) fn hang_up(&self) -> watch::Receiver<u64> {
        self.hang_up.subscribe()
    }

    /// Changes when the home is given up.
    pub(super) fn given_up(&self) -> watch::Receiver<u64> {
        self.given_up.subscribe()
    }

    /// How it is.
    pub(super) fn view(&self) -> View {
        let state = self.lock();
        let now = self.now();
        View {
            link: state.link.clone(),
            age: state.complete.map(|at| now.since(at)),
            is_slow: state.cache.is_slow(),
            round_trip: state.cache.round_trip(),
            keys: state.cache.keys(),
            bytes: state.cache.bytes(),
            tally: *state.cache.tally(),
            refused: state.refused,
            stale: state.stale,
        }
    }
}

/// A duration as people say it: `4.2 s`, `1 s`, `50 ms`.
pub(super) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{} ms", time.as_millis());
    }
    let tenths = time.as_millis() / 100;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} s"),
        (whole, tenth) => format!("{whole}.{tenth} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        for (millis, said) in [
            (4_210, "4.2 s"),
            (1_000, "1 s"),
            (50, "50 ms"),
            (61_900, "61.9 s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), said);
        }
    }
}
