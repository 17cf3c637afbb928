//! The answers of one call, sent no faster than the client takes them.

use std::future::poll_fn;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response};

use crate::status::{Code, Status};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What a node that is cut off says in the head of its answers; stock clients pass it over.
pub(crate) const ISLAND: HeaderName = HeaderName::from_static("holm-island");

/// The value of [`ISLAND`], if there is anything to say.
pub(crate) type Island = Option<HeaderValue>;

/// Pieces in which long answers go out.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// The client left, or the connection broke: nobody is there to be told more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

/// Answers with one message: three frames, buffered until the connection is next polled.
pub(crate) fn answer(
    respond: &mut SendResponse<Bytes>,
    framed: Bytes,
    island: Island,
) -> Result<(), Gone> {
    let mut stream = respond.send_response(head(island), false)?;
    stream.send_data(framed, false)?;
    stream.send_trailers(trailers(&OK))?;
    Ok(())
}

/// Answers with a refusal alone: one frame.
pub(crate) fn refuse(
    respond: &mut SendResponse<Bytes>,
    status: &Status,
    island: Island,
) -> Result<(), Gone> {
    let mut response = head(island);
    response.headers_mut().extend(trailers(status));
    respond.send_response(response, true)?;
    Ok(())
}

/// The answers of a call that has many.
#[derive(Debug)]
pub(crate) struct Outbound {
    stream: SendStream<Bytes>,
}

impl Outbound {
    /// Begins to answer.
    pub(crate) fn begin(respond: &mut SendResponse<Bytes>, island: Island) -> Result<Self, Gone> {
        let stream = respond.send_response(head(island), false)?;
        Ok(Self { stream })
    }

    /// Sends `bytes` as the client's window opens. Holds at most these bytes.
    pub(crate) async fn send(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let room = self.room(bytes.len()).await?;
            let piece = bytes.split_to(room.min(bytes.len()));
            self.stream.send_data(piece, false)?;
        }
        Ok(())
    }

    /// Waits until the client takes something.
    pub(crate) async fn opened(&mut self) -> Result<(), Gone> {
        self.room(1).await.map(drop)
    }

    /// Waits until the client lets some bytes through, `wanted` at most.
    async fn room(&mut self, wanted: usize) -> Result<usize, Gone> {
        self.stream.reserve_capacity(wanted);
        loop {
            let ready = self.stream.capacity();
            if ready > 0 {
                return Ok(ready);
            }
            match poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Gone),
            }
        }
    }

    /// Waits until the client takes the call back.
    pub(crate) async fn is_reset(&mut self) {
        // Either answer means that nobody listens any more.
        drop(poll_fn(|cx| self.stream.poll_reset(cx)).await);
    }

    /// Ends the call with its status.
    pub(crate) fn end(mut self, status: &Status) -> Result<(), Gone> {
        self.stream.send_trailers(trailers(status))?;
        Ok(())
    }

    /// Breaks the call off: for a client that takes nothing for too long.
    pub(crate) fn reset(mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}

/// Waits until the client takes a call back that is not answered yet.
pub(crate) async fn was_reset(respond: &mut SendResponse<Bytes>) {
    // Either answer means that nobody listens any more.
    drop(poll_fn(|cx| respond.poll_reset(cx)).await);
}

/// What a call ends with when all went well.
pub(crate) const OK: Status = Status::ok();

fn head(island: Island) -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    if let Some(island) = island {
        response.headers_mut().insert(ISLAND, island);
    }
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(2);
    map.insert(GRPC_STATUS, code_value(status.code()));
    if !status.message().is_empty() {
        map.insert(GRPC_MESSAGE, message_value(status.message()));
    }
    map
}

fn code_value(code: Code) -> HeaderValue {
    if code == Code::Ok {
        HeaderValue::from_static("0")
    } else {
        HeaderValue::from(code.number())
    }
}

/// gRPC's percent encoding: all but printable ASCII, and the percent sign itself.
fn message_value(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::from_str(&text).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(message_value("a%b\n\u{e9}"), "a%25b%0A%C3%A9");
        assert_eq!(
            message_value("etcdserver: key is not provided"),
            "etcdserver: key is not provided"
        );
    }
}
