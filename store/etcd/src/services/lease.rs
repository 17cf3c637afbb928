//! Leases: granted, kept alive, shown, revoked.

use holm_kv::command::{Caller, Command};
use holm_kv::outcome::Outcome;
use holm_kv::{AuthState, KeyRange, Refusal};

use super::Services;
use crate::context::Context;
use crate::proto::etcdserverpb as pb;
use crate::random;
use crate::status::{Code, Status};

impl Services {
    /// Creates a lease; the node picks the id if none is asked for.
    ///
    /// # Errors
    ///
    /// If the id is taken or the time to live too long; no space.
    pub async fn lease_grant(
        &self,
        cx: &Context,
        request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, Status> {
        self.check_login(cx)?;
        let id = if request.id == 0 {
            lease_id()?
        } else {
            request.id
        };
        let command = Command::LeaseGrant {
            id,
            ttl: request.ttl,
            ttl_min: self.limits().lease_seconds_min,
        };
        let (header, outcome) = self.propose(cx, command).await?;
        let Outcome::LeaseGrant { id, ttl } = outcome else {
            unreachable!("a grant was answered with {outcome:?}");
        };
        Ok(pb::LeaseGrantResponse {
            header: Some(header),
            id,
            ttl,
            error: String::new(),
        })
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    ///
    /// If there is no such lease, or its keys are not the caller's to delete.
    pub async fn lease_revoke(
        &self,
        cx: &Context,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, Status> {
        self.check_login(cx)?;
        let command = Command::LeaseRevoke { id: request.id };
        let (header, _) = self.propose(cx, command).await?;
        Ok(pb::LeaseRevokeResponse {
            header: Some(header),
        })
    }

    /// Renews a lease, one message of a keep-alive stream. An unknown lease has 0 to live: no
    /// error, and the stream goes on. The header's revision is that before the renewal.
    ///
    /// # Errors
    ///
    /// If one of the lease's keys is not the caller's to write, too much waits, or the node is
    /// stopping.
    pub async fn lease_keep_alive(
        &self,
        cx: &Context,
        request: pb::LeaseKeepAliveRequest,
    ) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let caller = self.check_login(cx)?;
        self.check_lease(request.id, caller.as_ref(), AuthState::check_write_of)
            .await?;
        let header = self.header_of(&self.handle().view());
        let ttl = match self.handle().lease_renew(request.id).await {
            Ok(ttl) => ttl,
            Err(Refusal::LeaseNotFound) => 0,
            Err(refusal) => return Err(self.late_lease(refusal)),
        };
        Ok(pb::LeaseKeepAliveResponse {
            header: Some(header),
            id: request.id,
            ttl,
        })
    }

    /// How long a lease has to live and, if asked for, the keys on it; -1 if there is none.
    ///
    /// # Errors
    ///
    /// If users are enforced and the caller has not logged in, or asks for the keys and may not
    /// read all of them.
    pub async fn lease_time_to_live(
        &self,
        cx: &Context,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        let caller = self.check_login(cx)?;
        let handle = self.handle();
        let lease = handle.lease_time_to_live(request.id, request.keys).await;
        let lease = lease.map_err(|refusal| self.late_lease(refusal))?;
        let view = handle.view();
        for key in &lease.keys {
            let key = KeyRange::One(key.clone());
            view.auth.check_read_of(caller.as_ref(), &key)?;
        }
        Ok(pb::LeaseTimeToLiveResponse {
            header: Some(self.header_of(&self.handle().view())),
            id: request.id,
            ttl: lease.ttl,
            granted_ttl: lease.granted_ttl,
            keys: lease.keys,
        })
    }

    /// All leases' ids.
    ///
    /// Cost: where users are enforced, a look at all keys of all leases, root's calls apart.
    ///
    /// # Errors
    ///
    /// If the caller has not logged in or may not read a key of any lease, too much waits, or the
    /// node is stopping.
    pub async fn lease_leases(
        &self,
        cx: &Context,
        _request: pb::LeaseLeasesRequest,
    ) -> Result<pb::LeaseLeasesResponse, Status> {
        let caller = self.check_login(cx)?;
        let ids = self.handle().leases().await?;
        for id in &ids {
            self.check_lease(*id, caller.as_ref(), AuthState::check_read_of)
                .await?;
        }
        Ok(pb::LeaseLeasesResponse {
            header: Some(self.header_of(&self.handle().view())),
            leases: ids.into_iter().map(|id| pb::LeaseStatus { id }).collect(),
        })
    }

    /// Whether the caller may do something with all keys of a lease.
    async fn check_lease(
        &self,
        id: i64,
        caller: Option<&Caller>,
        check: impl Fn(&AuthState, Option<&Caller>, &KeyRange) -> Result<(), Refusal>,
    ) -> Result<(), Status> {
        if self.handle().view().auth.check_admin(caller).is_ok() {
            return Ok(());
        }
        let lease = self.handle().lease_time_to_live(id, true).await?;
        let view = self.handle().view();
        for key in lease.keys {
            check(&view.auth, caller, &KeyRange::One(key))?;
        }
        Ok(())
    }
}

/// A random id above zero.
fn lease_id() -> Result<i64, Status> {
    let bytes =
        random::bytes::<8>().map_err(|error| Status::new(Code::Internal, error.to_string()))?;
    let id = i64::from_le_bytes(bytes) & i64::MAX;
    Ok(id.max(1))
}
