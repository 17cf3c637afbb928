//! Calls that go home: heads, messages and trailers as they come, both ways, unread.
//!
//! Each client's connection has one of its own to the home, made when the first call needs it. So
//! one client that does not read what it asked for holds nobody else up, and the home counts
//! connections as it would without a cache.
//!
//! What would surprise: nothing is gathered. A piece is taken from one side when the other has
//! room for it; the windows of both connections are the only buffers.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::sync::{Mutex, watch};

use super::link::Home;

/// Nothing of a call was answered: the home could not be reached, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreached(pub(super) String);

/// The connection home of a client's connection.
#[derive(Debug)]
pub(super) struct Upstream {
    home: Home,
    open: Mutex<Option<Open>>,
}

#[derive(Clone, Debug)]
struct Open {
    requests: SendRequest<Bytes>,
    /// What the URLs of requests begin with.
    base: String,
    /// How often a home had been given up when it was made.
    given_up: u64,
}

/// What a call has said so far, and what it goes on to say.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) head: http::request::Parts,
    pub(super) come: Bytes,
    /// The rest of it; none if that was all.
    pub(super) rest: Option<RecvStream>,
}

impl Upstream {
    pub(super) fn new(home: Home) -> Self {
        Self {
            home,
            open: Mutex::new(None),
        }
    }

    /// A connection that takes requests, made since a home was last given up: one that hangs
    /// takes them too.
    async fn ready(&self, given_up: u64) -> Result<Open, String> {
        let mut open = self.open.lock().await;
        if let Some(known) = open.take_if(|it| it.given_up == given_up)
            && let Ok(requests) = known.requests.clone().ready().await
        {
            let known = Open { requests, ..known };
            *open = Some(known.clone());
            return Ok(known);
        }
        let client = self.home.connect().await;
        let client = client.map_err(|error| format!("{error:#}"))?;
        let (requests, base) = client.bare();
        let requests = requests.ready().await.map_err(|error| error.to_string())?;
        let made = Open {
            requests,
            base,
            given_up,
        };
        *open = Some(made.clone());
        Ok(made)
    }

    /// Passes a call on to its end. An answer that has begun ends here, one way or another.
    pub(super) async fn pass(
        &self,
        said: Said,
        respond: &mut SendResponse<Bytes>,
        mut given_up: watch::Receiver<u64>,
    ) -> Result<(), Unreached> {
        let before = *given_up.borrow_and_update();
        let Open {
            mut requests, base, ..
        } = tokio::select! {
            ready = self.ready(before) => ready.map_err(Unreached)?,
            _ = given_up.changed() => return Err(given_up_now()),
        };
        let request = request(&said.head, &base).map_err(Unreached)?;
        let is_all = said.come.is_empty() && said.rest.is_none();
        let sent = requests.send_request(request, is_all);
        let (answer, to_home) = sent.map_err(lost)?;
        // What is dropped before its end is taken back at the other side.
        let mut speaking = std::pin::pin!(speak(said, to_home, is_all));
        let mut hearing = std::pin::pin!(hear(answer, respond, given_up));
        let mut has_spoken = false;
        loop {
            tokio::select! {
                heard = &mut hearing => return heard,
                spoken = &mut speaking, if !has_spoken => match spoken {
                    // A home that is gone shows in its answer.
                    Ok(()) | Err(Side::Home) => has_spoken = true,
                    Err(Side::Client) => return Ok(()),
                },
            }
        }
    }
}

/// Who is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Home,
}

/// Says at home what the client says, to its end.
async fn speak(said: Said, mut to_home: SendStream<Bytes>, is_all: bool) -> Result<(), Side> {
    let home = |_lost| Side::Home;
    let Said { come, rest, .. } = said;
    let Some(mut body) = rest else {
        return if is_all {
            Ok(())
        } else {
            push(&mut to_home, come, true).await.map_err(home)
        };
    };
    push(&mut to_home, come, false).await.map_err(home)?;
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|_left| Side::Client)?;
        let length = piece.len();
        push(&mut to_home, piece, false).await.map_err(home)?;
        // A connection that is gone gives no room.
        body.flow_control().release_capacity(length).ok();
    }
    to_home.send_data(Bytes::new(), true).map_err(home)
}

/// Carries the answer to its end.
async fn hear(
    answer: ResponseFuture,
    respond: &mut SendResponse<Bytes>,
    mut given_up: watch::Receiver<u64>,
) -> Result<(), Unreached> {
    let answer = tokio::select! {
        answer = answer => answer.map_err(lost)?,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return Ok(()),
        _ = given_up.changed() => return Err(given_up_now()),
    };
    let (parts, mut from_home) = answer.into_parts();
    let is_over = from_home.is_end_stream();
    let mut head = Response::from_parts(parts, ());
    drop_hop(head.headers_mut());
    let Ok(mut to_client) = respond.send_response(head, is_over) else {
        return Ok(());
    };
    if is_over {
        return Ok(());
    }
    let carried = tokio::select! {
        carried = carry(&mut from_home, &mut to_client) => carried,
        _ = given_up.changed() => Err(Side::Home),
    };
    if carried == Err(Side::Home) {
        // A client that has left need not be told.
        to_client.send_trailers(broken()).ok();
    }
    Ok(())
}

async fn carry(from_home: &mut RecvStream, to_client: &mut SendStream<Bytes>) -> Result<(), Side> {
    loop {
        let piece = tokio::select! {
            piece = from_home.data() => piece,
            _ = poll_fn(|cx| to_client.poll_reset(cx)) => return Err(Side::Client),
        };
        let Some(piece) = piece else {
            break;
        };
        let piece = piece.map_err(|_lost| Side::Home)?;
        let length = piece.len();
        let pushed = push(to_client, piece, false).await;
        pushed.map_err(|_left| Side::Client)?;
        from_home.flow_control().release_capacity(length).ok();
    }
    let trailers = from_home.trailers().await.map_err(|_lost| Side::Home)?;
    let trailers = trailers.ok_or(Side::Home)?;
    to_client
        .send_trailers(trailers)
        .map_err(|_left| Side::Client)
}

/// What ends an answer that will not be completed.
fn broken() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("14"));
    let text = HeaderValue::from_static("cache: the connection home broke off");
    trailers.insert("grpc-message", text);
    trailers
}

fn lost(error: h2::Error) -> Unreached {
    Unreached(error.to_string())
}

fn given_up_now() -> Unreached {
    Unreached("it was silent for long and is given up".to_owned())
}

/// Sends a piece as the other side has room for it.
async fn push(to: &mut SendStream<Bytes>, piece: Bytes, is_last: bool) -> Result<(), h2::Error> {
    let mut piece = piece;
    while !piece.is_empty() {
        to.reserve_capacity(piece.len());
        let room = poll_fn(|cx| to.poll_capacity(cx)).await;
        let room = room.unwrap_or(Err(h2::Error::from(Reason::CANCEL)))?;
        let part = piece.split_to(room.min(piece.len()));
        to.send_data(part, is_last && piece.is_empty())?;
    }
    Ok(())
}

/// The request as it is said at home.
fn request(head: &http::request::Parts, base: &str) -> Result<Request<()>, String> {
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    let path = head.uri.path_and_query();
    let path = path.map_or("/", http::uri::PathAndQuery::as_str);
    *request.uri_mut() = format!("{base}{path}")
        .parse()
        .map_err(|error: http::uri::InvalidUri| format!("the call's path is none: {error}"))?;
    *request.headers_mut() = head.headers.clone();
    drop_hop(request.headers_mut());
    // gRPC's sign that trailers are understood is of each hop.
    let te = HeaderValue::from_static("trailers");
    request.headers_mut().insert(http::header::TE, te);
    Ok(request)
}

/// Drops what is said between two neighbours only.
fn drop_hop(head: &mut HeaderMap) {
    const HOP: [HeaderName; 3] = [
        http::header::CONNECTION,
        http::header::HOST,
        http::header::TE,
    ];
    for name in HOP {
        head.remove(name);
    }
}
