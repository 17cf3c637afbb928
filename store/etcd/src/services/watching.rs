//! Watches: from a client's message to the hub, and from the hub to a message.
//!
//! What would surprise: an empty key stands for the lowest key there is, alone or as a
//! beginning, and who may read one key may not watch all from it on.

use bytes::Bytes;
use holm_base::Time;
use holm_kv::{Hub, KeyRange, StreamId, View, WatchAnswer, WatchRequest};
use prost::Message as _;

use super::Services;
use crate::context::Context;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::mvccpb;
use crate::status::{Code, Status};

/// Acts on one message of a watch stream. A watch that is refused is told so on the stream.
///
/// # Errors
///
/// None yet; a message that is empty is passed over, as etcd does.
pub fn take(
    services: &Services,
    cx: &Context,
    hub: &Hub,
    stream: StreamId,
    request: pb::WatchRequest,
) -> Result<(), Status> {
    match request.request_union {
        Some(RequestUnion::CreateRequest(request)) => {
            let handle = services.handle();
            let (now, view) = (handle.now(), handle.view());
            create(services, cx, (hub, stream), request, (now, &view));
        }
        Some(RequestUnion::CancelRequest(request)) => hub.cancel(stream, request.watch_id),
        Some(RequestUnion::ProgressRequest(_)) => hub.request_progress(stream),
        None => {}
    }
    Ok(())
}

fn create(
    services: &Services,
    cx: &Context,
    (hub, stream): (&Hub, StreamId),
    request: pb::WatchCreateRequest,
    (now, view): (Time, &View),
) {
    let range = range_of(&request);
    if let Err(status) = check(services, cx, view, &range) {
        hub.refuse(stream, reason(&status));
        return;
    }
    let filters: Vec<FilterType> = request.filters().collect();
    let watch = WatchRequest {
        range,
        start: request.start_revision,
        watch_id: request.watch_id,
        prev_kv: request.prev_kv,
        progress_notify: request.progress_notify,
        fragment: request.fragment,
        no_put: filters.contains(&FilterType::Noput),
        no_delete: filters.contains(&FilterType::Nodelete),
    };
    hub.create(stream, watch, now, view);
}

/// A refusal as a reason: clients compare the whole text, code and all, to log in again.
fn reason(status: &Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}

/// The keys that a request watches.
fn range_of(request: &pb::WatchCreateRequest) -> KeyRange {
    let key = if request.key.is_empty() {
        Bytes::from_static(b"\0")
    } else {
        request.key.clone()
    };
    KeyRange::new(key, request.range_end.clone())
}

fn check(services: &Services, cx: &Context, view: &View, range: &KeyRange) -> Result<(), Status> {
    let caller = services.caller(cx)?;
    Ok(view.auth.check_read_of(caller.as_ref(), range)?)
}

impl Services {
    /// An answer of the hub as a message, its events taken apart; for the gateway.
    ///
    /// # Errors
    ///
    /// If an event's bytes are no event, which is damage.
    pub fn watch_response(&self, answer: WatchAnswer) -> Result<pb::WatchResponse, Status> {
        let events: Result<Vec<_>, _> = answer
            .events
            .into_iter()
            .map(mvccpb::Event::decode)
            .collect();
        let events = events
            .map_err(|error| Status::new(Code::Internal, format!("read back an event: {error}")))?;
        let term = self.term_of(&self.handle().view());
        Ok(pb::WatchResponse {
            header: Some(self.header(answer.revision, term)),
            watch_id: answer.watch_id,
            created: answer.created,
            canceled: answer.canceled,
            compact_revision: answer.compact_revision,
            cancel_reason: answer.cancel_reason,
            fragment: answer.fragment,
            events,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_text_that_clients_compare() {
        assert_eq!(
            reason(&crate::errors::invalid_auth_token()),
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        );
    }

    #[test]
    fn an_empty_key_is_the_lowest_and_a_zero_end_is_all_from_the_key_on() {
        let request = |key: &'static str, end: &'static str| pb::WatchCreateRequest {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
            ..pb::WatchCreateRequest::default()
        };
        let all = range_of(&request("", "\0"));
        assert!(all.contains(b"\0") && all.contains(b"zz"));
        assert_eq!(
            range_of(&request("", "")),
            KeyRange::One(Bytes::from_static(b"\0"))
        );
        assert!(!range_of(&request("b", "\0")).contains(b"a"));
    }
}
