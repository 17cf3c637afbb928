//! Clients that watch everything at one node, and come back when it does.

use std::time::Duration;

use holm_base::{NodeId, RequestId, Time};
use holm_check::{Seen, Stream};
use holm_virtual::Place;

use super::realm::Realm;
use super::{Run, Token};
use crate::calls::Change;
use crate::scenario::{Check, Purpose, Scenario};
use crate::site::{Answer, Request};
use crate::stage::Stage;

const WATCH: Place = Place::new("client.watch");

/// A watcher of a hunt goes elsewhere at one look in so many, and asks how far it has come.
const WANDER: u32 = 12;

/// How often a watcher looks whether its node still serves it.
const LOOK: Duration = Duration::from_millis(200);

/// So much of a stream is judged at once.
const SEGMENT: usize = 8_192;

/// One watcher.
#[derive(Clone, Debug)]
struct Watcher {
    node: NodeId,
    /// Where it may go.
    nodes: Vec<NodeId>,
    request: Option<RequestId>,
    stream: Stream<Change>,
    /// The next revision that it wants; 0 before it has begun.
    next: u64,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Watchers {
    watchers: Vec<Watcher>,
}

impl Watchers {
    pub(crate) fn new(scenario: &Scenario, stage: &Stage, world: &mut Realm) -> Self {
        let mut watchers = Vec::new();
        if scenario.judges(Check::Watch) {
            for kind in scenario.clients.iter().filter(|kind| kind.watches) {
                for &site in &kind.at {
                    // In a hunt it goes anywhere, else it stays at its site.
                    let nodes: Vec<NodeId> = match scenario.purpose {
                        // Revisions are their island's.
                        Purpose::Hunt if scenario.islands().is_some() => {
                            stage.of_site(site).collect()
                        }
                        Purpose::Hunt => stage.ids().collect(),
                        Purpose::Timed => stage.of_site(site).collect(),
                    };
                    watchers.extend(stage.of_site(site).next().map(|node| Watcher {
                        node,
                        nodes,
                        request: None,
                        stream: stream(0),
                        next: 0,
                    }));
                }
            }
        }
        if !watchers.is_empty() {
            world.alarm(Time::ZERO + LOOK, Token::Look.pack());
        }
        Self { watchers }
    }
}

const fn stream(start: u64) -> Stream<Change> {
    Stream {
        start,
        seen: Vec::new(),
        through: 0,
    }
}

impl Run<'_> {
    /// Opens the watches that are not served.
    pub(super) fn look(&mut self) {
        for at in 0..self.watchers.watchers.len() {
            let served = self.is_served(at);
            if served && !self.wanders(at) {
                continue;
            }
            let (node, next) = (
                self.watchers.watchers[at].node,
                self.watchers.watchers[at].next,
            );
            self.end_stream(at, next);
            let request = self.world.request(node, Request::Watch(next));
            self.watchers.watchers[at].request = request;
        }
        let next = self.world.now() + LOOK;
        self.world.alarm(next, Token::Look.pack());
    }

    fn is_served(&self, at: usize) -> bool {
        let watcher = &self.watchers.watchers[at];
        watcher.request.is_some_and(|request| {
            let site = self.world.node(watcher.node);
            site.is_some_and(|site| site.watched_through(request).is_some())
        })
    }

    /// Whether a watcher that is served leaves for another node now.
    fn wanders(&mut self, at: usize) -> bool {
        if self.scenario.purpose == Purpose::Timed || self.healed.is_some() {
            return false;
        }
        let drawn = self.world.tape_mut().choose(WATCH, WANDER);
        let watcher = &mut self.watchers.watchers[at];
        let (node, Some(request)) = (watcher.node, watcher.request) else {
            return false;
        };
        match drawn {
            1 => {
                let here = watcher.nodes.iter().position(|one| *one == node);
                let next = here.map_or(0, |here| (here + 1) % watcher.nodes.len());
                watcher.node = watcher.nodes[next];
                self.world.request(node, Request::Unwatch(request));
                true
            }
            2 => {
                self.world.request(node, Request::Progress(request));
                false
            }
            _ => false,
        }
    }

    pub(super) fn watched(&mut self, _node: NodeId, request: RequestId, answer: Answer) {
        let mut all = self.watchers.watchers.iter();
        let Some(at) = all.position(|one| one.request == Some(request)) else {
            return;
        };
        let watcher = &mut self.watchers.watchers[at];
        match answer {
            Answer::Watching(from) => {
                watcher.next = from;
                watcher.stream.start = from;
            }
            Answer::Changes(changes) => {
                for change in changes {
                    watcher.next = change.revision + 1;
                    watcher.stream.through = change.revision;
                    watcher.stream.seen.push(Seen::Events {
                        revision: change.revision,
                        events: vec![change],
                    });
                }
                if watcher.stream.seen.len() >= SEGMENT {
                    let next = watcher.next;
                    self.end_stream(at, next);
                }
            }
            Answer::Progress(revision) => {
                watcher.stream.seen.push(Seen::Progress { revision });
            }
            Answer::Compacted(first) => {
                watcher.stream.seen.push(Seen::Compacted { first });
                watcher.request = None;
                self.end_stream(at, first);
                self.watchers.watchers[at].next = first;
            }
            Answer::Done(_)
            | Answer::Lease(_)
            | Answer::Refused
            | Answer::Unknown
            | Answer::Operated(_) => {}
        }
    }

    /// Judges what came so far, and begins anew at `next`.
    fn end_stream(&mut self, at: usize, next: u64) {
        let ended = std::mem::replace(&mut self.watchers.watchers[at].stream, stream(next));
        if !ended.seen.is_empty() {
            let node = self.watchers.watchers[at].node;
            match &self.islands {
                Some(islands) => {
                    let found = islands.judge_stream(node, &ended);
                    self.ledger.violations.extend(found);
                }
                None => self.ledger.judge_stream(&ended, 0),
            }
        }
    }

    /// What a node tells from here on is nothing that follows on what it told.
    pub(super) fn forget_streams(&mut self, node: NodeId) {
        for at in 0..self.watchers.watchers.len() {
            if self.watchers.watchers[at].node == node {
                self.end_stream(at, 0);
                self.watchers.watchers[at].request = None;
                self.watchers.watchers[at].next = 0;
            }
        }
    }

    pub(super) fn judge_watches(&mut self) {
        for at in 0..self.watchers.watchers.len() {
            let watcher = &mut self.watchers.watchers[at];
            let site = self.world.node(watcher.node);
            let through = watcher
                .request
                .zip(site)
                .and_then(|(request, site)| site.watched_through(request));
            if let Some(through) = through {
                // What this node has applied, and its reader has taken, it has told.
                watcher.stream.through = through;
            }
            let next = watcher.next;
            self.end_stream(at, next);
        }
    }
}
