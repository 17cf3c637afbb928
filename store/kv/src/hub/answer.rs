//! What a stream says to its client.

use bytes::Bytes;
use holm_base::Revision;

/// One answer on a watch stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchAnswer {
    /// The watch, or -1 if it concerns none or the whole stream.
    pub watch_id: i64,
    /// The revision that the answer's header tells.
    pub revision: i64,
    /// Whether it answers a request to create.
    pub created: bool,
    /// Whether the watch has ended.
    pub canceled: bool,
    /// If it has because of compaction: the oldest revision that can be watched from.
    pub compact_revision: i64,
    /// Why it has ended.
    pub cancel_reason: String,
    /// Whether the rest of it follows in the next answer.
    pub fragment: bool,
    /// Events, each the bytes of one message.
    pub events: Vec<Bytes>,
}

impl WatchAnswer {
    pub(super) fn created(watch_id: i64, revision: Revision) -> Self {
        Self {
            watch_id,
            revision: revision.value(),
            created: true,
            ..Self::default()
        }
    }

    pub(super) fn refused(revision: Revision, reason: String) -> Self {
        Self {
            watch_id: -1,
            revision: revision.value(),
            created: true,
            canceled: true,
            cancel_reason: reason,
            ..Self::default()
        }
    }

    pub(super) fn canceled(watch_id: i64, revision: Revision, reason: String) -> Self {
        Self {
            watch_id,
            revision: revision.value(),
            canceled: true,
            cancel_reason: reason,
            ..Self::default()
        }
    }

    /// etcd gives this answer, and no other, without a revision.
    pub(super) fn compacted(watch_id: i64, compacted: Revision) -> Self {
        Self {
            compact_revision: compacted.value(),
            ..Self::canceled(watch_id, Revision::ZERO, String::new())
        }
    }

    pub(super) fn progress(watch_id: i64, revision: Revision) -> Self {
        Self {
            watch_id,
            revision: revision.value(),
            ..Self::default()
        }
    }

    /// An answer's events, in pieces if it is too large and its watcher allows that.
    pub(super) fn push_events(
        out: &mut Vec<Self>,
        (watch_id, revision): (i64, Revision),
        events: Vec<Bytes>,
        piece_bytes: Option<usize>,
    ) {
        let whole = |events, fragment| Self {
            events,
            fragment,
            ..Self::progress(watch_id, revision)
        };
        let total: usize = events.iter().map(framed).sum();
        let Some(limit) = piece_bytes.filter(|limit| total > *limit) else {
            out.push(whole(events, false));
            return;
        };
        let (mut piece, mut bytes) = (Vec::new(), 0);
        for event in events {
            let more = framed(&event);
            if !piece.is_empty() && bytes + more > limit {
                out.push(whole(std::mem::take(&mut piece), true));
                bytes = 0;
            }
            bytes += more;
            piece.push(event);
        }
        out.push(whole(piece, false));
    }
}

/// What an event takes within an answer: its tag and length come on top.
pub(super) fn framed(event: &Bytes) -> usize {
    event.len() + 6
}
