//! Carrying requests and answers over HTTP/1 and HTTP/2.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Web;
use super::answer::{AnswerBody, TEXT, whole};
use super::query::Query;
use crate::grpc::ISLAND;

/// A client that takes longer to send a request's head is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the gateway calls gRPC's header of that name.
const GATEWAY_ISLAND: HeaderName = HeaderName::from_static("grpc-metadata-holm-island");

/// The head of a request and what was read beyond it; larger heads are refused with 431.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What browsers of other origins may do, as etcd tells them by default.
const ORIGINS: [(HeaderName, HeaderValue); 3] = [
    (
        http::header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, authorization"),
    ),
    (
        http::header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    ),
    (
        http::header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    ),
];

impl Web {
    /// Serves one HTTP/1 connection until the client leaves, or until `stop` is ready and the
    /// request in hand is answered. Never fails: a client's mistakes are answered or ignored.
    pub async fn serve<S>(&self, stream: S, stop: impl Future<Output = ()>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let service = hyper::service::service_fn(|request| async {
            Ok::<_, Infallible>(self.answer(request).await)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended early");
        }
    }

    /// Answers one request, whatever carried it here.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<AnswerBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let below = path
            .strip_prefix("/v3beta")
            .or_else(|| path.strip_prefix("/v3"));
        let mut answer = match (&self.gateway, below) {
            _ if head.method == Method::OPTIONS => whole(StatusCode::OK, TEXT, ""),
            (Some(gateway), Some(below)) if below.starts_with('/') => {
                self.metrics.network.gateway_requests.inc();
                let body = body.map_err(|error| error.to_string()).boxed_unsync();
                gateway.answer(below, &head, body).await
            }
            _ => {
                self.look(&head.method, path, &Query::of(head.uri.query()))
                    .await
            }
        };
        let island = self.vitals.island();
        if let Some(value) = island.and_then(|it| HeaderValue::from_str(&it).ok()) {
            let is_call = below.is_some();
            let name = if is_call { GATEWAY_ISLAND } else { ISLAND };
            answer.headers_mut().insert(name, value);
        }
        for (name, value) in ORIGINS {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}
