//! Watch and keep-alive streams as a client sees them.

use holm_etcd::proto::etcdserverpb as pb;
use holm_etcd::proto::etcdserverpb::watch_request::RequestUnion;
use holm_etcd::proto::mvccpb::event::EventType;

use crate::node::{bytes, nobody, put, with_node};
use crate::wire::{Call, Client, Front, end, framed};

async fn watch(client: &mut Client) -> Call {
    client.open("/etcdserverpb.Watch/Watch", &[]).await
}

fn create(key: &str, range_end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        ..pb::WatchCreateRequest::default()
    }
}

fn ask(call: &mut Call, request: RequestUnion) {
    let request = pb::WatchRequest {
        request_union: Some(request),
    };
    call.send(framed(&request), false);
}

async fn next(call: &mut Call) -> pb::WatchResponse {
    call.next().await.expect("the stream goes on")
}

#[test]
fn a_watch_is_answered_first_and_then_tells_each_event_in_order() {
    with_node(|services| async move {
        let mut client = Front::new(services.clone()).connect().await;
        let mut call = watch(&mut client).await;
        ask(&mut call, RequestUnion::CreateRequest(create("a", "b")));
        let created = next(&mut call).await;
        assert!(created.created && created.events.is_empty());
        assert_eq!((created.watch_id, created.header.unwrap().revision), (0, 1));
        for at in 0..50 {
            services
                .put(&nobody(), put(&format!("a{at}"), "1"))
                .await
                .unwrap();
        }
        let mut revisions = Vec::new();
        while revisions.len() < 50 {
            let answer = next(&mut call).await;
            revisions.extend(
                answer
                    .events
                    .iter()
                    .map(|it| it.kv.as_ref().unwrap().mod_revision),
            );
        }
        let expected: Vec<i64> = (2..52).collect();
        assert_eq!(revisions, expected);
    });
}

#[test]
fn history_comes_from_the_revision_asked_for_and_with_what_was_before() {
    with_node(|services| async move {
        for value in ["1", "2", "3"] {
            services.put(&nobody(), put("a", value)).await.unwrap();
        }
        let request = pb::DeleteRangeRequest {
            key: bytes("a"),
            ..pb::DeleteRangeRequest::default()
        };
        services.delete_range(&nobody(), request).await.unwrap();
        let mut client = Front::new(services).connect().await;
        let mut call = watch(&mut client).await;
        let request = pb::WatchCreateRequest {
            start_revision: 3,
            prev_kv: true,
            ..create("a", "")
        };
        ask(&mut call, RequestUnion::CreateRequest(request));
        next(&mut call).await;
        let mut events = Vec::new();
        while events.len() < 3 {
            events.extend(next(&mut call).await.events);
        }
        let before: Vec<_> = events
            .iter()
            .map(|it| it.prev_kv.as_ref().unwrap().value.clone())
            .collect();
        assert_eq!(before, ["1", "2", "3"]);
        assert_eq!(events[2].r#type(), EventType::Delete);
        let deleted = events[2].kv.as_ref().unwrap();
        assert_eq!((deleted.mod_revision, deleted.version), (5, 0));
    });
}

#[test]
fn a_watch_ends_when_asked_and_says_why_when_it_must() {
    with_node(|services| async move {
        for value in ["1", "2", "3"] {
            services.put(&nobody(), put("a", value)).await.unwrap();
        }
        let compact = pb::CompactionRequest {
            revision: 3,
            physical: false,
        };
        services.compact(&nobody(), compact).await.unwrap();
        let mut client = Front::new(services).connect().await;
        let mut call = watch(&mut client).await;
        ask(&mut call, RequestUnion::CreateRequest(create("a", "")));
        let id = next(&mut call).await.watch_id;
        ask(
            &mut call,
            RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: id }),
        );
        let canceled = next(&mut call).await;
        assert_eq!((canceled.canceled, canceled.watch_id), (true, id));
        let old = pb::WatchCreateRequest {
            start_revision: 2,
            ..create("a", "")
        };
        ask(&mut call, RequestUnion::CreateRequest(old));
        assert!(next(&mut call).await.created);
        let canceled = next(&mut call).await;
        assert_eq!((canceled.canceled, canceled.compact_revision), (true, 3));
        let wrong = create("b", "a");
        ask(&mut call, RequestUnion::CreateRequest(wrong));
        let refused = next(&mut call).await;
        assert_eq!(
            (refused.created, refused.canceled, refused.watch_id),
            (true, true, -1)
        );
    });
}

#[test]
fn progress_is_told_for_the_stream_behind_all_events() {
    with_node(|services| async move {
        let mut client = Front::new(services.clone()).connect().await;
        let mut call = watch(&mut client).await;
        ask(&mut call, RequestUnion::CreateRequest(create("a", "")));
        next(&mut call).await;
        services.put(&nobody(), put("a", "1")).await.unwrap();
        services.put(&nobody(), put("z", "1")).await.unwrap();
        ask(
            &mut call,
            RequestUnion::ProgressRequest(pb::WatchProgressRequest {}),
        );
        assert_eq!(next(&mut call).await.events.len(), 1);
        let progress = next(&mut call).await;
        assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
        assert_eq!(progress.header.unwrap().revision, 3);
    });
}

#[test]
fn a_stalled_watcher_slows_nobody_and_misses_nothing() {
    with_node(|services| async move {
        let front = Front::new(services.clone());
        let mut slow = front.connect_with_window(1 << 10).await;
        let mut stalled = watch(&mut slow).await;
        ask(&mut stalled, RequestUnion::CreateRequest(create("a", "")));
        let mut quick = front.connect().await;
        let mut other = watch(&mut quick).await;
        ask(&mut other, RequestUnion::CreateRequest(create("a", "")));
        assert!(next(&mut other).await.created);
        assert!(next(&mut stalled).await.created);
        let value = "v".repeat(10 << 10);
        for _ in 0..100 {
            services.put(&nobody(), put("a", &value)).await.unwrap();
        }
        for call in [&mut other, &mut stalled] {
            let mut seen = 0;
            while seen < 100 {
                seen += next(call).await.events.len();
            }
            assert_eq!(seen, 100);
        }
    });
}

#[test]
fn nothing_is_made_for_a_client_that_takes_nothing() {
    with_node(|services| async move {
        let value = "v".repeat(100 << 10);
        for _ in 0..4 {
            services.put(&nobody(), put("a", &value)).await.unwrap();
        }
        let front = Front::new(services.clone());
        let mut deaf = front.connect_with_window(0).await;
        let mut calls = Vec::new();
        for _ in 0..8 {
            let mut call = watch(&mut deaf).await;
            let request = pb::WatchCreateRequest {
                start_revision: 1,
                ..create("a", "")
            };
            ask(&mut call, RequestUnion::CreateRequest(request));
            calls.push(call);
        }
        while services.handle().hub().streams() < calls.len() {
            tokio::task::yield_now().await;
        }
        for _ in 0..50 {
            services.put(&nobody(), put("b", "1")).await.unwrap();
        }
        let sent = "grpc_server_msg_sent_total{grpc_method=\"Watch\",\
                    grpc_service=\"etcdserverpb.Watch\"";
        let line = front.metric(sent);
        assert!(line.ends_with(" 0"), "{line}");
    });
}

#[test]
fn a_client_that_has_said_everything_still_listens() {
    with_node(|services| async move {
        let mut client = Front::new(services.clone()).connect().await;
        let mut call = watch(&mut client).await;
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create("a", ""))),
        };
        call.send(framed(&request), true);
        assert!(next(&mut call).await.created);
        services.put(&nobody(), put("a", "1")).await.unwrap();
        assert_eq!(next(&mut call).await.events.len(), 1);
    });
}

#[test]
fn a_message_that_is_none_ends_the_stream() {
    with_node(|services| async move {
        let mut client = Front::new(services).connect().await;
        let mut call = watch(&mut client).await;
        call.send(crate::wire::frame(0, b"\xff\xff"), false);
        assert_eq!(call.end().await.code, 13);
    });
}

#[test]
fn each_keep_alive_is_answered_and_an_unknown_lease_does_not_end_the_stream() {
    with_node(|services| async move {
        let grant = pb::LeaseGrantRequest { ttl: 60, id: 9 };
        services.lease_grant(&nobody(), grant).await.unwrap();
        let mut client = Front::new(services).connect().await;
        let mut call = client.open("/etcdserverpb.Lease/LeaseKeepAlive", &[]).await;
        for (id, ttl) in [(9, 60), (5, 0), (9, 60)] {
            let is_last = false;
            call.send(framed(&pb::LeaseKeepAliveRequest { id }), is_last);
            let answer: pb::LeaseKeepAliveResponse = call.next().await.expect("an answer");
            assert_eq!((answer.id, answer.ttl), (id, ttl));
        }
        call.request.send_data(bytes::Bytes::new(), true).unwrap();
        assert_eq!(call.end().await, end(0, ""));
    });
}
