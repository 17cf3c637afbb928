//! What a node does before it stops: a leader hands its leadership on, so that nobody waits for an election.

use std::time::Duration;

use holm_raft::Operation;
use holm_runtime::Handle;

use super::peers::Links;
use crate::config::Cluster;

/// How long that may take. Who cannot do it by then is replaced as if it had failed.
const PATIENCE: Duration = Duration::from_secs(3);

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
    if leads() && tokio::time::timeout(PATIENCE, hand_on).await.is_err() {
        tracing::warn!("nobody took the leadership in time: the others will elect");
    }
}
