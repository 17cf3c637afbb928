//! Which path of the gateway is which call. The table is etcd's, and complete.

use std::sync::Arc;

use super::gateway::{Credentials, Exchange, Gateway};
use super::watch;
use crate::context::Context;
use crate::errors;
use crate::proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, SnapshotRequest, SnapshotResponse,
};
use crate::proto::v3electionpb::{LeaderRequest, LeaderResponse};
use crate::services::Services;
use crate::status::Status;

/// Adds calls of one request and one answer: path, then the function's name.
macro_rules! unary {
    ($gateway:ident, $services:ident: $($path:literal $function:ident)*) => {$({
        let services = $services.clone();
        $gateway.unary($path, move |credentials, request| {
            let services = services.clone();
            async move {
                let cx = context(credentials);
                // Whether a read is one for learners is seen where it is read.
                let is_for_learners = matches!(stringify!($function), "range" | "status");
                if !is_for_learners {
                    services.check_vote()?;
                }
                if cx.is_leader_required {
                    services.check_led()?;
                }
                services.$function(&cx, request).await
            }
        });
    })*};
}

/// The gateway to these services, for messages of at most `request_bytes_max`.
#[must_use]
pub fn gateway(services: &Services, request_bytes_max: usize) -> Arc<Gateway> {
    let mut gateway = Gateway::new(request_bytes_max).with_causal(services);
    add_keys(&mut gateway, services);
    add_node(&mut gateway, services);
    add_users(&mut gateway, services);
    add_streams(&mut gateway, services);
    Arc::new(gateway)
}

fn add_keys(gateway: &mut Gateway, services: &Services) {
    unary! { gateway, services:
        "/kv/range" range
        "/kv/put" put
        "/kv/deleterange" delete_range
        "/kv/txn" txn
        "/kv/compaction" compact
        "/lease/grant" lease_grant
        "/lease/revoke" lease_revoke
        "/kv/lease/revoke" lease_revoke
        "/lease/timetolive" lease_time_to_live
        "/kv/lease/timetolive" lease_time_to_live
        "/lease/leases" lease_leases
        "/kv/lease/leases" lease_leases
        "/lock/lock" lock
        "/lock/unlock" unlock
        "/election/campaign" campaign
        "/election/proclaim" proclaim
        "/election/leader" leader
        "/election/resign" resign
    }
}

fn add_node(gateway: &mut Gateway, services: &Services) {
    unary! { gateway, services:
        "/cluster/member/add" member_add
        "/cluster/member/remove" member_remove
        "/cluster/member/update" member_update
        "/cluster/member/list" member_list
        "/cluster/member/promote" member_promote
        "/maintenance/alarm" alarm
        "/maintenance/status" status
        "/maintenance/defragment" defragment
        "/maintenance/hash" hash
        "/maintenance/hashkv" hash_kv
        "/maintenance/transfer-leadership" move_leader
        "/maintenance/downgrade" downgrade
    }
}

fn add_users(gateway: &mut Gateway, services: &Services) {
    unary! { gateway, services:
        "/auth/enable" auth_enable
        "/auth/disable" auth_disable
        "/auth/status" auth_status
        "/auth/authenticate" authenticate
        "/auth/user/add" user_add
        "/auth/user/get" user_get
        "/auth/user/list" user_list
        "/auth/user/delete" user_delete
        "/auth/user/changepw" user_change_password
        "/auth/user/grant" user_grant_role
        "/auth/user/revoke" user_revoke_role
        "/auth/role/add" role_add
        "/auth/role/get" role_get
        "/auth/role/list" role_list
        "/auth/role/delete" role_delete
        "/auth/role/grant" role_grant_permission
        "/auth/role/revoke" role_revoke_permission
    }
}

fn add_streams(gateway: &mut Gateway, services: &Services) {
    let watching = services.clone();
    gateway.stream("/watch", move |credentials, exchange| {
        let (services, cx) = (watching.clone(), context(credentials));
        under_leader(
            services.clone(),
            &cx.clone(),
            watch::run(services, cx, exchange),
        )
    });
    let renewing = services.clone();
    gateway.stream("/lease/keepalive", move |credentials, exchange| {
        let (services, cx) = (renewing.clone(), context(credentials));
        under_leader(
            services.clone(),
            &cx.clone(),
            keep_alive(services, cx, exchange),
        )
    });
    let copying = services.clone();
    gateway.stream("/maintenance/snapshot", move |credentials, exchange| {
        snapshot(copying.clone(), context(credentials), exchange)
    });
    let observing = services.clone();
    gateway.stream("/election/observe", move |credentials, exchange| {
        let (services, cx) = (observing.clone(), context(credentials));
        under_leader(
            services.clone(),
            &cx.clone(),
            observe(services, cx, exchange),
        )
    });
}

/// Runs a stream, with a leader if it demands one.
fn under_leader<W>(
    services: Services,
    cx: &Context,
    work: W,
) -> impl Future<Output = Result<(), Status>> + Send + use<W>
where
    W: Future<Output = Result<(), Status>> + Send,
{
    let demands_leader = cx.is_leader_required && services.handle().is_of_cluster();
    async move {
        services.check_vote()?;
        if demands_leader {
            services.check_led()?;
        }
        tokio::select! {
            end = work => end,
            () = services.leader_lost(), if demands_leader => Err(errors::no_leader()),
        }
    }
}

/// What a gateway knows of its caller. A certificate names nobody here.
fn context(credentials: Credentials) -> Context {
    let Credentials {
        token,
        is_leader_required,
    } = credentials;
    Context {
        token,
        common_name: None,
        is_leader_required,
        is_gateway: true,
    }
}

/// Renews a lease for each request, and ends with the last.
async fn keep_alive(
    services: Services,
    cx: Context,
    exchange: Exchange<LeaseKeepAliveRequest, LeaseKeepAliveResponse>,
) -> Result<(), Status> {
    let Exchange {
        mut requests,
        answers,
    } = exchange;
    while let Some(request) = requests.recv().await {
        let answer = services.lease_keep_alive(&cx, request).await?;
        if answers.send(answer).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn snapshot(
    services: Services,
    cx: Context,
    exchange: Exchange<SnapshotRequest, SnapshotResponse>,
) -> Result<(), Status> {
    let Exchange {
        mut requests,
        answers,
    } = exchange;
    let request = requests.recv().await.unwrap_or_default();
    services.snapshot(&cx, request, answers).await
}

async fn observe(
    services: Services,
    cx: Context,
    exchange: Exchange<LeaderRequest, LeaderResponse>,
) -> Result<(), Status> {
    let Exchange {
        mut requests,
        answers,
    } = exchange;
    let request = requests.recv().await.unwrap_or_default();
    services.observe(&cx, request, answers).await
}
