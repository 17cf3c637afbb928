//! The other calls that stream or wait: keep-alive, snapshot, observe, health, lock, campaign,
//! compaction.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use prost::Message;
use tokio::sync::mpsc;

use super::call::{Given, GrpcCall, decode};
use super::frame::whole;
use super::method::Method;
use super::outbound::{Gone, Outbound, was_reset};
use super::{pages, watch};
use crate::errors;
use crate::proto::etcdserverpb::LeaseKeepAliveRequest;
use crate::status::{Code, Status};

/// Answers between who makes them and who sends them.
const ANSWERS_MAX: usize = 4;

/// Runs a long call to its end.
pub(crate) async fn run(mut call: GrpcCall) {
    let server = Arc::clone(&call.server);
    let counters = server.counters(call.method);
    let begun = counters.start();
    if let Err(status) = call.admit() {
        counters.finish(call.finish(Err(status)), begun);
        return;
    }
    let status = match call.method {
        Method::Watch => watch::run(call).await,
        Method::RangeStream => pages::run(call).await,
        Method::LeaseKeepAlive => keep_alive(call).await,
        Method::Snapshot => snapshot(call).await,
        Method::Observe => observe(call).await,
        Method::HealthWatch => health_watch(call).await,
        _ => {
            let waited = wait(&mut call).await;
            counters.finish(call.finish(waited), begun);
            return;
        }
    };
    counters.finish(usize::from(status.code().number()), begun);
}

/// A lock, a campaign or a compaction: waits until it is granted or done, the client leaves or
/// takes the call back, its time is up, or this server stops. Leaving drops the work, which
/// gives the place up.
async fn wait(call: &mut GrpcCall) -> Result<Given, Status> {
    let work = waiting(call).await?;
    let limit = call.client_timeout();
    let limited = async move {
        match limit {
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_elapsed| Err(late())),
            None => work.await,
        }
    };
    let leader_lost = call.leader_lost();
    tokio::select! {
        framed = limited => framed.map(Given::Message),
        _ = call.stop.changed() => Err(stopped()),
        () = leader_lost => Err(errors::no_leader()),
        () = was_reset(&mut call.respond) => Err(gone()),
    }
}

/// The work of a call that waits, apart from the call itself.
async fn waiting(
    call: &mut GrpcCall,
) -> Result<Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send>>, Status> {
    let cx = call.context();
    let services = call.server.services.clone();
    if call.method == Method::Compact {
        let (request, limit) = (call.message().await?, call.patience());
        Ok(Box::pin(async move {
            // The write is as bounded as any; the sweep takes what it takes.
            let moved = tokio::time::timeout(limit, services.move_line(&cx, request)).await;
            let answer = moved.map_err(|_elapsed| errors::timed_out())??;
            services.await_sweep(request).await?;
            Ok(whole(&answer))
        }))
    } else if call.method == Method::Lock {
        let request = call.message().await?;
        Ok(Box::pin(async move {
            Ok(whole(&services.lock(&cx, request).await?))
        }))
    } else {
        let request = call.message().await?;
        Ok(Box::pin(async move {
            Ok(whole(&services.campaign(&cx, request).await?))
        }))
    }
}

fn late() -> Status {
    Status::new(Code::DeadlineExceeded, "context deadline exceeded")
}

fn stopped() -> Status {
    Status::new(Code::Unavailable, "etcdserver: server stopped")
}

fn gone() -> Status {
    Status::new(Code::Canceled, "")
}

/// Renews a lease for each message.
async fn keep_alive(mut call: GrpcCall) -> Status {
    let island = call.island();
    let Ok(mut out) = Outbound::begin(&mut call.respond, island) else {
        return gone();
    };
    let server = Arc::clone(&call.server);
    let counters = server.counters(call.method);
    let cx = call.context();
    let mut leader_lost = call.leader_lost();
    let status = loop {
        let message = tokio::select! {
            message = call.inbound.message() => message,
            _ = call.stop.changed() => break stopped(),
            () = leader_lost.as_mut() => break errors::no_leader(),
            () = out.is_reset() => return gone(),
        };
        let request = match message {
            Ok(Some(message)) => decode::<LeaseKeepAliveRequest>(message),
            Ok(None) => break Status::ok(),
            Err(status) => Err(status),
        };
        let renewed = match request {
            Ok(request) => {
                counters.receive();
                server.services.lease_keep_alive(&cx, request).await
            }
            Err(status) => Err(status),
        };
        match renewed {
            Ok(answer) => {
                counters.send();
                if out.send(whole(&answer)).await.is_err() {
                    return gone();
                }
            }
            Err(status) => break status,
        }
    };
    // A client that has left need not be told.
    out.end(&status).ok();
    status
}

async fn snapshot(mut call: GrpcCall) -> Status {
    let server = Arc::clone(&call.server);
    let request = match call.message().await {
        Ok(request) => request,
        Err(status) => return refuse(&mut call, status),
    };
    let (sender, answers) = mpsc::channel(ANSWERS_MAX);
    let cx = call.context();
    let work = async move { server.services.snapshot(&cx, request, sender).await };
    pass_on(call, work, answers).await
}

async fn observe(mut call: GrpcCall) -> Status {
    let server = Arc::clone(&call.server);
    let request = match call.message().await {
        Ok(request) => request,
        Err(status) => return refuse(&mut call, status),
    };
    let (sender, answers) = mpsc::channel(ANSWERS_MAX);
    let cx = call.context();
    let work = async move { server.services.observe(&cx, request, sender).await };
    pass_on(call, work, answers).await
}

async fn health_watch(mut call: GrpcCall) -> Status {
    let server = Arc::clone(&call.server);
    let request = match call.message().await {
        Ok(request) => request,
        Err(status) => return refuse(&mut call, status),
    };
    let (sender, answers) = mpsc::channel(ANSWERS_MAX);
    let cx = call.context();
    let work = async move { server.services.health_watch(&cx, request, sender).await };
    pass_on(call, work, answers).await
}

fn refuse(call: &mut GrpcCall, status: Status) -> Status {
    call.finish(Err(status.clone()));
    status
}

/// Sends what `work` makes until it ends, the client leaves, or this server stops.
async fn pass_on<M: Message>(
    mut call: GrpcCall,
    work: impl Future<Output = Result<(), Status>>,
    mut answers: mpsc::Receiver<M>,
) -> Status {
    let mut work = std::pin::pin!(work);
    let mut out: Option<Outbound> = None;
    let mut ended = None;
    let mut leader_lost = call.leader_lost();
    let status = loop {
        let answer = tokio::select! {
            biased;
            answer = answers.recv() => answer,
            end = &mut work, if ended.is_none() => {
                ended = Some(end);
                continue;
            }
            _ = call.stop.changed() => break stopped(),
            () = leader_lost.as_mut() => break errors::no_leader(),
            () = left(out.as_mut(), &mut call.respond) => return gone(),
        };
        let Some(answer) = answer else {
            break match ended {
                Some(Err(status)) => status,
                Some(Ok(())) | None => Status::ok(),
            };
        };
        if send(&mut call, &mut out, &answer).await.is_err() {
            return gone();
        }
    };
    let begun = match out {
        Some(out) => Ok(out),
        None if status.code() == Code::Ok => {
            let island = call.island();
            Outbound::begin(&mut call.respond, island)
        }
        None => return refuse(&mut call, status),
    };
    // A client that has left need not be told.
    begun.and_then(|out| out.end(&status)).ok();
    status
}

/// Waits until the client takes the call back, answered or not.
async fn left(out: Option<&mut Outbound>, respond: &mut SendResponse<Bytes>) {
    match out {
        Some(out) => out.is_reset().await,
        None => was_reset(respond).await,
    }
}

async fn send<M: Message>(
    call: &mut GrpcCall,
    out: &mut Option<Outbound>,
    answer: &M,
) -> Result<(), Gone> {
    let out = match out {
        Some(out) => out,
        None => {
            let island = call.island();
            out.insert(Outbound::begin(&mut call.respond, island)?)
        }
    };
    call.server.counters(call.method).send();
    out.send(whole(answer)).await
}
