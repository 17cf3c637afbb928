//! Get, put, delete, transaction, compaction, in their typed form.
//!
//! What would surprise: answers are written by the same code as gRPC's and read back. That
//! costs the gateway a copy and saves a second way of writing them that could differ.

use bytes::Bytes;
use holm_base::Revision;
use holm_kv::command::Command;
use holm_kv::outcome::Outcome;
use prost::Message;
use tokio::task::spawn_blocking;

use super::Services;
use crate::context::Context;
use crate::grpc::frame::PREFIX_BYTES;
use crate::grpc::reply::{self, Header};
use crate::proto::etcdserverpb as pb;
use crate::status::{Code, Status};
use crate::{convert, validate};

impl Services {
    /// Reads a key or a range. The whole answer is in memory at once.
    ///
    /// # Errors
    ///
    /// As [`validate::range`]; revisions that are compacted or yet to come; permissions.
    pub async fn range(
        &self,
        cx: &Context,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Status> {
        validate::range(&request)?;
        self.count_range();
        self.check_door()?;
        if !request.serializable {
            self.check_vote()?;
            self.catch_up().await?;
        }
        let range = convert::range(request);
        let view = self.handle().view();
        view.auth.check_range(self.caller(cx)?.as_ref(), &range)?;
        let header = self.raw(view.revision().value(), self.term_of(&view));
        let read = move || view.read(&range);
        let found = spawn_blocking(read)
            .await
            .map_err(|error| broken(&error))??;
        decode(reply::range(header, &found))
    }

    /// Writes a key.
    ///
    /// # Errors
    ///
    /// As [`validate::put`]; an unknown lease; a key to be kept that is not there; no space.
    pub async fn put(
        &self,
        cx: &Context,
        request: pb::PutRequest,
    ) -> Result<pb::PutResponse, Status> {
        validate::put(&request)?;
        self.check_size(&request)?;
        let (header, outcome) = self.apply(cx, Command::Put(convert::put(request))).await?;
        let Outcome::Put { prev } = outcome else {
            unreachable!("a put was answered with {outcome:?}");
        };
        decode(reply::put(header, prev.as_ref()))
    }

    /// Deletes a key or a range.
    ///
    /// # Errors
    ///
    /// As [`validate::delete_range`]; permissions.
    pub async fn delete_range(
        &self,
        cx: &Context,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        validate::delete_range(&request)?;
        self.check_size(&request)?;
        let command = Command::DeleteRange(convert::delete_range(request));
        let (header, outcome) = self.apply(cx, command).await?;
        let Outcome::DeleteRange { deleted, prev } = outcome else {
            unreachable!("a delete was answered with {outcome:?}");
        };
        decode(reply::delete_range(header, deleted, &prev))
    }

    /// Compares, then does one of two lists of operations. One that only reads takes no op.
    ///
    /// # Errors
    ///
    /// As [`validate::txn`], and as each of its operations.
    pub async fn txn(
        &self,
        cx: &Context,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Status> {
        validate::txn(&request, self.limits().operations_max)?;
        let checked = self.check_size(&request);
        let is_serializable = convert::is_serializable(&request);
        let txn = convert::txn(request);
        let (header, outcome) = if txn.is_read_only() {
            if !is_serializable {
                self.catch_up().await?;
            }
            let view = self.handle().view();
            view.auth.check_txn(self.caller(cx)?.as_ref(), &txn)?;
            let header = self.raw(view.revision().value(), self.term_of(&view));
            let read = move || view.read_txn(&txn);
            (
                header,
                spawn_blocking(read)
                    .await
                    .map_err(|error| broken(&error))??,
            )
        } else {
            checked?;
            self.apply(cx, Command::Txn(txn)).await?
        };
        let Outcome::Txn {
            succeeded,
            responses,
        } = outcome
        else {
            unreachable!("a transaction was answered with {outcome:?}");
        };
        decode(reply::txn(header, succeeded, &responses))
    }

    /// Forgets history below a revision; a physical one is answered once the index holds none
    /// of it any more. Files follow by themselves.
    ///
    /// # Errors
    ///
    /// If the revision is compacted already, or yet to come; `too many requests` if too many
    /// wait.
    pub async fn compact(
        &self,
        cx: &Context,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, Status> {
        let answer = self.move_line(cx, request).await?;
        self.await_sweep(request).await?;
        Ok(answer)
    }

    /// The first half of a compaction: from its answer on, nothing below can be read.
    ///
    /// # Errors
    ///
    /// If the revision is compacted already, or yet to come; if the caller is no administrator,
    /// for it takes history from everybody.
    pub(crate) async fn move_line(
        &self,
        cx: &Context,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, Status> {
        self.check_admin(cx)?;
        let revision = request.revision;
        let (header, _) = self.propose(cx, Command::Compact { revision }).await?;
        Ok(pb::CompactionResponse {
            header: Some(header),
        })
    }

    /// The second half: waits for the sweep if the compaction is a physical one. However long
    /// that takes, nobody else waits for it.
    ///
    /// # Errors
    ///
    /// `too many requests` if too many wait.
    pub(crate) async fn await_sweep(&self, request: pb::CompactionRequest) -> Result<(), Status> {
        if request.physical {
            self.handle().swept(Revision::new(request.revision)).await?;
        }
        Ok(())
    }

    async fn apply(&self, cx: &Context, command: Command) -> Result<(Header, Outcome), Status> {
        let (header, outcome) = self.propose(cx, command).await?;
        Ok((self.raw(header.revision, header.raft_term), outcome))
    }

    fn raw(&self, revision: i64, term: u64) -> Header {
        Header::new(self.handle().identity(), revision, term)
    }
}

/// Reads back an answer that was framed for gRPC.
fn decode<M: Message + Default>(framed: Bytes) -> Result<M, Status> {
    M::decode(framed.slice(PREFIX_BYTES..))
        .map_err(|error| Status::new(Code::Internal, format!("read back an answer: {error}")))
}

fn broken(error: &tokio::task::JoinError) -> Status {
    Status::new(Code::Internal, format!("the read broke off: {error}"))
}
