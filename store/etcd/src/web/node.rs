//! The vitals of a real node.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use holm_kv::command::{AlarmKind, Range};
use holm_kv::{Counts, Refusal};
use holm_net::Room;
use holm_runtime::Handle;
use holm_telemetry::{Counted, Readings};

use super::vitals::{ReadFailure, Vitals};
use crate::services::Services;
use crate::status::Status;

/// How long the engine may take to answer a health check: as long as any request.
const PATIENCE: Duration = Duration::from_secs(7);

/// What a node's handle and its room for connections tell.
#[derive(Clone, Debug)]
pub struct NodeVitals {
    services: Services,
    room: Room,
}

impl NodeVitals {
    /// The vitals of the node behind these services.
    #[must_use]
    pub const fn new(services: Services, room: Room) -> Self {
        Self { services, room }
    }

    fn handle(&self) -> &Handle {
        self.services.handle()
    }
}

impl Vitals for NodeVitals {
    fn alarms(&self) -> Vec<AlarmKind> {
        self.handle()
            .view()
            .alarms
            .iter()
            .map(|alarm| alarm.kind)
            .collect()
    }

    /// A node alone leads as soon as it serves.
    fn has_leader(&self) -> bool {
        self.handle().leader().is_some()
    }

    fn is_learner(&self) -> bool {
        self.services.is_learner()
    }

    fn island(&self) -> Option<String> {
        self.services.island()
    }

    /// Reads one record of the newest published state, from wherever it lies.
    fn read_here(&self) -> Result<(), ReadFailure> {
        let everything = Bytes::from_static(b"\0");
        let range = Range {
            key: everything.clone(),
            range_end: everything,
            limit: 1,
            ..Range::default()
        };
        self.handle().view().read(&range).map(drop).map_err(failure)
    }

    /// Has the engine answer, for its published state is current as long as it runs; at a node
    /// of a cluster, has a quorum answer.
    fn read_current(&self) -> Pin<Box<dyn Future<Output = Result<(), ReadFailure>> + Send + '_>> {
        Box::pin(async {
            if self.handle().is_of_cluster() {
                let caught_up = self.services.catch_up().await;
                caught_up.map_err(|status| ReadFailure {
                    why: status.message().to_owned(),
                })?;
                return self.read_here();
            }
            let asked = self.handle().lease_time_to_live(0, false);
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(answer) => answer.map(drop).map_err(failure)?,
                Err(_elapsed) => {
                    return Err(ReadFailure {
                        why: "etcdserver: request timed out".to_owned(),
                    });
                }
            }
            self.read_here()
        })
    }

    fn keyspace_gauges(&self) -> String {
        self.services.keyspace_gauges()
    }

    fn readings(&self) -> Readings {
        let handle = self.handle();
        let view = handle.view();
        let hub = handle.hub();
        Readings {
            node: self.handle().identity().node.value(),
            has_leader: handle.leader().is_some(),
            is_leader: handle.leader() == Some(handle.identity().node),
            committed: view.applied.value(),
            applied: view.applied.value(),
            pending: self.handle().pending(),
            revision: view.revision().value(),
            compacted: view.root.compacted().value(),
            keys: view.sizes.keys,
            file_bytes: view.sizes.file_bytes.value(),
            retained_bytes: view.sizes.retained_bytes.value(),
            quota_bytes: self.handle().quota_bytes(),
            watchers: count(hub.watchers()),
            slow_watchers: count(hub.slow_watchers()),
            counted: counted(&view.counts, hub.events_sent()),
            watch_streams: count(hub.streams()),
            leases: count(view.leases),
            auth_revision: view.auth.revision(),
            certificate_until: self.services.link_certificate().map_or(0, |it| it.until),
            connections: count(self.room.open()),
            connections_max: count(self.room.size()),
        }
    }
}

fn counted(counts: &Counts, events: u64) -> Counted {
    Counted {
        puts: counts.puts,
        deletes: counts.deletes,
        ranges: counts.ranges,
        txns: counts.txns,
        events,
        granted: counts.granted,
        revoked: counts.revoked,
        renewed: counts.renewed,
        expired: counts.expired,
    }
}

fn failure(refusal: Refusal) -> ReadFailure {
    ReadFailure {
        why: Status::from(refusal).message().to_owned(),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
