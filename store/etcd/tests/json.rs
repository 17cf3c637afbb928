//! The JSON form of the API's messages: what etcd's gateway takes and gives, word by word.
//!
//! The texts were noted down from a real etcd.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fmt::Debug;

use holm_etcd::proto::etcdserverpb::{
    AlarmRequest, Compare, LeaseGrantRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse,
    Member, MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, TxnRequest, TxnResponse, WatchRequest, WatchResponse, compare,
};
use holm_etcd::proto::mvccpb::{Event, KeyValue, event};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a message as the gateway does: the text is a value first.
fn read<M: DeserializeOwned>(text: &str) -> M {
    let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused<M: DeserializeOwned + Debug>(text: &str) -> String {
    serde_json::from_str::<M>(text).unwrap_err().to_string()
}

fn written<M: Serialize>(message: &M) -> String {
    serde_json::to_string(message).unwrap()
}

fn header() -> ResponseHeader {
    ResponseHeader {
        cluster_id: 12_411_878_834_727_570_085,
        member_id: 12_140_093_965_792_835_558,
        revision: 4,
        raft_term: 2,
    }
}

const HEADER: &str = "{\"cluster_id\":\"12411878834727570085\",\
                      \"member_id\":\"12140093965792835558\",\"revision\":\"4\",\
                      \"raft_term\":\"2\"}";

fn key_value() -> KeyValue {
    KeyValue {
        key: "foo".into(),
        create_revision: 2,
        mod_revision: 4,
        version: 3,
        value: "bar".into(),
        lease: 0,
    }
}

#[test]
fn fields_are_accepted_as_snake_and_as_camel() {
    let snake: PutRequest = read("{\"key\":\"Zm9v\",\"value\":\"YmFy\",\"prev_kv\":true}");
    let camel: PutRequest = read("{\"key\":\"Zm9v\",\"value\":\"YmFy\",\"prevKv\":true}");
    assert_eq!(snake, camel);
    assert!(snake.prev_kv && snake.key == "foo" && snake.value == "bar");
}

#[test]
fn numbers_are_accepted_as_numbers_and_as_text() {
    let text: RangeRequest = read("{\"limit\":\"5\",\"revision\":\"-1\"}");
    let number: RangeRequest = read("{\"limit\":5,\"revision\":-1}");
    assert_eq!(text, number);
    let grant: LeaseGrantRequest = read("{\"TTL\":\"9000000000\",\"ID\":123}");
    assert_eq!((grant.ttl, grant.id), (9_000_000_000, 123));
}

#[test]
fn choices_are_accepted_by_name_and_by_number() {
    let name: RangeRequest = read("{\"sort_order\":\"DESCEND\",\"sort_target\":\"CREATE\"}");
    let number: RangeRequest = read("{\"sortOrder\":2,\"sort_target\":2}");
    assert_eq!(name, number);
    assert!(refused::<RangeRequest>("{\"sort_order\":\"descend\"}").contains("descend"));
    let alarm: AlarmRequest =
        read("{\"action\":\"ACTIVATE\",\"memberID\":\"7\",\"alarm\":\"NOSPACE\"}");
    assert_eq!((alarm.action, alarm.member_id, alarm.alarm), (1, 7, 1));
}

#[test]
fn keys_are_base64_of_either_alphabet_with_or_without_padding() {
    let keys = ["+/8=", "-_8=", "+/8", "-_8"].map(|key| {
        let request: PutRequest = read(&format!("{{\"key\":\"{key}\"}}"));
        request.key
    });
    assert!(keys.iter().all(|key| key[..] == [0xfb, 0xff]), "{keys:?}");
    for bad in ["\"!!!\"", "5", "\"a b\"", "\"Z\""] {
        assert!(
            !refused::<PutRequest>(&format!("{{\"key\":{bad}}}")).is_empty(),
            "{bad}"
        );
    }
}

#[test]
fn unknown_fields_are_overlooked() {
    let request: RangeRequest = read("{\"key\":\"Zm9v\",\"later\":{\"a\":[1]},\"limit\":1}");
    assert_eq!((request.key.as_ref(), request.limit), (&b"foo"[..], 1));
}

#[test]
fn transaction_with_every_kind_of_operation_is_read() {
    let txn: TxnRequest = read(
        "{\"compare\":[{\"key\":\"Zm9v\",\"result\":\"GREATER\",\"target\":\"MOD\",\
         \"mod_revision\":\"7\"},{\"target\":3,\"value\":\"YQ==\"},\
         {\"target\":\"CREATE\",\"createRevision\":0}],\
         \"success\":[{\"request_put\":{\"key\":\"YQ==\"}},{\"requestRange\":{}},\
         {\"request_txn\":{\"failure\":[{\"request_delete_range\":{}}]}}],\"failure\":[]}",
    );
    let expected = Compare {
        result: compare::CompareResult::Greater.into(),
        target: compare::CompareTarget::Mod.into(),
        key: "foo".into(),
        range_end: Default::default(),
        target_union: Some(compare::TargetUnion::ModRevision(7)),
    };
    assert_eq!(txn.compare[0], expected);
    assert_eq!(
        txn.compare[1].target_union,
        Some(compare::TargetUnion::Value("a".into()))
    );
    assert_eq!(
        txn.compare[2].target_union,
        Some(compare::TargetUnion::CreateRevision(0))
    );
    assert_eq!((txn.success.len(), txn.failure.len()), (3, 0));
}

#[test]
fn watch_requests_of_each_kind_are_read() {
    for text in [
        "{\"create_request\":{\"key\":\"Zm9v\",\"start_revision\":\"1\",\"filters\":[\"NOPUT\"]}}",
        "{\"createRequest\":{\"key\":\"Zm9v\",\"startRevision\":1,\"filters\":[0]}}",
        "{\"cancel_request\":{\"watch_id\":\"5\"}}",
        "{\"progress_request\":{}}",
    ] {
        assert!(read::<WatchRequest>(text).request_union.is_some(), "{text}");
    }
}

#[test]
fn answers_leave_out_zeros_and_write_long_numbers_as_text() {
    let put = PutResponse {
        header: Some(header()),
        prev_kv: Some(key_value()),
    };
    let kv = "{\"key\":\"Zm9v\",\"create_revision\":\"2\",\"mod_revision\":\"4\",\
              \"version\":\"3\",\"value\":\"YmFy\"}";
    assert_eq!(
        written(&put),
        format!("{{\"header\":{HEADER},\"prev_kv\":{kv}}}")
    );
    let range = RangeResponse {
        header: Some(header()),
        kvs: vec![key_value()],
        more: false,
        count: 1,
    };
    assert_eq!(
        written(&range),
        format!("{{\"header\":{HEADER},\"kvs\":[{kv}],\"count\":\"1\"}}")
    );
    assert_eq!(written(&PutResponse::default()), "{}");
}

#[test]
fn events_name_their_type_unless_it_is_put() {
    let delete = Event {
        r#type: event::EventType::Delete.into(),
        kv: Some(KeyValue {
            key: "foo".into(),
            mod_revision: 5,
            ..KeyValue::default()
        }),
        prev_kv: None,
    };
    let put = Event {
        kv: Some(key_value()),
        ..Event::default()
    };
    let answer = WatchResponse {
        header: Some(header()),
        created: true,
        compact_revision: 3,
        events: vec![delete, put],
        ..WatchResponse::default()
    };
    assert_eq!(
        written(&answer),
        format!(
            "{{\"header\":{HEADER},\"created\":true,\"compact_revision\":\"3\",\"events\":[\
             {{\"type\":\"DELETE\",\"kv\":{{\"key\":\"Zm9v\",\"mod_revision\":\"5\"}}}},\
             {{\"kv\":{{\"key\":\"Zm9v\",\"create_revision\":\"2\",\"mod_revision\":\"4\",\
             \"version\":\"3\",\"value\":\"YmFy\"}}}}]}}"
        )
    );
}

#[test]
fn names_that_etcd_writes_in_capitals_stay_so() {
    let alive = LeaseKeepAliveResponse {
        header: None,
        id: 123,
        ttl: 5,
    };
    assert_eq!(written(&alive), "{\"ID\":\"123\",\"TTL\":\"5\"}");
    let left = LeaseTimeToLiveResponse {
        header: None,
        id: 123,
        ttl: 4,
        granted_ttl: 5,
        keys: vec!["foo".into()],
    };
    assert_eq!(
        written(&left),
        "{\"ID\":\"123\",\"TTL\":\"4\",\"grantedTTL\":\"5\",\"keys\":[\"Zm9v\"]}"
    );
    let member = Member {
        id: 7,
        name: "default".to_owned(),
        peer_ur_ls: vec!["http://127.0.0.1:2380".to_owned()],
        client_ur_ls: vec!["http://127.0.0.1:2379".to_owned()],
        is_learner: false,
    };
    let list = MemberListResponse {
        header: None,
        members: vec![member],
    };
    assert_eq!(
        written(&list),
        "{\"members\":[{\"ID\":\"7\",\"name\":\"default\",\
         \"peerURLs\":[\"http://127.0.0.1:2380\"],\"clientURLs\":[\"http://127.0.0.1:2379\"]}]}"
    );
}

#[test]
fn what_is_written_is_read_back() {
    let txn: TxnResponse = read(
        "{\"header\":{\"revision\":\"6\"},\"succeeded\":true,\"responses\":[\
         {\"response_put\":{\"header\":{\"revision\":\"6\"}}},\
         {\"response_txn\":{\"header\":{},\"succeeded\":true}}]}",
    );
    let again: TxnResponse = read(&written(&txn));
    assert_eq!(txn.encode_to_vec(), again.encode_to_vec());
    assert!(written(&txn).contains("{\"response_txn\":{\"header\":{},\"succeeded\":true}}"));
}
