//! From a view to the messages of a snapshot's stream.
//!
//! What would surprise: the first message waits for a pass over all history, for it says how
//! many bytes will follow. The view is pinned meanwhile; nobody else waits.

use bytes::{Bytes, BytesMut};
use holm_bbolt::{Closed, Sink, WriteError, Writer};
use holm_kv::{Refusal, StoreError, View};
use holm_runtime::Identity;
use tokio::sync::mpsc;

use super::source;
use crate::proto::etcdserverpb::SnapshotResponse;
use crate::status::{Code, Status};

/// How much of the file goes into one message, as in etcd.
const BLOB_BYTES: usize = 32 << 10;

/// Why a snapshot broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// History could not be read.
    #[error("make a snapshot: history cannot be read")]
    Store(#[source] StoreError),
    /// The file could not be made, or nobody takes it.
    #[error("make a snapshot")]
    Write(#[from] WriteError),
}

impl From<Closed> for SnapshotError {
    fn from(closed: Closed) -> Self {
        Self::Write(closed.into())
    }
}

impl From<SnapshotError> for Status {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Store(error) => Refusal::from(error).into(),
            SnapshotError::Write(WriteError::Closed(_)) => Self::new(
                Code::Canceled,
                "the client does not take the rest of the snapshot",
            ),
            SnapshotError::Write(error) => Self::new(Code::Internal, error.to_string()),
        }
    }
}

/// Sends a snapshot of `view`: the file in pieces of 32 KiB, then its SHA-256. Blocks: run it
/// on a thread that may. Memory: 1 MiB of records, one page per level, and what the channel
/// holds.
///
/// Cost: two passes over all history.
///
/// # Errors
///
/// As [`SnapshotError`] says; the receiver has then seen a part.
pub fn stream(
    view: &View,
    identity: &Identity,
    version: &str,
    answers: &mpsc::Sender<SnapshotResponse>,
) -> Result<(), SnapshotError> {
    let mut measure = Writer::measure();
    source::fill(view, identity, &mut measure)?;
    let plan = measure.plan()?;
    let mut pieces = Pieces {
        answers,
        version,
        left: plan.file_bytes(),
        buffer: BytesMut::with_capacity(BLOB_BYTES),
    };
    let txid = view.applied.value();
    let mut writer = Writer::write(plan, txid, &mut pieces)?;
    source::fill(view, identity, &mut writer)?;
    let sum = writer.finish()?;
    pieces.flush()?;
    pieces.send(Bytes::copy_from_slice(&sum))?;
    Ok(())
}

/// Cuts the file into messages.
struct Pieces<'a> {
    answers: &'a mpsc::Sender<SnapshotResponse>,
    version: &'a str,
    /// Bytes of the file that were not sent yet.
    left: u64,
    buffer: BytesMut,
}

impl Pieces<'_> {
    fn send(&self, blob: Bytes) -> Result<(), Closed> {
        let answer = SnapshotResponse {
            header: None,
            remaining_bytes: self.left,
            blob,
            version: self.version.to_owned(),
        };
        // Its error only gives the message back.
        self.answers.blocking_send(answer).map_err(|_gone| Closed)
    }

    fn flush(&mut self) -> Result<(), Closed> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let blob = self.buffer.split().freeze();
        let bytes = u64::try_from(blob.len()).expect("a length fits in 64 bits");
        self.left = self
            .left
            .checked_sub(bytes)
            .expect("a file is as long as its plan says");
        self.send(blob)?;
        self.buffer.reserve(BLOB_BYTES);
        Ok(())
    }
}

impl Sink for Pieces<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = BLOB_BYTES - self.buffer.len();
            let (part, later) = rest.split_at(room.min(rest.len()));
            self.buffer.extend_from_slice(part);
            rest = later;
            if self.buffer.len() == BLOB_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }
}
