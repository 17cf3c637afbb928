//! `POST /streams/NAME/events`: rows in, and an answer once they are durable.
//!
//! |answer|means|
//! |--|--|
//! |200|all rows are durable, now or since they were sent before under the same key|
//! |400|a row is none: its line and column are named, and nothing was taken|
//! |413|the body is longer than 8 MiB, or than 16 MiB with METADATA beside each row|
//! |422|another body was sent under this `Idempotency-Key`; nothing was taken|
//! |429|out of credit: again after `Retry-After`|
//! |503|the stream has stopped, and whether the rows count is not known; or it comes back from a
//! restart and does not know its keys yet: again after `Retry-After`|
//!
//! Of each table the last 65,536 keys are remembered, restarts and crashes included.

use bytes::Bytes;
use holm_connect::{BodyError, KEY_BYTES_MAX, Key, Offered, Unfed, rows_with};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::sync::oneshot;

use crate::answer::{self, AnswerBody};
use crate::front::Door;
use crate::plane::clock;

const BODY_MAX: usize = 8 << 20;

/// Takes the rows of a request.
pub(crate) async fn take<B>(head: &Parts, body: B, door: &Door) -> Response<AnswerBody>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let name = match key(head) {
        Ok(name) => name,
        Err(refused) => return *refused,
    };
    if door.feed.is_full() {
        return full();
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let beside = (&door.beside, clock());
    let rows = match rows_with(&body, &door.reader, beside, door.feed.limit()) {
        Ok(rows) => rows,
        Err(BodyError::Bad(bad)) => return answer::text(StatusCode::BAD_REQUEST, bad),
        Err(error @ BodyError::TooLong { .. }) => {
            return answer::text(StatusCode::PAYLOAD_TOO_LARGE, error);
        }
    };
    if rows.is_empty() {
        return answer::text(StatusCode::OK, "no rows");
    }
    let key = name.map(|name| Key::of(name, &body));
    let (durable, told) = oneshot::channel();
    let tell = Box::new(move || {
        // The client may have gone.
        durable.send(()).ok();
    });
    let word = match door.feed.offer(rows, key, tell) {
        Ok(Offered::New) => "durable",
        Ok(Offered::Again) => "durable; these rows were sent before",
        Err(error @ Unfed::Other) => {
            return answer::text(StatusCode::UNPROCESSABLE_ENTITY, error);
        }
        Err(Unfed::Full) => return full(),
        Err(error @ Unfed::TooLong { .. }) => {
            return answer::text(StatusCode::PAYLOAD_TOO_LARGE, error);
        }
        Err(error @ (Unfed::Stopped | Unfed::Recovering)) => {
            return answer::later(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        }
    };
    match told.await {
        Ok(()) => answer::text(StatusCode::OK, word),
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

/// The name under which the client would send these rows again.
fn key(head: &Parts) -> Result<Option<&str>, Refused> {
    let Some(value) = head.headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(name) if !name.is_empty() && name.len() <= KEY_BYTES_MAX => Ok(Some(name)),
        _ => {
            let why = "an Idempotency-Key is text of 1 to 256 bytes";
            Err(Box::new(answer::text(StatusCode::BAD_REQUEST, why)))
        }
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
