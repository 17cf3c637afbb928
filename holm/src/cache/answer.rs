//! Which reads can be answered here, and the answers: a Range of one key, as etcd has it.

use bytes::{Buf as _, Bytes};
use holm_etcd::holm::cache::Opened;
use holm_freshness::Answer;
use http::HeaderMap;
use prost::Message as _;

use crate::wire::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::wire::mvccpb::KeyValue;

/// A request longer than this goes home unread: a key may be long, but few are.
pub(super) const REQUEST_BYTES_MAX: usize = 16 << 10;
/// gRPC's five bytes before a message.
const PREFIX_BYTES: usize = 5;

/// A read that can be answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Get {
    pub(super) key: Bytes,
    keys_only: bool,
    count_only: bool,
    /// The request as it is said at home.
    at_home: Bytes,
}

impl Get {
    /// The request as it is said at home, framed: linearizable, for a home that is behind or cut
    /// off itself would break the bound that this cache promises.
    pub(super) fn at_home(&self) -> Bytes {
        self.at_home.clone()
    }
}

/// Whether the call's head leaves the choice of who answers.
pub(super) fn may_answer(head: &HeaderMap) -> bool {
    // Who logs in has rights that are known at home; who demands a leader asks for the home's.
    !["token", "authorization", "hasleader"]
        .iter()
        .any(|name| head.contains_key(*name))
}

/// The message that these bytes begin with, if it is whole: its bytes without the frame.
pub(super) fn message(come: &Bytes) -> Option<Bytes> {
    let prefix = come.first_chunk::<PREFIX_BYTES>()?;
    let [compressed, length @ ..] = *prefix;
    let length = usize::try_from((&length[..]).get_u32()).ok()?;
    let is_whole = compressed == 0 && come.len() == PREFIX_BYTES + length;
    is_whole.then(|| come.slice(PREFIX_BYTES..))
}

/// A read of one key as of now, by a client that is content with what is here.
pub(super) fn get(message: Bytes) -> Option<Get> {
    let mut request = RangeRequest::decode(message).ok()?;
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let is_one_key = !request.key.is_empty() && request.range_end.is_empty();
    let is_now = request.revision == 0 && filters == [0; 4];
    // A sort that does not exist is home's to judge.
    let is_known = (0..=2).contains(&request.sort_order) && (0..=4).contains(&request.sort_target);
    if !(request.serializable && is_one_key && is_now && is_known) {
        return None;
    }
    request.serializable = false;
    Some(Get {
        at_home: crate::client::framed(&request),
        key: request.key,
        keys_only: request.keys_only,
        count_only: request.count_only,
    })
}

/// The answer, framed; an error if what the home sent is no record.
pub(super) fn framed(
    get: &Get,
    home: &Opened,
    answer: Answer,
) -> Result<Bytes, prost::DecodeError> {
    let mut kvs = Vec::new();
    let count = i64::from(answer.found.value.is_some());
    if let Some(record) = answer.found.value.filter(|_| !get.count_only) {
        let mut kv = KeyValue::decode(record)?;
        if get.keys_only {
            kv.value = Bytes::new();
        }
        kvs.push(kv);
    }
    let response = RangeResponse {
        header: Some(ResponseHeader {
            cluster_id: home.cluster,
            member_id: home.member,
            revision: answer.revision.value(),
            raft_term: home.term,
        }),
        kvs,
        more: false,
        count,
    };
    Ok(crate::client::framed(&response))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holm_base::Revision;
    use holm_freshness::Found;

    use super::*;

    fn asked(change: impl FnOnce(&mut RangeRequest)) -> Option<Get> {
        let mut request = RangeRequest {
            key: Bytes::from_static(b"a"),
            serializable: true,
            ..RangeRequest::default()
        };
        change(&mut request);
        get(Bytes::from(request.encode_to_vec()))
    }

    #[test]
    fn only_a_serializable_read_of_one_key_as_of_now_is_answered_here() {
        assert!(asked(|_| {}).is_some());
        assert!(asked(|it| it.serializable = false).is_none());
        assert!(asked(|it| it.revision = 7).is_none());
        assert!(asked(|it| it.range_end = Bytes::from_static(b"\0")).is_none());
        assert!(asked(|it| it.key = Bytes::new()).is_none());
        assert!(asked(|it| it.min_mod_revision = 3).is_none());
        assert!(asked(|it| it.sort_order = 9).is_none());
    }

    #[test]
    fn what_goes_home_is_asked_linearizably() {
        let get = asked(|it| it.keys_only = true).unwrap();
        let asked = RangeRequest::decode(message(&get.at_home()).unwrap()).unwrap();
        assert!(!asked.serializable && asked.keys_only && asked.key == get.key);
    }

    #[test]
    fn a_login_and_a_demand_for_a_leader_go_home() {
        let mut head = HeaderMap::new();
        assert!(may_answer(&head));
        head.insert("hasleader", http::HeaderValue::from_static("true"));
        assert!(!may_answer(&head));
    }

    #[test]
    fn a_message_is_read_when_it_is_whole_and_nothing_follows() {
        let of = |bytes: &'static [u8]| message(&Bytes::from_static(bytes));
        assert_eq!(of(b"\0\0\0\0\x02hi"), Some(Bytes::from_static(b"hi")));
        assert_eq!(of(b"\0\0\0\0\x02h"), None);
        assert_eq!(of(b"\0\0\0\0\x02hi!"), None);
        assert_eq!(of(b"\x01\0\0\0\x02hi"), None, "compressed");
        assert_eq!(of(b"\0\0"), None);
    }

    #[test]
    fn the_answer_is_etcds_with_the_homes_header() {
        let kv = KeyValue {
            key: Bytes::from_static(b"a"),
            value: Bytes::from_static(b"1"),
            create_revision: 3,
            mod_revision: 9,
            version: 2,
            lease: 0,
        };
        let home = Opened {
            cluster: 5,
            member: 6,
            term: 7,
        };
        let answer = Answer {
            found: Found {
                value: Some(Bytes::from(kv.encode_to_vec())),
                revision: Revision::new(9),
            },
            revision: Revision::new(12),
            age: Duration::ZERO,
        };
        let read = |get: &Get| {
            let framed = framed(get, &home, answer.clone()).unwrap();
            RangeResponse::decode(message(&framed).unwrap()).unwrap()
        };
        let whole = read(&asked(|_| {}).unwrap());
        assert_eq!((whole.count, whole.kvs.as_slice()), (1, &[kv][..]));
        let header = whole.header.unwrap();
        assert_eq!((header.cluster_id, header.member_id), (5, 6));
        assert_eq!((header.revision, header.raft_term), (12, 7));
        let bare = read(&asked(|it| it.keys_only = true).unwrap());
        assert_eq!(bare.kvs[0].value, Bytes::new());
        let count = read(&asked(|it| it.count_only = true).unwrap());
        assert_eq!((count.count, count.kvs.len()), (1, 0));
    }
}
