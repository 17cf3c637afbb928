//! The cores of a host, and which of them a thread gets.
//!
//! A small likeness of Linux' fair scheduler. Each core has a queue. On one core each thread has an account of what it
//! has used; the core goes to the smallest, and who wakes takes it from a larger one. Who sleeps saves nothing up. A
//! piece of work that loses its core goes on where it stopped.
//!
//! What would surprise: a thread waits for one core while another sleeps, for up to half of the time on two cores of a
//! virtual machine. It wakes where it ran last, and seldom elsewhere; and a core that has nothing to do takes only who
//! has not run for a while, if it expects to sleep for long itself. How often the system looks for an idle core for who
//! wakes differs between machines ([`HostSpec::search`]).

use std::collections::BTreeMap;

use holm_base::Time;

use crate::spec::HostSpec;
use crate::tape::{Place, Tape};

/// Who has run within this time is not taken by a core that has nothing to do: `sched_migration_cost_ns`.
const HOT_NANOS: u64 = 500_000;
/// Only a core that sleeps for so long on average takes anybody as it goes to sleep.
const SLEEP_NANOS: u64 = 150_000;
/// How often a core that sleeps looks for work: a tick of 250 Hz.
const TICK_NANOS: u64 = 4_000_000;
/// After so many looks in vain it takes who has run lately, too: one more than `cache_nice_tries`.
const LOOKS_IN_VAIN: u32 = 2;
/// Who has had a core for so long gives it to others who wait for it: the slice of two cores.
const SLICE_NANOS: u64 = 1_400_000;
/// How often a thread whose core is busy follows who calls it to another, of a million times: 3 to 9 % were traced.
const FOLLOWS: u32 = 50_000;
/// But not who used this much since it woke: too much would be asked for there.
const LONG_NANOS: u64 = 60_000;
const PLACE: Place = Place::new("host.core");

/// How much a host was asked for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queueing {
    /// Pieces of work that began.
    pub pieces: u64,
    /// How long all of them waited for a core, in nanoseconds.
    pub waited_nanos: u64,
    /// How long cores were in use, all together, in nanoseconds.
    pub busy_nanos: u64,
    /// How long a thread waited for one core while another slept, in nanoseconds.
    pub beside_nanos: u64,
}

impl Queueing {
    /// What was asked for since an earlier look.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            pieces: self.pieces - earlier.pieces,
            waited_nanos: self.waited_nanos - earlier.waited_nanos,
            busy_nanos: self.busy_nanos - earlier.busy_nanos,
            beside_nanos: self.beside_nanos - earlier.beside_nanos,
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
    /// Calls that wake other cores, made on this one.
    Call(usize),
}

/// A thread that waits for a core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) since: Time,
    pub(crate) thread: Thread,
    pub(crate) what: What,
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

/// A piece of work under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    since: Time,
    ends: Time,
    serial: u64,
}

#[derive(Clone, Debug)]
struct Core {
    /// Who has it.
    holder: Option<Thread>,
    running: Option<Running>,
    ready: Vec<Waiting>,
    /// The smallest account of those who work or wait here, and never less than before.
    floor: u64,
    asleep: Time,
    /// Since when its holder has it.
    granted: Time,
    /// How long it slept of late, on average, in nanoseconds; twice [`SLEEP_NANOS`] at most.
    sleeps: u64,
    /// Threads that were called to it and are not awake yet.
    coming: usize,
    /// Looks for work in vain since it last took some.
    vain: u32,
}

impl Core {
    fn is_idle(&self) -> bool {
        self.holder.is_none() && self.ready.is_empty() && self.coming == 0
    }
}

/// What is known of a thread.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// What it has used, in nanoseconds, by the count of its core.
    account: u64,
    /// What that was when it last woke.
    admitted: u64,
    /// Where it ran last, or waits.
    core: usize,
    /// When it last had a core.
    ran: Time,
}

/// Cores, and who has them or waits for them.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    cores: Vec<Core>,
    threads: BTreeMap<Thread, Known>,
    serial: u64,
    /// How often an idle core is looked for, of a million times.
    search: u32,
    next_tick: Time,
    /// What the caller's own thread is to be told when its work is done.
    pub(crate) told: u64,
    /// Since when `queueing` counts nothing.
    counted: Time,
    pub(crate) queueing: Queueing,
}

/// Where a thread wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) core: usize,
    /// Since when that core sleeps, if it does and nobody else is on the way to it.
    pub(crate) asleep: Option<Time>,
}

impl Host {
    pub(crate) fn new(HostSpec { cores, search }: HostSpec) -> Self {
        let core = Core {
            holder: None,
            running: None,
            ready: Vec::new(),
            floor: 0,
            asleep: Time::ZERO,
            granted: Time::ZERO,
            sleeps: 0,
            coming: 0,
            vain: 0,
        };
        Self {
            cores: vec![core; cores],
            threads: BTreeMap::new(),
            serial: 0,
            search,
            next_tick: Time::ZERO,
            told: 0,
            counted: Time::ZERO,
            queueing: Queueing::default(),
        }
    }

    /// Whether nobody waits for the core that this thread has.
    pub(crate) fn is_calm(&self, thread: Thread) -> bool {
        let core = self.threads.get(&thread).map(|known| known.core);
        core.is_none_or(|core| self.cores[core].ready.is_empty())
    }

    /// The core that a thread has, waits for, or had last; a new thread's is the one with the fewest.
    pub(crate) fn core_of(&mut self, thread: Thread) -> usize {
        self.known(thread).core
    }

    fn known(&mut self, thread: Thread) -> &mut Known {
        if !self.threads.contains_key(&thread) {
            let core = if let Thread::Call(core) = thread {
                core
            } else {
                self.emptiest()
            };
            let known = Known {
                account: self.cores[core].floor,
                admitted: self.cores[core].floor,
                core,
                ran: Time::ZERO,
            };
            self.threads.insert(thread, known);
        }
        self.threads.get_mut(&thread).expect("it is known now")
    }

    fn emptiest(&self) -> usize {
        let homes = |core: usize| self.threads.values().filter(|it| it.core == core).count();
        let all = 0..self.cores.len();
        all.min_by_key(|&core| (homes(core), core)).unwrap_or(0)
    }

    fn account(&self, thread: Thread) -> u64 {
        self.threads.get(&thread).map_or(0, |known| known.account)
    }

    /// Time passes: before anything that changes who has a core or waits for one.
    fn pass(&mut self, now: Time) {
        let passed = now.nanos().saturating_sub(self.counted.nanos());
        self.counted = now;
        let busy = self.cores.iter().filter(|it| it.holder.is_some()).count();
        if busy < self.cores.len() && self.cores.iter().any(|it| !it.ready.is_empty()) {
            self.queueing.beside_nanos += passed;
        }
    }

    /// A thread is called, by who has or had the core `by`: where it will wake.
    pub(crate) fn call(&mut self, thread: Thread, by: Option<usize>, tape: &mut Tape) -> Called {
        let core = self.place(thread, by, tape);
        self.transfer(thread, core);
        let it = &mut self.cores[core];
        let asleep = it.is_idle().then_some(it.asleep);
        it.coming += 1;
        Called { core, asleep }
    }

    fn place(&mut self, thread: Thread, by: Option<usize>, tape: &mut Tape) -> usize {
        let Known {
            core: home,
            account,
            admitted,
            ..
        } = *self.known(thread);
        if self.cores[home].is_idle() {
            return home;
        }
        let idle = self.cores.iter().position(Core::is_idle);
        if let Some(idle) = idle
            && tape.chance(PLACE, self.search)
        {
            return idle;
        }
        let is_short = account - admitted <= LONG_NANOS;
        match by {
            Some(by) if by != home && is_short && tape.chance(PLACE, FOLLOWS) => by,
            Some(_) | None => home,
        }
    }

    /// A thread's core is another one from here on.
    fn transfer(&mut self, thread: Thread, to: usize) {
        let from = self.core_of(thread);
        if from == to {
            return;
        }
        let (before, after) = (self.cores[from].floor, self.cores[to].floor);
        let known = self.known(thread);
        known.core = to;
        let used = known.account - known.admitted;
        known.account = (known.account + after).saturating_sub(before);
        known.admitted = known.account.saturating_sub(used);
    }

    /// A thread that was called to a core is awake, or is no more.
    pub(crate) fn arrived(&mut self, core: usize) {
        self.cores[core].coming -= 1;
    }

    /// A core has nothing to do any more.
    fn rest(&mut self, core: usize, now: Time) {
        self.pass(now);
        let it = &mut self.cores[core];
        it.running = None;
        it.asleep = now;
        let Some(thread) = it.holder.take() else {
            return;
        };
        self.known(thread).ran = now;
    }

    /// The core that a thread has is free again; which one that is.
    pub(crate) fn free(&mut self, thread: Thread, now: Time) -> usize {
        let core = self.core_of(thread);
        debug_assert_eq!(self.cores[core].holder, Some(thread), "it has that core");
        self.rest(core, now);
        core
    }

    /// A thread is no more; the core that it worked on.
    pub(crate) fn forget(&mut self, gone: Thread, now: Time) -> Option<usize> {
        self.pass(now);
        for core in &mut self.cores {
            core.ready.retain(|one| one.thread != gone);
        }
        let core = self.threads.get(&gone)?.core;
        let it = &self.cores[core];
        let works = it.holder == Some(gone) && it.running.is_some();
        if works {
            self.rest(core, now);
        }
        works.then_some(core)
    }

    /// What the account of whoever works on a core is now.
    fn standing(&self, core: usize, now: Time) -> Option<u64> {
        let it = &self.cores[core];
        let (thread, running) = (it.holder?, it.running?);
        Some(self.account(thread) + (now.nanos() - running.since.nanos()))
    }

    fn raise_floor(&mut self, core: usize, now: Time) {
        let running = self.standing(core, now);
        let ready = self.cores[core].ready.iter();
        let ready = ready.map(|one| self.account(one.thread));
        if let Some(least) = running.into_iter().chain(ready).min() {
            let floor = &mut self.cores[core].floor;
            *floor = (*floor).max(least);
        }
    }

    /// A thread wants its core, and takes it from whoever has used more; which one that is.
    pub(crate) fn enter(&mut self, waiting: Waiting, now: Time) -> usize {
        self.pass(now);
        self.admit(waiting.thread, now);
        let core = self.core_of(waiting.thread);
        self.cores[core].ready.push(waiting);
        self.interrupt(core, waiting.thread, now);
        core
    }

    /// A thread is awake: what it did not use while it slept it does not get.
    fn admit(&mut self, thread: Thread, now: Time) {
        let core = self.core_of(thread);
        self.raise_floor(core, now);
        let floor = self.cores[core].floor;
        let known = self.known(thread);
        known.account = known.account.max(floor);
        known.admitted = known.account;
    }

    fn interrupt(&mut self, core: usize, newcomer: Thread, now: Time) {
        let Some(standing) = self.standing(core, now) else {
            return;
        };
        let it = &mut self.cores[core];
        let (Some(thread), Some(running)) = (it.holder, it.running) else {
            return;
        };
        if standing <= self.account(newcomer) || running.ends <= now {
            return;
        }
        self.known(thread).account = standing;
        let it = &mut self.cores[core];
        it.ready.push(Waiting {
            since: now,
            thread,
            what: What::Rest(running.ends.nanos() - now.nanos()),
        });
        self.rest(core, now);
    }

    /// Who gets a core that nobody has: the smallest account, and among equals who came first. If nobody waits for it,
    /// it takes who waits elsewhere and has not run for a while.
    pub(crate) fn next(&mut self, core: usize, now: Time) -> Option<Waiting> {
        if self.cores[core].holder.is_some() {
            return None;
        }
        if self.cores[core].ready.is_empty() {
            if self.cores[core].sleeps < SLEEP_NANOS {
                return None;
            }
            let from = self.crowded(core)?;
            self.take(core, from, HOT_NANOS, now);
        }
        let all = self.cores[core].ready.iter().enumerate();
        let (_, at) = all.map(|(at, one)| (self.account(one.thread), at)).min()?;
        self.pass(now);
        let it = &mut self.cores[core];
        let slept = now.nanos() - it.asleep.nanos();
        if slept > 0 {
            it.sleeps = (it.sleeps * 7 + slept.min(2 * SLEEP_NANOS)) / 8;
        }
        it.granted = now;
        let one = it.ready.remove(at);
        it.holder = Some(one.thread);
        Some(one)
    }

    /// Another core for which somebody waits: that with most of them.
    fn crowded(&self, core: usize) -> Option<usize> {
        let others = (0..self.cores.len()).filter(|&other| other != core);
        let others = others.filter(|&other| !self.cores[other].ready.is_empty());
        others.max_by_key(|&other| self.cores[other].ready.len())
    }

    /// Takes the thread that waits longest of those that have not run for so long; whether there is one.
    fn take(&mut self, core: usize, from: usize, nanos: u64, now: Time) -> bool {
        let ready = &self.cores[from].ready;
        let at = ready.iter().position(|one| {
            let Some(known) = self.threads.get(&one.thread) else {
                return false;
            };
            let is_bound = matches!(one.thread, Thread::Call(_));
            !is_bound && now.nanos() - known.ran.nanos() >= nanos
        });
        let Some(at) = at else {
            return false;
        };
        let one = self.cores[from].ready.remove(at);
        self.transfer(one.thread, core);
        self.cores[core].ready.push(one);
        true
    }

    /// What the system looks after now and then. Which cores that sleep have something to do behind it.
    pub(crate) fn tick(&mut self, now: Time) -> Vec<usize> {
        let mut woken = Vec::new();
        if now < self.next_tick {
            return woken;
        }
        let ticks = now.nanos() / TICK_NANOS + 1;
        self.next_tick = Time::from_nanos(ticks.saturating_mul(TICK_NANOS));
        self.pass(now);
        for core in 0..self.cores.len() {
            if !self.cores[core].is_idle() {
                continue;
            }
            let Some(from) = self.crowded(core) else {
                continue;
            };
            let vain = self.cores[core].vain;
            let nanos = if vain < LOOKS_IN_VAIN { HOT_NANOS } else { 0 };
            if self.take(core, from, nanos, now) {
                self.cores[core].vain = 0;
                woken.push(core);
            } else {
                self.cores[core].vain += 1;
            }
        }
        woken
    }

    /// Whether a thread has had its core for long enough, while others wait for it.
    pub(crate) fn is_over(&self, thread: Thread, now: Time) -> bool {
        let core = self.threads.get(&thread).map(|known| known.core);
        core.is_some_and(|core| {
            let it = &self.cores[core];
            let had = now.nanos() - it.granted.nanos();
            !it.ready.is_empty() && had >= SLICE_NANOS
        })
    }

    /// A thread that has a core works so long; the number of that piece, and when it ends.
    pub(crate) fn begin(&mut self, thread: Thread, nanos: u64, now: Time) -> (u64, Time) {
        let core = self.core_of(thread);
        debug_assert_eq!(self.cores[core].holder, Some(thread), "it has that core");
        self.serial += 1;
        let ends = Time::from_nanos(now.nanos().saturating_add(nanos));
        self.cores[core].running = Some(Running {
            since: now,
            ends,
            serial: self.serial,
        });
        (self.serial, ends)
    }

    /// A piece of work is done, if it was not interrupted meanwhile: whose it was. It has its core still.
    pub(crate) fn end(&mut self, serial: u64, now: Time) -> Option<Thread> {
        let is_it = |core: &Core| core.running.is_some_and(|one| one.serial == serial);
        let core = self.cores.iter().position(is_it)?;
        let standing = self.standing(core, now)?;
        let it = &mut self.cores[core];
        it.running = None;
        let thread = it.holder?;
        self.known(thread).account = standing;
        Some(thread)
    }

    /// Whether the caller's own thread has a core.
    pub(crate) fn has_errand(&self) -> bool {
        let mut all = self.cores.iter();
        all.any(|core| core.holder == Some(Thread::Errand))
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

    /// A host whose system never looks for idle cores.
    fn host(cores: usize) -> Host {
        Host::new(HostSpec { cores, search: 0 })
    }

    /// A thread of that core wants it for whatever it finds.
    fn wants(host: &mut Host, (thread, core): (Thread, usize), now: u64) {
        host.transfer(thread, core);
        let waiting = Waiting {
            since: at(now),
            thread,
            what: What::Next,
        };
        assert_eq!(host.enter(waiting, at(now)), core);
    }

    fn granted(host: &mut Host, core: usize, now: u64) -> Option<Thread> {
        host.next(core, at(now)).map(|one| one.thread)
    }

    /// A thread works on that core from then on, until then.
    fn works(host: &mut Host, (thread, core): (Thread, usize), (from, until): (u64, u64)) {
        wants(host, (thread, core), from);
        assert_eq!(granted(host, core, from), Some(thread));
        host.begin(thread, until - from, at(from));
    }

    #[test]
    fn a_core_goes_to_who_has_used_least_and_among_equals_to_who_came_first() {
        let mut host = host(1);
        host.known(WORKER).account = 700;
        for thread in [LOG, ENGINE, WORKER] {
            wants(&mut host, (thread, 0), 0);
        }
        assert_eq!(granted(&mut host, 0, 0), Some(LOG));
        assert_eq!(granted(&mut host, 0, 0), None, "there is one core");
        host.free(LOG, at(0));
        assert_eq!(granted(&mut host, 0, 0), Some(ENGINE));
        host.free(ENGINE, at(0));
        assert_eq!(granted(&mut host, 0, 0), Some(WORKER));
    }

    #[test]
    fn who_wakes_takes_its_core_from_who_has_used_more_and_that_one_keeps_its_rest() {
        let mut host = host(2);
        host.known(WORKER).account = 500;
        works(&mut host, (WORKER, 0), (1_000, 1_900));
        // A thread that waits has used less, so that the floor is low.
        host.transfer(LOG, 0);
        let waiting = Waiting {
            since: at(1_000),
            thread: LOG,
            what: What::Next,
        };
        host.cores[0].ready.push(waiting);
        wants(&mut host, (ENGINE, 0), 1_300);
        assert_eq!(host.account(WORKER), 800, "500 and 300 of its piece");
        let rests: Vec<u64> = host.cores[0]
            .ready
            .iter()
            .filter_map(|one| match one.what {
                What::Rest(nanos) if one.thread == WORKER => Some(nanos),
                What::Rest(_) | What::Next | What::Alarm(_) => None,
            })
            .collect();
        assert_eq!(rests, [600]);
        assert!(host.cores[1].is_idle(), "another core is none of theirs");
    }

    #[test]
    fn who_sleeps_saves_nothing_up_and_an_equal_takes_nobody_s_core() {
        let mut host = host(1);
        host.known(WORKER).account = 9_000;
        works(&mut host, (WORKER, 0), (0, 5_000));
        wants(&mut host, (ENGINE, 0), 2_000);
        assert_eq!(host.account(ENGINE), 11_000, "what the worker stands at");
        assert_eq!(host.cores[0].holder, Some(WORKER));
    }

    #[test]
    fn a_thread_wakes_where_it_ran_last_and_waits_there_while_another_core_sleeps() {
        let mut host = host(2);
        let mut tape = Tape::fresh(1);
        host.transfer(ENGINE, 0);
        let called = host.call(ENGINE, Some(0), &mut tape);
        let woken = (called.core, called.asleep);
        assert_eq!(woken, (0, Some(Time::ZERO)));
        host.arrived(0);
        works(&mut host, (WORKER, 0), (0, 90_000));
        for _ in 0..100 {
            let called = host.call(ENGINE, Some(0), &mut tape);
            assert_eq!((called.core, called.asleep), (0, None));
            host.arrived(0);
        }
        wants(&mut host, (ENGINE, 0), 1_000);
        assert!(granted(&mut host, 1, 1_000).is_none(), "it has run lately");
        host.free(WORKER, at(50_000));
        assert_eq!(host.queueing.beside_nanos, 49_000);
    }

    #[test]
    fn where_idle_cores_are_looked_for_it_wakes_on_one() {
        let mut host = Host::new(HostSpec::of(3));
        works(&mut host, (WORKER, 1), (0, 90_000));
        host.transfer(ENGINE, 1);
        let called = host.call(ENGINE, Some(1), &mut Tape::fresh(1));
        assert_eq!(called.core, 0);
    }

    #[test]
    fn now_and_then_a_short_thread_follows_who_calls_it() {
        let follows = |used: u64| {
            let mut host = host(2);
            let mut tape = Tape::fresh(7);
            works(&mut host, (WORKER, 0), (0, 90_000));
            works(&mut host, (LOG, 1), (0, 90_000));
            let all = (0..2_000).filter(|_| {
                host.transfer(ENGINE, 0);
                host.known(ENGINE).admitted = 0;
                host.known(ENGINE).account = used;
                let core = host.call(ENGINE, Some(1), &mut tape).core;
                host.arrived(core);
                core == 1
            });
            all.count()
        };
        let short = follows(LONG_NANOS);
        assert!((60..140).contains(&short), "{short} of 2000");
        assert_eq!(follows(LONG_NANOS + 1), 0);
    }

    #[test]
    fn a_core_without_work_takes_who_has_not_run_for_a_while() {
        let mut host = host(2);
        host.cores[1].sleeps = SLEEP_NANOS;
        host.known(ENGINE).ran = at(0);
        works(&mut host, (WORKER, 0), (0, 9_000_000));
        wants(&mut host, (ENGINE, 0), 100);
        assert_eq!(granted(&mut host, 1, HOT_NANOS - 1), None);
        assert_eq!(granted(&mut host, 1, HOT_NANOS), Some(ENGINE));
        assert_eq!(host.core_of(ENGINE), 1);
    }

    #[test]
    fn a_core_that_sleeps_takes_who_has_run_lately_after_it_looked_in_vain() {
        let mut host = host(2);
        assert_eq!(host.tick(at(1)), [0; 0]);
        works(&mut host, (WORKER, 0), (1, 90_000_000));
        wants(&mut host, (ENGINE, 0), 1);
        let mut looks = Vec::new();
        for tick in 1..=3 {
            let now = at(tick * TICK_NANOS);
            host.known(ENGINE).ran = now;
            looks.push(host.tick(now).len());
        }
        assert_eq!(looks, [0, 0, 1]);
        assert_eq!(granted(&mut host, 1, 3 * TICK_NANOS), Some(ENGINE));
    }

    #[test]
    fn who_has_had_a_core_for_long_gives_it_to_others() {
        let mut host = host(1);
        works(&mut host, (WORKER, 0), (0, 9_000_000));
        assert!(!host.is_over(WORKER, at(SLICE_NANOS)), "nobody waits");
        wants(&mut host, (ENGINE, 0), 100);
        assert!(!host.is_over(WORKER, at(SLICE_NANOS - 1)));
        assert!(host.is_over(WORKER, at(SLICE_NANOS)));
    }

    #[test]
    fn a_thread_that_is_no_more_wants_nothing_and_its_core_is_known() {
        let mut host = host(1);
        works(&mut host, (ENGINE, 0), (0, 100));
        wants(&mut host, (LOG, 0), 0);
        assert_eq!(host.forget(ENGINE, at(50)), Some(0), "it had a core");
        assert_eq!(host.forget(LOG, at(50)), None, "it waited for one");
        assert!(host.cores[0].is_idle());
    }
}
