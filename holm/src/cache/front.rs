//! The side of the cache that clients see: gRPC over HTTP/2, and two pages over HTTP/1.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use holm_etcd::status::{Code, Status};
use holm_freshness::Answer;
use holm_net::{Connection, Protocol};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::answer::{self, Get};
use super::keeper::{Keeper, Reading};
use super::link::Home;
use super::pages;
use super::pass::{Said, Unreached, Upstream};

/// Calls at once on one connection; more are refused by HTTP/2.
const CALLS_MAX: u32 = 1_024;
/// What a client may send on one call, and on one connection, before it is taken.
const WINDOW_BYTES: (u32, u32) = (1 << 20, 4 << 20);
/// Names and values of a request's head.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// How long a request's message may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How long the home may take for a read at least.
const HOME_MIN: Duration = Duration::from_secs(2);
const HOME_MAX: Duration = Duration::from_secs(10);
/// What an answer of the cache says about its age, in milliseconds.
const AGE: &str = "holm-age-ms";

/// What serves connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Front {
    pub(super) keeper: Arc<Keeper>,
    pub(super) home: Home,
}

impl Front {
    /// Serves a connection until the client leaves, or until `stop` and what is in hand is
    /// answered.
    pub(super) async fn serve(self, connection: Connection, mut stop: watch::Receiver<bool>) {
        if connection.protocol == Protocol::Http1 {
            return pages::serve(connection.stream, &self.keeper).await;
        }
        let made = h2::server::Builder::new()
            .max_concurrent_streams(CALLS_MAX)
            .initial_window_size(WINDOW_BYTES.0)
            .initial_connection_window_size(WINDOW_BYTES.1)
            .max_header_list_size(HEAD_BYTES_MAX)
            .handshake(connection.stream)
            .await;
        let Ok(mut http) = made else {
            return;
        };
        let upstream = Arc::new(Upstream::new(self.home.clone()));
        let mut calls = JoinSet::new();
        let mut is_stopping = false;
        loop {
            tokio::select! {
                accepted = http.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        let (keeper, upstream) = (Arc::clone(&self.keeper), Arc::clone(&upstream));
                        calls.spawn(async move { call(&keeper, &upstream, request, respond).await });
                    }
                    Some(Err(_)) | None => return,
                },
                Some(_ended) = calls.join_next() => {}
                _ = stop.wait_for(|told| *told), if !is_stopping => {
                    is_stopping = true;
                    http.graceful_shutdown();
                }
            }
        }
    }
}

/// One call to its end.
async fn call(
    keeper: &Keeper,
    upstream: &Upstream,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, mut body) = request.into_parts();
    let is_range = head.uri.path() == "/etcdserverpb.KV/Range";
    if !is_range || !answer::may_answer(&head.headers) {
        let said = Said {
            head,
            come: Bytes::new(),
            rest: (!body.is_end_stream()).then_some(body),
        };
        return go_home(keeper, upstream, said, respond).await;
    }
    let arrived = tokio::time::timeout(ARRIVAL, arrive(&mut body)).await;
    let Ok(Some((come, is_all))) = arrived else {
        // It broke off, or took too long: nobody waits for an answer.
        respond.send_reset(h2::Reason::CANCEL);
        return;
    };
    let get = answer::message(&come)
        .filter(|_| is_all)
        .and_then(answer::get);
    if let Some(get) = get {
        if let Some(known) = read(keeper, &get, &mut respond).await {
            return show(keeper, &get, *known, respond);
        }
        let said = Said {
            head,
            come: get.at_home(),
            rest: None,
        };
        return read_at_home(keeper, upstream, &get, said, respond).await;
    }
    let said = Said {
        head,
        come,
        rest: (!is_all).then_some(body),
    };
    go_home(keeper, upstream, said, respond).await;
}

/// What comes first of a request, and whether that is all of it; none if it breaks off.
async fn arrive(body: &mut RecvStream) -> Option<(Bytes, bool)> {
    let mut come = BytesMut::new();
    while come.len() <= answer::REQUEST_BYTES_MAX {
        match body.data().await {
            Some(Ok(piece)) => {
                body.flow_control().release_capacity(piece.len()).ok()?;
                come.extend_from_slice(&piece);
            }
            Some(Err(_left)) => return None,
            None => return Some((come.freeze(), true)),
        }
    }
    let is_all = body.is_end_stream();
    Some((come.freeze(), is_all))
}

/// The answer that can be given here, if there is one.
async fn read(
    keeper: &Keeper,
    get: &Get,
    respond: &mut SendResponse<Bytes>,
) -> Option<Box<Answer>> {
    match keeper.read(get.key.clone()) {
        Reading::Known(answer) => Some(answer),
        Reading::Forward => None,
        Reading::Waits(answer) => tokio::select! {
            // It is dropped with the cache alone.
            answer = answer => answer.ok().flatten().map(Box::new),
            // Who has left needs no answer, and the home's comes to the cache all the same.
            _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => None,
        },
    }
}

/// Sends a read home that cannot be answered here, or says why that is of no use.
async fn read_at_home(
    keeper: &Keeper,
    upstream: &Upstream,
    get: &Get,
    said: Said,
    mut respond: SendResponse<Bytes>,
) {
    if !keeper.is_cut() {
        let patience = (keeper.bound() * 2).clamp(HOME_MIN, HOME_MAX);
        let passing = upstream.pass(said, &mut respond, keeper.given_up());
        match tokio::time::timeout(patience, passing).await {
            Ok(Ok(())) => return,
            Ok(Err(Unreached(why))) => tracing::debug!(why, "a read did not reach the home"),
            Err(_elapsed) => tracing::debug!(?patience, "the home did not answer a read"),
        }
    }
    match keeper.cut(&get.key) {
        Ok(known) => show(keeper, get, known, respond),
        Err(why) => refuse(respond, &why),
    }
}

async fn go_home(
    keeper: &Keeper,
    upstream: &Upstream,
    said: Said,
    mut respond: SendResponse<Bytes>,
) {
    let passed = upstream.pass(said, &mut respond, keeper.given_up()).await;
    if let Err(Unreached(why)) = passed {
        refuse(
            respond,
            &format!("cache: only home can do this, and it is out of reach: {why}"),
        );
    }
}

/// Sends an answer of the cache.
fn show(keeper: &Keeper, get: &Get, known: Answer, mut respond: SendResponse<Bytes>) {
    let age = known.age.as_millis();
    let Ok(framed) = answer::framed(get, &keeper.home(), known) else {
        return refuse(respond, "cache: the home sent a record that cannot be read");
    };
    let mut head = head();
    if let Ok(age) = HeaderValue::try_from(age.to_string()) {
        head.headers_mut().insert(AGE, age);
    }
    // Whoever has left need not be told.
    let Ok(mut body) = respond.send_response(head, false) else {
        return;
    };
    if body.send_data(framed, false).is_ok() {
        end(&mut body);
    }
}

fn end(body: &mut SendStream<Bytes>) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // As above.
    body.send_trailers(trailers).ok();
}

/// Says UNAVAILABLE, and why.
fn refuse(mut respond: SendResponse<Bytes>, why: &str) {
    let mut head = head();
    let fields = head.headers_mut();
    fields.insert("grpc-status", HeaderValue::from(Code::Unavailable.number()));
    let said = Status::new(Code::Unavailable, why.to_owned()).wire_message();
    let said = HeaderValue::try_from(said).expect("percent encoding leaves printable ASCII");
    fields.insert("grpc-message", said);
    // As above.
    respond.send_response(head, true).ok();
}

fn head() -> Response<()> {
    let mut head = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    head
}
