//! The answers of one call, sent no faster than the client takes them.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use holm_http2::{Connection, Key, Reason, Section};
use http::header::HeaderName;

use super::wire::Cord;
use crate::causal::TOKEN;
use crate::status::{Code, Status};

/// What a node that is cut off says in the head of its answers; stock clients pass it over.
pub(crate) const ISLAND: HeaderName = HeaderName::from_static(ISLAND_NAME);
const ISLAND_NAME: &str = "holm-island";

/// The value of [`ISLAND`], if there is anything to say.
pub(crate) type Island = Option<String>;

/// Pieces in which long answers go out.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

const CONTENT_TYPE: (&[u8], &[u8]) = (b"content-type", b"application/grpc");

/// The client left, or the connection broke: nobody is there to be told more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Begins an answer.
pub(crate) fn begin(http: &mut Connection, key: Key, island: Option<&str>) {
    match island {
        None => http.head(key, 200, Section::Usual, false),
        Some(island) => {
            let fields = [CONTENT_TYPE, (ISLAND_NAME.as_bytes(), island.as_bytes())];
            http.head(key, 200, Section::Fields(&fields), false);
        }
    }
}

/// Answers with one message: three frames. Behind it what the site has, if that is wanted.
pub(crate) fn answer(
    http: &mut Connection,
    key: Key,
    framed: &[u8],
    (island, causal): (Option<&str>, Option<&str>),
) {
    begin(http, key, island);
    http.data_of(key, framed);
    end_with(http, key, causal);
}

/// Ends an answer that went well, and says what the site has, if that is wanted.
fn end_with(http: &mut Connection, key: Key, causal: Option<&str>) {
    match causal {
        None => http.end(key, Section::Usual),
        Some(causal) => {
            let fields: [(&[u8], &[u8]); 2] = [
                (b"grpc-status", b"0"),
                (TOKEN.as_bytes(), causal.as_bytes()),
            ];
            http.end(key, Section::Fields(&fields));
        }
    }
}

/// Answers with a refusal alone: one frame. What was begun ends with it.
pub(crate) fn refuse(http: &mut Connection, key: Key, status: &Status, island: Option<&str>) {
    if http.is_begun(key) {
        end(http, key, status);
        return;
    }
    let (code, message) = (code_value(status.code()), status.wire_message());
    let mut fields = vec![CONTENT_TYPE];
    if let Some(island) = island {
        fields.push((ISLAND_NAME.as_bytes(), island.as_bytes()));
    }
    fields.push((b"grpc-status", code.as_bytes()));
    if !message.is_empty() {
        fields.push((b"grpc-message", message.as_bytes()));
    }
    http.head(key, 200, Section::Fields(&fields), true);
}

/// Ends an answer that was begun.
pub(crate) fn end(http: &mut Connection, key: Key, status: &Status) {
    if status.code() == Code::Ok && status.message().is_empty() {
        http.end(key, Section::Usual);
        return;
    }
    let (code, message) = (code_value(status.code()), status.wire_message());
    let fields: [(&[u8], &[u8]); 2] = [
        (b"grpc-status", code.as_bytes()),
        (b"grpc-message", message.as_bytes()),
    ];
    let count = if message.is_empty() { 1 } else { 2 };
    http.end(key, Section::Fields(&fields[..count]));
}

/// The answers of a call that has many.
#[derive(Debug)]
pub(crate) struct Outbound {
    cord: Cord,
}

impl Outbound {
    /// Begins to answer.
    pub(crate) fn begin(cord: &Cord, island: Island) -> Result<Self, Gone> {
        let mut state = cord.wire.lock();
        if !state.http.is_alive(cord.key) {
            return Err(Gone);
        }
        begin(&mut state.http, cord.key, island.as_deref());
        drop(state);
        Ok(Self { cord: cord.clone() })
    }

    /// Goes on with an answer that was begun.
    pub(crate) fn of(cord: &Cord) -> Self {
        Self { cord: cord.clone() }
    }

    /// Sends `bytes` as the client's window opens. Holds at most these bytes.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        {
            let mut state = self.cord.wire.lock();
            if !state.http.is_alive(self.cord.key) {
                return Err(Gone);
            }
            state.http.data(self.cord.key, bytes);
        }
        poll_fn(|cx| self.poll_drained(cx)).await
    }

    /// Waits until nothing is held.
    fn poll_drained(&self, cx: &Context<'_>) -> Poll<Result<(), Gone>> {
        let (key, mut state) = (self.cord.key, self.cord.wire.lock());
        if !state.http.is_alive(key) {
            Poll::Ready(Err(Gone))
        } else if state.http.is_drained(key) {
            Poll::Ready(Ok(()))
        } else {
            state.http.await_drained(key);
            state.wait(key, cx)
        }
    }

    /// Waits until the client takes the call back.
    pub(crate) async fn is_reset(&mut self) {
        self.cord.gone().await;
    }

    /// Ends the call with its status.
    pub(crate) fn end(self, status: &Status) -> Result<(), Gone> {
        let mut state = self.cord.wire.lock();
        if !state.http.is_alive(self.cord.key) {
            return Err(Gone);
        }
        end(&mut state.http, self.cord.key, status);
        Ok(())
    }

    /// Ends a call that went well, and says what the site has, if that is wanted.
    pub(crate) fn end_well(self, causal: Option<&str>) {
        let mut state = self.cord.wire.lock();
        // A client that has left need not be told.
        if state.http.is_alive(self.cord.key) {
            end_with(&mut state.http, self.cord.key, causal);
        }
    }

    /// Breaks the call off: for a client that takes nothing for too long.
    pub(crate) fn reset(self) {
        self.cord.reset(Reason::CANCEL);
    }
}

/// What a call ends with when all went well.
pub(crate) const OK: Status = Status::ok();

fn code_value(code: Code) -> String {
    code.number().to_string()
}
