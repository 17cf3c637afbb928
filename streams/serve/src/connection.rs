//! One connection of a client.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::answer::AnswerBody;

/// A client that takes longer to send a request's head is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The head of a request; a larger one is refused with 431.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Serves one HTTP/1 connection until the client leaves or `stop` is ready. Never fails: a
/// client's mistakes are answered or ignored.
pub(crate) async fn serve<S, A, F>(stream: S, answer: A, stop: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let service = hyper::service::service_fn(|request| {
        let answered = answer(request);
        async { Ok::<_, Infallible>(answered.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that breaks off has told us all there is to know.
        ended = connection => drop(ended),
        // A watcher never ends by itself, so there is nothing to wait for.
        () = stop => {}
    }
}
