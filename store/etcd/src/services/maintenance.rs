//! What operators ask: status, alarms, hashes, snapshots, and what etcd needs and Holm does not.

use holm_base::NodeId;
use holm_kv::command::{AlarmKind, Command};
use holm_kv::outcome::{Alarm, Outcome};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{CLUSTER_VERSION, Services, VERSION};
use crate::context::Context;
use crate::errors;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::snapshot;
use crate::status::{Code, Status};

impl Services {
    /// How this node stands.
    ///
    /// # Errors
    ///
    /// If the caller is no administrator.
    pub async fn status(
        &self,
        cx: &Context,
        _request: pb::StatusRequest,
    ) -> Result<pb::StatusResponse, Status> {
        self.check_admin(cx)?;
        let handle = self.handle();
        let standing = if handle.is_of_cluster() {
            Some(self.standing().await?)
        } else {
            None
        };
        let view = handle.view();
        let (leader, island) = (handle.leader(), self.island());
        let mut errors: Vec<String> = Vec::new();
        if leader.is_none() {
            errors.push(errors::no_leader().message().to_owned());
        }
        errors.extend(island.map(|it| format!("holm-island: {it}")));
        errors.extend(view.alarms.iter().map(alarm_text));
        let committed = standing.as_ref().map_or(handle.last(), |it| it.commit);
        Ok(pb::StatusResponse {
            header: Some(self.header_of(&view)),
            version: VERSION.to_owned(),
            db_size: signed(view.sizes.file_bytes.value()),
            leader: leader.map_or(0, NodeId::value),
            raft_index: committed.value().max(view.applied.value()),
            raft_term: self.term_of(&view),
            raft_applied_index: view.applied.value(),
            errors,
            db_size_in_use: signed(view.sizes.retained_bytes.value()),
            is_learner: standing.is_some_and(|it| it.is_learner),
            storage_version: CLUSTER_VERSION.to_owned(),
            db_size_quota: signed(handle.quota_bytes()),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        })
    }

    /// Lists alarms, which any user may; raises or clears one.
    ///
    /// # Errors
    ///
    /// If the caller has not logged in; if one is to be raised or cleared and the caller is no
    /// administrator; an action that does not exist.
    pub async fn alarm(
        &self,
        cx: &Context,
        request: pb::AlarmRequest,
    ) -> Result<pb::AlarmResponse, Status> {
        let action = AlarmAction::try_from(request.action);
        let raise = match action.map_err(|_unknown| errors::unknown_method())? {
            AlarmAction::Get => {
                self.catch_up().await?;
                self.check_login(cx)?;
                return Ok(self.raised(request.alarm()));
            }
            AlarmAction::Activate => true,
            AlarmAction::Deactivate => false,
        };
        self.check_admin(cx)?;
        let Some(kind) = kind_of(request.alarm()) else {
            return Ok(self.no_alarm(&request, raise));
        };
        let command = Command::Alarm {
            raise,
            member: request.member_id,
            kind,
            by_node: false,
        };
        let (header, outcome) = self.propose(cx, command).await?;
        let Outcome::Alarms(alarms) = outcome else {
            unreachable!("an alarm was answered with {outcome:?}");
        };
        Ok(pb::AlarmResponse {
            header: Some(header),
            alarms: alarms.iter().map(shown).collect(),
        })
    }

    fn raised(&self, wanted: pb::AlarmType) -> pb::AlarmResponse {
        let view = self.handle().view();
        let alarms = view.alarms.iter().map(shown);
        let wanted = i32::from(wanted);
        pb::AlarmResponse {
            header: Some(self.header_of(&view)),
            alarms: alarms
                .filter(|it| wanted == 0 || it.alarm == wanted)
                .collect(),
        }
    }

    /// The alarm of no kind: raising it is confirmed and means nothing, as in etcd.
    fn no_alarm(&self, request: &pb::AlarmRequest, raise: bool) -> pb::AlarmResponse {
        let alarm = pb::AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        pb::AlarmResponse {
            header: Some(self.header_of(&self.handle().view())),
            alarms: if raise { vec![alarm] } else { Vec::new() },
        }
    }

    /// Succeeds at once: space comes back by itself, while serving.
    ///
    /// # Errors
    ///
    /// If the caller is no administrator.
    pub async fn defragment(
        &self,
        cx: &Context,
        _request: pb::DefragmentRequest,
    ) -> Result<pb::DefragmentResponse, Status> {
        self.check_admin(cx)?;
        Ok(pb::DefragmentResponse { header: None })
    }

    /// The hash of all history; what else etcd's covers does not exist here in etcd's form.
    ///
    /// # Errors
    ///
    /// If the caller is no administrator, or data is damaged.
    pub async fn hash(
        &self,
        cx: &Context,
        _request: pb::HashRequest,
    ) -> Result<pb::HashResponse, Status> {
        let all = self.hash_kv(cx, pb::HashKvRequest::default()).await?;
        Ok(pb::HashResponse {
            header: all.header,
            hash: all.hash,
        })
    }

    /// The hash of history up to a revision, equal on all members that hold the same.
    ///
    /// Cost: reads all history, on a thread of its own.
    ///
    /// # Errors
    ///
    /// If the revision is compacted or yet to come, the caller is no administrator, or data is
    /// damaged.
    pub async fn hash_kv(
        &self,
        cx: &Context,
        request: pb::HashKvRequest,
    ) -> Result<pb::HashKvResponse, Status> {
        self.check_admin(cx)?;
        let view = self.handle().view();
        let header = self.header_of(&view);
        let hashed = spawn_blocking(move || view.hash_kv(request.revision)).await;
        let hash = hashed.map_err(|error| {
            Status::new(Code::Internal, format!("hashing broke off: {error}"))
        })??;
        Ok(pb::HashKvResponse {
            header: Some(header),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        })
    }

    /// Streams the state as it is now, as a file of etcd's own format, with its SHA-256.
    ///
    /// Cost: reads all history twice, on a thread of its own; writes go on.
    ///
    /// # Errors
    ///
    /// If the caller is no administrator, data is damaged, or the client leaves.
    pub async fn snapshot(
        &self,
        cx: &Context,
        _request: pb::SnapshotRequest,
        answers: mpsc::Sender<pb::SnapshotResponse>,
    ) -> Result<(), Status> {
        self.check_admin(cx)?;
        let (view, begun) = (self.handle().view(), self.handle().now());
        let identity = self.handle().identity().clone();
        let made =
            spawn_blocking(move || snapshot::stream(&view, &identity, CLUSTER_VERSION, &answers));
        let made = made.await.map_err(|error| {
            Status::new(Code::Internal, format!("the snapshot broke off: {error}"))
        })?;
        made?;
        self.note_snapshot(self.handle().now().since(begun));
        Ok(())
    }

    /// Hands leadership on to another voter, or leaves it where it is.
    ///
    /// # Errors
    ///
    /// `not leader` anywhere but at the leader, `bad leader transferee` for who has no vote, if
    /// the other does not take over in time, or if the caller is no administrator.
    pub async fn move_leader(
        &self,
        cx: &Context,
        request: pb::MoveLeaderRequest,
    ) -> Result<pb::MoveLeaderResponse, Status> {
        self.check_admin(cx)?;
        let (own, to) = (
            self.handle().identity().node,
            NodeId::new(request.target_id),
        );
        if self.handle().leader() != Some(own) {
            return Err(errors::not_leader());
        }
        if to != own {
            self.hand_lead_on(to).await?;
        }
        Ok(pb::MoveLeaderResponse { header: None })
    }

    /// Refuses: there is no version that Holm could go down to.
    ///
    /// # Errors
    ///
    /// Always, as etcd does for a version that is none, for one out of reach, and for calling
    /// off what was never begun.
    pub async fn downgrade(
        &self,
        cx: &Context,
        request: pb::DowngradeRequest,
    ) -> Result<pb::DowngradeResponse, Status> {
        self.check_admin(cx)?;
        let action = DowngradeAction::try_from(request.action);
        match action.map_err(|_unknown| errors::unknown_method())? {
            DowngradeAction::Cancel => Err(errors::no_inflight_downgrade()),
            DowngradeAction::Validate | DowngradeAction::Enable => {
                if is_version(&request.version) {
                    Err(errors::invalid_downgrade_target())
                } else {
                    Err(errors::wrong_downgrade_format())
                }
            }
        }
    }
}

/// Whether this is two or three numbers with dots.
fn is_version(text: &str) -> bool {
    let count = text.split('.').count();
    (2..=3).contains(&count) && text.split('.').all(|part| part.parse::<u32>().is_ok())
}

const fn kind_of(alarm: pb::AlarmType) -> Option<AlarmKind> {
    match alarm {
        pb::AlarmType::None => None,
        pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
        pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
    }
}

fn shown(alarm: &Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember {
        member_id: alarm.member,
        alarm: kind.into(),
    }
}

/// An alarm as the status shows it, letter by letter.
fn alarm_text(alarm: &Alarm) -> String {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    };
    if alarm.member == 0 {
        return format!("alarm:{kind} ");
    }
    format!("memberID:{} alarm:{kind} ", alarm.member)
}

/// Sizes are signed on the wire.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_two_or_three_numbers() {
        assert!(is_version("3.5") && is_version("3.5.0"));
        for bad in ["", "3", "3.", "3.5.0.1", "v3.5", "3.5-rc"] {
            assert!(!is_version(bad), "{bad}");
        }
    }

    #[test]
    fn an_alarm_is_shown_as_etcd_shows_it() {
        let alarm = Alarm {
            member: 5,
            kind: AlarmKind::NoSpace,
        };
        assert_eq!(alarm_text(&alarm), "memberID:5 alarm:NOSPACE ");
    }
}
