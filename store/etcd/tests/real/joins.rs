//! Sites that come with a token: one wins, the same one goes on, and what is refused changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holm_base::{ClusterId, NodeId};
use holm_etcd::authority::{Fingerprint, Report};
use holm_etcd::holm::{
    NodeLink, NodeStatusRequest, SiteAddRequest, SiteAuthorityReplaceRequest, SiteAuthorityRequest,
};
use holm_etcd::proto::etcdserverpb as pb;
use holm_etcd::services::{
    Admitted, Applicant, LinkCertificate, Links, MadeAuthority, NotAdmitted, Services,
    TrustedAuthority,
};
use holm_link::JoinToken;

use crate::node::{nobody, refusal, told, with_node};
use crate::sites::{Sites, peer_url, with_sites};

const FINGERPRINT: [u8; 32] = [9; 32];

/// Links of a cluster that signs its own certificates.
#[derive(Debug, Default)]
struct Signed {
    later: AtomicU64,
}

impl Links for Signed {
    fn links(&self) -> Vec<NodeLink> {
        Vec::new()
    }

    fn certificate(&self) -> Option<LinkCertificate> {
        Some(LinkCertificate {
            until: 2_000_000_000,
            fingerprint: Some(FINGERPRINT),
            is_authority: true,
        })
    }

    fn wall_seconds(&self) -> u64 {
        1_800_000_000 + self.later.load(Ordering::Relaxed)
    }

    fn trusted(&self) -> Vec<TrustedAuthority> {
        vec![TrustedAuthority {
            fingerprint: FINGERPRINT,
            until: 2_100_000_000,
        }]
    }

    fn next_authority(&self, known: &[[u8; 32]]) -> Result<MadeAuthority, String> {
        let number = u8::try_from(known.len()).map_err(|_many| "too many")?;
        Ok(MadeAuthority {
            certificate: "a certificate".to_owned(),
            fingerprint: [number; 32],
        })
    }
}

fn adding(name: &str, seconds: u64) -> SiteAddRequest {
    SiteAddRequest {
        name: name.to_owned(),
        seconds,
        peer_url: String::new(),
    }
}

fn signed(sites: &Sites, name: &str) -> Services {
    let services = sites.at(name);
    services.with_links(Arc::<Signed>::default());
    services
}

async fn token(services: &Services, request: SiteAddRequest) -> JoinToken {
    let answer = services.site_add(&nobody(), request).await;
    let answer = answer.expect("a quorum is up");
    answer.token.parse().expect("it is a token")
}

fn comes(token: &JoinToken, name: &str, key: u8) -> Applicant {
    Applicant {
        cluster: token.cluster,
        secret: token.secret,
        name: name.to_owned(),
        url: peer_url(name),
        key: [key; 32],
        node: None,
    }
}

fn why(answer: Result<Admitted, NotAdmitted>) -> String {
    match answer {
        Err(NotAdmitted::Refused(why)) => why,
        other => panic!("it is refused: {other:?}"),
    }
}

async fn members(services: &Services) -> usize {
    let request = pb::MemberListRequest { linearizable: true };
    let list = services.member_list(&nobody(), request).await;
    list.expect("a quorum is up").members.len()
}

#[test]
fn a_site_is_let_in_once_and_goes_on_under_the_same_key_and_id() {
    with_sites(async |sites| {
        let (a, b) = (signed(sites, "a"), signed(sites, "b"));
        let token = token(&a, adding("d", 3_600)).await;
        assert_eq!(token.fingerprint, FINGERPRINT);
        assert_eq!(token.addresses.len(), 3, "{:?}", token.addresses);
        let pending = async || {
            let status = b.node_status(&nobody(), NodeStatusRequest {}).await;
            status.expect("the node is up").invitations.len()
        };
        b.admit(&comes(&token, "e", 1))
            .await
            .expect_err("not its name");
        assert_eq!(pending().await, 1);
        // At another member than the one that made it.
        let first = b.admit(&comes(&token, "d", 1)).await.expect("let in");
        assert!(first.members.iter().any(|it| it.node == first.node));
        assert_eq!(pending().await, 0);
        let again = a
            .admit(&comes(&token, "d", 1))
            .await
            .expect("the same site");
        assert_eq!(again.node, first.node);
        let other = why(a.admit(&comes(&token, "d", 2)).await);
        assert!(
            other.contains("was used already, by d at https://d:2380"),
            "{other}"
        );
        let moved = Applicant {
            url: peer_url("elsewhere"),
            ..comes(&token, "d", 1)
        };
        let moved = why(a.admit(&moved).await);
        assert!(
            moved.contains("the token is for a site at https://d:2380"),
            "{moved}"
        );
        assert_eq!(members(&a).await, 4);
        let facts = &a.handle().view().cluster;
        let secret: String = token.secret.iter().map(|it| format!("{it:02x}")).collect();
        let is_secret = |text: &[u8]| String::from_utf8_lossy(text).contains(&secret);
        assert!(
            !facts
                .iter()
                .any(|(name, value)| is_secret(name.as_bytes()) || is_secret(value))
        );
    });
}

#[test]
fn of_two_that_come_at_once_one_wins_at_most() {
    with_sites(async |sites| {
        let (a, b) = (signed(sites, "a"), signed(sites, "b"));
        for round in 0..4_u8 {
            let name = format!("d{round}");
            let token = token(&a, adding(&name, 3_600)).await;
            let (one, two) = (comes(&token, &name, 1), comes(&token, &name, 2));
            let (one, two) = tokio::join!(a.admit(&one), b.admit(&two));
            let winners = usize::from(one.is_ok()) + usize::from(two.is_ok());
            assert!(winners <= 1, "round {round}: {one:?} {two:?}");
        }
        assert!(members(&a).await <= 7);
    });
}

#[test]
fn what_is_refused_says_why_and_changes_nothing() {
    with_sites(async |sites| {
        let a = signed(sites, "a");
        let bound = SiteAddRequest {
            peer_url: peer_url("d"),
            ..adding("d", 60)
        };
        let bound = token(&a, bound).await;
        let elsewhere = Applicant {
            url: peer_url("e"),
            ..comes(&bound, "d", 1)
        };
        let text = why(a.admit(&elsewhere).await);
        assert!(
            text.contains("--initial-advertise-peer-urls https://d:2380"),
            "{text}"
        );
        let foreign = Applicant {
            cluster: ClusterId::new(1),
            ..comes(&bound, "d", 1)
        };
        assert_eq!(
            why(a.admit(&foreign).await),
            "the token is of another cluster"
        );
        let guessed = Applicant {
            secret: [0; 16],
            ..comes(&bound, "d", 1)
        };
        let text = why(a.admit(&guessed).await);
        assert!(text.contains("not known here"), "{text}");
        let stranger = Applicant {
            node: Some(NodeId::new(77)),
            ..comes(&bound, "d", 1)
        };
        let text = why(a.admit(&stranger).await);
        assert!(text.contains("member 4d, which is none any more"), "{text}");
        let taken = token(&a, adding("b", 60)).await;
        let named = Applicant {
            url: peer_url("x"),
            ..comes(&taken, "b", 1)
        };
        let text = why(a.admit(&named).await);
        assert!(text.contains("the cluster has a site called b"), "{text}");
        let free = token(&a, adding("x", 60)).await;
        let there = Applicant {
            url: peer_url("b"),
            ..comes(&free, "x", 1)
        };
        let text = why(a.admit(&there).await);
        assert!(
            text.contains("is reached at https://b:2380 already"),
            "{text}"
        );
        assert_eq!(members(&a).await, 3);
        for (request, text) in [
            (adding("no name", 60), "no name"),
            (adding("d", 0), "1 second to 7 days"),
            (adding("d", 8 * 86_400), "1 second to 7 days"),
        ] {
            let refused = a.site_add(&nobody(), request).await.unwrap_err();
            assert!(refused.message().contains(text), "{refused:?}");
        }
        // The address was refused, not the token.
        a.admit(&comes(&free, "x", 1)).await.expect("x is free");
        assert_eq!(members(&a).await, 4);
    });
}

#[test]
fn a_token_ends_and_completes_what_it_began_for_a_day_more() {
    with_sites(async |sites| {
        let (a, clock) = (sites.at("a"), Arc::new(Signed::default()));
        a.with_links(Arc::<Signed>::clone(&clock));
        let (late, begun) = (
            token(&a, adding("d", 60)).await,
            token(&a, adding("e", 60)).await,
        );
        let first = a.admit(&comes(&begun, "e", 1)).await.expect("in time");
        clock.later.store(67, Ordering::Relaxed);
        let text = why(a.admit(&comes(&late, "d", 1)).await);
        assert!(text.contains("expired 7 seconds ago"), "{text}");
        let again = a.admit(&comes(&begun, "e", 1)).await.expect("it had begun");
        assert_eq!(again.node, first.node);
        clock.later.store(60 + 86_400, Ordering::Relaxed);
        let text = why(a.admit(&comes(&begun, "e", 1)).await);
        assert!(text.contains("expired 86400 seconds ago"), "{text}");
        token(&a, adding("f", 60)).await;
        let text = why(a.admit(&comes(&late, "d", 1)).await);
        assert!(
            text.contains("not known here"),
            "forgotten with the next token: {text}"
        );
        assert_eq!(members(&a).await, 4);
    });
}

#[test]
fn a_node_alone_and_a_cluster_of_foreign_certificates_make_no_tokens() {
    with_node(async |alone| {
        let refused = told(alone.site_add(&nobody(), adding("b", 60)).await);
        let (code, text) = refused;
        assert_eq!(code, refusal(9, "").0);
        assert!(text.contains("holm up --cluster NAME"), "{text}");
    });
    with_sites(async |sites| {
        let refused = told(sites.at("a").site_add(&nobody(), adding("d", 60)).await);
        assert!(refused.1.contains("come from elsewhere"), "{refused:?}");
    });
}

#[test]
fn an_authority_is_replaced_where_members_sign_and_by_administrators() {
    with_sites(async |sites| {
        let (a, b) = (signed(sites, "a"), sites.at("b"));
        let cx = nobody();
        let replace = async |services: &Services| {
            let asked = services.site_authority_replace(&cx, SiteAuthorityReplaceRequest {});
            asked.await
        };
        let shown = a
            .site_authority(&nobody(), SiteAuthorityRequest {})
            .await
            .expect("a quorum is up");
        assert_eq!(shown.fingerprint, FINGERPRINT);
        assert_eq!(shown.replacement, None);
        // Its certificates come from elsewhere, as far as it knows.
        let refused = replace(&b).await.unwrap_err();
        assert!(
            refused.message().contains("--peer-trusted-ca-file"),
            "{refused:?}"
        );
        let begun = replace(&a).await.expect("a quorum is up");
        let replacement = begun.replacement.expect("it is in force");
        assert_eq!(
            (replacement.stage.as_str(), replacement.by.as_str()),
            ("trust", "a")
        );
        assert_eq!(replacement.waits_for.len(), 3, "{replacement:?}");
        let again = replace(&a).await.expect("it goes on");
        let again = again.replacement.expect("it is in force");
        assert_eq!(again.fingerprint, replacement.fingerprint);
        let next = Fingerprint(again.fingerprint.try_into().expect("it is one"));
        // The maker says that it has not the key: it is lost, and another is made.
        let report = Report {
            trusts: vec![next],
            ..Report::default()
        };
        let standing = a.tell_authority(&report).await.expect("a quorum is up");
        assert_eq!(standing.sites.len(), 3);
        let other = replace(&a).await.expect("a quorum is up").replacement;
        assert_ne!(other.expect("it is in force").fingerprint, next.0);
        let standing = a.tell_authority(&report).await.expect("a quorum is up");
        a.finish_authority(&standing).await.expect("a quorum is up");
        let status = a.node_status(&nobody(), NodeStatusRequest {}).await;
        assert_eq!(status.expect("it is up").replacement, None);
        enforce_users(&a).await;
        assert_eq!(told(replace(&a).await), refusal(3, "user name is empty"));
    });
    with_node(async |alone| {
        let cx = nobody();
        let asked = alone.site_authority_replace(&cx, SiteAuthorityReplaceRequest {});
        let (_code, text) = told(asked.await);
        assert!(text.contains("this node is alone"), "{text}");
    });
}

async fn enforce_users(services: &Services) {
    let add = pb::AuthUserAddRequest {
        name: "root".to_owned(),
        password: "pw".to_owned(),
        ..pb::AuthUserAddRequest::default()
    };
    told_well(services.user_add(&nobody(), add).await);
    let role = pb::AuthRoleAddRequest {
        name: "root".to_owned(),
    };
    told_well(services.role_add(&nobody(), role).await);
    let grant = pb::AuthUserGrantRoleRequest {
        user: "root".to_owned(),
        role: "root".to_owned(),
    };
    told_well(services.user_grant_role(&nobody(), grant).await);
    let enable = pb::AuthEnableRequest {};
    told_well(services.auth_enable(&nobody(), enable).await);
}

fn told_well<T, E: std::fmt::Debug>(answer: Result<T, E>) {
    answer.expect("it is done");
}
