//! A client that watches: takes answers apart and checks what holds for every stream.

use std::sync::Arc;

use bytes::Bytes;
use holm_base::Revision;
use holm_kv::record::Parts;
use holm_kv::{Hub, KeyRange, Record, StreamId, WatchAnswer, WatchRequest};

use super::Version;
use super::site::Site;

/// One event, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) is_delete: bool,
    pub(crate) kv: Parts,
    pub(crate) prev: Option<Parts>,
}

/// A stream with one watcher, and all that it was sent.
#[derive(Debug)]
pub(crate) struct Watcher {
    hub: Arc<Hub>,
    stream: StreamId,
    created: bool,
    /// Set while pieces of a revision are still to come.
    within_fragments: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) compacted: Option<i64>,
    pub(crate) canceled: Option<String>,
    /// How many answers carried events.
    pub(crate) answers: usize,
    /// The revisions of the answers that say only how far the stream has come.
    pub(crate) progress: Vec<i64>,
}

/// What a watcher asks for when it asks for nothing special.
pub(crate) fn request(range: KeyRange, start: i64) -> WatchRequest {
    WatchRequest {
        range,
        start,
        watch_id: 0,
        prev_kv: false,
        progress_notify: false,
        fragment: false,
        no_put: false,
        no_delete: false,
    }
}

impl Watcher {
    pub(crate) fn open(site: &Site, range: KeyRange, start: i64) -> Self {
        Self::ask(site, request(range, start))
    }

    pub(crate) fn ask(site: &Site, request: WatchRequest) -> Self {
        let hub = site.keyspace.hub();
        let stream = hub.open_stream(Arc::new(|| {}));
        hub.create(stream, request, site.now, &site.keyspace.reader().view());
        Self {
            hub,
            stream,
            created: false,
            within_fragments: false,
            events: Vec::new(),
            compacted: None,
            canceled: None,
            answers: 0,
            progress: Vec::new(),
        }
    }

    pub(crate) fn request_progress(&self) {
        self.hub.request_progress(self.stream);
    }

    /// Takes everything that there is.
    pub(crate) fn settle(&mut self, site: &Site) {
        while self.step(site, 1 << 20) {}
    }

    /// Takes what one poll gives. Returns whether it gave anything.
    pub(crate) fn step(&mut self, site: &Site, bytes_max: usize) -> bool {
        let view = site.keyspace.reader().view();
        let answers = self.hub.poll(self.stream, site.now, &view, bytes_max);
        for answer in &answers {
            self.take(answer);
        }
        !answers.is_empty()
    }

    fn take(&mut self, answer: &WatchAnswer) {
        assert!(
            self.compacted.is_none(),
            "nothing follows a cancel: {answer:?}"
        );
        if answer.created {
            assert!(
                !self.created && self.events.is_empty(),
                "created comes first, once"
            );
            self.created = true;
        }
        assert!(self.created, "nothing comes before created: {answer:?}");
        if answer.canceled {
            self.canceled = Some(answer.cancel_reason.clone());
            self.compacted = (answer.compact_revision > 0).then_some(answer.compact_revision);
        }
        if !answer.created && !answer.canceled && answer.events.is_empty() {
            assert!(
                answer.watch_id == -1 || !self.within_fragments,
                "{answer:?}"
            );
            self.progress.push(answer.revision);
        }
        let first = answer.events.first().map(|it| decode(it).kv.modified);
        let last = self.last();
        if let (Some(first), Some(last)) = (first, last) {
            let continues = self.within_fragments && first == last;
            assert!(
                continues || first > last,
                "a revision is never split: {first} after {last}"
            );
        }
        if !answer.events.is_empty() {
            self.within_fragments = answer.fragment;
            self.answers += 1;
        }
        for bytes in &answer.events {
            let event = decode(bytes);
            assert!(Some(event.kv.modified) >= self.last(), "revisions rise");
            assert!(
                event.kv.modified <= answer.revision,
                "the header is no older: {answer:?}"
            );
            let told = self.progress.last().copied().unwrap_or(0);
            assert!(
                event.kv.modified > told,
                "progress {told} was told before {event:?}"
            );
            self.events.push(event);
        }
    }

    fn last(&self) -> Option<i64> {
        self.events.last().map(|it| it.kv.modified)
    }

    /// What was received, in the twin's form.
    pub(crate) fn versions(&self) -> Vec<Version> {
        assert!(!self.within_fragments, "a fragment is missing");
        let (mut main, mut sub) = (0, 0);
        let each = self.events.iter().map(|event| {
            sub = if event.kv.modified == main {
                sub + 1
            } else {
                0
            };
            main = event.kv.modified;
            Version {
                main,
                sub,
                key: event.kv.key.clone(),
                parts: (!event.is_delete).then(|| event.kv.clone()),
            }
        });
        each.collect()
    }

    /// How far this watcher can know the state, once it has taken everything.
    pub(crate) fn revision(&self) -> Revision {
        Revision::new(self.last().unwrap_or(0))
    }
}

/// Reads an event message: 1 type, 2 kv, 3 prev_kv.
pub(crate) fn decode(bytes: &Bytes) -> Event {
    let (mut at, mut is_delete, mut kv, mut prev) = (0, false, None, None);
    while at < bytes.len() {
        let tag = bytes[at];
        at += 1;
        let number = varint(bytes, &mut at);
        match tag {
            0x08 => is_delete = number == 1,
            0x12 | 0x1a => {
                let part = Record::from_bytes(bytes.slice(at..at + number));
                at += number;
                let parts = part.decode().expect("a whole message");
                if tag == 0x12 {
                    kv = Some(parts);
                } else {
                    prev = Some(parts);
                }
            }
            _ => panic!("no field of an event: {tag:#x}"),
        }
    }
    Event {
        is_delete,
        kv: kv.expect("every event has a key"),
        prev,
    }
}

fn varint(bytes: &Bytes, at: &mut usize) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = usize::from(bytes[*at]);
        *at += 1;
        value |= (byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
