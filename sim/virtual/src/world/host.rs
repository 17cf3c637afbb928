//! The cores of a host, and the threads that want one.
//!
//! A small likeness of a fair scheduler: each thread has an account of what it has used, a core goes to the smallest
//! account, and a thread that wakes takes the core of the largest. Who sleeps saves nothing up: on waking its account
//! is at least the smallest of those who work. A piece of work that loses its core goes on where it stopped.

use std::collections::BTreeMap;

use holm_base::Time;

use crate::node::Node;
use crate::world::{Item, Moment, World};

/// How much a host was asked for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queueing {
    /// Pieces of work that began.
    pub pieces: u64,
    /// How long all of them waited for a core, in nanoseconds.
    pub waited_nanos: u64,
    /// How long cores were in use, all together, in nanoseconds.
    pub busy_nanos: u64,
}

impl Queueing {
    /// What was asked for since an earlier look.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            pieces: self.pieces - earlier.pieces,
            waited_nanos: self.waited_nanos - earlier.waited_nanos,
            busy_nanos: self.busy_nanos - earlier.busy_nanos,
        }
    }
}

/// What wants a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thread {
    /// A node's engine.
    Engine(usize),
    /// A node's log.
    Log(usize),
    /// One of a node's workers.
    Worker(usize, usize),
    /// The world's caller's own.
    Errand,
    /// Calls that wake cores.
    Call,
}

/// A thread that waits for a core.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Time,
    thread: Thread,
    what: What,
}

/// What it wants the core for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Whatever it finds.
    Next,
    /// The rest of what it was interrupted in.
    Rest(u64),
    /// The caller hears this alarm.
    Alarm(u64),
}

/// A thread that has one, until its piece of work is done.
#[derive(Clone, Copy, Debug)]
struct Running {
    thread: Thread,
    since: Time,
    ends: Time,
    serial: u64,
}

/// Cores, and who has them or waits for them.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    cores: usize,
    busy: usize,
    ready: Vec<Waiting>,
    running: Vec<Running>,
    serial: u64,
    /// What threads have used, in nanoseconds, as the scheduler counts it.
    accounts: BTreeMap<Thread, u64>,
    /// The smallest account of those who work or wait, and never less than before.
    floor: u64,
    /// What the caller's own thread is to be told when its work is done.
    told: u64,
    /// Since when each core sleeps that does, the one that began last behind the others.
    asleep: Vec<Time>,
    /// Threads that were called and are not awake yet.
    pub(crate) waking: usize,
    pub(crate) queueing: Queueing,
}

impl Host {
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            asleep: vec![Time::ZERO; cores],
            cores,
            busy: 0,
            ready: Vec::new(),
            running: Vec::new(),
            serial: 0,
            accounts: BTreeMap::new(),
            floor: 0,
            told: 0,
            waking: 0,
            queueing: Queueing {
                pieces: 0,
                waited_nanos: 0,
                busy_nanos: 0,
            },
        }
    }

    /// Whether nobody waits for a core.
    pub(crate) const fn is_calm(&self) -> bool {
        self.ready.is_empty()
    }

    /// Since when the core sleeps that is woken next, if there is one and nobody is on the way to it.
    pub(crate) fn sleeps_since(&self) -> Option<Time> {
        self.asleep.iter().rev().nth(self.waking).copied()
    }

    /// A core has nothing to do any more.
    fn rest(&mut self, now: Time) {
        self.busy -= 1;
        self.asleep.push(now);
    }

    /// A thread is no more; whether it had a core.
    fn forget(&mut self, gone: Thread) -> bool {
        self.ready.retain(|one| one.thread != gone);
        let before = self.running.len();
        self.running.retain(|one| one.thread != gone);
        self.running.len() < before
    }

    fn account(&self, thread: Thread) -> u64 {
        self.accounts.get(&thread).copied().unwrap_or(0)
    }

    /// What a running thread's account is now.
    fn standing(&self, one: &Running, now: Time) -> u64 {
        self.account(one.thread) + (now.nanos() - one.since.nanos())
    }

    fn raise_floor(&mut self, now: Time) {
        let running = self.running.iter().map(|one| self.standing(one, now));
        let ready = self.ready.iter().map(|one| self.account(one.thread));
        if let Some(least) = running.chain(ready).min() {
            self.floor = self.floor.max(least);
        }
    }

    fn enter(&mut self, waiting: Waiting, now: Time) {
        self.admit(waiting.thread, now);
        self.ready.push(waiting);
    }

    /// A thread is awake: what it did not use while it slept it does not get.
    pub(crate) fn admit(&mut self, thread: Thread, now: Time) {
        self.raise_floor(now);
        let account = self.account(thread).max(self.floor);
        self.accounts.insert(thread, account);
    }

    /// Takes the core of the running thread with the largest account, if the newcomer's is smaller.
    fn interrupt(&mut self, newcomer: Thread, now: Time) {
        let all = self.running.iter().enumerate();
        let standings = all.map(|(at, one)| (self.standing(one, now), at));
        let Some((most, at)) = standings.max() else {
            return;
        };
        if most <= self.account(newcomer) || self.running[at].ends <= now {
            return;
        }
        let one = self.running.remove(at);
        self.accounts.insert(one.thread, most);
        self.rest(now);
        self.ready.push(Waiting {
            since: now,
            thread: one.thread,
            what: What::Rest(one.ends.nanos() - now.nanos()),
        });
    }

    /// Who gets a core: the smallest account, and among equals who came first.
    fn next(&mut self) -> Option<Waiting> {
        if self.busy >= self.cores {
            return None;
        }
        let all = self.ready.iter().enumerate();
        let (_, at) = all.map(|(at, one)| (self.account(one.thread), at)).min()?;
        self.busy += 1;
        self.asleep.pop();
        Some(self.ready.remove(at))
    }
}

impl<N: Node> World<N> {
    /// Asks for a core of a host for the caller's own thread: [`World::advance`] answers
    /// [`Moment::Alarm`](crate::Moment::Alarm) with `token` once there is one. It is the
    /// caller's until it has used it.
    ///
    /// # Panics
    ///
    /// If there is no such host.
    pub fn ask_core(&mut self, host: usize, token: u64) {
        self.enter(host, Thread::Errand, What::Alarm(token));
    }

    /// Uses the core that was asked for so long; then it is free, and the alarm is `token`.
    ///
    /// # Panics
    ///
    /// If there is no such host, or none of its cores is in use.
    pub fn use_core(&mut self, host: usize, nanos: u64, token: u64) {
        assert!(self.hosts[host].busy > 0, "the core was given before");
        self.hosts[host].queueing.busy_nanos += nanos;
        self.hosts[host].told = token;
        self.run_for(host, Thread::Errand, nanos);
    }

    /// How much a host was asked for so far.
    ///
    /// # Panics
    ///
    /// If there is no such host.
    pub fn queueing(&self, host: usize) -> Queueing {
        self.hosts[host].queueing
    }

    /// A thread wants a core.
    pub(crate) fn queue(&mut self, host: usize, thread: Thread) {
        self.enter(host, thread, What::Next);
    }

    pub(crate) fn enter(&mut self, host: usize, thread: Thread, what: What) {
        let (now, it) = (self.now, &mut self.hosts[host]);
        let waiting = Waiting {
            since: now,
            thread,
            what,
        };
        it.enter(waiting, now);
        if it.busy >= it.cores {
            it.interrupt(thread, now);
        }
        self.dispatch(host);
    }

    /// A thread that has a core works so long.
    pub(crate) fn run_for(&mut self, host: usize, thread: Thread, nanos: u64) {
        let (now, it) = (self.now, &mut self.hosts[host]);
        let ends = Time::from_nanos(now.nanos().saturating_add(nanos));
        it.serial += 1;
        let serial = it.serial;
        it.running.push(Running {
            thread,
            since: now,
            ends,
            serial,
        });
        self.agenda.add(ends, Item::Ran { host, serial });
    }

    fn dispatch(&mut self, host: usize) {
        while let Some(one) = self.hosts[host].next() {
            let queueing = &mut self.hosts[host].queueing;
            queueing.pieces += 1;
            queueing.waited_nanos += self.now.nanos() - one.since.nanos();
            let works = match (one.what, one.thread) {
                (What::Rest(nanos), thread) => {
                    self.run_for(host, thread, nanos);
                    true
                }
                (What::Alarm(token), _) => {
                    self.agenda.add(self.now, Item::Alarm(token));
                    true
                }
                (What::Next, Thread::Engine(node)) => self.begin_batch(node),
                (What::Next, Thread::Log(node)) => self.begin_write(node),
                (What::Next, Thread::Worker(node, worker)) => self.begin_job(node, worker),
                (What::Next, Thread::Errand | Thread::Call) => false,
            };
            if !works {
                let now = self.now;
                self.hosts[host].rest(now);
            }
        }
    }

    /// A piece of work is done, if it was not interrupted meanwhile; its thread has the core still.
    pub(crate) fn ran(&mut self, host: usize, serial: u64) -> Moment {
        let (now, it) = (self.now, &mut self.hosts[host]);
        let Some(at) = it.running.iter().position(|one| one.serial == serial) else {
            return Moment::Happened;
        };
        let one = it.running.remove(at);
        let account = it.standing(&one, now);
        it.accounts.insert(one.thread, account);
        match one.thread {
            Thread::Engine(node) => self.worked(node),
            Thread::Log(node) => self.written(node),
            Thread::Worker(node, worker) => return self.served(node, worker),
            Thread::Errand => {
                let token = self.hosts[host].told;
                self.release(host);
                return Moment::Alarm(token);
            }
            Thread::Call => self.release(host),
        }
        Moment::Happened
    }

    /// A node's threads end with it; its workers serve the caller still.
    pub(crate) fn end_threads(&mut self, host: usize, node: usize) {
        for thread in [Thread::Engine(node), Thread::Log(node)] {
            if self.hosts[host].forget(thread) {
                self.release(host);
            }
        }
    }

    /// A core is free.
    pub(crate) fn release(&mut self, host: usize) {
        let now = self.now;
        self.hosts[host].rest(now);
        self.dispatch(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: Thread = Thread::Engine(0);
    const LOG: Thread = Thread::Log(0);
    const WORKER: Thread = Thread::Worker(0, 0);

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// A thread that wants a core for whatever it finds.
    fn wants(host: &mut Host, thread: Thread, now: u64) {
        let waiting = Waiting {
            since: at(now),
            thread,
            what: What::Next,
        };
        host.enter(waiting, at(now));
    }

    fn runs(host: &mut Host, thread: Thread, from: u64, until: u64) {
        host.serial += 1;
        host.running.push(Running {
            thread,
            since: at(from),
            ends: at(until),
            serial: host.serial,
        });
    }

    fn granted(host: &mut Host) -> Option<Thread> {
        host.next().map(|one| one.thread)
    }

    #[test]
    fn a_core_goes_to_who_has_used_least_and_among_equals_to_who_came_first() {
        let mut host = Host::new(1);
        host.accounts.insert(WORKER, 700);
        for thread in [LOG, ENGINE, WORKER] {
            wants(&mut host, thread, 0);
        }
        assert_eq!(granted(&mut host), Some(LOG));
        assert_eq!(granted(&mut host), None, "there is one core");
        host.rest(at(0));
        assert_eq!(granted(&mut host), Some(ENGINE));
        host.rest(at(0));
        assert_eq!(granted(&mut host), Some(WORKER));
    }

    #[test]
    fn who_wakes_takes_the_core_of_who_has_used_most_and_that_one_keeps_its_rest() {
        let mut host = Host::new(2);
        host.busy = 2;
        host.accounts.insert(WORKER, 500);
        runs(&mut host, WORKER, 1_000, 1_900);
        runs(&mut host, LOG, 1_000, 2_000);
        wants(&mut host, ENGINE, 1_300);
        host.interrupt(ENGINE, at(1_300));
        // The worker stood at 500 + 300, the log at 300; the worker had 600 to go.
        assert_eq!(host.account(WORKER), 800);
        assert_eq!((host.running.len(), host.busy), (1, 1));
        let rests: Vec<u64> = host
            .ready
            .iter()
            .filter_map(|one| match one.what {
                What::Rest(nanos) if one.thread == WORKER => Some(nanos),
                What::Rest(_) | What::Next | What::Alarm(_) => None,
            })
            .collect();
        assert_eq!(rests, [600]);
        assert_eq!(granted(&mut host), Some(ENGINE));
    }

    #[test]
    fn a_core_sleeps_since_it_had_nothing_to_do_unless_somebody_is_on_the_way_to_it() {
        let mut host = Host::new(2);
        assert_eq!(host.sleeps_since(), Some(at(0)));
        for thread in [LOG, ENGINE] {
            wants(&mut host, thread, 10);
            assert!(granted(&mut host).is_some());
        }
        assert_eq!(host.sleeps_since(), None, "both work");
        host.rest(at(700));
        host.rest(at(900));
        assert_eq!(host.sleeps_since(), Some(at(900)));
        host.waking = 1;
        assert_eq!(host.sleeps_since(), Some(at(700)));
        host.waking = 2;
        assert_eq!(host.sleeps_since(), None);
    }

    #[test]
    fn who_sleeps_saves_nothing_up() {
        let mut host = Host::new(1);
        host.busy = 1;
        host.accounts.insert(WORKER, 9_000);
        runs(&mut host, WORKER, 0, 5_000);
        wants(&mut host, ENGINE, 2_000);
        assert_eq!(host.account(ENGINE), 11_000, "what the worker stands at");
        host.interrupt(ENGINE, at(2_000));
        assert_eq!(host.running.len(), 1, "an equal takes nobody's core");
    }

    #[test]
    fn a_thread_that_is_no_more_wants_nothing_and_its_core_is_known() {
        let mut host = Host::new(1);
        host.busy = 1;
        runs(&mut host, ENGINE, 0, 100);
        wants(&mut host, LOG, 0);
        assert!(host.forget(ENGINE), "it had a core");
        assert!(!host.forget(LOG), "it waited for one");
        assert!(host.is_calm());
    }
}
