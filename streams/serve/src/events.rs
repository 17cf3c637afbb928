//! `POST /streams/NAME/events`: rows in, and an answer once they are durable.
//!
//! |answer|means|
//! |--|--|
//! |200|all rows are durable|
//! |400|a row is none: its line and column are named, and nothing was taken|
//! |413|the body is longer than 8 MiB|
//! |422|an `Idempotency-Key`, where keys are not remembered|
//! |429|out of credit: again after `Retry-After`|
//! |503|the stream has stopped; whether the rows count is not known|

use bytes::Bytes;
use holm_connect::{Unfed, rows_of};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::sync::oneshot;

use crate::answer::{self, AnswerBody};
use crate::front::Door;

const BODY_MAX: usize = 8 << 20;
const KEY_MAX: usize = 256;

/// Takes the rows of a request.
pub(crate) async fn take<B>(head: &Parts, body: B, door: &Door) -> Response<AnswerBody>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let key = match key(head, door) {
        Ok(key) => key,
        Err(refused) => return *refused,
    };
    if door.feed.is_full() {
        return full();
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let rows = match rows_of(&body, &door.reader) {
        Ok(rows) => rows,
        Err(bad) => return answer::text(StatusCode::BAD_REQUEST, bad),
    };
    if rows.is_empty() {
        return answer::text(StatusCode::OK, "no rows");
    }
    let (durable, told) = oneshot::channel();
    let tell = Box::new(move || {
        // The client may have gone.
        durable.send(()).ok();
    });
    match door.feed.offer(rows, key, tell) {
        Ok(()) => {}
        Err(Unfed::Full) => return full(),
        Err(error @ Unfed::TooLong { .. }) => {
            return answer::text(StatusCode::PAYLOAD_TOO_LARGE, error);
        }
        Err(error @ Unfed::Stopped) => {
            return answer::later(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        }
    }
    match told.await {
        Ok(()) => answer::text(StatusCode::OK, "durable"),
        Err(_dropped) => {
            let why = "the stream stopped; whether these rows count is not known";
            answer::later(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}

fn full() -> Response<AnswerBody> {
    answer::later(StatusCode::TOO_MANY_REQUESTS, "out of credit")
}

type Refused = Box<Response<AnswerBody>>;

fn key(head: &Parts, door: &Door) -> Result<Option<String>, Refused> {
    let Some(value) = head.headers.get("idempotency-key") else {
        return Ok(None);
    };
    let refuse = |status, why: &str| Err(Box::new(answer::text(status, why)));
    if !door.keeps_keys {
        let why = "keys are not remembered here: the same rows again would count twice";
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, why);
    }
    match value.to_str() {
        Ok(key) if key.len() <= KEY_MAX => Ok(Some(key.to_owned())),
        _ => refuse(
            StatusCode::BAD_REQUEST,
            "an Idempotency-Key is text of 256 bytes at most",
        ),
    }
}

async fn read<B>(body: B) -> Result<Bytes, Refused>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let body = body.map_err(|error| std::io::Error::other(error.to_string()));
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let why = format!("a body has {BODY_MAX} bytes at most");
            Err(Box::new(answer::text(StatusCode::PAYLOAD_TOO_LARGE, why)))
        }
        Err(error) => Err(Box::new(answer::text(StatusCode::BAD_REQUEST, error))),
    }
}
