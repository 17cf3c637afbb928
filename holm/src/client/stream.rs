//! The messages of one gRPC call, as they come.

use bytes::{Buf, Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use prost::Message;

use super::error::code_name;
use super::{ANSWER_BYTES_MAX, ClientError, framed};

/// One call: messages out, messages in, a status at the end.
#[derive(Debug)]
pub(crate) struct Stream {
    path: &'static str,
    body: SendStream<Bytes>,
    state: State,
    buffer: BytesMut,
    trailers: HeaderMap,
}

#[derive(Debug)]
enum State {
    Asked(ResponseFuture),
    Answering(RecvStream),
    Ended,
}

impl Stream {
    pub(super) fn new(path: &'static str, answer: ResponseFuture, body: SendStream<Bytes>) -> Self {
        Self {
            path,
            body,
            state: State::Asked(answer),
            buffer: BytesMut::new(),
            trailers: HeaderMap::new(),
        }
    }

    /// What the call ended with, once it has.
    pub(super) const fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    /// Sends a further message.
    pub(crate) fn send(&mut self, message: &impl Message) -> Result<(), ClientError> {
        let path = self.path;
        let failed = |source| ClientError::Transport { path, source };
        self.body.send_data(framed(message), false).map_err(failed)
    }

    /// The next message; `None` after the last, if the call ended well.
    ///
    /// Cancelling it loses nothing.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, ClientError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(A::decode(message)?));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// A whole message out of what has come.
    fn buffered(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(prefix) = self.buffer.first_chunk::<5>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(ClientError::Protocol {
                what: "a compressed message that nobody asked for",
            });
        }
        let length = usize::try_from((&length[..]).get_u32()).unwrap_or(usize::MAX);
        if length > ANSWER_BYTES_MAX {
            return Err(ClientError::Protocol {
                what: "a message above 2 GiB",
            });
        }
        if self.buffer.len() - 5 < length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Takes what comes next; false at the end.
    async fn read(&mut self) -> Result<bool, ClientError> {
        let path = self.path;
        let failed = |source| ClientError::Transport { path, source };
        match &mut self.state {
            State::Ended => Ok(false),
            State::Asked(answer) => {
                let answer = answer.await.map_err(|source| {
                    // What we ourselves could not read; a node's refusals come from afar.
                    if source.is_library() {
                        ClientError::NoHttp2 { path, source }
                    } else {
                        failed(source)
                    }
                })?;
                if answer.headers().contains_key("grpc-status") {
                    self.state = State::Ended;
                    return verdict(answer.headers()).map(|()| false);
                }
                if answer.status() != http::StatusCode::OK {
                    return Err(ClientError::Protocol {
                        what: "an HTTP error in place of gRPC",
                    });
                }
                self.state = State::Answering(answer.into_body());
                Ok(true)
            }
            State::Answering(body) => match body.data().await {
                Some(data) => {
                    let data = data.map_err(failed)?;
                    body.flow_control()
                        .release_capacity(data.len())
                        .map_err(failed)?;
                    self.buffer.extend_from_slice(&data);
                    Ok(true)
                }
                None => {
                    let trailers = body.trailers().await.map_err(failed)?;
                    self.state = State::Ended;
                    self.trailers = trailers.unwrap_or_default();
                    verdict(&self.trailers).map(|()| false)
                }
            },
        }
    }
}

/// What a call's trailers say.
fn verdict(trailers: &HeaderMap) -> Result<(), ClientError> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status").and_then(|code| code.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(ClientError::Refused {
            code,
            name: code_name(code),
            message: percent_decoded(text("grpc-message").unwrap_or_default()),
            island: text("holm-island").map(str::to_owned),
        }),
        None => Err(ClientError::Protocol {
            what: "an answer without a status",
        }),
    }
}

/// gRPC's messages carry what is not plain ASCII as %XX.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let coded = after.get(..2).filter(|_digits| first == b'%');
        let coded = coded.and_then(|digits| std::str::from_utf8(digits).ok());
        match coded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    #[test]
    fn refusal_carries_code_and_text() {
        let refused = trailers(&[("grpc-status", "11"), ("grpc-message", "50%25 of %C3%A4 %")]);
        let error = verdict(&refused).unwrap_err();
        assert_eq!(error.to_string(), "50% of \u{e4} % (OutOfRange)");
    }

    #[test]
    fn an_island_says_that_it_is_one() {
        let refused = trailers(&[
            ("grpc-status", "14"),
            ("grpc-message", "etcdserver: no leader"),
            ("holm-island", "no-quorum since 12s"),
        ]);
        let error = verdict(&refused).unwrap_err().to_string();
        let says = "; this site is cut off from the majority: no-quorum since 12s";
        assert!(error.ends_with(says), "{error}");
    }

    #[test]
    fn missing_status_is_no_success() {
        assert!(verdict(&trailers(&[])).is_err());
        assert!(verdict(&trailers(&[("grpc-status", "0")])).is_ok());
    }
}
