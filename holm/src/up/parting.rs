//! What a node does before it stops: a leader hands its leadership on, so that nobody waits for an election.

use std::time::Duration;

use holm_raft::Operation;
use holm_runtime::Handle;

use crate::config::Cluster;

/// How long that may take. Who cannot do it by then is replaced as if it had failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Hands leadership on to the first of the others that takes it; does nothing for a node that leads nobody.
pub(super) async fn hand_lead_on(handle: &Handle, cluster: Option<&Cluster>) {
    let Some(cluster) = cluster else {
        return;
    };
    let leads = || handle.leader() == Some(cluster.node);
    let hand_on = async {
        for member in &cluster.members {
            if member.node == cluster.node || !leads() {
                continue;
            }
            let to = member.node;
            match handle.operate(Operation::MoveLeader { to }).await {
                Ok(Ok(_done)) => {
                    tracing::info!(to = member.name, "leadership is handed on");
                    return;
                }
                Ok(Err(refused)) => tracing::info!(to = member.name, ?refused, "it does not lead"),
                Err(refusal) => tracing::info!(to = member.name, ?refusal, "it does not lead"),
            }
        }
    };
    if leads() && tokio::time::timeout(PATIENCE, hand_on).await.is_err() {
        tracing::warn!("nobody took the leadership in time: the others will elect");
    }
}
