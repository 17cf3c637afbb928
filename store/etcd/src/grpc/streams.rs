//! The other calls that stream or wait: keep-alive, snapshot, observe, health, lock, campaign,
//! compaction.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Server;
use super::call::{Given, GrpcCall, Outcome, decode};
use super::frame::whole;
use super::method::Method;
use super::outbound::{Gone, Outbound};
use super::pages;
use crate::errors;
use crate::proto::etcdserverpb::LeaseKeepAliveRequest;
use crate::status::{Code, Status};

/// Answers between who makes them and who sends them.
const ANSWERS_MAX: usize = 4;

/// Counts how a long call ended. One that is dropped was given up by its client.
struct Count {
    server: Arc<Server>,
    method: Method,
    begun: Instant,
    code: usize,
}

impl Drop for Count {
    fn drop(&mut self) {
        let counters = self.server.counters(self.method);
        counters.finish(self.code, self.begun.into_std());
    }
}

/// Runs a long call to its end.
pub(crate) async fn run(mut call: GrpcCall) -> Outcome {
    let server = Arc::clone(&call.peer.server);
    let mut count = Count {
        begun: Instant::from_std(server.counters(call.method).start()),
        server,
        method: call.method,
        code: usize::from(Code::Canceled.number()),
    };
    if let Err(status) = call.admit() {
        count.code = call.finish(Err(status));
        return Outcome::Done;
    }
    let status = match call.method {
        Method::RangeStream => pages::run(call).await,
        Method::LeaseKeepAlive => keep_alive(call).await,
        Method::Snapshot => snapshot(call).await,
        Method::CacheFollow => cache_follow(call).await,
        Method::Observe => observe(call).await,
        Method::HealthWatch => health_watch(call).await,
        _ => {
            let waited = wait(&mut call).await;
            count.code = call.finish(waited);
            return Outcome::Done;
        }
    };
    count.code = usize::from(status.code().number());
    Outcome::Done
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
    let mut stop = call.peer.stop.clone();
    let cord = call.cord();
    tokio::select! {
        framed = limited => framed.map(Given::Message),
        _ = stop.changed() => Err(stopped()),
        () = leader_lost => Err(errors::no_leader()),
        () = cord.gone() => Err(gone()),
    }
}

/// The work of a call that waits, apart from the call itself.
async fn waiting(
    call: &mut GrpcCall,
) -> Result<Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send>>, Status> {
    let cx = call.context();
    let services = call.server().services.clone();
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
async fn keep_alive(call: GrpcCall) -> Status {
    let island = call.island();
    let Ok(mut out) = Outbound::begin(&call.cord(), island) else {
        return gone();
    };
    let server = Arc::clone(&call.peer.server);
    let counters = server.counters(call.method);
    let cx = call.context();
    let mut leader_lost = call.leader_lost();
    let (cord, mut stop) = (call.cord(), call.peer.stop.clone());
    let status = loop {
        let message = tokio::select! {
            message = cord.message() => message,
            _ = stop.changed() => break stopped(),
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
    let server = Arc::clone(&call.peer.server);
    let request = match call.message().await {
        Ok(request) => request,
        Err(status) => return refuse(&call, status),
    };
    let (sender, answers) = mpsc::channel(ANSWERS_MAX);
    let cx = call.context();
    let work = async move { server.services.snapshot(&cx, request, sender).await };
    pass_on(call, work, answers).await
}

/// Tells a cache what happens to its keys.
async fn cache_follow(call: GrpcCall) -> Status {
    let services = call.server().services.clone();
    let (sender, answers) = mpsc::channel(ANSWERS_MAX);
    let cord = call.cord();
    let work = async move { services.follow(&cord, sender).await };
    pass_on(call, work, answers).await
}

async fn observe(mut call: GrpcCall) -> Status {
    let server = Arc::clone(&call.peer.server);
    let request = match call.message().await {
        Ok(request) => request,
        Err(status) => return refuse(&call, status),
    };
    let (sender, answers) = mpsc::channel(ANSWERS_MAX);
    let cx = call.context();
    let work = async move { server.services.observe(&cx, request, sender).await };
    pass_on(call, work, answers).await
}

async fn health_watch(mut call: GrpcCall) -> Status {
    let server = Arc::clone(&call.peer.server);
    let request = match call.message().await {
        Ok(request) => request,
        Err(status) => return refuse(&call, status),
    };
    let (sender, answers) = mpsc::channel(ANSWERS_MAX);
    let cx = call.context();
    let work = async move { server.services.health_watch(&cx, request, sender).await };
    pass_on(call, work, answers).await
}

fn refuse(call: &GrpcCall, status: Status) -> Status {
    call.finish(Err(status.clone()));
    status
}

/// Sends what `work` makes until it ends, the client leaves, or this server stops.
async fn pass_on<M: Message>(
    call: GrpcCall,
    work: impl Future<Output = Result<(), Status>>,
    mut answers: mpsc::Receiver<M>,
) -> Status {
    let mut work = std::pin::pin!(work);
    let mut out: Option<Outbound> = None;
    let mut ended = None;
    let mut leader_lost = call.leader_lost();
    let (cord, mut stop) = (call.cord(), call.peer.stop.clone());
    let status = loop {
        let answer = tokio::select! {
            biased;
            answer = answers.recv() => answer,
            end = &mut work, if ended.is_none() => {
                ended = Some(end);
                continue;
            }
            _ = stop.changed() => break stopped(),
            () = leader_lost.as_mut() => break errors::no_leader(),
            () = cord.gone() => return gone(),
        };
        let Some(answer) = answer else {
            break match ended {
                Some(Err(status)) => status,
                Some(Ok(())) | None => Status::ok(),
            };
        };
        if send(&call, &mut out, &answer).await.is_err() {
            return gone();
        }
    };
    let begun = match out {
        Some(out) => Ok(out),
        None if status.code() == Code::Ok => {
            let island = call.island();
            Outbound::begin(&call.cord(), island)
        }
        None => return refuse(&call, status),
    };
    // A client that has left need not be told.
    begun.and_then(|out| out.end(&status)).ok();
    status
}

async fn send<M: Message>(
    call: &GrpcCall,
    out: &mut Option<Outbound>,
    answer: &M,
) -> Result<(), Gone> {
    let out = match out {
        Some(out) => out,
        None => {
            let island = call.island();
            out.insert(Outbound::begin(&call.cord(), island)?)
        }
    };
    call.server().counters(call.method).send();
    out.send(whole(answer)).await
}
