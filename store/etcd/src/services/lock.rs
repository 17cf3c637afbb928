//! Locks: whoever has the oldest key below the lock's name has the lock.

use bytes::Bytes;

use super::Services;
use super::turn::{as_unknown, get, prefix_of};
use crate::context::Context;
use crate::proto::etcdserverpb as pb;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::status::{Code, Status};

impl Services {
    /// Takes a lock, waiting for it as long as the caller does; the answer's key stands for
    /// it. Taking it twice with one lease is taking it once. It ends with the lease.
    ///
    /// # Errors
    ///
    /// If there is no such lease, or it ends while waiting. All leave as Unknown.
    pub async fn lock(&self, cx: &Context, request: LockRequest) -> Result<LockResponse, Status> {
        self.check_exclusive()?;
        self.acquire(cx, request).await.map_err(as_unknown)
    }

    async fn acquire(&self, cx: &Context, request: LockRequest) -> Result<LockResponse, Status> {
        let lease = self.lease_or_new(cx, request.lease).await?;
        let prefix = prefix_of(&request.name);
        let taken = self.take_place(cx, &prefix, lease, Bytes::new()).await?;
        let key = taken.waiting.place.key.clone();
        let header = self.wait_for_turn(cx, &prefix, taken.waiting).await?;
        // The lease may have ended while others had their turn.
        let held = self.range(cx, get(key.clone())).await?;
        if held.kvs.is_empty() {
            return Err(Status::new(Code::Unknown, "mutex: session is expired"));
        }
        Ok(LockResponse {
            header: Some(header),
            key,
        })
    }

    /// Gives a lock back. A key that is not there is no error.
    ///
    /// # Errors
    ///
    /// If the key is empty or not the caller's to delete. All leave as Unknown.
    pub async fn unlock(
        &self,
        cx: &Context,
        request: UnlockRequest,
    ) -> Result<UnlockResponse, Status> {
        let delete = pb::DeleteRangeRequest {
            key: request.key,
            ..pb::DeleteRangeRequest::default()
        };
        let answer = self.delete_range(cx, delete).await.map_err(as_unknown)?;
        Ok(UnlockResponse {
            header: answer.header,
        })
    }
}
