//! Threads that want a core of a host, and the work that they do with it.

use crate::node::Node;
pub use crate::world::cores::Queueing;
use crate::world::cores::Waiting;
pub(crate) use crate::world::cores::{Host, Thread, What};
use crate::world::{Item, Moment, World};

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
    /// If there is no such host, or its core was not given.
    pub fn use_core(&mut self, host: usize, nanos: u64, token: u64) {
        let it = &mut self.hosts[host];
        assert!(it.has_errand(), "the core was given before");
        it.queueing.busy_nanos += nanos;
        it.told = token;
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
        self.look_after(host);
        let now = self.now;
        let waiting = Waiting {
            since: now,
            thread,
            what,
        };
        let core = self.hosts[host].enter(waiting, now);
        self.dispatch(host, core);
    }

    /// A thread that has a core works so long.
    pub(crate) fn run_for(&mut self, host: usize, thread: Thread, nanos: u64) {
        let (serial, ends) = self.hosts[host].begin(thread, nanos, self.now);
        self.agenda.add(ends, Item::Ran { host, serial });
    }

    /// Now and then the system finds work for cores that sleep.
    fn look_after(&mut self, host: usize) {
        for core in self.hosts[host].tick(self.now) {
            self.dispatch(host, core);
        }
    }

    fn dispatch(&mut self, host: usize, core: usize) {
        while let Some(one) = self.hosts[host].next(core, self.now) {
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
                (What::Next, Thread::Worker(node, worker)) => {
                    if self.is_stand_in(node, worker) {
                        self.begin_batch(node)
                    } else {
                        self.begin_job(node, worker)
                    }
                }
                (What::Next, Thread::Errand | Thread::Call(_)) => false,
            };
            if !works {
                self.hosts[host].free(one.thread, self.now);
            }
        }
    }

    /// A piece of work is done, if it was not interrupted meanwhile; its thread has the core still.
    pub(crate) fn ran(&mut self, host: usize, serial: u64) -> Moment {
        let Some(thread) = self.hosts[host].end(serial, self.now) else {
            return Moment::Happened;
        };
        match thread {
            Thread::Engine(node) => self.worked(node),
            Thread::Log(node) => self.written(node),
            Thread::Worker(node, worker) => {
                if !self.is_stand_in(node, worker) {
                    return self.served(node, worker);
                }
                self.worked(node);
            }
            Thread::Errand => {
                let token = self.hosts[host].told;
                self.release(host, thread);
                return Moment::Alarm(token);
            }
            Thread::Call(_) => self.release(host, thread),
        }
        Moment::Happened
    }

    /// A node's threads end with it; its workers serve the caller still, but for one that did the engine's work.
    pub(crate) fn end_threads(&mut self, host: usize, node: usize, stood_in: Option<usize>) {
        let stood_in = stood_in.map(|worker| Thread::Worker(node, worker));
        let own = [Thread::Engine(node), Thread::Log(node)];
        for thread in own.into_iter().chain(stood_in) {
            if let Some(core) = self.hosts[host].forget(thread, self.now) {
                self.dispatch(host, core);
            }
        }
    }

    /// The core that a thread has is free.
    pub(crate) fn release(&mut self, host: usize, thread: Thread) {
        let core = self.hosts[host].free(thread, self.now);
        self.look_after(host);
        self.dispatch(host, core);
    }
}
