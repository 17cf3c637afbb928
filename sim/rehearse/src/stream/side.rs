//! One stream of a run as it is seen from outside: who feeds it, and what of it was seen.

use std::collections::VecDeque;

use holm_base::{NodeId, Time};

use super::followed::Written;
use super::judge::Seen;
use super::sender::Sender;
use super::{Ran, Setup, Started};
use crate::scenario::Way;

/// One stream of the run, and who is around it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) setup: Setup,
    pub(super) node: NodeId,
    pub(super) sender: Sender,
    pub(super) seen: Seen,
    /// What the stream took of requests since it started: bytes, and when they were sent.
    pub(super) taken: VecDeque<(usize, Time)>,
    /// What was written to the file that it follows.
    pub(super) written: Written,
    /// Results that no sink has: up to which number, and when the row was sent that brought them.
    pub(super) births: Vec<VecDeque<(u64, Time)>>,
    /// How many results there have been, and how many each sink has.
    pub(super) outputs: Vec<u64>,
    pub(super) has: Vec<u64>,
    pub(super) acknowledged: u64,
    /// The last watermark that was seen, and since when the stream is down.
    pub(super) mark: Option<i64>,
    pub(super) down: Option<Time>,
    pub(super) has_ended: bool,
    /// How often it has ended, as far as was seen.
    pub(super) ends: u64,
}

impl Side {
    pub(super) fn new(setup: Setup, number: u64, seed: u64) -> Self {
        let queries = setup.stream.job.plans.len();
        Self {
            sender: Sender::new(&setup.stream, seed ^ number),
            node: NodeId::new(number + 1),
            setup,
            seen: Seen::default(),
            taken: VecDeque::new(),
            written: Written::default(),
            births: vec![VecDeque::new(); queries],
            outputs: vec![0; queries],
            has: vec![0; queries],
            acknowledged: 0,
            mark: None,
            down: None,
            has_ended: false,
            ends: 0,
        }
    }

    pub(super) fn site(&self) -> usize {
        self.setup.stream.site
    }

    /// When the newest request of a batch was sent.
    pub(super) fn sent_at(&mut self, rows: usize, now: Time) -> Time {
        if self.setup.stream.source.way == Way::File {
            return self.written.run(rows).unwrap_or(now);
        }
        let (mut left, mut at) = (rows, now);
        while left > 0
            && let Some((bytes, sent)) = self.taken.pop_front()
        {
            left = left.saturating_sub(bytes);
            at = sent;
        }
        at
    }

    pub(super) fn ran(&mut self, ran: Ran, now: Time) {
        let rows = ran.rows.as_ref().map_or(0, |rows| rows.len());
        let at = self.sent_at(rows, now);
        for (query, output) in ran.outputs.iter().enumerate() {
            // What comes out again after a crash was sent long ago.
            if *output > self.outputs[query] {
                self.outputs[query] = *output;
                self.births[query].push_back((*output, at));
            }
        }
        self.mark = Some(ran.mark);
        self.seen.ran(ran);
    }

    /// It has come back.
    pub(super) fn started(&mut self, started: &Started) {
        self.sender.broken();
        self.taken.clear();
        self.seen.started(started);
        self.written.go_on(self.seen.bytes());
        self.has_ended = false;
    }
}
