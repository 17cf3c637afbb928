//! Clients that ask for cells while a test does something to the sites, and the judge of what they saw.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use holm_base::Prng;
use holm_check::{Acknowledged, History, Operation, Published, durable, witness};

use crate::cells::{self, Call, Cell, Cells, KEYS, Reply};
use crate::gateway::Gateway;
use crate::sites::eventually;

/// Between a client's requests.
const PAUSE: Duration = Duration::from_millis(4);

/// How a request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was answered.
    Answered,
    /// Nobody listened: it was never sent.
    Unsent,
    /// An error, or no answer.
    Failed,
}

/// One request's end, and when it came.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// When it was told.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// The clients' history.
#[derive(Debug)]
pub struct Crowd {
    history: Mutex<History<Call, Reply>>,
    marks: AtomicU64,
    is_over: AtomicBool,
    told: Mutex<Vec<Told>>,
}

/// Tells the clients to end, however the test goes.
#[derive(Debug)]
pub struct Over<'a>(&'a AtomicBool);

impl<'a> Over<'a> {
    /// Raises the flag when this goes out of scope.
    #[must_use]
    pub const fn when_dropped(flag: &'a AtomicBool) -> Self {
        Self(flag)
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Default for Crowd {
    fn default() -> Self {
        Self::new()
    }
}

impl Crowd {
    /// A crowd that has asked nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            history: Mutex::new(History::new()),
            marks: AtomicU64::new(1),
            is_over: AtomicBool::new(false),
            told: Mutex::new(Vec::new()),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut History<Call, Reply>) -> T) -> T {
        act(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was told so far, in no order.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        let told = self.told.lock();
        told.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests were answered so far.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.with(|history| history.answered())
    }

    /// Runs clients while `act` runs. Each has gateways of its own: it asks at the first, and at the next one
    /// whenever something fails.
    ///
    /// # Errors
    ///
    /// What `act` says.
    pub fn during<T>(
        &self,
        clients: Vec<Vec<Gateway>>,
        seed: u64,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.is_over.store(false, Ordering::Release);
        let seed = seed.wrapping_mul(1_000);
        thread::scope(|scope| {
            let _over = Over(&self.is_over);
            for (id, gateways) in (1..).zip(clients) {
                scope.spawn(move || self.client(gateways, (id, Prng::new(seed + id))));
            }
            act()
        })
    }

    /// Asks one thing after the other. Whatever is no success has an unknown outcome.
    fn client(&self, mut gateways: Vec<Gateway>, (id, mut prng): (u64, Prng)) {
        let (mut seen, mut at) = ([0; KEYS], 0);
        while !self.is_over.load(Ordering::Acquire) {
            let mark = self.marks.fetch_add(1, Ordering::Relaxed);
            let call = cells::draw(&mut prng, mark, &seen);
            let operation = self.with(|history| history.invoke(id, call));
            let begun = Instant::now();
            let end = match cells::ask(&mut gateways[at], call) {
                Ok(reply) => {
                    reply.note(&mut seen);
                    self.with(|history| history.returned(operation, reply));
                    End::Answered
                }
                Err(error) if error.to_string().starts_with("connect to") => End::Unsent,
                Err(_unknown) => End::Failed,
            };
            let told = Told {
                at: Instant::now(),
                took: begun.elapsed(),
                end,
            };
            let all = self.told.lock();
            all.unwrap_or_else(PoisonError::into_inner).push(told);
            if end != End::Answered {
                at = (at + 1) % gateways.len();
                thread::sleep(PAUSE);
            }
            // More would only be more to judge.
            thread::sleep(PAUSE);
        }
    }

    /// Waits until all sites agree, judges the history, and shows that the judge can say no. Says what it judged.
    ///
    /// # Errors
    ///
    /// A broken promise, fewer answers than `enough`, sites that do not agree in time.
    pub fn judge(&self, sites: &mut [Gateway], enough: usize) -> Result<String> {
        let history = self.with(|history| history.clone());
        let (asked, answered) = (history.operations().len(), history.answered());
        ensure!(answered >= enough, "only {answered} answers");
        let (published, last) = published(sites)?;
        judge(&history, &published, &last)?;
        // A read that had missed the last write it saw would be found.
        let mut stale = history;
        ensure!(cells::make_stale(&mut stale), "nothing to make stale");
        let verdict = judge(&stale, &published, &last);
        ensure!(verdict.is_err(), "a stale read went unseen");
        Ok(format!(
            "{asked} operations, {answered} answered, all in order"
        ))
    }
}

/// What happened at each revision, and the cells at last.
fn published(sites: &mut [Gateway]) -> Result<(Published, Vec<Cell>)> {
    let (last, found) = eventually("all sites agree", || {
        let states: Result<Vec<_>> = sites.iter_mut().map(cells::own_state).collect();
        let mut states = states?;
        let agreed = states.windows(2).all(|pair| pair[0] == pair[1]);
        ensure!(agreed, "they have {states:?}");
        Ok(states.swap_remove(0))
    })?;
    let mut published = Published::new();
    for revision in 2..=last {
        let mark = eventually("a past is read", || cells::made_at(&mut sites[0], revision))?;
        published.insert(revision, mark);
    }
    Ok((published, found))
}

fn judge(history: &History<Call, Reply>, published: &Published, last: &[Cell]) -> Result<()> {
    if let Err(violation) = witness(&Cells, history, published) {
        bail!("{violation}");
    }
    let last = last.iter();
    let last = last.map(|&(key, mark, made)| (key, (made, mark))).collect();
    let told = |it: &Operation<Call, Reply>| match (it.call, it.reply()) {
        (Call::Put { key, mark }, Some(reply)) => Some(Acknowledged {
            key,
            revision: reply.revision(),
            value: mark,
        }),
        (Call::Put { .. } | Call::Swap { .. } | Call::Range, _) => None,
    };
    let told: Vec<_> = history.operations().iter().filter_map(told).collect();
    if let Err(violation) = durable(&told, &last) {
        bail!("{violation}");
    }
    Ok(())
}
