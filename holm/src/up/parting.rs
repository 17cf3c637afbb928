//! What a node does before it stops: a leader hands its leadership on, so that nobody waits for an election.

use std::time::Duration;

use holm_raft::Operation;
use holm_runtime::Handle;

use super::peers::Links;
use crate::config::Cluster;

/// How long that may take. Who cannot do it by then is replaced as if it had failed.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked whether anybody is left who could.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Hands leadership on to the first of those that links reach that takes it; does nothing for a node that leads
/// nobody. Links follow who belongs to the cluster now; the configuration knows who did at the start.
pub(super) async fn hand_lead_on(handle: &Handle, cluster: Option<&Cluster>, links: &Links) {
    let Some(cluster) = cluster else {
        return;
    };
    let leads = || handle.leader() == Some(cluster.node);
    let hand_on = async {
        for (to, name) in links.reached() {
            if !leads() {
                return;
            }
            match handle.operate(Operation::MoveLeader { to }).await {
                Ok(Ok(_done)) => {
                    tracing::info!(to = name, "leadership is handed on");
                    return;
                }
                Ok(Err(refused)) => tracing::info!(to = name, ?refused, "it does not lead"),
                Err(refusal) => tracing::info!(to = name, ?refusal, "it does not lead"),
            }
        }
    };
    if !leads() {
        return;
    }
    // That it does not lead any more may be known here before the answer that says who does.
    let is_over = async {
        while !links.reached().is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = hand_on => {}
        // All sites may be stopping at once.
        () = is_over => tracing::info!("nobody is there to take the leadership"),
        () = tokio::time::sleep(PATIENCE) => {
            tracing::warn!("nobody took the leadership in time: the others will elect");
        }
    }
}
