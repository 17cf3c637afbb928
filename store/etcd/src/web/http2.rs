//! Requests that came over HTTP/2 but are no gRPC.
//!
//! Over TLS a client agrees on HTTP/2 whether or not it speaks gRPC, so health, metrics and the
//! gateway must be there too.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};

use super::Web;

/// A request's body that gives room for more as soon as it was read.
#[derive(Debug)]
struct RequestBody(RecvStream);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.0.poll_data(cx).map(|piece| {
            let piece = piece?;
            Some(piece.and_then(|bytes| {
                self.0.flow_control().release_capacity(bytes.len())?;
                Ok(Frame::data(bytes))
            }))
        })
    }
}

impl Web {
    /// Answers one request that came over HTTP/2. Returns when all was sent or the client left.
    pub async fn answer_h2(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let answer = self.answer(request.map(RequestBody)).await;
        let (head, mut body) = answer.into_parts();
        let whole = body.is_end_stream();
        let response = http::Response::from_parts(head, ());
        let Ok(mut stream) = respond.send_response(response, whole) else {
            return;
        };
        if whole {
            return;
        }
        loop {
            let piece = tokio::select! {
                piece = body.frame() => piece,
                _ = std::future::poll_fn(|cx| stream.poll_reset(cx)) => return,
            };
            let piece = match piece {
                Some(Ok(piece)) => piece.into_data().unwrap_or_default(),
                Some(Err(never)) => match never {},
                None => break,
            };
            if send(&mut stream, piece).await.is_err() {
                return;
            }
        }
        if stream.send_data(Bytes::new(), true).is_err() {
            tracing::debug!("client left before the end of its answer");
        }
    }
}

/// Sends a piece as fast as the client takes it.
async fn send(stream: &mut h2::SendStream<Bytes>, mut piece: Bytes) -> Result<(), h2::Error> {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(room) = room.transpose()? else {
            return Err(h2::Reason::CANCEL.into());
        };
        let now = piece.split_to(room.min(piece.len()));
        stream.send_data(now, false)?;
    }
    Ok(())
}
