//! Answers and their bodies.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

use super::feed::Lines;

/// The content type of JSON.
pub(crate) const JSON: &str = "application/json";

/// The content type of text.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// An answer's body: all of it, or piece by piece as it comes.
#[derive(Debug)]
pub struct AnswerBody(Kind);

#[derive(Debug)]
enum Kind {
    /// The whole body; `None` once it was taken.
    Whole(Option<Bytes>),
    /// Lines as they come.
    Pieces(Lines),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Pieces(lines) => lines
                .poll_line(cx)
                .map(|line| line.map(|line| Ok(Frame::data(line.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Pieces(_) => SizeHint::default(),
        }
    }
}

/// An answer with this body.
pub(crate) fn whole(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<AnswerBody> {
    let body = body.into();
    let body = AnswerBody(Kind::Whole((!body.is_empty()).then_some(body)));
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// An answer that goes on line by line.
pub(crate) fn pieces(lines: Lines) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody(Kind::Pieces(lines)));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    answer
}

/// A line of text, which no browser shall take for anything else.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut answer = whole(status, TEXT, body);
    answer
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// The answer to a method that a path for reading does not have.
pub(crate) fn method_not_allowed() -> Response<AnswerBody> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET"));
    answer
}
