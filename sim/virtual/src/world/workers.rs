//! A node's workers: threads that carry its messages, and serve what its caller has for them.
//!
//! What would surprise: a worker that is called by another thread calls the next one as soon as it has found something,
//! and that one often finds nothing. So do the threads of the runtime that the real front uses.

use std::collections::VecDeque;
use std::fmt;

use holm_base::Time;

use crate::node::Node;
use crate::world::host::Thread;
use crate::world::wakes::Waker;
use crate::world::{Item, Moment, World};

/// No alarm of a caller's.
const NOBODY: u64 = u64::MAX;

/// How often a worker that is busy with its sockets looks at what other threads have for it.
const LOOK_NANOS: u64 = 200_000;

/// Something for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// What waits for this node is to leave.
    Write(usize),
    /// What has come from this node is to be read.
    Read(usize),
    /// Of the world's caller, who hears this alarm.
    Errand(u64),
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Asleep,
    /// It wakes, or waits for a core: whether it was called by another thread, and what waking costs it.
    Called(Caller, u64),
    /// It has a core, and this to do.
    On(Job),
    /// It does what the caller asked for, who will hear this alarm.
    Lent(u64),
    /// The caller has heard that alarm, and may have more for it.
    Returned(u64),
    /// It does the work of the engine's thread.
    StandIn,
    /// It has a core, and has found nothing.
    Idling,
}

/// Who has something for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A socket.
    Socket,
    /// A thread that is none of the workers.
    Thread,
}

/// All workers of a node.
pub(crate) struct Pool<N: Node> {
    workers: Vec<Worker>,
    /// What sockets have, and workers themselves.
    jobs: VecDeque<Job>,
    /// What other threads have.
    called: VecDeque<Job>,
    /// When each worker last looked at that.
    looked: Vec<Time>,
    /// Who turned to something last.
    pub(crate) last: usize,
    /// By the other node: what waits to be written.
    leaving: Vec<Vec<(N::Message, u64)>>,
    /// And to be read.
    come: Vec<Vec<(N::Input, u64)>>,
    /// What a worker has taken of either.
    taken: Vec<Vec<(N::Message, u64)>>,
    opened: Vec<Vec<N::Input>>,
    /// What it has spent on waking, and not yet used a core for.
    owed: Vec<u64>,
}

impl<N: Node> Clone for Pool<N> {
    fn clone(&self) -> Self {
        Self {
            workers: self.workers.clone(),
            jobs: self.jobs.clone(),
            called: self.called.clone(),
            looked: self.looked.clone(),
            last: self.last,
            leaving: self.leaving.clone(),
            come: self.come.clone(),
            taken: self.taken.clone(),
            opened: self.opened.clone(),
            owed: self.owed.clone(),
        }
    }
}

impl<N: Node> fmt::Debug for Pool<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.workers)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

impl<N: Node> Pool<N> {
    pub(crate) fn new(workers: usize, nodes: usize) -> Self {
        let lanes = if workers == 0 { 0 } else { nodes };
        Self {
            workers: vec![Worker::Asleep; workers],
            jobs: VecDeque::new(),
            called: VecDeque::new(),
            looked: vec![Time::ZERO; workers],
            last: 0,
            leaving: (0..lanes).map(|_| Vec::new()).collect(),
            come: (0..lanes).map(|_| Vec::new()).collect(),
            taken: (0..workers).map(|_| Vec::new()).collect(),
            opened: (0..workers).map(|_| Vec::new()).collect(),
            owed: vec![0; workers],
        }
    }

    /// Whether messages go through workers.
    pub(crate) const fn is_used(&self) -> bool {
        !self.workers.is_empty()
    }

    /// Messages are lost; what the caller wants done is not.
    pub(crate) fn clear(&mut self) {
        let all = self.leaving.iter_mut().chain(&mut self.taken);
        all.for_each(Vec::clear);
        self.come.iter_mut().for_each(Vec::clear);
        self.opened.iter_mut().for_each(Vec::clear);
        for jobs in [&mut self.jobs, &mut self.called] {
            jobs.retain(|job| matches!(job, Job::Errand(_)));
        }
    }

    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.called.is_empty()
    }

    /// What a worker turns to next: mostly what its sockets have.
    fn next_job(&mut self, worker: usize, now: Time) -> Option<Job> {
        let is_due = now.nanos() - self.looked[worker].nanos() >= LOOK_NANOS;
        if is_due || self.jobs.is_empty() {
            self.looked[worker] = now;
            let called = self.called.pop_front();
            return called.or_else(|| self.jobs.pop_front());
        }
        self.jobs.pop_front()
    }
}

impl<N: Node> World<N> {
    /// Asks for a worker of a node: [`World::advance`] answers [`Moment::Alarm`](crate::Moment::Alarm) with `token`
    /// once one has a core and turns to it. It is the caller's until [`World::use_worker`]. What waking one cost the
    /// caller's own thread, if it was that which has something, and not the node's engine.
    ///
    /// # Panics
    ///
    /// If the node has no workers.
    pub fn ask_worker(&mut self, node: holm_base::NodeId, token: u64, caller: Caller) -> u64 {
        let node = self.index(node);
        assert!(self.processes[node].pool.is_used(), "it has workers");
        let waker = match caller {
            Caller::Socket => Waker::Caller,
            Caller::Thread => Waker::Engine(node),
        };
        self.call(node, Job::Errand(token), (caller, waker))
    }

    /// Uses the worker that turned to `asked` so long; then it goes on, and the alarm is `token`.
    ///
    /// # Panics
    ///
    /// If no worker turned to that.
    pub fn use_worker(&mut self, node: holm_base::NodeId, asked: u64, work: (u64, u64)) {
        let node = self.index(node);
        let mut workers = self.processes[node].pool.workers.iter();
        let worker = workers.position(|one| *one == Worker::On(Job::Errand(asked)));
        self.lend(node, worker.expect("a worker has turned to it"), work);
    }

    /// Uses the worker whose alarm `heard` has just been, for so long more; then the alarm is `token`.
    ///
    /// # Panics
    ///
    /// If that worker has gone on to something else.
    pub fn keep_worker(&mut self, node: holm_base::NodeId, heard: u64, work: (u64, u64)) {
        let node = self.index(node);
        let mut workers = self.processes[node].pool.workers.iter();
        let worker = workers.position(|one| *one == Worker::Returned(heard));
        self.lend(node, worker.expect("its alarm was the last"), work);
    }

    fn lend(&mut self, node: usize, worker: usize, (nanos, token): (u64, u64)) {
        let process = &mut self.processes[node];
        process.pool.workers[worker] = Worker::Lent(token);
        let (host, more) = (
            process.spec.host,
            std::mem::take(&mut process.pool.owed[worker]),
        );
        self.hosts[host].queueing.busy_nanos += nanos;
        self.run_for(host, Thread::Worker(node, worker), nanos + more);
    }

    /// Whether whoever runs the engine writes a message itself, for to wake another costs more: as it is with what it
    /// may read of little by itself.
    pub(crate) fn speaks(&self, source: usize, size: u64) -> bool {
        let driver = self.processes[source].driver.as_ref();
        driver.is_some_and(|it| it.machine().attends(size))
    }

    /// A message leaves at once, on the core of whoever runs the engine: it pays for that with the next it does.
    pub(crate) fn speak(
        &mut self,
        source: usize,
        target: usize,
        (message, size): (N::Message, u64),
    ) {
        let process = &mut self.processes[source];
        let work = process.spec.work;
        let takes = work.write_nanos + size * work.kib_nanos / 1024 + work.message_nanos;
        process.spoken.writes += 1;
        process.spoken.nanos += takes;
        process.usage.writes += 1;
        process.usage.link_bytes += size;
        let at = Time::from_nanos(self.now.nanos().saturating_add(takes));
        let link = &mut self.links[source * self.processes.len() + target];
        let passage = link.send(at, size, &mut self.tape);
        self.pass(source, target, (passage, message));
    }

    /// A message is to leave through a worker.
    pub(crate) fn hand_out(&mut self, source: usize, target: usize, message: (N::Message, u64)) {
        let lane = &mut self.processes[source].pool.leaving[target];
        lane.push(message);
        if lane.len() == 1 {
            let by = (Caller::Thread, Waker::Engine(source));
            self.call(source, Job::Write(target), by);
        }
    }

    /// A message has come to the socket.
    pub(crate) fn take_in(&mut self, source: usize, target: usize, input: (N::Input, u64)) {
        let lane = &mut self.processes[target].pool.come[source];
        lane.push(input);
        if lane.len() == 1 {
            let by = (Caller::Socket, Waker::Worker(source));
            self.call(target, Job::Read(source), by);
        }
    }

    /// What a worker wants done itself it turns to next, and calls nobody for the first of it.
    fn call(&mut self, node: usize, job: Job, (caller, waker): (Caller, Waker)) -> u64 {
        let process = &mut self.processes[node];
        let mut all = process.pool.workers.iter();
        let is_own = caller == Caller::Thread
            && all.any(|one| matches!(one, Worker::StandIn | Worker::Returned(_)));
        let pool = &mut process.pool;
        if is_own || caller == Caller::Socket {
            pool.jobs.push_back(job);
        } else {
            pool.called.push_back(job);
        }
        match (is_own, pool.jobs.len() + pool.called.len()) {
            (true, 1) => 0,
            (true, _) => self.call_one(node, (Caller::Socket, waker)),
            (false, _) => self.call_one(node, (caller, waker)),
        }
    }

    /// Wakes a worker, if one sleeps and none is on its way; what that cost the world's caller.
    fn call_one(&mut self, node: usize, (caller, waker): (Caller, Waker)) -> u64 {
        let workers = &self.processes[node].pool.workers;
        if workers.iter().any(|one| matches!(one, Worker::Called(..))) {
            return 0;
        }
        let Some(worker) = workers.iter().position(|one| *one == Worker::Asleep) else {
            return 0;
        };
        let woken = self.wake(node, Thread::Worker(node, worker), waker);
        let process = &mut self.processes[node];
        process.pool.workers[worker] = Worker::Called(caller, woken.own_nanos);
        process.usage.worker_wakes += 1;
        process.usage.worker_timed_nanos += woken.own_nanos;
        process.usage.cold += u64::from(woken.is_cold);
        let core = woken.core;
        self.agenda
            .add(woken.at, Item::WorkerAwake { node, worker, core });
        woken.call_nanos
    }

    pub(crate) fn worker_awake(&mut self, node: usize, worker: usize, core: usize) {
        self.is_up_again(node, core);
        let host = self.processes[node].spec.host;
        self.queue(host, Thread::Worker(node, worker));
    }

    /// A worker has a core; whether it uses it.
    pub(crate) fn begin_job(&mut self, node: usize, worker: usize) -> bool {
        let process = &mut self.processes[node];
        process.pool.last = worker;
        let host = process.spec.host;
        let called = match process.pool.workers[worker] {
            Worker::Called(by, nanos) => Some((by, nanos)),
            Worker::Asleep
            | Worker::On(_)
            | Worker::Lent(_)
            | Worker::Returned(_)
            | Worker::StandIn
            | Worker::Idling => None,
        };
        let woken = called.map_or(0, |(_, nanos)| nanos);
        let called = called.map(|(by, _)| by);
        let Some(job) = process.pool.next_job(worker, self.now) else {
            process.pool.workers[worker] = Worker::Idling;
            let nanos = self.spend(node, woken);
            self.run_for(host, Thread::Worker(node, worker), nanos);
            return true;
        };
        process.pool.workers[worker] = Worker::On(job);
        let must_call = !process.pool.is_empty() || called == Some(Caller::Thread);
        let nanos = woken + self.take_job(node, worker, job);
        let nanos = self.spend(node, nanos);
        if let Job::Errand(token) = job {
            self.processes[node].pool.owed[worker] = nanos;
            self.agenda.add(self.now, Item::Alarm(token));
        } else {
            self.run_for(host, Thread::Worker(node, worker), nanos);
        }
        if must_call {
            let by = called.unwrap_or(Caller::Socket);
            self.call_one(node, (by, Waker::Worker(node)));
        }
        true
    }

    /// Takes what a job is about; what it costs.
    fn take_job(&mut self, node: usize, worker: usize, job: Job) -> u64 {
        let process = &mut self.processes[node];
        let work = process.spec.work;
        let (messages, fixed): (usize, u64) = match job {
            Job::Write(target) => {
                let taken = std::mem::take(&mut process.pool.leaving[target]);
                let bytes: u64 = taken.iter().map(|(_, size)| size).sum();
                let count = taken.len();
                process.pool.taken[worker] = taken;
                process.usage.writes += 1;
                process.usage.link_bytes += bytes;
                (count, work.write_nanos + bytes * work.kib_nanos / 1024)
            }
            Job::Read(source) => {
                let come = std::mem::take(&mut process.pool.come[source]);
                let bytes: u64 = come.iter().map(|(_, size)| size).sum();
                let count = come.len();
                process.pool.opened[worker] = come.into_iter().map(|(input, _)| input).collect();
                process.usage.reads += 1;
                process.usage.read_bytes += bytes;
                (count, work.read_nanos + bytes * work.read_kib_nanos / 1024)
            }
            Job::Errand(_) => return 0,
        };
        let count = u64::try_from(messages).expect("lanes are short");
        fixed + count * work.message_nanos
    }

    /// A worker is done with what it did.
    pub(crate) fn served(&mut self, node: usize, worker: usize) -> Moment {
        let pool = &mut self.processes[node].pool;
        pool.last = worker;
        let did = pool.workers[worker];
        let now = self.now;
        match did {
            Worker::On(Job::Write(target)) => {
                let taken = std::mem::take(&mut self.processes[node].pool.taken[worker]);
                for (message, size) in taken {
                    self.depart(node, target, (message, size));
                }
            }
            Worker::On(Job::Read(_)) => {
                if self.attend(node, worker) {
                    return Moment::Happened;
                }
            }
            Worker::Lent(token) => {
                // Behind what the caller makes of it.
                self.processes[node].pool.workers[worker] = Worker::Returned(token);
                self.agenda.add(now, Item::GoesOn { node, worker });
                return Moment::Alarm(token);
            }
            Worker::On(Job::Errand(_))
            | Worker::Idling
            | Worker::Asleep
            | Worker::Returned(_)
            | Worker::StandIn
            | Worker::Called(..) => {}
        }
        self.go_on(node, worker);
        Moment::Happened
    }

    /// Hands over what a worker has read. While the engine's thread sleeps, and there is little,
    /// the worker does its work; whether it does.
    fn attend(&mut self, node: usize, worker: usize) -> bool {
        let process = &mut self.processes[node];
        let opened = std::mem::take(&mut process.pool.opened[worker]);
        let bytes = opened.iter().map(N::input_size).sum();
        let driver = process.driver.as_ref();
        let is_idle = !process.is_held() && driver.is_some_and(|it| it.waiting() == 0);
        if !is_idle || !driver.is_some_and(|it| it.machine().attends(bytes)) {
            for input in opened {
                self.offer(node, input);
            }
            return false;
        }
        for input in opened {
            self.take_or_drop(node, input);
        }
        self.stands_in(node, worker)
    }

    /// A worker that has a core does the engine's work, if there is any.
    fn stands_in(&mut self, node: usize, worker: usize) -> bool {
        let before = self.processes[node].pool.workers[worker];
        self.processes[node].pool.workers[worker] = Worker::StandIn;
        let works = self.stand_in(node, worker);
        if !works {
            self.processes[node].pool.workers[worker] = before;
        }
        works
    }

    /// A request that is alone: the worker that the caller has in hand works it off, if the
    /// engine's thread sleeps; whether it does.
    pub(crate) fn stay(&mut self, node: usize) -> bool {
        let mut workers = self.processes[node].pool.workers.iter();
        let worker = workers.position(|one| matches!(one, Worker::Returned(_)));
        worker.is_some_and(|worker| self.stands_in(node, worker))
    }

    /// A worker that stood in for the engine has no core any more.
    pub(crate) fn dismiss(&mut self, node: usize, worker: usize) {
        let pool = &mut self.processes[node].pool;
        pool.workers[worker] = Worker::Asleep;
        if !pool.is_empty() {
            self.call_one(node, (Caller::Socket, Waker::Worker(node)));
        }
    }

    /// A worker has stood in for the engine, and has its core: it goes on behind what the caller makes of that.
    pub(crate) fn stood_in(&mut self, node: usize, worker: usize) {
        self.processes[node].pool.workers[worker] = Worker::Returned(NOBODY);
        self.agenda.add(self.now, Item::GoesOn { node, worker });
    }

    /// The caller has what a worker did for it, and the worker goes on unless it was kept.
    pub(crate) fn came_back(&mut self, node: usize, worker: usize) {
        if matches!(
            self.processes[node].pool.workers[worker],
            Worker::Returned(_)
        ) {
            self.go_on(node, worker);
        }
    }

    /// A worker that has a core turns to the next thing, or sleeps.
    pub(crate) fn go_on(&mut self, node: usize, worker: usize) {
        let host = self.processes[node].spec.host;
        let pool = &mut self.processes[node].pool;
        if pool.is_empty() {
            pool.workers[worker] = Worker::Asleep;
            return self.release(host, Thread::Worker(node, worker));
        }
        pool.workers[worker] = Worker::Idling;
        let thread = Thread::Worker(node, worker);
        if self.hosts[host].is_over(thread, self.now) {
            self.queue(host, thread);
            return self.release(host, thread);
        }
        self.begin_job(node, worker);
    }

    fn depart(&mut self, source: usize, target: usize, (message, size): (N::Message, u64)) {
        let link = &mut self.links[source * self.processes.len() + target];
        let passage = link.send(self.now, size, &mut self.tape);
        self.pass(source, target, (passage, message));
    }
}
