//! A keyspace on a virtual disk, driven one entry at a time, its log kept by the test.

use bytes::Bytes;
use holm_base::{Op, Term, Time};
use holm_kv::command::{Caller, Command, Proposal};
use holm_kv::outcome::{Applied, Outcome};
use holm_kv::{Config, Keyspace, Refusal};
use holm_virtual::{Storage, Survival};

/// A keyspace, and all entries that it was given.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) keyspace: Keyspace,
    pub(crate) now: Time,
    pub(crate) term: Term,
    storage: Storage,
    config: Config,
    log: Vec<(Term, Bytes)>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let storage = Storage::new();
        let (now, term) = (Time::ZERO, Term::new(1));
        let mut keyspace =
            Keyspace::open(storage.root(), config.clone()).expect("an empty folder opens");
        keyspace.lead(now, term);
        let mut site = Self {
            keyspace,
            now,
            term,
            storage,
            config,
            log: Vec::new(),
        };
        site.publish();
        site
    }

    /// Orders, applies and publishes one command that nobody in particular asks for.
    pub(crate) fn apply(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.ask(None, command).result
    }

    pub(crate) fn ask(&mut self, caller: Option<Caller>, command: Command) -> Applied {
        let applied = self.order(caller, command);
        self.publish();
        applied
    }

    /// Orders and applies, but leaves publishing for later.
    pub(crate) fn order(&mut self, caller: Option<Caller>, command: Command) -> Applied {
        let body = Proposal { caller, command }.encode();
        self.log.push((self.term, body.clone()));
        let op = Op::new(u64::try_from(self.log.len()).expect("few"));
        self.keyspace.apply(self.now, op, self.term, &body)
    }

    pub(crate) fn publish(&mut self) {
        let mut woken = Vec::new();
        self.keyspace.publish(&mut woken);
        self.keyspace.hub().wake(&woken);
    }

    /// Does all work that is due beside the engine.
    pub(crate) fn work(&mut self) {
        while self.keyspace.sweep() {}
        while let Some(job) = self.keyspace.next_job(self.now) {
            let done = job.run();
            self.keyspace.finish(done).expect("the disk is well");
        }
    }

    /// Crashes, losing all that was not synced, and comes back with the log replayed.
    pub(crate) fn restart(&mut self) {
        self.storage = self.storage.reopen(Survival::Drop);
        let folder = self.storage.root();
        self.keyspace = Keyspace::open(folder, self.config.clone()).expect("it opens again");
        let applied = usize::try_from(self.keyspace.applied().value()).expect("few");
        for (at, (term, body)) in self.log.iter().enumerate().skip(applied) {
            let op = Op::new(u64::try_from(at).expect("few") + 1);
            drop(self.keyspace.apply(Time::ZERO, op, *term, body));
        }
        self.term = self.term.next();
        self.keyspace.lead(self.now, self.term);
        self.publish();
    }
}
