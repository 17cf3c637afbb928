//! gRPC itself: frames, codes, limits, and clients that misbehave.

use std::time::Duration;

use bytes::Bytes;
use holm_etcd::grpc::Limits;
use holm_etcd::proto::etcdserverpb as pb;
use holm_etcd::proto::grpc_health_v1::{HealthCheckRequest, HealthCheckResponse};
use holm_etcd::proto::v3lockpb::{LockRequest, LockResponse};
use holm_etcd::status::Code;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::node::{bytes, get, nobody, put, told, with_node};
use crate::wire::{End, Front, end, frame, framed};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const LOCK: &str = "/v3lockpb.Lock/Lock";

#[test]
fn calls_are_answered_with_a_message_and_a_status() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let done: pb::PutResponse = client.ask(PUT, &put("a", "1")).await.unwrap();
        assert_eq!(done.header.unwrap().revision, 2);
        let found: pb::RangeResponse = client.ask(RANGE, &get("a", "")).await.unwrap();
        assert_eq!((found.kvs[0].value.clone(), found.count), (bytes("1"), 1));
        let request = HealthCheckRequest::default();
        let path = "/grpc.health.v1.Health/Check";
        let health: HealthCheckResponse = client.ask(path, &request).await.unwrap();
        assert_eq!(health.status, 1);
    });
}

#[test]
fn raw_and_typed_answers_are_the_same() {
    with_node(|services| async move {
        let mut client = Front::new(services.clone()).connect().await;
        for value in ["1", "2"] {
            client
                .ask::<pb::PutResponse>(PUT, &put("a", value))
                .await
                .unwrap();
        }
        let request = pb::TxnRequest {
            success: [get("a", ""), get("a", "\0"), get("x", "")]
                .map(|it| pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestRange(it)),
                })
                .to_vec(),
            ..pb::TxnRequest::default()
        };
        let raw: pb::TxnResponse = client.ask("/etcdserverpb.KV/Txn", &request).await.unwrap();
        assert_eq!(raw, services.txn(&nobody(), request).await.unwrap());
        let request = pb::RangeRequest {
            keys_only: true,
            limit: 1,
            ..get("a", "\0")
        };
        let raw: pb::RangeResponse = client.ask(RANGE, &request).await.unwrap();
        assert_eq!(raw, services.range(&nobody(), request).await.unwrap());
    });
}

#[test]
fn a_refusal_is_one_frame_with_code_and_text() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let mut call = client.open(PUT, &[]).await;
        call.send(framed(&put("", "1")), true);
        assert!(call.message().await.is_none() && call.is_refused_at_once());
        assert_eq!(call.end().await, end(3, "etcdserver: key is not provided"));
    });
}

#[test]
fn methods_that_do_not_exist_are_unimplemented() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        for path in ["/etcdserverpb.KV/Nothing", "/a.B/C", "/"] {
            assert_eq!(
                client.ask_raw(path, framed(&put("a", "1"))).await.code,
                12,
                "{path}"
            );
        }
    });
}

#[test]
fn messages_that_are_none_are_told_apart() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let whole = framed(&put("a", "1"));
        let code = async |client: &mut crate::wire::Client, body: Bytes| {
            client.ask_raw(PUT, body).await.code
        };
        assert_eq!(code(&mut client, Bytes::new()).await, 13);
        assert_eq!(code(&mut client, whole.slice(..3)).await, 13);
        assert_eq!(code(&mut client, whole.slice(..whole.len() - 1)).await, 13);
        assert_eq!(code(&mut client, frame(0, b"\xff\xff\xff")).await, 13);
        assert_eq!(code(&mut client, frame(1, b"zipped")).await, 12);
        assert_eq!(code(&mut client, whole).await, 0);
    });
}

/// A transaction in a transaction, so many levels in all.
fn nested(levels: usize) -> pb::TxnRequest {
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let mut txn = pb::TxnRequest {
        success: vec![op(pb::request_op::Request::RequestPut(put("a", "1")))],
        ..pb::TxnRequest::default()
    };
    for _ in 1..levels {
        txn = pb::TxnRequest {
            success: vec![op(pb::request_op::Request::RequestTxn(txn))],
            ..pb::TxnRequest::default()
        };
    }
    txn
}

#[test]
fn fifty_levels_of_transactions_are_taken_and_more_are_too_many_operations() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let path = "/etcdserverpb.KV/Txn";
        // The answer is too deep for the test's own decoder.
        let told = client.ask_raw(path, framed(&nested(50))).await;
        assert_eq!(told, end(0, ""));
        let told = client.ask_raw(path, framed(&nested(51))).await;
        let text = "etcdserver: too many operations in txn request";
        assert_eq!(told, end(3, text));
    });
}

#[test]
fn a_message_may_come_byte_by_byte() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let mut call = client.open(PUT, &[]).await;
        let whole = framed(&put("a", "slow"));
        for at in 0..whole.len() {
            call.send(whole.slice(at..=at), at + 1 == whole.len());
            tokio::task::yield_now().await;
        }
        assert_eq!(call.end().await, end(0, ""));
    });
}

#[test]
fn requests_above_the_limits_are_refused_and_the_connection_lives() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let large = put("a", &"x".repeat(3 << 19));
        let told = client
            .ask::<pb::PutResponse>(PUT, &large)
            .await
            .unwrap_err();
        assert_eq!(told, end(3, "etcdserver: request is too large"));
        // The announced length alone is enough: nobody waits for the rest.
        let mut call = client.open(PUT, &[]).await;
        call.send(Bytes::from_static(b"\0\x00\x30\0\0"), false);
        let told = call.end().await;
        let text = "grpc: received message larger than max (3145728 vs. 2097152)";
        assert_eq!(told, end(8, text));
        client
            .ask::<pb::PutResponse>(PUT, &put("a", "1"))
            .await
            .unwrap();
    });
}

#[test]
fn a_request_that_does_not_arrive_in_time_is_given_up() {
    with_node(|services| async move {
        let limits = Limits {
            arrival_timeout: Duration::from_millis(1),
            ..Limits::default()
        };
        let mut client = Front::with_limits(services, limits).connect().await;
        let mut call = client.open(PUT, &[]).await;
        call.send(framed(&put("a", "1")).slice(..7), false);
        assert_eq!(call.end().await.code, 4);
    });
}

#[test]
fn a_call_takes_no_longer_than_its_client_allows() {
    with_node(|services| async move {
        let cx = nobody();
        let held = LockRequest {
            name: bytes("l"),
            lease: 0,
        };
        services.lock(&cx, held.clone()).await.unwrap();
        let mut client = Front::new(services.clone()).connect().await;
        let head = [("grpc-timeout", "1m")];
        let told = client.ask_with::<LockResponse>(LOCK, &head, &held).await;
        assert_eq!(told.unwrap_err(), end(4, "context deadline exceeded"));
        until_one_waits(&services, 1).await;
    });
}

/// Waits until so many keys stand below the lock's name.
async fn until_one_waits(services: &holm_etcd::services::Services, count: i64) {
    loop {
        let found = services.range(&nobody(), get("l/", "l0")).await;
        if found.expect("anybody may read").count == count {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_client_that_vanishes_gives_its_place_in_the_queue_up() {
    with_node(|services| async move {
        let held = LockRequest {
            name: bytes("l"),
            lease: 0,
        };
        services.lock(&nobody(), held.clone()).await.unwrap();
        let mut client = Front::new(services.clone()).connect().await;
        let mut call = client.open(LOCK, &[]).await;
        call.send(framed(&held), true);
        until_one_waits(&services, 2).await;
        client.driver.abort();
        until_one_waits(&services, 1).await;
        client.served.await.unwrap();
    });
}

#[test]
fn a_client_that_takes_its_call_back_gives_its_place_up() {
    with_node(|services| async move {
        let held = LockRequest {
            name: bytes("l"),
            lease: 0,
        };
        services.lock(&nobody(), held.clone()).await.unwrap();
        let mut client = Front::new(services.clone()).connect().await;
        let mut call = client.open(LOCK, &[]).await;
        call.send(framed(&held), true);
        until_one_waits(&services, 2).await;
        call.request.send_reset(h2::Reason::CANCEL);
        until_one_waits(&services, 1).await;
    });
}

#[test]
fn many_calls_on_one_connection_are_answered_each() {
    with_node(|services| async move {
        let mut client = Front::new(services.clone()).connect().await;
        let mut calls = Vec::new();
        for at in 0..500 {
            let mut call = client.open(PUT, &[]).await;
            call.send(framed(&put(&format!("k{at}"), "v")), true);
            calls.push(call);
        }
        for mut call in calls {
            assert_eq!(call.end().await, end(0, ""));
        }
        let found = services.range(&nobody(), get("k", "l")).await.unwrap();
        assert_eq!(found.count, 500);
    });
}

#[test]
fn messages_that_come_before_their_calls_end_do_not_cut_the_connection() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let mut calls = Vec::new();
        for at in 0..20_000 {
            let mut call = client.open(PUT, &[]).await;
            call.send(framed(&put(&format!("k{at}"), "v")), false);
            calls.push(call);
        }
        for mut call in calls {
            call.send(Bytes::new(), true);
            assert_eq!(call.end().await, end(0, ""));
        }
    });
}

#[test]
fn a_long_list_comes_whole_through_a_small_window_while_others_are_served() {
    with_node(|services| async move {
        let value = "v".repeat(1024);
        for at in 0..600 {
            services
                .put(&nobody(), put(&format!("k{at:04}"), &value))
                .await
                .unwrap();
        }
        let mut client = Front::new(services).connect_with_window(16 << 10).await;
        let mut list = client.open(RANGE, &[]).await;
        list.send(framed(&get("k", "l")), true);
        // Nothing of the list is taken yet: it must not stand in anybody's way.
        for _ in 0..20 {
            client
                .ask::<pb::PutResponse>(PUT, &put("x", "1"))
                .await
                .unwrap();
        }
        let found: pb::RangeResponse = list.next().await.expect("an answer");
        assert_eq!(list.end().await, end(0, ""));
        assert_eq!(
            (found.count, found.kvs.len(), found.more),
            (600, 600, false)
        );
        let keys = found.kvs.iter().enumerate();
        assert!(
            keys.into_iter()
                .all(|(at, it)| it.key == format!("k{at:04}"))
        );
        assert!(found.kvs.iter().all(|it| it.value == value));
    });
}

#[test]
fn a_range_stream_comes_in_pieces_that_make_the_whole() {
    with_node(|services| async move {
        let value = "v".repeat(4096);
        for at in 0..200 {
            let request = put(&format!("k{at:04}"), &value);
            services.put(&nobody(), request).await.unwrap();
        }
        let front = Front::new(services.clone());
        let mut client = front.connect_with_window(16 << 10).await;
        for request in [
            get("k", "l"),
            get("x", "y"),
            pb::RangeRequest {
                limit: 50,
                keys_only: true,
                ..get("k", "l")
            },
            pb::RangeRequest {
                count_only: true,
                ..get("k", "l")
            },
        ] {
            let mut call = client.open("/etcdserverpb.KV/RangeStream", &[]).await;
            call.send(framed(&request), true);
            let mut whole = pb::RangeResponse::default();
            let mut sizes = Vec::new();
            while let Some(piece) = call.next::<pb::RangeStreamResponse>().await {
                assert!(whole.header.is_none(), "the header comes last");
                let piece = piece.range_response.expect("a part of an answer");
                sizes.push(piece.kvs.len());
                whole.merge(&*piece.encode_to_vec()).unwrap();
            }
            assert_eq!(call.end().await, end(0, ""));
            assert!(sizes[0] <= 10 && sizes.iter().all(|it| *it <= 65 || request.keys_only));
            assert_eq!(whole, services.range(&nobody(), request).await.unwrap());
        }
    });
}

#[test]
fn where_a_keyspace_is_shut_no_read_is_answered_either() {
    with_node(|services| async move {
        services.put(&nobody(), put("a", "1")).await.unwrap();
        let front = Front::new(services.clone());
        let mut client = front.connect().await;
        for serializable in [false, true] {
            let read = pb::RangeRequest {
                serializable,
                ..get("a", "b")
            };
            services.shut(Some((Code::Unavailable, "not all of it is here")));
            let why = (14, "not all of it is here".to_owned());
            assert_eq!(told(services.range(&nobody(), read.clone()).await), why);
            for path in ["/etcdserverpb.KV/Range", "/etcdserverpb.KV/RangeStream"] {
                let mut call = client.open(path, &[]).await;
                call.send(framed(&read), true);
                assert!(call.message().await.is_none(), "{path}");
                assert_eq!(call.end().await, end(14, "not all of it is here"));
            }
            services.shut(None);
            let found = services.range(&nobody(), read).await;
            assert_eq!(found.unwrap().count, 1);
        }
    });
}

#[test]
fn a_range_stream_refuses_what_it_cannot_read_in_order() {
    with_node(|services| async move {
        let front = Front::new(services);
        let mut client = front.connect().await;
        let path = "/etcdserverpb.KV/RangeStream";
        let sorted = pb::RangeRequest {
            sort_target: 3,
            ..get("a", "b")
        };
        assert_eq!(client.ask_raw(path, framed(&sorted)).await.code, 12);
        let filtered = pb::RangeRequest {
            min_mod_revision: 1,
            ..get("a", "b")
        };
        assert_eq!(client.ask_raw(path, framed(&filtered)).await.code, 12);
        let future = pb::RangeRequest {
            revision: 9,
            ..get("a", "b")
        };
        let told = client.ask_raw(path, framed(&future)).await;
        let text = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(told, end(11, text));
    });
}

#[test]
fn a_long_list_may_take_longer_than_a_request() {
    with_node(|services| async move {
        let value = "v".repeat(1024);
        for at in 0..200 {
            let request = put(&format!("k{at:04}"), &value);
            services.put(&nobody(), request).await.unwrap();
        }
        let limits = Limits {
            request_timeout: Duration::from_millis(20),
            ..Limits::default()
        };
        let front = Front::with_limits(services, limits);
        let mut client = front.connect_with_window(1 << 10).await;
        let mut list = client.open(RANGE, &[]).await;
        list.send(framed(&get("k", "l")), true);
        // Each answer comes later than the last, and the list is not read at all meanwhile.
        let held = LockRequest {
            name: bytes("l"),
            lease: 0,
        };
        client.ask::<LockResponse>(LOCK, &held).await.unwrap();
        let head = [("grpc-timeout", "60m")];
        let told = client.ask_with::<LockResponse>(LOCK, &head, &held).await;
        assert_eq!(told.unwrap_err().code, 4);
        let found: pb::RangeResponse = list.next().await.expect("an answer");
        assert_eq!(found.kvs.len(), 200);
        assert_eq!(list.end().await, end(0, ""));
    });
}

#[test]
fn what_is_no_http2_ends_the_connection_and_nothing_else() {
    with_node(|services| async move {
        let front = Front::new(services);
        for nonsense in [&b""[..], b"PRI * HT", b"hello, is this etcd?", &[0xff; 200]] {
            let (mut near, served) = front.accept();
            near.write_all(nonsense).await.ok();
            near.shutdown().await.ok();
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.ok();
            served.await.unwrap();
        }
        let mut client = front.connect().await;
        client
            .ask::<pb::PutResponse>(PUT, &put("a", "1"))
            .await
            .unwrap();
    });
}

#[test]
fn a_stopping_server_answers_what_it_has_and_ends_streams() {
    with_node(|services| async move {
        let front = Front::new(services);
        let mut client = front.connect().await;
        let mut call = client.open("/etcdserverpb.Watch/Watch", &[]).await;
        let create = pb::WatchCreateRequest {
            key: bytes("a"),
            ..pb::WatchCreateRequest::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        call.send(framed(&request), false);
        let created: pb::WatchResponse = call.next().await.expect("an answer");
        assert!(created.created);
        front.stop();
        let stopped = End {
            code: 14,
            message: "etcdserver: server stopped".to_owned(),
        };
        assert_eq!(call.end().await, stopped);
        drop(call);
        drop(client.driver.await);
        client.served.await.unwrap();
    });
}

#[test]
fn a_message_within_the_frame_limit_may_hold_any_value() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let value: Vec<u8> = (0..=255).collect();
        let request = pb::PutRequest {
            key: Bytes::from_static(b"\0\xff"),
            value: value.clone().into(),
            ..pb::PutRequest::default()
        };
        client.ask::<pb::PutResponse>(PUT, &request).await.unwrap();
        let all = pb::RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..pb::RangeRequest::default()
        };
        let found: pb::RangeResponse = client.ask(RANGE, &all).await.unwrap();
        assert_eq!(found.kvs[0].value, value);
        assert!(found.encoded_len() > 256);
    });
}

#[test]
fn what_is_no_grpc_is_answered_over_http2_as_over_http1() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        assert_eq!(client.page("/livez").await, (200, "ok\n".to_owned()));
        let (status, said) = client.page("/metrics").await;
        assert_eq!(status, 200);
        assert!(said.contains("\netcd_server_has_leader 1\n"));
        assert_eq!(client.page("/nothing").await.0, 404);
    });
}
