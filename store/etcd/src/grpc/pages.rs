//! `RangeStream`: a list as many messages, each a part that can be used at once.
//!
//! The first holds a few keys, so that it comes soon; the last holds the header, the count and
//! whether there is more. All are read from one pinned state: a compaction meanwhile changes
//! nothing. Like [`super::list`], a blocking thread reads and this call's task sends.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use holm_kv::command::{Range, SortOrder, SortTarget};
use holm_kv::{Meta, Refusal, View};
use tokio::sync::{mpsc, oneshot};

use super::call::GrpcCall;
use super::frame;
use super::list::{read_records, record_bytes};
use super::outbound::{Gone, OK, Outbound};
use super::reply::{self, Header};
use crate::proto::etcdserverpb::RangeRequest;
use crate::status::{Code, Status};
use crate::{convert, validate};

/// Keys of the first message.
const FIRST_KEYS: usize = 10;
/// Bytes at which each further message ends, with the key that reaches them.
const PAGE_BYTES: usize = 256 << 10;
/// Messages between the reader and the sender.
const PAGES_MAX: usize = 2;
/// A client that takes no byte for so long is reset: it pins old state and files.
const STALL: Duration = Duration::from_secs(30);

/// Runs the call to its end; gives the status it ended with.
pub(crate) async fn run(mut call: GrpcCall) -> Status {
    match begin(&mut call).await {
        Ok(pages) => pass_on(call, pages).await,
        Err(status) => {
            call.finish(Err(status.clone()));
            status
        }
    }
}

/// What a reader makes, and how it ended.
struct Pages {
    pages: mpsc::Receiver<Bytes>,
    reader: oneshot::Receiver<Result<(), Refusal>>,
}

async fn begin(call: &mut GrpcCall) -> Result<Pages, Status> {
    let request: RangeRequest = call.message().await?;
    validate::range(&request)?;
    let is_serializable = request.serializable;
    let range = convert::range(request);
    check(&range)?;
    let services = call.server().services.clone();
    services.count_range();
    services.check_door()?;
    if !is_serializable {
        services.check_vote()?;
        services.catch_up().await?;
    }
    let view = services.handle().view();
    let caller = services.caller(&call.context())?;
    view.auth.check_range(caller.as_ref(), &range)?;
    let header = call.header(&view);
    let turn = Arc::clone(&call.server().lists).acquire_owned().await;
    let turn = turn.map_err(|_closed| crate::errors::stopped())?;
    let (sender, pages) = mpsc::channel(PAGES_MAX);
    let reader = super::list::start(move || {
        let _turn = turn;
        read(&view, &range, header, &sender)
    })?;
    Ok(Pages { pages, reader })
}

/// Only what can be read in order: a sort or a filter would hold the whole list up.
fn check(range: &Range) -> Result<(), Status> {
    let is_in_order =
        range.sort_target == SortTarget::Key && range.sort_order != SortOrder::Descend;
    let filters = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if is_in_order && filters == [0; 4] {
        return Ok(());
    }
    Err(Status::new(
        Code::Unimplemented,
        "etcdserver: a range stream takes no sort and no revision filter: use Range",
    ))
}

async fn pass_on(call: GrpcCall, mut read: Pages) -> Status {
    let Some(mut page) = read.pages.recv().await else {
        // Refusals come before the first message.
        let status = ended(read.reader).await;
        call.finish(Err(status.clone()));
        return status;
    };
    let gone = || Status::new(Code::Canceled, "");
    let island = call.island();
    let Ok(mut out) = Outbound::begin(&call.cord(), island) else {
        return gone();
    };
    loop {
        call.server().counters(call.method).send();
        match tokio::time::timeout(STALL, out.send(page)).await {
            Ok(Ok(())) => {}
            Ok(Err(Gone)) => return gone(),
            Err(_elapsed) => {
                out.reset();
                return gone();
            }
        }
        match read.pages.recv().await {
            Some(next) => page = next,
            None => break,
        }
    }
    let status = ended(read.reader).await;
    // A client that has left need not be told.
    out.end(&status).ok();
    status
}

async fn ended(reader: oneshot::Receiver<Result<(), Refusal>>) -> Status {
    match reader.await {
        Ok(Ok(())) => OK,
        Ok(Err(refusal)) => refusal.into(),
        Err(error) => Status::new(Code::Internal, format!("the read failed: {error}")),
    }
}

/// Selects, then reads and hands over page after page. Runs on a blocking thread.
fn read(
    view: &View,
    range: &Range,
    header: Header,
    pages: &mpsc::Sender<Bytes>,
) -> Result<(), Refusal> {
    let selection = view.select(range)?;
    let (mut metas, rest) = selection
        .metas
        .split_at(selection.metas.len().min(FIRST_KEYS));
    let mut rest = rest;
    let mut body = BytesMut::new();
    loop {
        read_records(view, metas, range.keys_only, |record| {
            reply::put_record_head(&mut body, record.bytes().len());
            body.put_slice(record.bytes());
        })?;
        if rest.is_empty() {
            break;
        }
        if pages.blocking_send(page(&body)).is_err() {
            return Ok(());
        }
        body.clear();
        (metas, rest) = rest.split_at(page_keys(rest));
    }
    let mut last = BytesMut::new();
    header.put(&mut last);
    last.put_slice(&body);
    reply::put_range_tail(&mut last, selection.more, selection.count);
    // Nobody may take it any more.
    pages.blocking_send(page(&last)).ok();
    Ok(())
}

/// How many keys fill a page: one at least.
fn page_keys(metas: &[Meta]) -> usize {
    let mut bytes = 0;
    let fits = metas.iter().take_while(|meta| {
        let is_full = bytes >= PAGE_BYTES;
        bytes += record_bytes(meta);
        !is_full
    });
    fits.count()
}

/// A part of an answer in its message, in its frame.
fn page(body: &[u8]) -> Bytes {
    let mut out = frame::begin(reply::field_len(body.len()));
    reply::put_head(&mut out, 1, body.len());
    out.put_slice(body);
    out.freeze()
}
