//! Reads of many keys, sent piece by piece as the client takes them.
//!
//! A thread of low priority selects and reads from a pinned state; this call's task sends. Between
//! them lie two pieces at most, so a list of any length holds its locations (some 64 bytes a
//! key) and a few hundred kilobytes. Other calls go on: nothing here runs on their threads for
//! longer than it takes to hand over a piece.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use holm_kv::command::Range;
use holm_kv::{KeyRange, Meta, Record, Refusal, View};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{mpsc, oneshot};

use super::call::{Given, GrpcCall};
use super::frame;
use super::outbound::{Outbound, PIECE_BYTES};
use super::reply::{self, Header};
use crate::status::{Code, Status};

/// Keys above which a range is not even selected on the connection's task.
const SELECT_MAX: u64 = 1_000;
/// Pieces between the reader and the sender.
const PIECES_MAX: usize = 2;
/// Keys whose records are read at once.
const READ_AT_ONCE: usize = 256;
/// A client that takes no byte for so long is reset: it pins old state and files.
const STALL: Duration = Duration::from_secs(30);

/// Whether selecting alone would hold up the connection. Cost: two walks down the index.
pub(crate) fn may_be_long(view: &View, range: &Range) -> bool {
    if range.range_end.is_empty() {
        return false;
    }
    let keys = KeyRange::new(range.key.clone(), range.range_end.clone());
    let is_plain = range.revision <= 0;
    let limit = u64::try_from(range.limit).unwrap_or(0);
    let walks_all = !is_plain || is_filtered(range);
    if range.count_only && !walks_all {
        return false;
    }
    if limit > 0 && limit <= SELECT_MAX && !walks_all {
        return false;
    }
    view.root.count(&keys) > SELECT_MAX || !is_plain && view.sizes.keys > SELECT_MAX
}

/// Whether a limit does not bound how many keys must be looked at.
fn is_filtered(range: &Range) -> bool {
    use holm_kv::command::{SortOrder, SortTarget};
    let is_by_key = range.sort_target == SortTarget::Key && range.sort_order != SortOrder::Descend;
    !is_by_key
        || range.min_mod_revision != 0
        || range.max_mod_revision != 0
        || range.min_create_revision != 0
        || range.max_create_revision != 0
}

/// The length of a key's record.
pub(crate) fn record_bytes(meta: &Meta) -> usize {
    usize::try_from(meta.record_bytes).expect("a record fits into memory")
}

/// Sends the answer of a read of any length.
pub(crate) async fn send(
    call: &mut GrpcCall,
    view: Arc<View>,
    range: Range,
) -> Result<Given, Status> {
    let turn = Arc::clone(&call.server().lists).acquire_owned().await;
    let turn =
        turn.map_err(|_closed| Status::new(Code::Unavailable, "etcdserver: server stopped"))?;
    let header = call.header(&view);
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    let reader = start(move || {
        let _turn = turn;
        read(&view, &range, header, &sender)
    })?;
    // Refusals come before the first piece; then the call has not been answered yet.
    let Some(mut piece) = pieces.recv().await else {
        return Err(end(reader.await));
    };
    let island = call.island();
    let causal = call.causal();
    let Ok(mut out) = Outbound::begin(&call.cord(), island) else {
        return Ok(Given::Sent);
    };
    loop {
        match tokio::time::timeout(STALL, out.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_gone)) => return Ok(Given::Sent),
            Err(_elapsed) => {
                out.reset();
                return Ok(Given::Sent);
            }
        }
        match pieces.recv().await {
            Some(next) => piece = next,
            None => break,
        }
    }
    let status = match reader.await {
        Ok(Ok(())) => {
            out.end_well(causal.as_deref());
            return Ok(Given::Sent);
        }
        other => end(other),
    };
    // A client that has left need not be told.
    out.end(&status).ok();
    Ok(Given::Sent)
}

/// Starts a read of many keys on a thread of its own, which yields to all others.
pub(crate) fn start<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Status> {
    let refused = |error| Status::new(Code::Unavailable, format!("no thread to read on: {error}"));
    holm_runtime::humble("holm-list", read).map_err(refused)
}

/// The status of a read that did not come to its end.
fn end(result: Result<Result<(), Refusal>, RecvError>) -> Status {
    match result {
        Ok(Err(refusal)) => refusal.into(),
        Ok(Ok(())) => Status::new(Code::Internal, "the read ended before its first piece"),
        Err(error) => Status::new(Code::Internal, format!("the read failed: {error}")),
    }
}

/// Selects, measures, and reads piece after piece. Blocks.
fn read(
    view: &View,
    range: &Range,
    header: Header,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<(), Refusal> {
    let selection = view.select(range)?;
    if range.keys_only {
        return read_keys(view, range, header, pieces, &selection);
    }
    let records = selection.metas.iter().map(record_bytes);
    let body = records.map(reply::record_len).sum::<usize>();
    let tail = reply::range_tail_len(selection.more, selection.count);
    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
    frame::put_prefix(&mut piece, header.len() + body + tail);
    header.put(&mut piece);
    for metas in selection.metas.chunks(READ_AT_ONCE) {
        let mut is_taken = true;
        read_records(view, metas, false, |record| {
            put_record(&mut piece, &record);
            if piece.len() >= PIECE_BYTES {
                is_taken = is_taken && hand_over(&mut piece, pieces);
            }
        })?;
        if !is_taken {
            return Ok(());
        }
    }
    reply::put_range_tail(&mut piece, selection.more, selection.count);
    hand_over(&mut piece, pieces);
    Ok(())
}

/// A list of keys alone: small enough to be made in memory before it is measured.
fn read_keys(
    view: &View,
    range: &Range,
    header: Header,
    pieces: &mpsc::Sender<Bytes>,
    selection: &holm_kv::Selection,
) -> Result<(), Refusal> {
    let mut body = BytesMut::new();
    for metas in selection.metas.chunks(READ_AT_ONCE) {
        read_records(view, metas, range.keys_only, |record| {
            put_record(&mut body, &record);
        })?;
    }
    reply::put_range_tail(&mut body, selection.more, selection.count);
    let mut head = BytesMut::new();
    frame::put_prefix(&mut head, header.len() + body.len());
    header.put(&mut head);
    if hand_over(&mut head, pieces) {
        hand_over(&mut body, pieces);
    }
    Ok(())
}

fn put_record(out: &mut BytesMut, record: &Record) {
    reply::put_record_head(out, record.bytes().len());
    out.put_slice(record.bytes());
}

/// Reads the records of `metas` in order; without their values if only keys are wanted.
pub(crate) fn read_records(
    view: &View,
    metas: &[Meta],
    keys_only: bool,
    mut each: impl FnMut(Record),
) -> Result<(), Refusal> {
    let mut damaged = None;
    view.root.read_many(metas, &mut |record| {
        if !keys_only {
            each(record);
        } else if let Some(bare) = record.without_value() {
            each(bare);
        } else {
            damaged = Some(Refusal::Corrupt {
                place: "a record whose checksum holds".to_owned(),
            });
        }
    })?;
    damaged.map_or(Ok(()), Err)
}

/// Hands a piece over, waiting for room; false if nobody takes it any more.
fn hand_over(piece: &mut BytesMut, pieces: &mpsc::Sender<Bytes>) -> bool {
    let full = core::mem::replace(piece, BytesMut::with_capacity(PIECE_BYTES));
    pieces.blocking_send(full.freeze()).is_ok()
}
