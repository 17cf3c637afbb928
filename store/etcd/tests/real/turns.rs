//! Locks and elections: who waits, who is next, and who has left.

use crate::node::{beside, bytes, get, nobody, put, refusal, told, with_node};
use bytes::Bytes;
use holm_etcd::proto::etcdserverpb as pb;
use holm_etcd::proto::v3electionpb as election;
use holm_etcd::proto::v3lockpb::{LockRequest, UnlockRequest};
use holm_etcd::services::Services;
use tokio::sync::mpsc;

async fn lease(services: &Services, id: i64) {
    let request = pb::LeaseGrantRequest { ttl: 600, id };
    let granted = services.lease_grant(&nobody(), request).await;
    granted.expect("the id is free");
}

fn on(lease: i64) -> LockRequest {
    LockRequest {
        name: bytes("l"),
        lease,
    }
}

/// Waits until so many keys stand below a prefix; gives up after more looks than it can take.
async fn until_count(services: &Services, prefix: &str, end: &str, count: i64) {
    for _ in 0..5_000_000 {
        let found = services.range(&nobody(), get(prefix, end)).await;
        if found.expect("anybody may read").count == count {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("there are never {count} keys below {prefix}");
}

#[test]
fn a_lock_is_held_under_its_leases_key_until_it_is_given_back() {
    with_node(|services| async move {
        let cx = nobody();
        lease(&services, 0x1f).await;
        let held = services.lock(&cx, on(0x1f)).await.unwrap();
        assert_eq!(held.key, bytes("l/1f"));
        let again = services.lock(&cx, on(0x1f)).await.unwrap();
        assert_eq!(again.key, held.key);
        lease(&services, 2).await;
        let next = beside({
            let services = services.clone();
            async move { services.lock(&nobody(), on(2)).await }
        });
        until_count(&services, "l/", "l0", 2).await;
        assert!(!next.is_finished());
        services
            .unlock(&cx, UnlockRequest { key: held.key })
            .await
            .unwrap();
        assert_eq!(next.await.unwrap().unwrap().key, bytes("l/2"));
    });
}

#[test]
fn a_lock_goes_to_those_who_wait_in_the_order_they_came() {
    with_node(|services| async move {
        let (sender, mut order) = mpsc::channel(8);
        for id in 1..=4 {
            lease(&services, id).await;
            let (services, sender) = (services.clone(), sender.clone());
            let waiter = services.clone();
            beside(async move {
                let held = waiter.lock(&nobody(), on(id)).await.unwrap();
                sender.send(held.key).await.unwrap();
            });
            until_count(&services, "l/", "l0", id).await;
        }
        for id in 1..=4 {
            let key = order.recv().await.unwrap();
            assert_eq!(key, bytes(&format!("l/{id}")));
            assert!(order.try_recv().is_err(), "one holds it at a time");
            services
                .unlock(&nobody(), UnlockRequest { key })
                .await
                .unwrap();
        }
    });
}

#[test]
fn a_waiter_that_leaves_takes_its_key_back() {
    with_node(|services| async move {
        lease(&services, 1).await;
        lease(&services, 2).await;
        services.lock(&nobody(), on(1)).await.unwrap();
        let waiter = beside({
            let services = services.clone();
            async move { services.lock(&nobody(), on(2)).await }
        });
        until_count(&services, "l/", "l0", 2).await;
        waiter.abort();
        until_count(&services, "l/", "l0", 1).await;
    });
}

#[test]
fn a_client_that_leaves_before_it_hears_of_its_key_leaves_none() {
    with_node(|services| async move {
        lease(&services, 1).await;
        services.lock(&nobody(), on(1)).await.unwrap();
        for id in 2..40 {
            lease(&services, id).await;
            let waiter = beside({
                let services = services.clone();
                async move { services.lock(&nobody(), on(id)).await }
            });
            // It has asked for its key, has it, or waits with it: whatever the moment is.
            for _ in 0..id * id {
                tokio::task::yield_now().await;
            }
            waiter.abort();
            assert!(waiter.await.is_err(), "the lock is held");
        }
        until_count(&services, "l/", "l0", 1).await;
    });
}

#[test]
fn a_lease_that_ends_while_waiting_loses_the_place() {
    with_node(|services| async move {
        lease(&services, 1).await;
        lease(&services, 2).await;
        let held = services.lock(&nobody(), on(1)).await.unwrap();
        let waiter = beside({
            let services = services.clone();
            async move { services.lock(&nobody(), on(2)).await }
        });
        until_count(&services, "l/", "l0", 2).await;
        let request = pb::LeaseRevokeRequest { id: 2 };
        services.lease_revoke(&nobody(), request).await.unwrap();
        services
            .unlock(&nobody(), UnlockRequest { key: held.key })
            .await
            .unwrap();
        let lost = told(waiter.await.unwrap());
        assert_eq!(lost, (2, "mutex: session is expired".to_owned()));
    });
}

#[test]
fn an_unknown_lease_takes_no_lock_and_none_is_made_for_who_brings_none() {
    with_node(|services| async move {
        let told_of = told(services.lock(&nobody(), on(5)).await);
        assert_eq!(told_of, refusal(2, "requested lease not found"));
        let held = services.lock(&nobody(), on(0)).await.unwrap();
        let found = services.range(&nobody(), get("l/", "l0")).await.unwrap();
        assert_eq!(
            (found.kvs[0].key.clone(), found.kvs[0].lease > 0),
            (held.key, true)
        );
        let request = UnlockRequest { key: Bytes::new() };
        let told_of = told(services.unlock(&nobody(), request).await);
        assert_eq!(told_of, refusal(2, "key is not provided"));
    });
}

fn stand(lease: i64, value: &str) -> election::CampaignRequest {
    election::CampaignRequest {
        name: bytes("e"),
        lease,
        value: bytes(value),
    }
}

fn who() -> election::LeaderRequest {
    election::LeaderRequest { name: bytes("e") }
}

#[test]
fn a_leader_is_elected_proclaims_and_resigns_to_the_next() {
    with_node(|services| async move {
        let cx = nobody();
        let nobody_leads = (2, "election: no leader".to_owned());
        assert_eq!(told(services.leader(&cx, who()).await), nobody_leads);
        lease(&services, 1).await;
        lease(&services, 2).await;
        let first = services.campaign(&cx, stand(1, "a")).await.unwrap().leader;
        let next = beside({
            let services = services.clone();
            async move { services.campaign(&nobody(), stand(2, "b")).await }
        });
        until_count(&services, "e/", "e0", 2).await;
        let proclaim = election::ProclaimRequest {
            leader: first.clone(),
            value: bytes("a2"),
        };
        services.proclaim(&cx, proclaim.clone()).await.unwrap();
        let leader = services.leader(&cx, who()).await.unwrap().kv.unwrap();
        assert_eq!((leader.key, leader.value), (bytes("e/1"), bytes("a2")));
        let request = election::ResignRequest { leader: first };
        services.resign(&cx, request).await.unwrap();
        let second = next.await.unwrap().unwrap().leader.unwrap();
        assert_eq!((second.key, second.lease), (bytes("e/2"), 2));
        let stale = (2, "election: not leader".to_owned());
        assert_eq!(told(services.proclaim(&cx, proclaim).await), stale);
    });
}

#[test]
fn a_leader_must_be_named_to_act_for_it() {
    with_node(|services| async move {
        let missing = (2, "\"leader\" field must be provided".to_owned());
        let request = election::ResignRequest::default();
        assert_eq!(told(services.resign(&nobody(), request).await), missing);
        let request = election::ProclaimRequest::default();
        assert_eq!(told(services.proclaim(&nobody(), request).await), missing);
    });
}

#[test]
fn an_observer_sees_each_proclamation_of_each_leader_in_order() {
    with_node(|services| async move {
        let cx = nobody();
        let (sender, mut seen) = mpsc::channel(4);
        let observer = beside({
            let services = services.clone();
            async move { services.observe(&nobody(), who(), sender).await }
        });
        lease(&services, 1).await;
        lease(&services, 2).await;
        let first = services.campaign(&cx, stand(1, "a")).await.unwrap().leader;
        assert_eq!(seen.recv().await.unwrap().kv.unwrap().value, bytes("a"));
        for value in ["a2", "a3"] {
            let request = election::ProclaimRequest {
                leader: first.clone(),
                value: bytes(value),
            };
            services.proclaim(&cx, request).await.unwrap();
            assert_eq!(seen.recv().await.unwrap().kv.unwrap().value, bytes(value));
        }
        services
            .put(&cx, put("f", "not of this election"))
            .await
            .unwrap();
        let request = election::ResignRequest { leader: first };
        services.resign(&cx, request).await.unwrap();
        services.campaign(&cx, stand(2, "b")).await.unwrap();
        assert_eq!(seen.recv().await.unwrap().kv.unwrap().value, bytes("b"));
        drop(seen);
        observer.await.unwrap().unwrap();
    });
}
