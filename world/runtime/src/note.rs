//! What is logged and counted of a replica's events.

use holm_raft::Rejected;
use holm_replica::Event;
use holm_telemetry::Metrics;

/// Whether a node takes requests from this event on: a node alone once it leads.
pub(crate) const fn takes_requests(event: &Event) -> bool {
    matches!(
        event,
        Event::Solo(holm_sequencer::Event::LeaderElected { .. })
    )
}

/// Logs and counts an event.
pub(crate) fn note(event: &Event, metrics: &Metrics) {
    match event {
        Event::Solo(holm_sequencer::Event::LeaderElected { term }) => {
            metrics.server.leader_changes_seen.inc();
            tracing::info!(term = term.value(), "leads the keyspace");
        }
        Event::Solo(holm_sequencer::Event::RequestShed { waiting }) => {
            metrics.server.proposals_failed.inc();
            tracing::debug!(waiting_bytes = waiting.value(), "too many requests wait");
        }
        Event::Raft(event) => note_raft(event, metrics),
        Event::Leads { term } => {
            tracing::info!(
                term = term.value(),
                "everything before this term is applied"
            );
        }
        Event::Follows => tracing::info!("leads no longer"),
        Event::Flooded { from } => {
            tracing::warn!(
                from = from.value(),
                "entries wait for the disk: a message was dropped"
            );
        }
        Event::SnapshotMade { op, bytes, chunks } => {
            let op = op.value();
            tracing::info!(op, bytes, chunks, "made a snapshot for a node that lags");
        }
        Event::Island(note) => note_island(note),
        Event::Broken { what } => tracing::error!(what, "the group cannot go on as it should"),
    }
}

fn note_island(note: &holm_local_first::Note) {
    use holm_local_first::Note;
    match note {
        Note::Forked(dot) => {
            tracing::error!(%dot, "a site has told two stories about one update: a person must look");
        }
        Note::SetBack(dot) => {
            tracing::error!(%dot, "another site has this update of this site, which has it not: its data is an older copy. It takes no more writes");
        }
        Note::Astray(dot) => {
            tracing::error!(%dot, "this site took in another story of a site that is gone than the one that counts. It takes no more writes");
        }
        Note::Held(dot, hlc) => {
            let ahead = hlc.unix_ms();
            tracing::warn!(%dot, unix_ms = ahead, "an update is held back: its site's clock is far ahead");
        }
        Note::Refused(slot) => tracing::warn!(%slot, "what a site sent is no update"),
        Note::SessionOpened(slot) => {
            tracing::info!(%slot, "lacks updates that are not kept any more, asks for what differs");
        }
        Note::SessionDone(slot) => tracing::info!(%slot, "has what differed"),
    }
}

fn note_raft(event: &holm_raft::Event, metrics: &Metrics) {
    use holm_raft::Event as Raft;
    match event {
        Raft::LeaderElected { term } => {
            metrics.server.leader_changes_seen.inc();
            tracing::info!(term = term.value(), "leads the keyspace");
        }
        Raft::Followed { term, leader } => {
            if let Some(leader) = leader {
                metrics.server.leader_changes_seen.inc();
                let (term, leader) = (term.value(), leader.value());
                tracing::info!(term, leader, "follows a leader");
            }
        }
        Raft::LeaderSuspected { term, leader } => {
            let (term, leader) = (term.value(), leader.value());
            tracing::info!(term, leader, "the leader hung up, it has perhaps ended");
        }
        Raft::PreCampaigned { term } => {
            tracing::info!(
                term = term.value(),
                "hears of no leader, asks who would vote for it"
            );
        }
        Raft::Campaigned { term, .. } => tracing::info!(term = term.value(), "asks for votes"),
        Raft::SteppedDown { term, why } => {
            tracing::warn!(term = term.value(), ?why, "steps down");
        }
        Raft::RequestShed { .. } | Raft::ReadShed | Raft::ForwardShed { .. } => {
            metrics.server.proposals_failed.inc();
            tracing::debug!(?event, "too many requests wait");
        }
        // After a change of the lead commands reach who leads no longer, and are sent again;
        // who was removed may not know it yet.
        Raft::Rejected {
            why: Rejected::NotLeader | Rejected::Stranger,
            ..
        }
        | Raft::OriginCounted { .. }
        | Raft::CommandRepeated { .. } => tracing::debug!(?event, "raft"),
        Raft::Rejected { .. } | Raft::ChunkSpoiled { .. } => tracing::warn!(?event, "raft"),
        Raft::PeerForgot { .. } => tracing::error!(?event, "a person must look"),
        Raft::LogTruncated { .. }
        | Raft::Recovering
        | Raft::Recovered { .. }
        | Raft::ConfigurationChanged { .. }
        | Raft::SnapshotMissing { .. }
        | Raft::SnapshotOffered { .. }
        | Raft::SnapshotRefused { .. }
        | Raft::SnapshotInstalled { .. }
        | Raft::TransferStarted { .. }
        | Raft::TransferAbandoned { .. } => tracing::info!(?event, "raft"),
    }
}
