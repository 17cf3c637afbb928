//! Watches through the gateway: one stream, any number of watches, a line for each answer.
//!
//! The stream goes on when the client has asked everything, and ends when it leaves.

use std::time::Duration;

use tokio::sync::mpsc;

use super::gateway::Exchange;
use crate::context::Context;
use crate::proto::etcdserverpb::{WatchRequest, WatchResponse};
use crate::seat::{Bell, Seat};
use crate::services::{Services, watching};
use crate::status::Status;

/// What is asked of the hub at once.
const BATCH_BYTES: usize = 256 << 10;

/// How often progress is thought of when nobody says when.
const IDLE: Duration = Duration::from_secs(60);

/// Serves a stream of watches until the client leaves.
pub(crate) async fn run(
    services: Services,
    cx: Context,
    exchange: Exchange<WatchRequest, WatchResponse>,
) -> Result<(), Status> {
    let Exchange {
        mut requests,
        answers,
    } = exchange;
    let bell = Bell::new();
    let seat = Seat::open(services.handle().hub(), bell.wake());
    let mut asks = true;
    loop {
        let mut rung = std::pin::pin!(bell.rung());
        rung.as_mut().enable();
        if send_ready(&services, &seat, &answers).await? {
            continue;
        }
        let handle = services.handle();
        let due = seat.hub.next_progress(seat.stream);
        let patience = due.map_or(IDLE, |at| at.since(handle.now()).min(IDLE));
        // A stream that has much to be told is told it first.
        let asks_now = asks && seat.hub.takes_requests(seat.stream);
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep(patience) => {}
            () = answers.closed() => return Ok(()),
            request = requests.recv(), if asks_now => match request {
                Some(request) => watching::take(&services, &cx, &seat.hub, seat.stream, request)?,
                None => asks = false,
            },
        }
    }
}

/// Sends what the hub has; whether there may be more at once.
async fn send_ready(
    services: &Services,
    seat: &Seat,
    answers: &mpsc::Sender<WatchResponse>,
) -> Result<bool, Status> {
    let handle = services.handle();
    let view = handle.view();
    let ready = seat.hub.poll(seat.stream, handle.now(), &view, BATCH_BYTES);
    let is_any = !ready.is_empty();
    for answer in ready {
        if answers
            .send(services.watch_response(answer)?)
            .await
            .is_err()
        {
            // The loop sees that the client left.
            return Ok(false);
        }
    }
    Ok(is_any)
}
