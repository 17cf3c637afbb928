//! Seeded watches among seeded writes: what a stream is asked, and when both sides must agree.
//!
//! What would surprise: a server that lags may lawfully answer otherwise when the past is
//! compacted, a watch cancelled or progress asked for. Around those the two sides settle.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::{Generator, Request};
use crate::gateway::Answer;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A request beside the stream.
    Ask(Request),
    /// A WatchRequest. One that creates is answered at once, and the answer must be waited for:
    /// what is written next is watched.
    Watch(Value),
    /// Wait until both sides have told all they have to tell.
    Settle,
}

/// An endless source of acts.
#[derive(Clone, Debug)]
pub struct Watches {
    keys: Generator,
    next: VecDeque<Act>,
}

/// Watches named by us come from here, where they meet each other and those named by servers.
const IDS: u64 = 8;

impl Watches {
    /// A source whose acts are fixed by `seed` and by the revisions it is told.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            keys: Generator::new(seed),
            next: VecDeque::new(),
        }
    }

    /// Learns the store's revision from an answer.
    pub fn learn(&mut self, answer: &Answer) {
        self.keys.learn(answer);
    }

    /// The next act.
    pub fn act(&mut self) -> Act {
        if let Some(act) = self.next.pop_front() {
            return act;
        }
        if self.keys.is_midway() {
            return Act::Ask(self.keys.request());
        }
        match self.keys.below(24) {
            0 | 1 => Act::Watch(json!({"create_request": self.create()})),
            2 => {
                let id = self.keys.below(IDS + 2);
                self.settled(Act::Watch(json!({"cancel_request": {"watch_id": id}})))
            }
            3 => self.settled(Act::Watch(json!({"progress_request": {}}))),
            _ => match self.keys.request() {
                request if request.path == "kv/compaction" => self.settled(Act::Ask(request)),
                request => Act::Ask(request),
            },
        }
    }

    fn settled(&mut self, act: Act) -> Act {
        self.next.extend([act, Act::Settle]);
        Act::Settle
    }

    fn create(&mut self) -> Value {
        let mut create: Map<String, Value> = self.keys.span();
        if self.keys.chance(3) {
            // All keys: most watches should see something.
            let everything = crate::base64::encode(b"\0");
            create.insert("key".to_owned(), json!(everything));
            create.insert("range_end".to_owned(), json!(everything));
        }
        if self.keys.chance(2) {
            create.insert("start_revision".to_owned(), json!(self.keys.past()));
        }
        if self.keys.chance(2) {
            create.insert("prev_kv".to_owned(), json!(true));
        }
        let filters: &[&str] = match self.keys.below(12) {
            0 | 1 => &["NOPUT"],
            2 | 3 => &["NODELETE"],
            4 => &["NODELETE", "NOPUT"],
            _ => &[],
        };
        if !filters.is_empty() {
            create.insert("filters".to_owned(), json!(filters));
        }
        if self.keys.chance(4) {
            create.insert("watch_id".to_owned(), json!(self.keys.below(IDS)));
        }
        Value::Object(create)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_appears_and_what_is_settled_follows() {
        let mut source = Watches::new(1);
        let acts: Vec<Act> = (0..2_000).map(|_| source.act()).collect();
        let has = |word: &str| {
            let says =
                |act: &Act| matches!(act, Act::Watch(body) if body.to_string().contains(word));
            acts.iter().any(says)
        };
        for word in [
            "start_revision",
            "prev_kv",
            "NOPUT",
            "NODELETE",
            "range_end",
            "create_request\":{\"key\":\"YQ==\"",
            "cancel_request",
            "progress_request",
        ] {
            assert!(has(word), "no {word}");
        }
        let is_delicate = |act: &Act| match act {
            Act::Watch(body) => body.get("create_request").is_none(),
            Act::Ask(request) => request.path == "kv/compaction",
            Act::Settle => false,
        };
        let mut pairs = acts.windows(2);
        assert!(pairs.all(|pair| !is_delicate(&pair[1]) || pair[0] == Act::Settle));
    }
}
