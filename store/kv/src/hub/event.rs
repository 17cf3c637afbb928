//! Watch events: built once, as the bytes that go to every client.

use bytes::{BufMut, Bytes, BytesMut};
use holm_base::Revision;

use crate::record::{Record, put_varint};
use crate::root::ChangeKind;

/// What is known of the version before a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Previous {
    /// There was none.
    Absent,
    /// It was read.
    Read(Record),
    /// Nobody wanted it when the change was applied; whoever does must look it up.
    Unread,
}

/// A change as apply hands it to the hub.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) main: Revision,
    pub(crate) kind: ChangeKind,
    pub(crate) key: Bytes,
    pub(crate) record: Record,
    pub(crate) previous: Previous,
}

/// Encodes an event message: type, the new message, the one before. One allocation.
pub(crate) fn encode(kind: ChangeKind, record: &Record, previous: Option<&Record>) -> Bytes {
    let before = previous.map_or(0, |it| it.bytes().len() + 6);
    let mut out = BytesMut::with_capacity(record.bytes().len() + before + 8);
    match kind {
        ChangeKind::Put => {}
        ChangeKind::Delete => out.put_slice(&[0x08, 1]),
    }
    put_message(&mut out, 0x12, record);
    if let Some(previous) = previous {
        put_message(&mut out, 0x1a, previous);
    }
    out.freeze()
}

fn put_message(out: &mut BytesMut, tag: u8, record: &Record) {
    out.put_u8(tag);
    let len = u64::try_from(record.bytes().len()).expect("a length in memory fits 64 bits");
    put_varint(out, len);
    out.put_slice(record.bytes());
}
