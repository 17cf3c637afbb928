//! Users, roles, logins, and what each call asks of its caller.

use crate::node::{bytes, get, nobody, put, refusal, told, with_node};
use holm_etcd::context::Context;
use holm_etcd::proto::authpb;
use holm_etcd::proto::etcdserverpb as pb;
use holm_etcd::proto::v3electionpb::LeaderRequest;
use holm_etcd::proto::v3lockpb::LockRequest;
use holm_etcd::services::{Services, watching};

async fn add_user(services: &Services, cx: &Context, name: &str, role: &str) {
    let request = pb::AuthUserAddRequest {
        name: name.to_owned(),
        password: format!("{name}-secret"),
        ..pb::AuthUserAddRequest::default()
    };
    services
        .user_add(cx, request)
        .await
        .expect("the user is new");
    let request = pb::AuthRoleAddRequest {
        name: role.to_owned(),
    };
    services
        .role_add(cx, request)
        .await
        .expect("the role is new");
    let request = pb::AuthUserGrantRoleRequest {
        user: name.to_owned(),
        role: role.to_owned(),
    };
    services
        .user_grant_role(cx, request)
        .await
        .expect("both are there");
}

async fn grant(
    services: &Services,
    role: &str,
    kind: authpb::permission::Type,
    keys: (&str, &str),
) {
    let perm = authpb::Permission {
        perm_type: kind.into(),
        key: bytes(keys.0),
        range_end: bytes(keys.1),
    };
    let request = pb::AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(perm),
    };
    services
        .role_grant_permission(&nobody(), request)
        .await
        .expect("the role is there");
}

fn with_password(name: &str, password: &str) -> pb::AuthenticateRequest {
    pb::AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    }
}

async fn login(services: &Services, name: &str) -> Context {
    let request = with_password(name, &format!("{name}-secret"));
    let answer = services
        .authenticate(&nobody(), request)
        .await
        .expect("name and password are right");
    Context {
        token: Some(answer.token),
        ..Context::default()
    }
}

/// root, and ann who may read and write `a` and read `b` to `d`; users are enforced.
async fn enforce(services: &Services) -> (Context, Context) {
    let cx = nobody();
    add_user(services, &cx, "root", "root").await;
    add_user(services, &cx, "ann", "reader").await;
    grant(
        services,
        "reader",
        authpb::permission::Type::Readwrite,
        ("a", ""),
    )
    .await;
    grant(
        services,
        "reader",
        authpb::permission::Type::Read,
        ("b", "d"),
    )
    .await;
    services
        .auth_enable(&cx, pb::AuthEnableRequest {})
        .await
        .expect("root is root");
    (login(services, "root").await, login(services, "ann").await)
}

#[test]
fn enforcement_needs_a_root_that_is_root() {
    with_node(|services| async move {
        let cx = nobody();
        let enable = async || told(services.auth_enable(&cx, pb::AuthEnableRequest {}).await);
        assert_eq!(enable().await, refusal(9, "root user does not exist"));
        let request = pb::AuthUserAddRequest {
            name: "root".to_owned(),
            password: "x".to_owned(),
            ..pb::AuthUserAddRequest::default()
        };
        services.user_add(&cx, request).await.unwrap();
        assert_eq!(
            enable().await,
            refusal(9, "root user does not have root role")
        );
        let told_of = told(services.authenticate(&cx, with_password("root", "x")).await);
        assert_eq!(told_of, refusal(9, "authentication is not enabled"));
    });
}

#[test]
fn a_login_needs_the_right_name_and_password() {
    with_node(|services| async move {
        enforce(&services).await;
        let wrong = refusal(3, "authentication failed, invalid user ID or password");
        for (name, password) in [("ann", "x"), ("ann", ""), ("nobody", "x"), ("", "")] {
            let request = with_password(name, password);
            assert_eq!(
                told(services.authenticate(&nobody(), request).await),
                wrong,
                "{name}"
            );
        }
    });
}

#[test]
fn a_caller_may_do_what_its_roles_allow_and_no_more() {
    with_node(|services| async move {
        let (root, ann) = enforce(&services).await;
        let denied = refusal(7, "permission denied");
        services.put(&ann, put("a", "1")).await.unwrap();
        services.put(&root, put("z", "1")).await.unwrap();
        assert_eq!(told(services.put(&ann, put("b", "1")).await), denied);
        services.range(&ann, get("b", "d")).await.unwrap();
        for (key, end) in [("b", "e"), ("a", "\0"), ("z", ""), ("a", "b")] {
            assert_eq!(
                told(services.range(&ann, get(key, end)).await),
                denied,
                "{key}"
            );
        }
        let compare = pb::Compare {
            key: bytes("z"),
            ..pb::Compare::default()
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            ..pb::TxnRequest::default()
        };
        assert_eq!(told(services.txn(&ann, request).await), denied);
    });
}

#[test]
fn who_does_not_say_who_it_is_is_told_so() {
    with_node(|services| async move {
        enforce(&services).await;
        let empty = refusal(3, "user name is empty");
        assert_eq!(told(services.put(&nobody(), put("a", "1")).await), empty);
        assert_eq!(told(services.range(&nobody(), get("a", "")).await), empty);
        let forged = Context {
            token: Some("abcdefghijklmnop.7".to_owned()),
            ..Context::default()
        };
        let invalid = refusal(16, "invalid auth token");
        assert_eq!(told(services.put(&forged, put("a", "1")).await), invalid);
        assert_eq!(told(services.range(&forged, get("a", "")).await), invalid);
        let leases = services
            .lease_leases(&forged, pb::LeaseLeasesRequest {})
            .await;
        assert_eq!(told(leases), invalid);
        // A fault of shape is told before a fault of the token.
        let told_of = told(services.put(&forged, put("", "1")).await);
        assert_eq!(told_of, refusal(3, "key is not provided"));
    });
}

#[test]
fn without_a_login_nothing_about_leases_members_or_the_node_is_told_or_changed() {
    with_node(|services| async move {
        enforce(&services).await;
        let cx = nobody();
        let compact = pb::CompactionRequest::default();
        let renew = pb::LeaseKeepAliveRequest { id: 9 };
        let ask = pb::LeaseTimeToLiveRequest { id: 9, keys: false };
        let members = pb::MemberListRequest::default();
        for result in [
            services
                .lease_grant(&cx, pb::LeaseGrantRequest { ttl: 60, id: 9 })
                .await
                .map(drop),
            services
                .lease_revoke(&cx, pb::LeaseRevokeRequest { id: 9 })
                .await
                .map(drop),
            services.lease_keep_alive(&cx, renew).await.map(drop),
            services.lease_time_to_live(&cx, ask).await.map(drop),
            services
                .lease_leases(&cx, pb::LeaseLeasesRequest {})
                .await
                .map(drop),
            services.compact(&cx, compact).await.map(drop),
            services.member_list(&cx, members).await.map(drop),
            services
                .alarm(&cx, pb::AlarmRequest::default())
                .await
                .map(drop),
            services.status(&cx, pb::StatusRequest {}).await.map(drop),
        ] {
            assert_eq!(told(result), refusal(3, "user name is empty"));
        }
    });
}

#[test]
fn a_certificate_names_a_user_but_never_through_the_gateway() {
    with_node(|services| async move {
        enforce(&services).await;
        let named = Context {
            common_name: Some("ann".to_owned()),
            ..Context::default()
        };
        services.put(&named, put("a", "1")).await.unwrap();
        let proxied = Context {
            is_gateway: true,
            ..named
        };
        let empty = refusal(3, "user name is empty");
        assert_eq!(told(services.put(&proxied, put("a", "1")).await), empty);
    });
}

#[test]
fn another_password_ends_the_logins_of_the_old_one() {
    with_node(|services| async move {
        let (root, ann) = enforce(&services).await;
        let request = pb::AuthUserChangePasswordRequest {
            name: "ann".to_owned(),
            password: "new".to_owned(),
            ..pb::AuthUserChangePasswordRequest::default()
        };
        services.user_change_password(&root, request).await.unwrap();
        let told_of = told(services.put(&ann, put("a", "1")).await);
        assert_eq!(told_of, refusal(16, "invalid auth token"));
        let request = with_password("ann", "new");
        services.authenticate(&nobody(), request).await.unwrap();
    });
}

#[test]
fn administration_is_roots() {
    with_node(|services| async move {
        let (_, ann) = enforce(&services).await;
        let denied = refusal(7, "permission denied");
        let raise = pb::AlarmRequest {
            action: 1,
            member_id: 5,
            alarm: 1,
        };
        for result in [
            services
                .user_list(&ann, pb::AuthUserListRequest {})
                .await
                .map(drop),
            services
                .role_list(&ann, pb::AuthRoleListRequest {})
                .await
                .map(drop),
            services
                .auth_status(&ann, pb::AuthStatusRequest {})
                .await
                .map(drop),
            services
                .defragment(&ann, pb::DefragmentRequest {})
                .await
                .map(drop),
            services.hash(&ann, pb::HashRequest {}).await.map(drop),
            services
                .auth_disable(&ann, pb::AuthDisableRequest {})
                .await
                .map(drop),
            services
                .user_add(&ann, pb::AuthUserAddRequest::default())
                .await
                .map(drop),
            services.alarm(&ann, raise).await.map(drop),
            services.status(&ann, pb::StatusRequest {}).await.map(drop),
            services
                .compact(&ann, pb::CompactionRequest::default())
                .await
                .map(drop),
        ] {
            assert_eq!(told(result), denied);
        }
    });
}

#[test]
fn users_see_themselves_and_who_is_a_member() {
    with_node(|services| async move {
        let (root, ann) = enforce(&services).await;
        let denied = refusal(7, "permission denied");
        services.status(&root, pb::StatusRequest {}).await.unwrap();
        services
            .member_list(&ann, pb::MemberListRequest::default())
            .await
            .unwrap();
        services
            .alarm(&ann, pb::AlarmRequest::default())
            .await
            .unwrap();
        let own = pb::AuthUserGetRequest {
            name: "ann".to_owned(),
        };
        assert_eq!(
            services.user_get(&ann, own).await.unwrap().roles,
            ["reader"]
        );
        let other = pb::AuthUserGetRequest {
            name: "root".to_owned(),
        };
        assert_eq!(told(services.user_get(&ann, other).await), denied);
        let all = services
            .user_list(&root, pb::AuthUserListRequest {})
            .await
            .unwrap();
        assert_eq!(all.users, ["ann", "root"]);
        services
            .auth_disable(&root, pb::AuthDisableRequest {})
            .await
            .unwrap();
        services.put(&nobody(), put("z", "1")).await.unwrap();
    });
}

#[test]
fn a_lease_shows_its_keys_only_to_who_may_read_them() {
    with_node(|services| async move {
        let (root, ann) = enforce(&services).await;
        let grant = pb::LeaseGrantRequest { ttl: 60, id: 9 };
        services.lease_grant(&root, grant).await.unwrap();
        let leased = pb::PutRequest {
            lease: 9,
            ..put("z", "1")
        };
        services.put(&root, leased).await.unwrap();
        let denied = refusal(7, "permission denied");
        let mut ask = pb::LeaseTimeToLiveRequest { id: 9, keys: false };
        services.lease_time_to_live(&ann, ask).await.unwrap();
        ask.keys = true;
        assert_eq!(told(services.lease_time_to_live(&ann, ask).await), denied);
        let list = pb::LeaseLeasesRequest {};
        assert_eq!(told(services.lease_leases(&ann, list).await), denied);
        let renew = pb::LeaseKeepAliveRequest { id: 9 };
        assert_eq!(told(services.lease_keep_alive(&ann, renew).await), denied);
        services.lease_keep_alive(&root, renew).await.unwrap();
        let revoke = pb::LeaseRevokeRequest { id: 9 };
        assert_eq!(told(services.lease_revoke(&ann, revoke).await), denied);
        services.lease_revoke(&root, revoke).await.unwrap();
    });
}

#[test]
fn locks_and_elections_ask_for_permission_and_say_so_as_unknown() {
    with_node(|services| async move {
        let (_, ann) = enforce(&services).await;
        let denied = refusal(2, "permission denied");
        let request = LockRequest {
            name: bytes("l"),
            lease: 0,
        };
        assert_eq!(told(services.lock(&ann, request).await), denied);
        let request = LeaderRequest { name: bytes("l") };
        assert_eq!(told(services.leader(&ann, request).await), denied);
    });
}

/// Asks for a watch; gives the reason why it was refused.
fn refused_watch(services: &Services, cx: &Context, key: &str, end: &str) -> Option<String> {
    let hub = services.handle().hub();
    let stream = hub.open_stream(std::sync::Arc::new(|| ()));
    let create = pb::WatchCreateRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..pb::WatchCreateRequest::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    watching::take(services, cx, hub, stream, request).expect("any request is taken");
    let handle = services.handle();
    let answers = hub.poll(stream, handle.now(), &handle.view(), 1 << 20);
    hub.close_stream(stream);
    let answer = answers.into_iter().next().expect("a watch is answered");
    assert!(answer.created);
    answer.canceled.then(|| {
        assert_eq!(answer.watch_id, -1);
        answer.cancel_reason
    })
}

#[test]
fn a_watch_needs_permission_for_all_that_it_would_see() {
    with_node(|services| async move {
        let (root, ann) = enforce(&services).await;
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(refused_watch(&services, &ann, "a", ""), None);
        assert_eq!(refused_watch(&services, &ann, "b", "d"), None);
        assert_eq!(refused_watch(&services, &root, "a", "\0"), None);
        for end in ["\0", "b", "z"] {
            let reason = refused_watch(&services, &ann, "a", end);
            assert_eq!(reason.as_deref(), Some(denied), "{end}");
        }
        let empty = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
        assert_eq!(
            refused_watch(&services, &nobody(), "a", "").as_deref(),
            Some(empty)
        );
    });
}

#[test]
fn a_permission_of_no_known_kind_is_refused_and_grants_nothing() {
    with_node(|services| async move {
        let (root, ann) = enforce(&services).await;
        let request = pb::AuthRoleGrantPermissionRequest {
            name: "reader".to_owned(),
            perm: Some(authpb::Permission {
                perm_type: 5,
                key: bytes("y"),
                range_end: bytes(""),
            }),
        };
        let told_of = told(services.role_grant_permission(&root, request).await);
        assert_eq!(told_of, refusal(3, "permission type does not exist"));
        let denied = refusal(7, "permission denied");
        assert_eq!(told(services.range(&ann, get("y", "")).await), denied);
    });
}
