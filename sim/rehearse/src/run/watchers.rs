//! Clients that watch everything at one node, and come back when it does.

use std::time::Duration;

use holm_base::{NodeId, RequestId, Time};
use holm_check::{Seen, Stream};
use holm_virtual::World;

use super::{Run, Token};
use crate::scenario::{Check, Scenario};
use crate::site::{Answer, Request, Site};
use crate::stage::Stage;
use crate::table::Change;

/// How often a watcher looks whether its node still serves it.
const LOOK: Duration = Duration::from_millis(200);

/// So much of a stream is judged at once.
const SEGMENT: usize = 8_192;

/// One watcher.
#[derive(Clone, Debug)]
struct Watcher {
    node: NodeId,
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
    pub(crate) fn new(scenario: &Scenario, stage: &Stage, world: &mut World<Site>) -> Self {
        let mut watchers = Vec::new();
        if scenario.judges(Check::Watch) {
            for kind in scenario.clients.iter().filter(|kind| kind.watches) {
                let nodes = kind
                    .at
                    .iter()
                    .filter_map(|&site| stage.of_site(site).next());
                watchers.extend(nodes.map(|node| Watcher {
                    node,
                    request: None,
                    stream: stream(0),
                    next: 0,
                }));
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
            let watcher = &self.watchers.watchers[at];
            let (node, next) = (watcher.node, watcher.next);
            let served = watcher.request.is_some_and(|request| {
                let site = self.world.node(node);
                site.is_some_and(|site| site.is_watched_by(request))
            });
            if !served {
                self.end_stream(at, next);
                let request = self.world.request(node, Request::Watch(next));
                self.watchers.watchers[at].request = request;
            }
        }
        let next = self.world.now() + LOOK;
        self.world.alarm(next, Token::Look.pack());
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
            Answer::Compacted(first) => {
                watcher.stream.seen.push(Seen::Compacted { first });
                watcher.request = None;
                self.end_stream(at, first);
                self.watchers.watchers[at].next = first;
            }
            Answer::Done(_) | Answer::Refused | Answer::Unknown | Answer::Operated(_) => {}
        }
    }

    /// Judges what came so far, and begins anew at `next`.
    fn end_stream(&mut self, at: usize, next: u64) {
        let ended = std::mem::replace(&mut self.watchers.watchers[at].stream, stream(next));
        if !ended.seen.is_empty() {
            self.ledger.judge_stream(&ended, 0);
        }
    }

    pub(super) fn judge_watches(&mut self) {
        for at in 0..self.watchers.watchers.len() {
            let watcher = &mut self.watchers.watchers[at];
            let site = self.world.node(watcher.node);
            let served = site.filter(|site| {
                let request = watcher.request;
                request.is_some_and(|request| site.is_watched_by(request))
            });
            if let Some(site) = served {
                // What this node has applied, it has told.
                watcher.stream.through = site.table.state.revision;
            }
            let next = watcher.next;
            self.end_stream(at, next);
        }
    }
}
