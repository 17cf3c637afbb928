//! What a node among others answers: members, leadership, reads, and when it is cut off.
//!
//! Codes and texts are those that three nodes of etcd 3.5.30 gave to the same calls, two of them
//! stopped where there is no leader.

use std::sync::Arc;

use holm_etcd::context::Context;
use holm_etcd::holm::{KeyspaceCreateRequest, KeyspaceListRequest, KeyspaceMemberRequest};
use holm_etcd::proto::etcdserverpb as pb;
use holm_etcd::proto::v3lockpb::LockRequest;
use holm_etcd::services::Services;
use holm_etcd::web::{NodeVitals, Versions, Web, gateway};
use holm_net::Room;
use holm_telemetry::Metrics;
use http::Request;
use http_body_util::{BodyExt as _, Full};

use crate::node::{bytes, get, nobody, put, refusal, told};
use crate::sites::{ELECTION, Sites, id, peer_url, until, with_sites};
use crate::wire::{Front, end, framed};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const HAS_LEADER: &[(&str, &str)] = &[("hasleader", "true")];

fn here(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        serializable: true,
        ..get(key, "")
    }
}

fn reading(range: pb::RangeRequest) -> pb::TxnRequest {
    let request = Some(pb::request_op::Request::RequestRange(range));
    pb::TxnRequest {
        success: vec![pb::RequestOp { request }],
        ..pb::TxnRequest::default()
    }
}

fn watch(key: &str) -> pb::WatchRequest {
    let create = pb::WatchCreateRequest {
        key: bytes(key),
        ..pb::WatchCreateRequest::default()
    };
    let request_union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
    pb::WatchRequest { request_union }
}

async fn list(services: &Services) -> Vec<pb::Member> {
    let request = pb::MemberListRequest { linearizable: true };
    let answer = services.member_list(&nobody(), request).await;
    answer.expect("a quorum is up").members
}

async fn status(services: &Services) -> pb::StatusResponse {
    let answer = services.status(&nobody(), pb::StatusRequest {}).await;
    answer.expect("the node is up")
}

fn adding(name: &str, is_learner: bool) -> pb::MemberAddRequest {
    pb::MemberAddRequest {
        peer_ur_ls: vec![peer_url(name)],
        is_learner,
    }
}

/// Waits until all have told who they are.
async fn named(sites: &Sites, names: &[&str]) -> Vec<pb::Member> {
    until(async || {
        let members = list(&sites.at("a")).await;
        let told = members.iter().filter(|it| !it.client_ur_ls.is_empty());
        (told.count() == names.len()).then_some(members)
    })
    .await
}

#[test]
fn members_tell_their_names_and_any_of_them_serves() {
    with_sites(async |sites| {
        let members = named(sites, &["a", "b", "c"]).await;
        let ids: Vec<u64> = members.iter().map(|it| it.id).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        for name in ["a", "b", "c"] {
            let member = members.iter().find(|it| it.id == id(name).value());
            let expected = pb::Member {
                id: id(name).value(),
                name: name.to_owned(),
                peer_ur_ls: vec![peer_url(name)],
                client_ur_ls: vec![format!("http://{name}:2379")],
                is_learner: false,
            };
            assert_eq!(member, Some(&expected));
        }
        let mut revision = 1;
        for name in ["a", "b", "c"] {
            let mut client = Front::new(sites.at(name)).connect().await;
            let answer: pb::PutResponse = client.ask(PUT, &put("k", name)).await.unwrap();
            revision += 1;
            let header = answer.header.unwrap();
            assert_eq!(header.revision, revision);
            assert_eq!(header.member_id, id(name).value());
            for reader in ["a", "b", "c"] {
                let mut client = Front::new(sites.at(reader)).connect().await;
                let read: pb::RangeResponse = client.ask(RANGE, &get("k", "")).await.unwrap();
                assert_eq!(
                    read.kvs[0].value,
                    bytes(name),
                    "written at {name}, read at {reader}"
                );
                let read: pb::TxnResponse = client.ask(TXN, &reading(get("k", ""))).await.unwrap();
                assert!(read.header.unwrap().revision >= revision);
            }
            let status = until(async || {
                let status = status(&sites.at(name)).await;
                (status.leader == id(&sites.leader().await).value()).then_some(status)
            })
            .await;
            assert!(status.raft_term >= header.raft_term);
            assert!(status.raft_index >= status.raft_applied_index);
            assert_eq!(status.errors, Vec::<String>::new());
            assert!(!status.is_learner);
        }
    });
}

#[test]
fn leadership_moves_from_the_leader_to_a_voter_and_no_other_way() {
    with_sites(async |sites| {
        let leader = sites.leader().await;
        let other = sites.followers().await.remove(0);
        let ask = async |at: &str, target_id: u64| {
            let request = pb::MoveLeaderRequest { target_id };
            sites.at(at).move_leader(&nobody(), request).await
        };
        let not_leader = refusal(9, "not leader");
        assert_eq!(told(ask(&other, id(&leader).value()).await), not_leader);
        assert_eq!(told(ask(&other, 77).await), not_leader);
        let bad = refusal(9, "bad leader transferee");
        assert_eq!(told(ask(&leader, 77).await), bad);
        ask(&leader, id(&leader).value()).await.expect("it leads");
        ask(&leader, id(&other).value()).await.expect("it votes");
        let moved = async || (sites.leader().await == other).then_some(());
        until(moved).await;
    });
}

#[test]
fn a_newcomer_learns_votes_and_leaves_for_ever() {
    with_sites(async |sites| {
        named(sites, &["a", "b", "c"]).await;
        let at = sites.at("b");
        let cx = nobody();
        let add = async |request| at.member_add(&cx, request).await;
        let exists = refusal(9, "Peer URLs already exists");
        assert_eq!(told(add(adding("a", true)).await), exists);
        let bad = refusal(3, "given member URLs are invalid");
        assert_eq!(told(add(pb::MemberAddRequest::default()).await), bad);
        let added = add(adding("d", true)).await.expect("there is room");
        let expected = pb::Member {
            id: id("d").value(),
            peer_ur_ls: vec![peer_url("d")],
            is_learner: true,
            ..pb::Member::default()
        };
        assert_eq!(added.member, Some(expected.clone()));
        assert!(added.members.contains(&expected), "{:?}", added.members);
        assert_eq!(added.header.unwrap().revision, 0);
        let promote = async |id: u64| {
            let request = pb::MemberPromoteRequest { id };
            at.member_promote(&cx, request).await
        };
        let lags = refusal(
            9,
            "can only promote a learner member which is in sync with leader",
        );
        assert_eq!(told(promote(id("d").value()).await), lags);
        let votes = refusal(9, "can only promote a learner member");
        assert_eq!(told(promote(id("a").value()).await), votes);
        let unknown = refusal(5, "member not found");
        assert_eq!(told(promote(5).await), unknown);

        sites.start("d", true);
        let newcomer = sites.at("d");
        until(async || {
            status(&newcomer).await;
            newcomer.is_learner().then_some(())
        })
        .await;
        answers_as_a_learner(&newcomer).await;

        until(async || promote(id("d").value()).await.ok()).await;
        let members = named(sites, &["a", "b", "c", "d"]).await;
        assert!(members.iter().all(|it| !it.is_learner), "{members:?}");
        until(async || {
            status(&newcomer).await;
            (!newcomer.is_learner()).then_some(())
        })
        .await;
        let mut client = Front::new(newcomer).connect().await;
        client
            .ask::<pb::PutResponse>(PUT, &put("k", "v"))
            .await
            .unwrap();

        let remove = async |id: u64| {
            let request = pb::MemberRemoveRequest { id };
            at.member_remove(&cx, request).await
        };
        assert_eq!(told(remove(5).await), unknown);
        let left = remove(id("d").value()).await.expect("three are left");
        assert_eq!(left.members.len(), 3);
        assert_eq!(told(remove(id("d").value()).await), unknown);
        assert_eq!(list(&at).await.len(), 3);
        let never = refusal(9, "member ID already exist");
        assert_eq!(told(add(adding("d", true)).await), never);
    });
}

async fn answers_as_a_learner(newcomer: &Services) {
    let mut client = Front::new(newcomer.clone()).connect().await;
    let learner = end(14, "etcdserver: rpc not supported for learner");
    let refused = client.ask::<pb::RangeResponse>(RANGE, &get("k", "")).await;
    assert_eq!(refused.expect_err("it has no vote"), learner);
    // It needs no message to be refused.
    let mut refused = client.open(PUT, &[]).await;
    assert_eq!(refused.end().await, learner);
    let read: pb::RangeResponse = client.ask(RANGE, &here("k")).await.expect("a copy is here");
    assert_eq!(read.count, 0);
    assert!(status(newcomer).await.is_learner);
}

#[test]
fn a_voter_is_added_as_a_learner_and_promoted_by_itself() {
    with_sites(async |sites| {
        let added = sites
            .at("c")
            .member_add(&nobody(), adding("d", false))
            .await;
        let member = added.expect("there is room").member.unwrap();
        assert!(member.is_learner, "until it has caught up");
        sites.start("d", true);
        until(async || {
            let members = list(&sites.at("a")).await;
            let member = members.iter().find(|it| it.name == "d");
            member.is_some_and(|it| !it.is_learner).then_some(())
        })
        .await;
    });
}

#[test]
fn members_move_to_other_addresses_that_are_free() {
    with_sites(async |sites| {
        let update = async |id: u64, url: String| {
            let peer_ur_ls = vec![url];
            let request = pb::MemberUpdateRequest { id, peer_ur_ls };
            sites.at("a").member_update(&nobody(), request).await
        };
        let unknown = refusal(5, "member not found");
        assert_eq!(told(update(5, peer_url("x")).await), unknown);
        let exists = refusal(9, "Peer URLs already exists");
        assert_eq!(told(update(id("b").value(), peer_url("c")).await), exists);
        let watching = sites.at("c");
        let known = watching.members().await.expect("it runs");
        let moved = update(id("b").value(), peer_url("x")).await.expect("free");
        let changed = watching.members_after(&known).await.expect("it runs");
        assert_ne!(changed, known);
        let is_moved =
            |it: &pb::Member| it.id == id("b").value() && it.peer_ur_ls == [peer_url("x")];
        assert!(moved.members.iter().any(is_moved));
        assert!(list(&sites.at("c")).await.iter().any(is_moved));
    });
}

#[test]
fn a_change_that_leaves_no_quorum_in_reach_is_refused() {
    with_sites(async |sites| {
        named(sites, &["a", "b", "c"]).await;
        let leader = sites.leader().await;
        let followers = sites.followers().await;
        sites.cut(&followers[0], true);
        let remove = async || {
            let id = id(&followers[1]).value();
            let request = pb::MemberRemoveRequest { id };
            sites.at(&leader).member_remove(&nobody(), request).await
        };
        let handle = sites.at(&leader).handle().clone();
        until(async || {
            let standing = handle.standing().await.expect("it runs");
            let lost = standing
                .peers
                .iter()
                .find(|it| it.node == id(&followers[0]));
            let heard = lost.expect("it votes").heard;
            (handle.now().since(heard) > ELECTION).then_some(())
        })
        .await;
        assert_eq!(told(remove().await), refusal(14, "unhealthy cluster"));
        assert_eq!(list(&sites.at(&leader)).await.len(), 3);
    });
}

#[test]
fn who_has_just_been_cut_off_tells_which_keyspaces_it_knows() {
    with_sites(async |sites| {
        named(sites, &["a", "b", "c"]).await;
        let leader = sites.leader().await;
        sites.cut(&leader, true);
        let island = sites.at(&leader);
        assert!(island.handle().leader().is_some(), "it does not know yet");
        let asked = KeyspaceListRequest::default();
        let list = island.keyspace_list(&nobody(), asked).await;
        assert_eq!(list.expect("it is told").keyspaces[0].name, "default");
    });
}

#[test]
fn who_is_no_member_any_more_goes_from_a_keyspace_by_its_id() {
    with_sites(async |sites| {
        named(sites, &["a", "b", "c"]).await;
        let leader = sites.at(&sites.leader().await);
        let gone = sites.followers().await.remove(0);
        let create = KeyspaceCreateRequest {
            name: "orders".to_owned(),
            ..KeyspaceCreateRequest::default()
        };
        let created = leader.keyspace_create(&nobody(), create).await;
        assert_eq!(created.expect("there is room").sites.len(), 3);
        let node = id(&gone).value();
        let request = pb::MemberRemoveRequest { id: node };
        let removed = leader.member_remove(&nobody(), request).await;
        removed.expect("a quorum is up");
        let remove = async |site: &str| {
            let request = KeyspaceMemberRequest {
                name: "orders".to_owned(),
                site: site.to_owned(),
                is_leaving: true,
                ..KeyspaceMemberRequest::default()
            };
            leader.keyspace_member(&nobody(), request).await
        };
        assert!(remove(&gone).await.is_err(), "it has no name any more");
        let view = remove(&format!("{node:x}")).await.expect("it is there");
        let site = view.sites.iter().find(|it| it.node == node);
        assert_eq!(site.expect("it has not gone yet").standing, "leaving");
    });
}

#[test]
fn an_island_says_so_and_serves_what_it_has() {
    with_sites(async |sites| {
        named(sites, &["a", "b", "c"]).await;
        let name = sites.followers().await.remove(0);
        let island = sites.at(&name);
        let front = Front::new(island.clone());
        let mut client = front.connect().await;
        client
            .ask::<pb::PutResponse>(PUT, &put("k", "v"))
            .await
            .unwrap();
        let mut plain = client.open(WATCH, &[]).await;
        plain.send(framed(&watch("k")), false);
        let created = plain.next::<pb::WatchResponse>().await.unwrap();
        assert!(created.created);
        let mut demanding = client.open(WATCH, HAS_LEADER).await;
        demanding.send(framed(&watch("k")), false);
        assert!(demanding.next::<pb::WatchResponse>().await.unwrap().created);
        assert_eq!(demanding.head("holm-island"), None);

        sites.cut(&name, true);
        let no_leader = end(14, "etcdserver: no leader");
        assert_eq!(demanding.end().await, no_leader, "after three elections");
        let mut refused = client.open(WATCH, HAS_LEADER).await;
        assert_eq!(refused.end().await, no_leader);
        let mut refused = client.open(RANGE, HAS_LEADER).await;
        assert_eq!(refused.end().await, no_leader);

        let mut call = client.open(RANGE, &[]).await;
        call.send(framed(&here("k")), true);
        let read = call.next::<pb::RangeResponse>().await.unwrap();
        assert_eq!(read.kvs[0].value, bytes("v"));
        let said = call.head("holm-island").expect("it says so");
        assert!(said.starts_with("no-quorum since "), "{said}");
        let answer: pb::TxnResponse = client.ask(TXN, &reading(here("k"))).await.unwrap();
        assert!(answer.succeeded);
        let status = status(&island).await;
        assert_eq!(status.leader, 0);
        assert_eq!(status.errors[0], "etcdserver: no leader");
        assert!(status.errors[1].starts_with("holm-island: no-quorum since "));
        let request = pb::MemberListRequest::default();
        let members = island.member_list(&nobody(), request).await;
        assert_eq!(members.expect("it knows them").members.len(), 3);
        refuses_in_the_end(&island).await;
        is_ill(&island).await;

        sites.cut(&name, false);
        until(async || {
            let read = client.ask::<pb::RangeResponse>(RANGE, &get("k", "")).await;
            read.ok()
        })
        .await;
        let mut leader = Front::new(sites.at(&sites.leader().await)).connect().await;
        leader
            .ask::<pb::PutResponse>(PUT, &put("k", "w"))
            .await
            .unwrap();
        // What the island took meanwhile may come first: its outcome was unknown.
        let mut values = Vec::new();
        while values.last() != Some(&bytes("w")) {
            let answer = plain.next::<pb::WatchResponse>().await.expect("it goes on");
            let records = answer.events.into_iter().filter_map(|it| it.kv);
            values.extend(records.map(|it| it.value));
        }
        assert!(values.len() <= 2, "{values:?}");
    });
}

/// What needs others is refused when the time for it is up.
async fn refuses_in_the_end(island: &Services) {
    let cx = nobody();
    let late = refusal(14, "request timed out");
    let never_begun = (4, "context deadline exceeded".to_owned());
    let id = island.handle().identity().node.value();
    let lease = pb::LeaseTimeToLiveRequest { id: 5, keys: false };
    let renewal = pb::LeaseKeepAliveRequest { id: 5 };
    let all = pb::MemberListRequest { linearizable: true };
    let removal = pb::MemberRemoveRequest { id };
    let lock = LockRequest {
        name: bytes("l"),
        lease: 0,
    };
    let promotion = pb::MemberPromoteRequest { id };
    let front = Front::new(island.clone());
    let (mut reader, mut writer) = (front.connect().await, front.connect().await);
    let get = get("k", "");
    let put = put("k", "v");
    let answers = tokio::join!(
        reader.ask::<pb::RangeResponse>(RANGE, &get),
        writer.ask::<pb::PutResponse>(PUT, &put),
        island.txn(&cx, reading(get.clone())),
        island.member_list(&cx, all),
        island.lease_time_to_live(&cx, lease),
        island.lease_keep_alive(&cx, renewal),
        island.auth_status(&cx, pb::AuthStatusRequest {}),
        island.member_remove(&cx, removal),
        island.member_promote(&cx, promotion),
        island.lock(&cx, lock),
    );
    assert_eq!(answers.0.expect_err("nobody answers"), end(14, &late.1));
    assert_eq!(
        answers.1.expect_err("nobody answers"),
        end(4, &never_begun.1)
    );
    assert_eq!(told(answers.2), late);
    assert_eq!(told(answers.3), late);
    let no_leader = refusal(14, "no leader");
    assert_eq!(told(answers.4), no_leader);
    assert_eq!(told(answers.5), no_leader);
    assert_eq!(told(answers.6), never_begun);
    assert_eq!(told(answers.7), never_begun);
    assert_eq!(told(answers.8), no_leader);
    assert_eq!(told(answers.9), never_begun);
    let to = pb::MoveLeaderRequest { target_id: id };
    assert_eq!(
        told(island.move_leader(&cx, to).await),
        refusal(9, "not leader")
    );
}

/// Status, the header of an island, and text of an answer.
async fn look(web: &Web, request: Request<Full<::bytes::Bytes>>) -> (u16, Option<String>, String) {
    let answer = web.answer(request).await;
    let code = answer.status().as_u16();
    let head = answer.headers();
    let said = head
        .get("holm-island")
        .or_else(|| head.get("grpc-metadata-holm-island"));
    let said = said.map(|it| it.to_str().expect("it is a text").to_owned());
    let body = answer.into_body().collect().await.expect("it cannot fail");
    let text = String::from_utf8(body.to_bytes().to_vec()).expect("it is a text");
    (code, said, text)
}

async fn is_ill(island: &Services) {
    let vitals = NodeVitals::new(island.clone(), Room::new(1));
    let versions = Versions {
        server: "3.6.12".to_owned(),
        cluster: "3.6.0".to_owned(),
        storage: "3.6.0".to_owned(),
    };
    let metrics = Arc::new(Metrics::new("0", "3.6.12"));
    let calls = gateway(island, 1 << 20);
    let web = Web::new(Arc::new(vitals), metrics, versions).with_gateway(calls);
    let get = |path: &str| {
        let request = Request::get(path).body(Full::default());
        request.expect("the head is sound")
    };
    let (code, said, text) = look(&web, get("/health")).await;
    assert_eq!(code, 503);
    assert_eq!(
        text,
        "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"
    );
    assert!(said.is_some());
    let (code, _, text) = look(&web, get("/health?serializable=true")).await;
    assert_eq!(
        (code, text.as_str()),
        (200, "{\"health\":\"true\",\"reason\":\"\"}")
    );
    let (code, _, text) = look(&web, get("/readyz")).await;
    assert_eq!(code, 503);
    let line = "[-]linearizable_read failed: etcdserver: request timed out\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("[+]non_learner ok\n"), "{text}");
    let (code, _, _) = look(&web, get("/livez")).await;
    assert_eq!(code, 200);
    let read = |demand: &str| {
        let body = Full::from("{\"key\":\"aw==\",\"serializable\":true}");
        Request::post("/v3/kv/range")
            .header("grpc-metadata-hasleader", demand)
            .body(body)
            .expect("the head is sound")
    };
    let (code, said, _) = look(&web, read("false")).await;
    assert_eq!((code, said.is_some()), (200, true));
    let (code, _, text) = look(&web, read("true")).await;
    assert_eq!(code, 503);
    assert!(text.contains("etcdserver: no leader"), "{text}");
}

#[test]
fn a_simple_token_is_known_where_it_was_given_until_the_user_changes_anywhere() {
    with_sites(async |sites| {
        let (a, b) = (sites.at("a"), sites.at("b"));
        let root = |password: &str| pb::AuthenticateRequest {
            name: "root".to_owned(),
            password: password.to_owned(),
        };
        let add = pb::AuthUserAddRequest {
            name: "root".to_owned(),
            password: "p".to_owned(),
            ..pb::AuthUserAddRequest::default()
        };
        a.user_add(&nobody(), add).await.unwrap();
        let role = pb::AuthRoleAddRequest {
            name: "root".to_owned(),
        };
        a.role_add(&nobody(), role).await.unwrap();
        let grant = pb::AuthUserGrantRoleRequest {
            user: "root".to_owned(),
            role: "root".to_owned(),
        };
        a.user_grant_role(&nobody(), grant).await.unwrap();
        a.auth_enable(&nobody(), pb::AuthEnableRequest {})
            .await
            .unwrap();
        let login = async |at: &Services, password: &str| {
            let answer = at.authenticate(&nobody(), root(password)).await.unwrap();
            Context {
                token: Some(answer.token),
                ..nobody()
            }
        };
        let (at_a, at_b) = (login(&a, "p").await, login(&b, "p").await);
        a.range(&at_a, get("k", "")).await.unwrap();
        b.range(&at_b, get("k", "")).await.unwrap();
        let unknown = refusal(16, "invalid auth token");
        assert_eq!(told(b.range(&at_a, get("k", "")).await), unknown);
        let change = pb::AuthUserChangePasswordRequest {
            name: "root".to_owned(),
            password: "q".to_owned(),
            ..pb::AuthUserChangePasswordRequest::default()
        };
        a.user_change_password(&at_a, change).await.unwrap();
        assert_eq!(told(b.range(&at_b, get("k", "")).await), unknown);
        let at_b = login(&b, "q").await;
        b.range(&at_b, get("k", "")).await.unwrap();
    });
}
