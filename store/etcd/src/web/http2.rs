//! Requests that came over HTTP/2 but are no gRPC.
//!
//! Over TLS a client agrees on HTTP/2 whether or not it speaks gRPC, so health, metrics and the
//! gateway must be there too.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use holm_http2::{Head, Section};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};

use super::Web;
use super::answer::{AnswerBody, text};
use crate::grpc::outbound::{Gone, Outbound};
use crate::grpc::wire::Cord;
use crate::status::Status;

/// A request's body that gives room for more as soon as it was read.
#[derive(Debug)]
struct RequestBody(Cord);

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
#[error("the request broke off: {}", .0.message())]
pub(crate) struct BrokenOff(Status);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let piece = self.0.poll_raw(cx);
        piece.map(|it| it.map(|piece| piece.map(Frame::data).map_err(BrokenOff)))
    }
}

impl Web {
    /// Answers one request that came over HTTP/2. Returns when all was sent or the client left.
    pub(crate) async fn answer_over_http2(&self, cord: Cord, head: &Head) {
        let answer = match request(head, cord.clone()) {
            Some(request) => self.answer(request).await,
            None => text(StatusCode::BAD_REQUEST, "this is no request\n"),
        };
        // A client that has left need not be told.
        send(cord, answer).await.ok();
    }
}

/// The request that a head begins; `None` if its target is none.
fn request(head: &Head, cord: Cord) -> Option<Request<RequestBody>> {
    let mut request = Request::new(RequestBody(cord));
    *request.method_mut() = Method::from_bytes(&head.method).ok()?;
    *request.uri_mut() = Uri::try_from(&head.path[..]).ok()?;
    for field in &head.fields {
        let name = HeaderName::from_bytes(&field.name).ok()?;
        let value = HeaderValue::from_bytes(&field.value).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// Sends an answer as fast as the client takes it.
async fn send(cord: Cord, answer: Response<AnswerBody>) -> Result<(), Gone> {
    let (head, mut body) = answer.into_parts();
    let is_whole = body.is_end_stream();
    let fields = head.headers.iter();
    let fields: Vec<(&[u8], &[u8])> = fields
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
        .collect();
    let status = head.status.as_u16();
    let section = Section::Fields(&fields);
    cord.wire
        .lock()
        .http
        .head(cord.key, status, section, is_whole);
    if is_whole {
        return Ok(());
    }
    let mut out = Outbound::of(&cord);
    loop {
        let piece = tokio::select! {
            piece = body.frame() => piece,
            () = cord.gone() => return Err(Gone),
        };
        match piece {
            Some(Ok(piece)) => out.send(piece.into_data().unwrap_or_default()).await?,
            Some(Err(never)) => match never {},
            None => break,
        }
    }
    cord.wire.lock().http.end_plain(cord.key);
    Ok(())
}
