//! Three sites, the network between them, and the clock. Everything is drawn from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{NodeId, Prng, RequestId, Time};
use holm_kv::command::{Command, Proposal, Put};
use holm_raft::RoleName;
use holm_replica::{Answer, Input};
use holm_virtual::Survival;

use crate::site::Site;

const TICK: Duration = Duration::from_millis(5);

/// How hostile the world is, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub loss: u64,
    pub late: u64,
    /// How often a site's disk is not done within a tick.
    pub slow: u64,
}

/// A frame between two sites.
struct Letter {
    due: Time,
    from: usize,
    to: usize,
    kind: u8,
    body: Bytes,
}

/// Three sites.
pub struct World {
    pub sites: Vec<Site>,
    pub now: Time,
    pub prng: Prng,
    pub weather: Weather,
    /// Whether each message comes twice.
    pub is_doubled: bool,
    /// Sites that nobody hears.
    pub cut: BTreeSet<usize>,
    mail: Vec<Letter>,
    next_request: u64,
    /// What was asked and not answered: where, and what.
    pub asked: BTreeMap<u64, (usize, Asked)>,
    pub done: Vec<(Asked, Answer)>,
    /// Keys whose puts were acknowledged.
    pub acknowledged: BTreeSet<String>,
    /// The highest revision that anybody was told.
    pub told: i64,
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Put(String),
    Read { at_least: i64 },
    Other,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let voters = [1, 2, 3];
        let mut world = Self {
            sites: voters.iter().map(|it| Site::new(*it, &voters)).collect(),
            now: Time::ZERO,
            prng: Prng::new(seed),
            weather: Weather::default(),
            is_doubled: false,
            cut: BTreeSet::new(),
            mail: Vec::new(),
            next_request: 0,
            asked: BTreeMap::new(),
            done: Vec::new(),
            acknowledged: BTreeSet::new(),
            told: 1,
        };
        for site in &mut world.sites {
            site.start(Time::ZERO);
        }
        world
    }

    /// Three sites of which one leads.
    pub fn calm(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.run_until("a leader", |it| it.leader().is_some());
        world
    }

    /// Who leads and lets leases run; the one of the highest term if several think so.
    pub fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| {
            let up = self.sites[*at].up.as_ref();
            up.is_some_and(|up| up.replica.standing().leads)
        };
        (0..3)
            .filter(leads)
            .max_by_key(|at| self.sites[*at].replica().term())
    }

    pub fn follower(&self) -> usize {
        let leader = self.leader().expect("somebody leads");
        (leader + 1) % 3
    }

    pub fn role(&self, at: usize) -> RoleName {
        self.sites[at].replica().standing().role
    }

    fn ask(&mut self, at: usize, asked: Asked, input: impl FnOnce(RequestId) -> Input) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        self.asked.insert(id, (at, asked));
        let input = input(RequestId::new(id));
        self.sites[at].step(self.now, input);
        id
    }

    pub fn put(&mut self, at: usize, key: &str) -> u64 {
        let command = Command::Put(Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from(vec![b'v'; 100]),
            ..Put::default()
        });
        self.propose(at, Asked::Put(key.to_owned()), command)
    }

    pub fn propose(&mut self, at: usize, asked: Asked, command: Command) -> u64 {
        let proposal = Proposal {
            caller: None,
            command,
        };
        self.ask(at, asked, |request| Input::Propose {
            request,
            body: proposal.encode(),
            takes_space: true,
        })
    }

    pub fn read(&mut self, at: usize) -> u64 {
        let at_least = self.told;
        self.ask(at, Asked::Read { at_least }, |request| Input::Read {
            request,
        })
    }

    pub fn other(&mut self, at: usize, input: impl FnOnce(RequestId) -> Input) -> u64 {
        self.ask(at, Asked::Other, input)
    }

    pub fn crash(&mut self, at: usize) {
        self.sites[at].crash();
        self.asked.retain(|_, (site, _)| *site != at);
    }

    /// As a crash, with what survives of what was not synced.
    pub fn end(&mut self, at: usize, survival: Survival) {
        self.sites[at].end(survival);
        self.asked.retain(|_, (site, _)| *site != at);
    }

    pub fn restart(&mut self, at: usize) {
        let now = self.now;
        self.sites[at].start(now);
    }

    fn chance(&mut self, thousandths: u64) -> bool {
        self.prng.below(1000) < thousandths
    }

    /// One tick of everything.
    pub fn tick(&mut self) {
        self.now = self.now + TICK;
        self.deliver();
        for at in 0..self.sites.len() {
            let is_slow = self.chance(self.weather.slow);
            let now = self.now;
            let site = &mut self.sites[at];
            if site.up.is_none() {
                continue;
            }
            site.step(now, Input::Wake);
            site.settle(now);
            let due = site.replica().wake_at();
            assert!(
                due.is_none_or(|at| at >= now),
                "a thread that sleeps until {due:?} does not sleep: it is {now:?}"
            );
            if !is_slow && site.has_unflushed() {
                site.flush(now);
            }
            self.post(at);
            self.collect(at);
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, later) = core::mem::take(&mut self.mail)
            .into_iter()
            .partition(|letter: &Letter| letter.due <= now);
        self.mail = later;
        let mut due: Vec<Letter> = due;
        while !due.is_empty() {
            let at = usize::try_from(self.prng.below(due.len() as u64)).expect("a few");
            let letter = due.swap_remove(at);
            let is_cut = self.cut.contains(&letter.from) || self.cut.contains(&letter.to);
            let is_lost = self.chance(self.weather.loss);
            let from = self.sites[letter.from].node;
            let site = &mut self.sites[letter.to];
            if !is_cut && !is_lost && site.up.is_some() {
                site.hear(now, from, letter.kind, &letter.body);
            }
        }
    }

    fn post(&mut self, from: usize) {
        for (to, kind, body) in core::mem::take(&mut self.sites[from].out) {
            let Some(to) = self.sites.iter().position(|it| it.node == to) else {
                continue;
            };
            let late = if self.chance(self.weather.late) {
                60
            } else {
                2
            };
            let millis = self.prng.below(late);
            let due = self.now + Duration::from_millis(millis);
            for _ in 0..=usize::from(self.is_doubled) {
                self.mail.push(Letter {
                    due,
                    from,
                    to,
                    kind,
                    body: body.clone(),
                });
            }
        }
    }

    /// Takes the answers, and judges those that can be judged at once.
    fn collect(&mut self, at: usize) {
        for (request, answer) in core::mem::take(&mut self.sites[at].answers) {
            let (site, asked) = self
                .asked
                .remove(&request.value())
                .expect("each request is answered once");
            assert_eq!(site, at, "where it was asked");
            let seen = self.sites[at].revision();
            match (&asked, &answer) {
                (Asked::Put(key), Answer::Applied(Ok(applied))) => {
                    assert!(applied.result.is_ok(), "{applied:?}");
                    assert!(
                        self.acknowledged.insert(key.clone()),
                        "{key} is put once only"
                    );
                    assert!(seen >= applied.revision.value(), "I1: it is published");
                    self.told = self.told.max(applied.revision.value());
                }
                (Asked::Read { at_least }, Answer::Read) => {
                    assert!(
                        seen >= *at_least,
                        "a read at site {at} saw {seen}, not {at_least}"
                    );
                }
                (Asked::Put(_) | Asked::Read { .. }, Answer::Refused(_)) | (Asked::Other, _) => {}
                (asked, answer) => panic!("{asked:?} was answered with {answer:?}"),
            }
            self.done.push((asked, answer));
        }
    }

    pub fn run(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.now < until {
            self.tick();
        }
    }

    /// Runs until something holds; fails after a minute of virtual time.
    pub fn run_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..12_000 {
            if holds(self) {
                return;
            }
            self.tick();
        }
        let stand = |site: &Site| {
            let standing = site.up.as_ref().map(|up| up.replica.standing());
            let last = site.events.len().saturating_sub(12);
            format!(
                "site {}: {standing:?}\n{:?}\n",
                site.node,
                &site.events[last..]
            )
        };
        let stands: String = self.sites.iter().map(stand).collect();
        panic!("{what} does not come about\n{stands}");
    }

    /// The faults end; everybody must come to the same state and answer everything.
    pub fn heal(&mut self) {
        self.weather = Weather::default();
        self.cut.clear();
        for at in 0..3 {
            if self.sites[at].up.is_none() {
                self.restart(at);
            }
        }
        self.run_until("an answer to everything", |it| {
            it.leader().is_some() && it.asked.is_empty()
        });
        self.run_until("the same state everywhere", |it| {
            let applied = |at: usize| it.sites[at].replica().keyspace().applied();
            applied(0) == applied(1) && applied(1) == applied(2)
        });
        self.judge();
    }

    /// All sites hold the same, and all that was acknowledged, once.
    pub fn judge(&self) {
        let state = |site: &Site| {
            let keyspace = site.replica().keyspace();
            let view = keyspace.reader().view();
            let mut leases = Vec::new();
            view.each_lease(&mut |id, ttl, left| leases.push((id, ttl, left)));
            let hash = view.hash_kv(0).expect("it is whole");
            (hash, view.applied, view.term, leases)
        };
        let first = state(&self.sites[0]);
        for site in &self.sites[1..] {
            assert_eq!(state(site), first, "site {}", site.node);
        }
        for key in &self.acknowledged {
            let found = self.sites[0].value(key);
            let (_, version) = found.unwrap_or_else(|| panic!("{key} was acknowledged"));
            assert_eq!(version, 1, "{key} was put once (raft I18)");
        }
    }

    pub fn node(&self, at: usize) -> NodeId {
        self.sites[at].node
    }
}
