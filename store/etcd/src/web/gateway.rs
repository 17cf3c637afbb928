//! The JSON gateway: a path, a request as JSON, an answer as JSON or as a stream of lines.
//!
//! A [`Gateway`] is a table from paths to calls. It knows nothing of keys or leases: the calls
//! are the same functions that gRPC calls. What a client has seen elsewhere comes in heads, as
//! metadata of gRPC does, and is waited for before any of them. A certificate's name never counts
//! here, for whoever runs a proxy before the gateway would lend its own name to everybody.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::answer::{self, AnswerBody};
use super::feed::{Feed, Lines};
use super::json::{self, Refused};
use crate::causal::CONTEXT;
use crate::services::Services;
use crate::status::{Code, Status};

/// A client that takes longer to send a request of one message is refused.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages of a stream that wait to be sent or to be served. A call that has more to say waits.
const WAITING_MAX: usize = 16;

/// The field of a request's head that asks for what the site had when it answered.
const WANT: &str = "grpc-metadata-holm-want";
/// The field that holds it, in heads of requests and answers.
const TOKEN: &str = "grpc-metadata-holm-context-bin";

/// A future that a call runs in.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A request's body, whatever carried it.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, String>;

/// Who asks, as far as a gateway can know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The token of `Authorization`, with or without `Bearer`, or of `Grpc-Metadata-Token`.
    pub token: Option<String>,
    /// Whether an answer is wanted only of a node that has a leader.
    pub is_leader_required: bool,
}

/// A stream's two ends, as a call holds them.
#[derive(Debug)]
pub struct Exchange<Request, Answer> {
    /// What the client asks, until it has asked everything. A client may go on listening.
    pub requests: mpsc::Receiver<Request>,
    /// Where answers go. Closed when the client left.
    pub answers: mpsc::Sender<Answer>,
}

/// A call of one request: its body in, the answer's body out.
type UnaryCall = dyn Fn(Credentials, Bytes) -> Work<Result<String, Refused>> + Send + Sync;

/// A call of many requests: their body and its limit in, lines out.
type StreamCall = dyn Fn(Credentials, RequestBody, usize) -> Lines + Send + Sync;

/// One path's call.
enum Call {
    Unary(Box<UnaryCall>),
    Stream(Box<StreamCall>),
}

/// A table from paths below `/v3` to calls.
pub struct Gateway {
    calls: BTreeMap<&'static str, Call>,
    body_bytes_max: usize,
    /// Who knows what the site has.
    causal: Option<Services>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Gateway")
            .field("paths", &self.calls.keys())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway without paths that takes messages of at most `request_bytes_max`, counted as
    /// gRPC counts them: as JSON they may take twice as much.
    #[must_use]
    pub const fn new(request_bytes_max: usize) -> Self {
        Self {
            calls: BTreeMap::new(),
            body_bytes_max: request_bytes_max.saturating_mul(2),
            causal: None,
        }
    }

    /// Takes and gives what clients of a local-first keyspace have seen.
    #[must_use]
    pub fn with_causal(self, services: &Services) -> Self {
        let causal = Some(services.clone());
        Self { causal, ..self }
    }

    /// Adds a call of one request and one answer, at a path such as `/kv/put`.
    pub fn unary<Q, A, W>(
        &mut self,
        path: &'static str,
        call: impl Fn(Credentials, Q) -> W + Send + Sync + 'static,
    ) where
        Q: DeserializeOwned + Default + Send + 'static,
        A: Serialize,
        W: Future<Output = Result<A, Status>> + Send + 'static,
    {
        let call = move |credentials, body: Bytes| -> Work<Result<String, Refused>> {
            let work = json::decode::<Q>(&body).map(|request| call(credentials, request));
            Box::pin(async move {
                let answer = work?.await.map_err(Refused)?;
                json::encode(&answer)
            })
        };
        self.insert(path, Call::Unary(Box::new(call)));
    }

    /// Adds a call of many requests and many answers.
    pub fn stream<Q, A, W>(
        &mut self,
        path: &'static str,
        call: impl Fn(Credentials, Exchange<Q, A>) -> W + Send + Sync + 'static,
    ) where
        Q: DeserializeOwned + Default + Send + 'static,
        A: Serialize + Send + 'static,
        W: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let call = move |credentials, body, bytes_max| {
            let (sender, requests) = mpsc::channel(WAITING_MAX);
            let (answers, receiver) = mpsc::channel(WAITING_MAX);
            let feed = Feed::new(body, bytes_max).run(sender);
            let work = call(credentials, Exchange { requests, answers });
            let work = async move { work.await.map_err(Refused) };
            Lines::new(Box::pin(feed), Box::pin(work), receiver)
        };
        self.insert(path, Call::Stream(Box::new(call)));
    }

    fn insert(&mut self, path: &'static str, call: Call) {
        let earlier = self.calls.insert(path, call);
        assert!(earlier.is_none(), "a path has one call: {path}");
    }

    /// The paths that it answers, below `/v3`, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.calls.keys().copied()
    }

    /// Answers a request at a path below `/v3`.
    pub(crate) async fn answer(
        &self,
        path: &str,
        head: &http::request::Parts,
        body: RequestBody,
    ) -> Response<AnswerBody> {
        let Some(call) = self.calls.get(path) else {
            return refuse_as(StatusCode::NOT_FOUND, Code::NotFound, "Not Found");
        };
        if head.method != Method::POST {
            return refuse_as(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::Unimplemented,
                "Method Not Allowed",
            );
        }
        let credentials = credentials(&head.headers);
        match call {
            Call::Unary(call) => {
                let body = collect(body, self.body_bytes_max).await;
                let result = match (body, self.cover(&head.headers).await) {
                    (Ok(body), Ok(())) => call(credentials, body).await,
                    (Err(refused), _) | (_, Err(refused)) => Err(refused),
                };
                self.with_token(&head.headers, unary_answer(result))
            }
            Call::Stream(call) => match self.cover(&head.headers).await {
                Ok(()) => stream_answer(call(credentials, body, self.body_bytes_max)).await,
                Err(refused) => answer::whole(refused.status(), answer::JSON, refused.line()),
            },
        }
    }

    /// Waits until the site has what the client has seen, if it says so.
    async fn cover(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match (&self.causal, headers.get(TOKEN)) {
            (Some(services), Some(token)) => {
                services.cover(token.as_bytes()).await.map_err(Refused)
            }
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// Adds what the site has now to an answer, if that was asked for.
    fn with_token(
        &self,
        headers: &HeaderMap,
        mut answer: Response<AnswerBody>,
    ) -> Response<AnswerBody> {
        let wants = headers
            .get(WANT)
            .is_some_and(|it| it.as_bytes() == CONTEXT.as_bytes());
        let services = self
            .causal
            .as_ref()
            .filter(|_| wants && answer.status().is_success());
        let token = services.and_then(Services::causal_token);
        let token = token.and_then(|it| HeaderValue::from_str(&it).ok());
        answer
            .headers_mut()
            .extend(token.map(|it| (HeaderName::from_static(TOKEN), it)));
        answer
    }
}

/// The whole body, if it comes in time and is not too large.
async fn collect(body: RequestBody, bytes_max: usize) -> Result<Bytes, Refused> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, bytes_max).collect());
    let Ok(collected) = collected.await else {
        return Err(Refused::new(
            Code::DeadlineExceeded,
            "request body did not arrive in time",
        ));
    };
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refused::too_large()),
        Err(error) => Err(Refused::invalid(format!(
            "request body cannot be read: {error}"
        ))),
    }
}

fn unary_answer(result: Result<String, Refused>) -> Response<AnswerBody> {
    match result {
        Ok(text) => answer::whole(StatusCode::OK, answer::JSON, text),
        Err(refused) => answer::whole(refused.status(), answer::JSON, refused.body()),
    }
}

/// A stream's answer begins when its first line is known, for that decides the status.
async fn stream_answer(mut lines: Lines) -> Response<AnswerBody> {
    match lines.next().await {
        Some(Ok(line)) => answer::pieces(lines.after(line)),
        Some(Err(refused)) => answer::whole(refused.status(), answer::JSON, refused.line()),
        None => answer::whole(StatusCode::OK, answer::JSON, ""),
    }
}

fn refuse_as(status: StatusCode, code: Code, message: &'static str) -> Response<AnswerBody> {
    answer::whole(status, answer::JSON, Refused::new(code, message).body())
}

/// What the head says about who asks.
fn credentials(headers: &HeaderMap) -> Credentials {
    let named = headers
        .get("grpc-metadata-token")
        .or_else(|| headers.get(AUTHORIZATION));
    let text = named.and_then(|value| value.to_str().ok());
    let token = text.map(|text| text.strip_prefix("Bearer ").unwrap_or(text).to_owned());
    let demand = headers.get("grpc-metadata-hasleader");
    Credentials {
        token,
        is_leader_required: demand.is_some_and(|value| value.as_bytes() == b"true"),
    }
}
