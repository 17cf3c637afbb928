//! Answers and their heads.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

/// An answer's body.
pub type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// Nothing from anywhere else, nothing within the page's own text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An answer of this kind.
pub(crate) fn with(
    status: StatusCode,
    kind: &'static str,
    body: AnswerBody,
) -> Response<AnswerBody> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let head = answer.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    head.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    answer
}

/// An answer that is all there.
pub(crate) fn whole(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<AnswerBody> {
    with(status, kind, Full::new(body.into()).boxed_unsync())
}

/// A line of text.
pub(crate) fn text(status: StatusCode, line: impl std::fmt::Display) -> Response<AnswerBody> {
    whole(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// Come again in so many seconds.
pub(crate) fn later(status: StatusCode, line: &str) -> Response<AnswerBody> {
    let mut answer = text(status, line);
    let seconds = HeaderValue::from_static("1");
    answer.headers_mut().insert(RETRY_AFTER, seconds);
    answer
}
