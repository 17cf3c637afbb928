//! A stream of the gateway: requests out of a body, lines into an answer.
//!
//! A [`Feed`] cuts a body into JSON objects as it comes; nothing larger than the limit is kept.
//! [`Lines`] drives the feed and the call whenever the client takes a line, and stops both when
//! the client leaves. No task is started for either.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::gateway::{RequestBody, Work};
use super::json::{self, Refused};

/// Requests as they come.
pub(crate) struct Feed {
    body: RequestBody,
    buffer: BytesMut,
    scan: Scan,
    bytes_max: usize,
}

impl Feed {
    pub(crate) fn new(body: RequestBody, bytes_max: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            scan: Scan::default(),
            bytes_max,
        }
    }

    /// Sends each request on, until the body ends, makes no sense, or nobody listens.
    pub(crate) async fn run<Q>(mut self, requests: mpsc::Sender<Q>) -> Result<(), Refused>
    where
        Q: DeserializeOwned + Default,
    {
        while let Some(object) = self.next().await? {
            if requests.send(json::decode(&object)?).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next object, or `None` at the end of the body.
    async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        loop {
            let end = self.scan.find_end(&self.buffer)?;
            if end.unwrap_or(self.buffer.len()) > self.bytes_max {
                return Err(Refused::too_large());
            }
            if let Some(end) = end {
                self.scan = Scan::default();
                return Ok(Some(self.buffer.split_to(end).freeze()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    self.buffer
                        .extend_from_slice(frame.data_ref().map_or(&[], Bytes::chunk));
                }
                Some(Err(error)) => {
                    return Err(Refused::invalid(format!(
                        "request body cannot be read: {error}"
                    )));
                }
                None if self.scan.is_between() => return Ok(None),
                None => return Err(Refused::invalid("unexpected EOF")),
            }
        }
    }
}

/// Looks for the end of a JSON object without looking at a byte twice.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Scan {
    /// Whether no object has begun.
    const fn is_between(&self) -> bool {
        self.depth == 0
    }

    /// Where the object ends, if it does; refuses what is no object.
    fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            if self.depth == 0 && *byte != b'{' {
                if byte.is_ascii_whitespace() {
                    continue;
                }
                return Err(Refused::invalid("a stream's requests are json objects"));
            }
            if self.closes(*byte) {
                return Ok(Some(self.at));
            }
        }
        Ok(None)
    }

    /// Takes a byte of the object; whether it is its last.
    const fn closes(&mut self, byte: u8) -> bool {
        if self.in_text {
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }
}

/// How a message becomes a line.
type Encode = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<String, Refused>>> + Send>;

/// The lines of a stream's answer.
pub(crate) struct Lines {
    /// Runs until the client has asked everything.
    feed: Option<Work<Result<(), Refused>>>,
    /// Runs until everything is answered.
    work: Option<Work<Result<(), Refused>>>,
    receive: Encode,
    /// Why it ends, once everything that was answered before is taken.
    failure: Option<Refused>,
    first: Option<String>,
    ended: bool,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Lines")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Lines {
    pub(crate) fn new<A: Serialize + Send + 'static>(
        feed: Work<Result<(), Refused>>,
        work: Work<Result<(), Refused>>,
        mut answers: mpsc::Receiver<A>,
    ) -> Self {
        let receive: Encode = Box::new(move |cx| {
            answers
                .poll_recv(cx)
                .map(|answer| answer.map(|answer| json::encode_line(&answer)))
        });
        Self {
            feed: Some(feed),
            work: Some(work),
            receive,
            failure: None,
            first: None,
            ended: false,
        }
    }

    /// These lines, with one that was taken already put back in front.
    pub(crate) fn after(mut self, line: String) -> Self {
        self.first = Some(line);
        self
    }

    /// The next line, the refusal that ends the stream, or its end.
    pub(crate) async fn next(&mut self) -> Option<Result<String, Refused>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Lines::next`], with a refusal as a line.
    pub(crate) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        self.poll_next(cx)
            .map(|line| line.map(|line| line.unwrap_or_else(|refused| refused.line())))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, Refused>>> {
        if let Some(line) = self.first.take() {
            return Poll::Ready(Some(Ok(line)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_work(cx));
        self.ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }

    /// Runs both parts, then gives what is there: answers first, then how it ended.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, Refused>>> {
        if let Poll::Ready(Err(refused)) = poll_part(&mut self.feed, cx) {
            self.failure.get_or_insert(refused);
        }
        if let Poll::Ready(Err(refused)) = poll_part(&mut self.work, cx) {
            self.failure.get_or_insert(refused);
        }
        // Asked last, so that nothing that the call just sent is missed.
        if let Poll::Ready(Some(line)) = (self.receive)(cx) {
            return Poll::Ready(Some(line));
        }
        match (self.failure.take(), &self.work) {
            (Some(refused), _) => Poll::Ready(Some(Err(refused))),
            (None, None) => Poll::Ready(None),
            (None, Some(_)) => Poll::Pending,
        }
    }
}

/// Runs a part; one that has ended well has ended well for ever.
fn poll_part(
    part: &mut Option<Work<Result<(), Refused>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Refused>> {
    let Some(work) = part else {
        return Poll::Ready(Ok(()));
    };
    let ended = ready!(Pin::new(work).poll(cx));
    *part = None;
    Poll::Ready(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> Vec<usize> {
        let (mut scan, mut ends, mut bytes) = (Scan::default(), Vec::new(), text.as_bytes());
        while let Some(end) = scan.find_end(bytes).unwrap() {
            ends.push(end);
            bytes = &bytes[end..];
            scan = Scan::default();
        }
        ends
    }

    #[test]
    fn objects_end_where_they_end_whatever_their_text_holds() {
        assert_eq!(ends("{}{\"a\":[{}]}"), [2, 10]);
        assert_eq!(ends(" {\"a\":\"}\\\"}\\\\\"} \n"), [15]);
        assert_eq!(ends("{\"a\":\"}"), Vec::<usize>::new());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["null", "[{}]", "}", "1"] {
            assert!(Scan::default().find_end(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn scan_goes_on_where_it_stopped() {
        let text = b"{\"key\":\"a\\\"}\"}";
        let mut scan = Scan::default();
        for end in 0..text.len() {
            assert_eq!(scan.find_end(&text[..end]).unwrap(), None);
        }
        assert_eq!(scan.find_end(text).unwrap(), Some(text.len()));
    }
}
