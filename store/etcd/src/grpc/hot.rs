//! The calls that must be cheap: get, put, delete, transaction.
//!
//! Against the typed services they save taking records apart and putting them together again,
//! and reading the call's head while no users are enforced. What they check is the same.

use std::sync::atomic::Ordering;

use holm_kv::command::{Caller, Command, Proposal};
use holm_kv::outcome::{Applied, Outcome, RangeOutcome};
use holm_kv::{Refusal, View};

use super::call::{Given, GrpcCall};
use super::list;
use super::method::Method;
use super::reply::{self, Header};
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use crate::services::Services;
use crate::status::Status;
use crate::{convert, validate};

/// Reads of more keys than this go out piece by piece.
const SHORT_KEYS_MAX: usize = 256;
/// Reads of more bytes than this go out piece by piece.
const SHORT_BYTES_MAX: usize = 64 << 10;

impl GrpcCall {
    /// Who calls, if users are enforced.
    fn caller(&self, view: &View) -> Result<Option<Caller>, Status> {
        if view.auth.enabled() {
            self.server().services.caller(&self.context())
        } else {
            Ok(None)
        }
    }

    /// Whether the request would fit into the log.
    fn check_size(&self) -> Result<(), Status> {
        let max = self.services().limits().request_bytes_max;
        validate::size(self.message_bytes, max)
    }

    fn services(&self) -> &Services {
        &self.server().services
    }

    async fn propose(&self, command: Command) -> Result<(Header, Outcome), Status> {
        let handle = self.services().handle();
        let caller = self.caller(&handle.view())?;
        let proposal = Proposal { caller, command };
        let begun = handle.is_of_cluster().then(|| self.services().begin());
        let applied = if self.peer.is_alone.load(Ordering::Relaxed) {
            handle.propose_here(proposal).await
        } else {
            handle.propose(proposal).await
        };
        let applied = applied.map_err(|refusal| match begun {
            Some(begun) => self.services().late_change(refusal, begun),
            None => refusal.into(),
        })?;
        let Applied {
            revision,
            term,
            op: _,
            result,
        } = applied;
        let outcome = result?;
        let term = self.services().term(term);
        let header = Header::new(handle.identity(), revision.value(), term);
        Ok((header, outcome))
    }

    /// The header of an answer that was read from `view`.
    pub(crate) fn header(&self, view: &View) -> Header {
        let identity = self.services().handle().identity();
        let term = self.services().term_of(view);
        Header::new(identity, view.root.revision().value(), term)
    }
}

/// What can be answered without waiting for anybody: a get at a node alone, which has all that
/// was acknowledged.
pub(crate) fn at_once(call: &mut GrpcCall) -> Option<Result<Given, Status>> {
    let is_get = call.method == Method::Range;
    if !is_get || call.services().handle().is_of_cluster() {
        return None;
    }
    Some(begin_range(call).and_then(|request| read_range(call, request)))
}

/// A get: answered from the published state without a word to the engine.
pub(crate) async fn range(call: &mut GrpcCall) -> Result<Given, Status> {
    let request = begin_range(call)?;
    if !request.serializable && call.services().handle().is_of_cluster() {
        call.services().check_vote()?;
        call.services().catch_up().await?;
    }
    read_range(call, request)
}

fn begin_range(call: &mut GrpcCall) -> Result<RangeRequest, Status> {
    let request: RangeRequest = call.decode_message()?;
    validate::range(&request)?;
    call.services().count_range();
    call.services().check_door()?;
    Ok(request)
}

fn read_range(call: &GrpcCall, request: RangeRequest) -> Result<Given, Status> {
    let view = call.services().handle().view();
    let range = convert::range(request);
    let caller = call.caller(&view)?;
    view.auth.check_range(caller.as_ref(), &range)?;
    if list::may_be_long(&view, &range) {
        return Ok(Given::List(view, Box::new(range)));
    }
    let header = call.header(&view);
    match read(&view, &range)? {
        Found::Short(found) => Ok(Given::Message(reply::range(header, &found))),
        Found::Long => Ok(Given::List(view, Box::new(range))),
    }
}

/// What a read came to.
enum Found {
    Short(RangeOutcome),
    /// More than an answer in one piece should hold.
    Long,
}

fn read(view: &View, range: &holm_kv::command::Range) -> Result<Found, Refusal> {
    let selection = view.select(range)?;
    let bytes: usize = selection.metas.iter().map(list::record_bytes).sum();
    if bytes > SHORT_BYTES_MAX || selection.metas.len() > SHORT_KEYS_MAX {
        return Ok(Found::Long);
    }
    let mut records = Vec::with_capacity(selection.metas.len());
    list::read_records(view, &selection.metas, range.keys_only, |record| {
        records.push(record);
    })?;
    Ok(Found::Short(RangeOutcome {
        records,
        more: selection.more,
        count: selection.count,
    }))
}

/// A put.
pub(crate) async fn put(call: &mut GrpcCall) -> Result<Given, Status> {
    let request: PutRequest = call.decode_message()?;
    validate::put(&request)?;
    call.check_size()?;
    let (header, outcome) = call.propose(Command::Put(convert::put(request))).await?;
    let Outcome::Put { prev } = outcome else {
        unreachable!("a put was answered with {outcome:?}");
    };
    Ok(Given::Message(reply::put(header, prev.as_ref())))
}

/// A delete.
pub(crate) async fn delete_range(call: &mut GrpcCall) -> Result<Given, Status> {
    let request: DeleteRangeRequest = call.decode_message()?;
    validate::delete_range(&request)?;
    call.check_size()?;
    let command = Command::DeleteRange(convert::delete_range(request));
    let (header, outcome) = call.propose(command).await?;
    let Outcome::DeleteRange { deleted, prev } = outcome else {
        unreachable!("a delete was answered with {outcome:?}");
    };
    Ok(Given::Message(reply::delete_range(header, deleted, &prev)))
}

/// A transaction; one that only reads never visits the engine.
pub(crate) async fn txn(call: &mut GrpcCall) -> Result<Given, Status> {
    let request: TxnRequest = call.decode_message()?;
    validate::txn(&request, call.services().limits().operations_max)?;
    let is_of_cluster = call.services().handle().is_of_cluster();
    let must_catch_up = is_of_cluster && !convert::is_serializable(&request);
    let txn = convert::txn(request);
    let (header, outcome) = if txn.is_read_only() {
        if must_catch_up {
            call.services().catch_up().await?;
        }
        let view = call.services().handle().view();
        let caller = call.caller(&view)?;
        view.auth.check_txn(caller.as_ref(), &txn)?;
        let outcome = view.read_txn(&txn)?;
        (call.header(&view), outcome)
    } else {
        call.check_size()?;
        call.propose(Command::Txn(txn)).await?
    };
    let Outcome::Txn {
        succeeded,
        responses,
    } = outcome
    else {
        unreachable!("a transaction was answered with {outcome:?}");
    };
    Ok(Given::Message(reply::txn(header, succeeded, &responses)))
}
