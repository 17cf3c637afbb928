//! The typed calls against a real node: keys, leases, members, maintenance.

use crate::node::{bytes, get, nobody, put, refusal, told, with_node};
use crate::wire::Front;
use holm_etcd::proto::etcdserverpb as pb;
use holm_etcd::proto::etcdserverpb::request_op::Request;
use holm_etcd::proto::etcdserverpb::response_op::Response;

#[test]
fn what_was_put_is_read_with_its_revisions() {
    with_node(|services| async move {
        let cx = nobody();
        let done = services.put(&cx, put("a", "1")).await.unwrap();
        assert_eq!(done.header.as_ref().unwrap().revision, 2);
        let again = pb::PutRequest {
            prev_kv: true,
            ..put("a", "2")
        };
        let done = services.put(&cx, again).await.unwrap();
        assert_eq!(done.prev_kv.unwrap().value, bytes("1"));
        let found = services.range(&cx, get("a", "\0")).await.unwrap();
        let kv = &found.kvs[0];
        assert_eq!((found.count, found.more), (1, false));
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
        let old = pb::RangeRequest {
            revision: 2,
            ..get("a", "")
        };
        assert_eq!(
            services.range(&cx, old).await.unwrap().kvs[0].value,
            bytes("1")
        );
    });
}

#[test]
fn faults_of_shape_and_of_state_are_told_with_their_codes() {
    with_node(|services| async move {
        let cx = nobody();
        let told_of = told(services.put(&cx, put("", "1")).await);
        assert_eq!(told_of, refusal(3, "key is not provided"));
        let kept = pb::PutRequest {
            ignore_value: true,
            ..put("a", "")
        };
        assert_eq!(
            told(services.put(&cx, kept).await),
            refusal(3, "key not found")
        );
        let leased = pb::PutRequest {
            lease: 7,
            ..put("a", "")
        };
        let told_of = told(services.put(&cx, leased).await);
        assert_eq!(told_of, refusal(5, "requested lease not found"));
        let future = pb::RangeRequest {
            revision: 9,
            ..get("a", "")
        };
        let text = "mvcc: required revision is a future revision";
        assert_eq!(told(services.range(&cx, future).await), refusal(11, text));
        let large = put("a", &"x".repeat(services.limits().request_bytes_max));
        let told_of = told(services.put(&cx, large).await);
        assert_eq!(told_of, refusal(3, "request is too large"));
    });
}

#[test]
fn compacted_revisions_cannot_be_read_or_compacted_again() {
    with_node(|services| async move {
        let cx = nobody();
        for value in ["1", "2", "3"] {
            services.put(&cx, put("a", value)).await.unwrap();
        }
        let compact = |revision| pb::CompactionRequest {
            revision,
            physical: false,
        };
        services.compact(&cx, compact(3)).await.unwrap();
        let text = "mvcc: required revision has been compacted";
        assert_eq!(
            told(services.compact(&cx, compact(3)).await),
            refusal(11, text)
        );
        let old = pb::RangeRequest {
            revision: 2,
            ..get("a", "")
        };
        assert_eq!(told(services.range(&cx, old).await), refusal(11, text));
        let text = "mvcc: required revision is a future revision";
        assert_eq!(
            told(services.compact(&cx, compact(99)).await),
            refusal(11, text)
        );
    });
}

const fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

#[test]
fn responses_within_a_transaction_show_its_revision_once_it_changed_something() {
    with_node(|services| async move {
        let cx = nobody();
        services.put(&cx, put("a", "1")).await.unwrap();
        let request = pb::TxnRequest {
            compare: Vec::new(),
            success: vec![
                op(Request::RequestRange(get("a", ""))),
                op(Request::RequestPut(put("b", "2"))),
                op(Request::RequestRange(get("b", ""))),
            ],
            failure: Vec::new(),
        };
        let done = services.txn(&cx, request).await.unwrap();
        assert!(done.succeeded);
        assert_eq!(done.header.unwrap().revision, 3);
        let revisions: Vec<i64> = done.responses.into_iter().filter_map(revision).collect();
        assert_eq!(revisions, [2, 3, 3]);
    });
}

fn revision(response: pb::ResponseOp) -> Option<i64> {
    let header = match response.response? {
        Response::ResponseRange(it) => it.header,
        Response::ResponsePut(it) => it.header,
        Response::ResponseDeleteRange(it) => it.header,
        Response::ResponseTxn(it) => it.header,
    };
    header.map(|it| it.revision)
}

#[test]
fn a_transaction_that_only_reads_takes_no_op() {
    with_node(|services| async move {
        let cx = nobody();
        services.put(&cx, put("a", "1")).await.unwrap();
        let before = services.handle().view().applied;
        let request = pb::TxnRequest {
            success: vec![op(Request::RequestRange(get("a", "")))],
            ..pb::TxnRequest::default()
        };
        services.txn(&cx, request).await.unwrap();
        assert_eq!(services.handle().view().applied, before);
    });
}

#[test]
fn a_lease_is_granted_renewed_shown_and_revoked_with_its_keys() {
    with_node(|services| async move {
        let cx = nobody();
        let grant = pb::LeaseGrantRequest { ttl: -5, id: 0 };
        let lease = services.lease_grant(&cx, grant).await.unwrap();
        assert!(lease.id > 0);
        assert_eq!(lease.ttl, 2);
        let grant = pb::LeaseGrantRequest { ttl: 60, id: 9 };
        services.lease_grant(&cx, grant).await.unwrap();
        let taken = told(services.lease_grant(&cx, grant).await);
        assert_eq!(taken, refusal(9, "lease already exists"));
        let leased = pb::PutRequest {
            lease: 9,
            ..put("k", "v")
        };
        services.put(&cx, leased).await.unwrap();
        let renew = pb::LeaseKeepAliveRequest { id: 9 };
        assert_eq!(services.lease_keep_alive(&cx, renew).await.unwrap().ttl, 60);
        let ask = pb::LeaseTimeToLiveRequest { id: 9, keys: true };
        let shown = services.lease_time_to_live(&cx, ask).await.unwrap();
        assert_eq!((shown.granted_ttl, shown.keys), (60, vec![bytes("k")]));
        let all = services.lease_leases(&cx, pb::LeaseLeasesRequest {}).await;
        assert_eq!(all.unwrap().leases.len(), 2);
        let revoke = pb::LeaseRevokeRequest { id: 9 };
        services.lease_revoke(&cx, revoke).await.unwrap();
        assert_eq!(services.range(&cx, get("k", "")).await.unwrap().count, 0);
        let gone = told(services.lease_revoke(&cx, revoke).await);
        assert_eq!(gone, refusal(5, "requested lease not found"));
    });
}

#[test]
fn an_unknown_lease_is_no_error_where_it_is_renewed_or_shown() {
    with_node(|services| async move {
        let cx = nobody();
        let renew = pb::LeaseKeepAliveRequest { id: 5 };
        assert_eq!(services.lease_keep_alive(&cx, renew).await.unwrap().ttl, 0);
        let ask = pb::LeaseTimeToLiveRequest { id: 5, keys: true };
        let shown = services.lease_time_to_live(&cx, ask).await.unwrap();
        assert_eq!((shown.ttl, shown.granted_ttl), (-1, 0));
        let long = pb::LeaseGrantRequest {
            ttl: 9_000_000_001,
            id: 0,
        };
        let told_of = told(services.lease_grant(&cx, long).await);
        assert_eq!(told_of, refusal(11, "too large lease TTL"));
    });
}

#[test]
fn one_member_is_shown_and_no_other_is_taken() {
    with_node(|services| async move {
        let cx = nobody();
        let list = services
            .member_list(&cx, pb::MemberListRequest::default())
            .await
            .unwrap();
        assert_eq!(list.header.unwrap().revision, 0);
        let me = list.members[0].clone();
        assert_eq!((me.name.as_str(), me.is_learner), ("default", false));
        let add = |url: &str| pb::MemberAddRequest {
            peer_ur_ls: vec![url.to_owned()],
            is_learner: false,
        };
        let bad = told(services.member_add(&cx, add("x")).await);
        assert_eq!(bad, refusal(3, "given member URLs are invalid"));
        let taken = told(services.member_add(&cx, add("http://127.0.0.1:2380")).await);
        assert_eq!(taken, refusal(9, "Peer URLs already exists"));
        let alone = refusal(
            2,
            "re-configuration failed due to not enough started members",
        );
        assert_eq!(
            told(services.member_add(&cx, add("http://b:2380")).await),
            alone
        );
        let last = pb::MemberRemoveRequest { id: me.id };
        assert_eq!(told(services.member_remove(&cx, last).await), alone);
        let other = pb::MemberRemoveRequest { id: 5 };
        let told_of = told(services.member_remove(&cx, other).await);
        assert_eq!(told_of, refusal(5, "member not found"));
        let promote = pb::MemberPromoteRequest { id: me.id };
        let told_of = told(services.member_promote(&cx, promote).await);
        assert_eq!(told_of, refusal(9, "can only promote a learner member"));
    });
}

fn alarm(action: i32, member_id: u64, alarm: i32) -> pb::AlarmRequest {
    pb::AlarmRequest {
        action,
        member_id,
        alarm,
    }
}

#[test]
fn an_alarm_stops_puts_shows_in_the_status_and_is_cleared() {
    with_node(|services| async move {
        let cx = nobody();
        let raised = services.alarm(&cx, alarm(1, 5, 1)).await.unwrap();
        assert_eq!(raised.alarms.len(), 1);
        let told_of = told(services.put(&cx, put("a", "1")).await);
        assert_eq!(told_of, refusal(8, "mvcc: database space exceeded"));
        let status = services.status(&cx, pb::StatusRequest {}).await.unwrap();
        assert_eq!(status.errors, ["memberID:5 alarm:NOSPACE "]);
        assert_eq!(
            services
                .alarm(&cx, alarm(0, 0, 0))
                .await
                .unwrap()
                .alarms
                .len(),
            1
        );
        assert_eq!(
            services
                .alarm(&cx, alarm(2, 5, 1))
                .await
                .unwrap()
                .alarms
                .len(),
            1
        );
        assert_eq!(
            services
                .alarm(&cx, alarm(2, 5, 1))
                .await
                .unwrap()
                .alarms
                .len(),
            0
        );
        services.put(&cx, put("a", "1")).await.unwrap();
    });
}

#[test]
fn maintenance_gives_the_answers_of_one_member() {
    with_node(|services| async move {
        let cx = nobody();
        let status = services.status(&cx, pb::StatusRequest {}).await.unwrap();
        let header = status.header.unwrap();
        assert_eq!(
            (status.version.as_str(), status.leader),
            ("3.6.12", header.member_id)
        );
        assert!(status.raft_applied_index <= status.raft_index && status.raft_term > 0);
        services
            .defragment(&cx, pb::DefragmentRequest {})
            .await
            .unwrap();
        let stay = pb::MoveLeaderRequest {
            target_id: header.member_id,
        };
        services.move_leader(&cx, stay).await.unwrap();
        let told_of = told(
            services
                .move_leader(&cx, pb::MoveLeaderRequest { target_id: 5 })
                .await,
        );
        assert_eq!(told_of, refusal(9, "bad leader transferee"));
        let down = |action, version: &str| pb::DowngradeRequest {
            action,
            version: version.to_owned(),
        };
        for (request, expected) in [
            (
                down(0, "x"),
                refusal(3, "wrong downgrade target version format"),
            ),
            (
                down(1, "3.5.0"),
                refusal(3, "invalid downgrade target version"),
            ),
            (down(2, ""), refusal(9, "no inflight downgrade job")),
        ] {
            assert_eq!(told(services.downgrade(&cx, request).await), expected);
        }
    });
}

#[test]
fn equal_histories_hash_alike_and_a_change_shows() {
    with_node(|services| async move {
        let cx = nobody();
        let hash = async |revision| {
            let request = pb::HashKvRequest { revision };
            services.hash_kv(&cx, request).await.unwrap().hash
        };
        services.put(&cx, put("a", "1")).await.unwrap();
        let before = hash(0).await;
        services.put(&cx, put("a", "2")).await.unwrap();
        assert_ne!(hash(0).await, before);
        assert_eq!(hash(2).await, before);
    });
}

#[test]
fn a_physical_compaction_is_answered_once_the_index_holds_nothing_of_it() {
    with_node(|services| async move {
        for number in 0..2_000 {
            let put = put("a", &number.to_string());
            services.put(&nobody(), put).await.unwrap();
        }
        let request = pb::CompactionRequest {
            revision: 2_000,
            physical: true,
        };
        services.compact(&nobody(), request).await.unwrap();
        let view = services.handle().view();
        assert_eq!(view.sizes.old_versions, 1, "revision 2000 itself is kept");
        let again = services.compact(&nobody(), request).await;
        assert_eq!(
            told(again),
            refusal(11, "mvcc: required revision has been compacted")
        );
    });
}

#[test]
fn a_nodes_status_tells_what_etcds_has_no_field_for() {
    with_node(|services| async move {
        services.put(&nobody(), put("a", "1")).await.unwrap();
        let request = holm_etcd::holm::NodeStatusRequest {};
        let status = services.node_status(&nobody(), request).await.unwrap();
        assert_eq!((status.revision, status.keys, status.compacted), (2, 1, 0));
        assert_eq!(status.cleaner, "idle");
        assert_eq!(status.cleaner_bytes_per_second, 8 << 20);
        assert_eq!(status.checkpoint_age_ms, None);
        assert!(status.retained_bytes > 0 && status.file_bytes > status.retained_bytes);
        assert!(status.alarms.is_empty() && status.guarantee == "linearizable");
        // A client of etcd's that read this as its own status would see no field twice.
        let mut client = Front::new(services.clone()).connect().await;
        let path = "/holm.v1.Node/Status";
        let told: holm_etcd::holm::NodeStatus = client.ask(path, &request).await.unwrap();
        assert_eq!(told.revision, status.revision);
    });
}
