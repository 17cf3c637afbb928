//! Waiting one's turn: keys below a prefix, each on a lease, the oldest one being first.
//!
//! Locks and elections are both this. Each waiter watches the one key that was made just before
//! its own, so that an end wakes one waiter and not all.
//!
//! What would surprise: a waiter whose client leaves takes its key back, in the background, or
//! those behind it would wait for its lease to end. That holds from the moment the key is asked
//! for: a key may be there, and seen, before its waiter has heard of it.

use std::sync::Arc;

use bytes::Bytes;
use holm_kv::{Hub, KeyRange, StreamId, WatchRequest};
use prost::Message as _;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Notify;

use super::Services;
use crate::context::Context;
use crate::errors;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::mvccpb;
use crate::status::{Code, Status};

/// How many bytes of events are taken at once while waiting for one.
const EVENT_BYTES: usize = 64 << 10;
/// The time to live, in seconds, of a lease that is made for a waiter that brings none.
const LEASE_SECONDS: i64 = 60;

/// Refusals of locks and elections leave as Unknown, with their text: so does etcd, where they
/// come from a client within the server. That one passes on as it is that the time is up.
pub(super) fn as_unknown(status: Status) -> Status {
    if status.code() == Code::DeadlineExceeded {
        return status;
    }
    Status::new(Code::Unknown, status.message().to_owned())
}

/// A place in a queue: a key below a prefix, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Bytes,
    pub(super) create: i64,
    pub(super) lease: i64,
}

/// What taking a place gave.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) waiting: Waiting,
    /// What the key held, if this lease had a place already.
    pub(super) earlier: Option<mvccpb::KeyValue>,
}

impl Services {
    /// Refuses locks and elections where islands write apart.
    pub(super) fn check_exclusive(&self) -> Result<(), Status> {
        if self.handle().view().island.is_some() {
            return Err(errors::no_mutual_exclusion());
        }
        Ok(())
    }

    /// The lease that was brought, or a new one.
    pub(super) async fn lease_or_new(&self, cx: &Context, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = pb::LeaseGrantRequest {
            ttl: LEASE_SECONDS,
            id: 0,
        };
        Ok(self.lease_grant(cx, request).await?.id)
    }

    /// Takes a place below `prefix`, or finds the one that the lease has there. A place that
    /// was taken for a caller who has left meanwhile is given up again.
    pub(super) async fn take_place(
        &self,
        cx: &Context,
        prefix: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<Taken, Status> {
        let (services, cx) = (self.clone(), cx.clone());
        let prefix = Bytes::copy_from_slice(prefix);
        let taking = async move { services.take_whole(&cx, &prefix, lease, value).await };
        let taking = Runtime::current().spawn(taking);
        match taking.await {
            Ok(taken) => taken,
            // The runtime ends, and its tasks with it.
            Err(_ended) => Err(errors::stopped()),
        }
    }

    /// As [`Services::take_place`], for who stays to the end.
    async fn take_whole(
        &self,
        cx: &Context,
        prefix: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<Taken, Status> {
        let key = Bytes::from([prefix, format!("{lease:x}").as_bytes()].concat());
        let put = pb::PutRequest {
            key: key.clone(),
            value,
            lease,
            ..pb::PutRequest::default()
        };
        let request = pb::TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![op(Request::RequestRange(get(key.clone())))],
        };
        let answer = self.txn(cx, request).await?;
        let header = answer.header.unwrap_or_default();
        let earlier = answer.responses.into_iter().find_map(found);
        let create = earlier
            .as_ref()
            .map_or(header.revision, |it| it.create_revision);
        let waiting = Waiting {
            services: self.clone(),
            cx: cx.clone(),
            place: Place { key, create, lease },
            // A place that was there before is another call's, until this one waits for it.
            is_armed: earlier.is_none(),
        };
        Ok(Taken { waiting, earlier })
    }

    /// Waits until no key below `prefix` is older than the place. Dropping the future gives the
    /// place up.
    pub(super) async fn wait_for_turn(
        &self,
        cx: &Context,
        prefix: &[u8],
        mut waiting: Waiting,
    ) -> Result<pb::ResponseHeader, Status> {
        waiting.is_armed = true;
        let result = self.wait_for_older(cx, prefix, waiting.place.create).await;
        waiting.is_armed = result.is_err();
        result
    }

    async fn wait_for_older(
        &self,
        cx: &Context,
        prefix: &[u8],
        create: i64,
    ) -> Result<pb::ResponseHeader, Status> {
        loop {
            let request = pb::RangeRequest {
                limit: 1,
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Create.into(),
                max_create_revision: create - 1,
                keys_only: true,
                ..below(prefix)
            };
            let answer = self.range(cx, request).await?;
            let header = answer.header.unwrap_or_default();
            let Some(older) = answer.kvs.into_iter().next() else {
                return Ok(header);
            };
            self.wait_for_delete(older.key, header.revision + 1).await;
        }
    }

    /// Waits until a key is deleted at `from` or later, or the watch ends for any reason: the
    /// caller looks again.
    async fn wait_for_delete(&self, key: Bytes, from: i64) {
        let mut seat = Seat::take(self, KeyRange::One(key), from);
        seat.watch.no_put = true;
        seat.begin(self);
        while let Some(events) = seat.events(self).await {
            if !events.is_empty() {
                return;
            }
        }
    }

    /// Deletes a place's key, unless it was taken anew since.
    pub(super) async fn give_up(
        &self,
        cx: &Context,
        place: &Place,
    ) -> Result<pb::ResponseHeader, Status> {
        let delete = pb::DeleteRangeRequest {
            key: place.key.clone(),
            ..pb::DeleteRangeRequest::default()
        };
        let request = pb::TxnRequest {
            compare: vec![created_at(place.key.clone(), place.create)],
            success: vec![op(Request::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        let answer = self.txn(cx, request).await?;
        Ok(answer.header.unwrap_or_default())
    }
}

/// Gives a place up when its waiter leaves without its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    services: Services,
    cx: Context,
    pub(super) place: Place,
    is_armed: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.is_armed, Runtime::try_current()) else {
            return;
        };
        let (services, cx, place) = (self.services.clone(), self.cx.clone(), self.place.clone());
        // One bounded request for each waiter that left; should it fail, the lease ends it.
        runtime.spawn(async move {
            if let Err(status) = services.give_up(&cx, &place).await {
                tracing::info!(%status, "a waiter that left keeps its place until its lease ends");
            }
        });
    }
}

/// A watch of one's own at the hub.
pub(super) struct Seat {
    hub: Arc<Hub>,
    stream: StreamId,
    bell: Arc<Notify>,
    pub(super) watch: WatchRequest,
}

impl Seat {
    /// A seat at the hub; the watch begins with [`Seat::begin`].
    pub(super) fn take(services: &Services, range: KeyRange, start: i64) -> Self {
        let hub = Arc::clone(services.handle().hub());
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let stream = hub.open_stream(Arc::new(move || rung.notify_one()));
        let watch = WatchRequest::new(range, start);
        Self {
            hub,
            stream,
            bell,
            watch,
        }
    }

    /// Begins to watch.
    pub(super) fn begin(&self, services: &Services) {
        let handle = services.handle();
        let (now, view) = (handle.now(), handle.view());
        self.hub.create(self.stream, self.watch.clone(), now, &view);
    }

    /// The next events, of one answer; `None` once the watch has ended.
    pub(super) async fn events(&self, services: &Services) -> Option<Vec<mvccpb::Event>> {
        loop {
            let handle = services.handle();
            let view = handle.view();
            let answers = self.hub.poll(self.stream, handle.now(), &view, EVENT_BYTES);
            if answers.iter().any(|it| it.canceled) {
                return None;
            }
            let events = answers.into_iter().flat_map(|it| it.events);
            let events: Vec<_> = events
                .map(mvccpb::Event::decode)
                .collect::<Result<_, _>>()
                .ok()?;
            if !events.is_empty() {
                return Some(events);
            }
            self.bell.notified().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.close_stream(self.stream);
    }
}

/// A comparison of a key's create revision; 0 for a key that is not there.
pub(super) fn created_at(key: Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(super) const fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// A read of one key.
pub(super) fn get(key: Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key,
        ..pb::RangeRequest::default()
    }
}

/// A read of all keys that begin so.
pub(super) fn below(prefix: &[u8]) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: end_of(prefix),
        ..pb::RangeRequest::default()
    }
}

/// A prefix and the slash behind it: names must not be prefixes of each other's keys.
pub(super) fn prefix_of(name: &[u8]) -> Bytes {
    Bytes::from([name, b"/"].concat())
}

/// The end of the range of all keys that begin with `prefix`, which ends with a slash.
pub(super) fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        // A slash has a successor: no carry.
        *last += 1;
    }
    Bytes::from(end)
}

fn found(response: pb::ResponseOp) -> Option<mvccpb::KeyValue> {
    match response.response? {
        pb::response_op::Response::ResponseRange(range) => range.kvs.into_iter().next(),
        pb::response_op::Response::ResponsePut(_)
        | pb::response_op::Response::ResponseDeleteRange(_)
        | pb::response_op::Response::ResponseTxn(_) => None,
    }
}
