//! A watch stream over gRPC: requests and responses as JSON values, one at a time.
//!
//! A thread of the client's runtime reads all the while, so that a test that is busy with
//! the other server stalls nobody.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use h2::{RecvStream, SendStream};
use holm_etcd::proto::etcdserverpb as pb;
use prost::Message;
use serde_json::Value;

use super::{Bytes, Grpc, failure, framed};

/// More responses than a test leaves unread.
const RESPONSES_MAX: usize = 65_536;

/// One stream with any number of watches on it.
#[derive(Debug)]
pub struct WatchStream {
    sender: SendStream<Bytes>,
    responses: Receiver<Result<Value>>,
}

impl Grpc {
    /// Opens a watch stream.
    ///
    /// # Errors
    ///
    /// A broken connection.
    pub fn watch(&self) -> Result<WatchStream> {
        let request = http::Request::post("http://localhost/etcdserverpb.Watch/Watch")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let (tell, responses) = sync_channel(RESPONSES_MAX);
        let sender = self.runtime.block_on(async {
            let mut ready = self.sender.clone().ready().await?;
            let (response, body) = ready.send_request(request.body(())?, false)?;
            tokio::spawn(async move {
                let each = |value| tell.try_send(Ok(value)).context("nobody reads");
                if let Err(error) = read(response, each).await {
                    // The test may be over.
                    tell.try_send(Err(error)).ok();
                }
            });
            anyhow::Ok(body)
        })?;
        Ok(WatchStream { sender, responses })
    }
}

impl WatchStream {
    /// Sends a WatchRequest.
    ///
    /// # Errors
    ///
    /// A broken stream, or a body that is no such request.
    pub fn send(&mut self, body: &Value) -> Result<()> {
        let request: pb::WatchRequest =
            serde_json::from_value(body.clone()).with_context(|| format!("watch: {body}"))?;
        let frame = framed(&request.encode_to_vec())?;
        Ok(self.sender.send_data(frame, false)?)
    }

    /// The next WatchResponse, or `None` if none comes within `patience`.
    ///
    /// # Errors
    ///
    /// A stream that ended.
    pub fn next(&self, patience: Duration) -> Result<Option<Value>> {
        match self.responses.recv_timeout(patience) {
            Ok(response) => response.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the watch stream ended"),
        }
    }
}

async fn read(
    response: h2::client::ResponseFuture,
    each: impl Fn(Value) -> Result<()>,
) -> Result<()> {
    let response = response.await?;
    if let Some((code, text)) = failure(response.headers())? {
        bail!("refused with {code}: {text}");
    }
    let mut stream: RecvStream = response.into_body();
    let mut received = BytesMut::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        received.extend_from_slice(&piece);
        while let Some(message) = message(&mut received)? {
            each(serde_json::to_value(pb::WatchResponse::decode(message)?)?)?;
        }
    }
    bail!(
        "the server ended the stream: {:?}",
        stream.trailers().await?
    )
}

/// Takes the first whole message off what was received.
fn message(received: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some(mut prefix) = received.get(..5) else {
        return Ok(None);
    };
    ensure!(prefix.get_u8() == 0, "a message is compressed");
    let length = usize::try_from(prefix.get_u32())?;
    if received.len() < 5 + length {
        return Ok(None);
    }
    received.advance(5);
    Ok(Some(received.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_and_in_order() {
        let mut received = BytesMut::from(&b"\0\0\0\0\x01a\0\0\0\0"[..]);
        assert_eq!(message(&mut received).unwrap().as_deref(), Some(&b"a"[..]));
        assert_eq!(message(&mut received).unwrap(), None);
        received.extend_from_slice(b"\x02b");
        assert_eq!(message(&mut received).unwrap(), None);
        received.extend_from_slice(b"c");
        assert_eq!(message(&mut received).unwrap().as_deref(), Some(&b"bc"[..]));
        assert!(message(&mut BytesMut::from(&b"\x01\0\0\0\0"[..])).is_err());
    }
}
