//! The routes that make, show and drop streams.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::answer::{self, AnswerBody};
use crate::connection;
use crate::front::Front;
use crate::plane::{Plane, PlaneError};

/// The body of a request that makes a stream.
const BODY_MAX: usize = 256 << 10;

/// Everything at the address of a site's streams. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Service {
    front: Front,
    plane: Plane,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    sql: String,
}

impl Service {
    /// Serves a plane and its front.
    #[must_use]
    pub const fn new(front: Front, plane: Plane) -> Self {
        Self { front, plane }
    }

    /// Serves one HTTP/1 connection until the client leaves or `stop` is ready. Never fails: a
    /// client's mistakes are answered or ignored.
    pub async fn serve<S>(&self, stream: S, stop: impl Future<Output = ()>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        connection::serve(stream, |request| self.answer(request), stop).await;
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<AnswerBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let path = request.uri().path().to_owned();
        let is_admin = path == "/streams" || path.starts_with("/streams/");
        if !is_admin || path.ends_with("/events") {
            return self.front.answer(request).await;
        }
        let (head, body) = request.into_parts();
        if !crate::front::is_own(&head) {
            let why = "requests of another origin are refused";
            return answer::text(StatusCode::FORBIDDEN, why);
        }
        let rest = path.strip_prefix("/streams").unwrap_or_default();
        let (name, verb) = match rest.trim_start_matches('/').split_once('/') {
            Some((name, verb)) => (name.to_owned(), verb.to_owned()),
            None => (rest.trim_start_matches('/').to_owned(), String::new()),
        };
        let drains = head.uri.query() == Some("drain");
        let plane = self.plane.clone();
        let work: Box<dyn FnOnce() -> Result<(StatusCode, Value), PlaneError> + Send> =
            match (&head.method, name.as_str(), verb.as_str()) {
                (&Method::GET, "", "") => Box::new(move || Ok((StatusCode::OK, plane.list()))),
                (&Method::POST, "", "") => match wanted(body).await {
                    Ok(Wanted { name, sql }) => Box::new(move || {
                        plane
                            .create(&name, &sql)
                            .map(|it| (StatusCode::CREATED, it))
                    }),
                    Err(error) => Box::new(move || Err(error)),
                },
                (&Method::GET, _, "") => Box::new(move || ok(plane.show(&name))),
                (&Method::DELETE, _, "") if !name.is_empty() => {
                    Box::new(move || ok(plane.drop_stream(&name, drains)))
                }
                (&Method::POST, _, "pause") => Box::new(move || ok(plane.pause(&name, true))),
                (&Method::POST, _, "resume") => Box::new(move || ok(plane.pause(&name, false))),
                (&Method::POST, _, "verify") => Box::new(move || ok(plane.verify(&name))),
                (method, _, _) => {
                    let why = format!("{method} {path}: there is nothing of that kind here");
                    return failure(StatusCode::NOT_FOUND, &why);
                }
            };
        // Streams are opened, drained and read in the calling thread.
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok((status, value))) => json_answer(status, &value),
            Ok(Err(error)) => failure(status_of(&error), &error.to_string()),
            Err(_panicked) => failure(StatusCode::INTERNAL_SERVER_ERROR, "it failed within"),
        }
    }
}

fn ok(done: Result<Value, PlaneError>) -> Result<(StatusCode, Value), PlaneError> {
    done.map(|value| (StatusCode::OK, value))
}

const fn status_of(error: &PlaneError) -> StatusCode {
    match error {
        PlaneError::Refused(_) => StatusCode::BAD_REQUEST,
        PlaneError::Missing(_) => StatusCode::NOT_FOUND,
        PlaneError::Exists(_) => StatusCode::CONFLICT,
        PlaneError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        PlaneError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn failure(status: StatusCode, why: &str) -> Response<AnswerBody> {
    json_answer(status, &json!({ "error": why }))
}

fn json_answer(status: StatusCode, value: &Value) -> Response<AnswerBody> {
    answer::whole(status, "application/json", format!("{value}\n"))
}

async fn wanted<B>(body: B) -> Result<Wanted, PlaneError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let refused = |text: String| PlaneError::Refused(text);
    let body = body.map_err(|error| std::io::Error::other(error.to_string()));
    let body = Limited::new(body, BODY_MAX).collect().await;
    let body = body.map_err(|error| refused(format!("read the request: {error}")))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        refused(format!(
            "the request is no {{\"name\":..,\"sql\":..}}: {error}"
        ))
    })
}
