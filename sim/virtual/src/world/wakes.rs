//! Threads that are woken: how long that takes, what it costs, and who pays.
//!
//! What would surprise: a core that sleeps is far dearer to wake than one that works is to switch. Who calls another
//! thread then spends as much on the call as that one on waking, and goes on meanwhile: so a call that wakes a core is
//! work of its own ([`Thread::Call`]) beside both.

use holm_base::{NodeId, Time};

use crate::node::Node;
use crate::spec::Wake;
use crate::tape::Place;
use crate::world::host::{Thread, What};
use crate::world::{Item, World};

const WAKE: Place = Place::new("host.wake");

/// Who wakes a thread, and pays for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waker {
    /// A node's engine, or the worker that stands in for it.
    Engine(usize),
    /// A node's log.
    Log(usize),
    /// A node's worker.
    Worker(usize),
    /// The world's caller: it is told.
    Caller,
    /// A clock.
    Clock,
}

/// What waking a thread takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Woken {
    /// When it is awake, and wants a core.
    pub(crate) at: Time,
    /// Which one.
    pub(crate) core: usize,
    /// What it then spends on that.
    pub(crate) own_nanos: u64,
    /// What whoever called it spent, if it pays for that itself.
    pub(crate) call_nanos: u64,
    /// Whether it pays more: its core had slept for long, and its node has written its log since.
    pub(crate) is_cold: bool,
}

/// What it takes to wake a thread on a core that has slept so long: what was timed nearest to that.
fn nearest(timed: &[Wake], slept: u64) -> Option<&Wake> {
    timed
        .iter()
        .min_by_key(|one| one.slept_nanos.abs_diff(slept))
}

impl<N: Node> World<N> {
    /// A thread of a node's host is woken, as those of this node are.
    pub(crate) fn wake(&mut self, node: usize, thread: Thread, waker: Waker) -> Woken {
        let at = self.processes[node].spec.host;
        let by = self.core_of(waker, at);
        let wakes = self.hosts[at].call(thread, by, &mut self.tape);
        let slept = wakes
            .asleep
            .map(|since| self.now.nanos().saturating_sub(since.nanos()));
        let process = &self.processes[node];
        let idle = slept.and_then(|slept| nearest(&process.spec.wake_idle, slept));
        let usual = Wake {
            slept_nanos: 0,
            own_nanos: process.spec.work.wake_nanos,
            call_nanos: 0,
            is_cold: false,
            cold_nanos: 0,
            delay: process.spec.wake.clone(),
        };
        let wake = idle.cloned().unwrap_or(usual);
        let takes = wake.delay.delay(WAKE, &mut self.tape);
        let called = if waker == Waker::Clock {
            0
        } else {
            wake.call_nanos
        };
        // What reads cost shows nothing of it.
        let process = &mut self.processes[node];
        let is_cold = wake.is_cold && thread != Thread::Errand && process.has_written;
        if is_cold {
            process.has_written = false;
        }
        self.pay_call(waker, called);
        if let (true, Some(by)) = (called > 0, by) {
            self.enter(at, Thread::Call(by), What::Rest(called));
        }
        Woken {
            at: Time::from_nanos(self.now.nanos().saturating_add(takes)),
            core: wakes.core,
            own_nanos: wake.own_nanos + u64::from(is_cold) * wake.cold_nanos,
            is_cold,
            call_nanos: if waker == Waker::Caller { called } else { 0 },
        }
    }

    /// The core of this host on which whoever wakes a thread runs, or ran last.
    fn core_of(&mut self, waker: Waker, host: usize) -> Option<usize> {
        let (node, thread) = match waker {
            Waker::Engine(node) => (Some(node), self.runner(node)),
            Waker::Log(node) => (Some(node), Thread::Log(node)),
            Waker::Worker(node) => {
                let worker = self.processes[node].pool.last;
                (Some(node), Thread::Worker(node, worker))
            }
            Waker::Caller => (None, Thread::Errand),
            Waker::Clock => return None,
        };
        let is_here = node.is_none_or(|node| self.processes[node].spec.host == host);
        is_here.then(|| self.hosts[host].core_of(thread))
    }

    fn pay_call(&mut self, waker: Waker, nanos: u64) {
        let (node, is_engine) = match waker {
            Waker::Engine(node) => (node, self.processes[node].stand_in.is_none()),
            Waker::Log(node) => {
                let usage = &mut self.processes[node].usage;
                usage.log_timed_nanos += nanos;
                usage.log_nanos += nanos;
                self.spend(node, nanos);
                return;
            }
            Waker::Worker(node) => (node, false),
            Waker::Caller | Waker::Clock => return,
        };
        let usage = &mut self.processes[node].usage;
        if is_engine {
            usage.timed_nanos += nanos;
            usage.engine_nanos += nanos;
        } else {
            usage.worker_timed_nanos += nanos;
        }
        self.spend(node, nanos);
    }

    /// A thread that was called to a core of a node's host is awake, or is no more.
    pub(crate) fn is_up_again(&mut self, node: usize, core: usize) {
        let host = self.processes[node].spec.host;
        self.hosts[host].arrived(core);
    }

    /// Wakes the caller's own thread, on the host of a node whose worker calls it: [`World::advance`] answers
    /// [`Moment::Alarm`](crate::Moment::Alarm) with `token` once it is awake. What it spends on waking, in nanoseconds;
    /// the call is the worker's.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn wake_own(&mut self, node: NodeId, token: u64) -> u64 {
        let node = self.index(node);
        let woken = self.wake(node, Thread::Errand, Waker::Worker(node));
        let core = woken.core;
        self.agenda
            .add(woken.at, Item::OwnAwake { node, core, token });
        woken.own_nanos
    }
}
