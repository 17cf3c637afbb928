//! Which path is answered how.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use holm_connect::{Beside, Feed, Reader, View};
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::answer::{self, AnswerBody};
use crate::{connection, events, live, page};

/// Watchers at a time.
const WATCHERS_MAX: usize = 1_000;

/// A way in for a stream's rows.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where they go.
    pub feed: Feed,
    /// What they must be.
    pub reader: Reader,
    /// What is wanted beside each.
    pub beside: Beside,
}

/// The front. Cheap to clone: all clones are one.
#[derive(Clone, Debug)]
pub struct Front(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    site: String,
    views: Mutex<BTreeMap<String, View>>,
    doors: Mutex<BTreeMap<String, Door>>,
    /// Rises whenever something is new anywhere.
    changed: watch::Sender<u64>,
    watchers: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Maps are changed in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One watcher less when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Front);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Front {
    /// The front of a site, still without queries.
    #[must_use]
    pub fn new(site: &str) -> Self {
        Self(Arc::new(Inner {
            site: site.to_owned(),
            views: Mutex::default(),
            doors: Mutex::default(),
            changed: watch::Sender::new(0),
            watchers: AtomicUsize::new(0),
        }))
    }

    /// Shows a query, in place of one of that name.
    pub fn show(&self, view: &View) {
        let changed = self.0.changed.clone();
        view.ring(move |_next| changed.send_modify(|count| *count = count.wrapping_add(1)));
        lock(&self.0.views).insert(view.name().to_owned(), view.clone());
        self.0
            .changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Shows a query no more.
    pub fn hide(&self, name: &str) {
        lock(&self.0.views).remove(name);
        self.0
            .changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Lets rows in under a name.
    pub fn open(&self, name: &str, door: Door) {
        lock(&self.0.doors).insert(name.to_owned(), door);
    }

    /// Lets no rows in under a name.
    pub fn close(&self, name: &str) {
        lock(&self.0.doors).remove(name);
    }

    pub(crate) fn views(&self) -> Vec<View> {
        lock(&self.0.views).values().cloned().collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    pub(crate) fn site(&self) -> &str {
        &self.0.site
    }

    pub(crate) fn seat(&self) -> Option<Seat> {
        let seat = Seat(self.clone());
        let taken = self.0.watchers.fetch_add(1, Ordering::Relaxed);
        (taken < WATCHERS_MAX).then_some(seat)
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
        let (head, body) = request.into_parts();
        if !is_own(&head) {
            let why = "requests of another origin are refused";
            return answer::text(StatusCode::FORBIDDEN, why);
        }
        let path = head.uri.path().to_owned();
        if let Some(name) = path
            .strip_prefix("/streams/")
            .and_then(|rest| rest.strip_suffix("/events"))
        {
            let door = lock(&self.0.doors).get(name).cloned();
            return match (head.method == Method::POST, door) {
                (true, Some(door)) => events::take(&head, body, &door).await,
                (false, Some(_)) => not_allowed("POST"),
                (_, None) => not_found(&format!("no stream {name} takes events by HTTP")),
            };
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            return match page::file(&path) {
                Some(_) => not_allowed("GET"),
                None => not_found("there is nothing here"),
            };
        }
        self.look(&path)
    }

    fn look(&self, path: &str) -> Response<AnswerBody> {
        if let Some((kind, text)) = page::file(path) {
            return answer::whole(StatusCode::OK, kind, text);
        }
        match path {
            "/events" => live::all(self),
            "/views" => live::figures(self),
            _ => match path.strip_prefix("/views/") {
                Some(name) if lock(&self.0.views).contains_key(name) => live::one(self, name),
                Some(name) => not_found(&format!("there is no query {name}")),
                None => not_found("there is nothing here"),
            },
        }
    }
}

fn not_found(why: &str) -> Response<AnswerBody> {
    answer::text(StatusCode::NOT_FOUND, why)
}

fn not_allowed(method: &str) -> Response<AnswerBody> {
    let why = format!("only {method} is answered here");
    answer::text(StatusCode::METHOD_NOT_ALLOWED, why)
}

/// Whether a request is none of a page that came from elsewhere (I3). A browser says where its
/// page came from; what is no browser says nothing.
pub(crate) fn is_own(head: &Parts) -> bool {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(ORIGIN) else {
        return !head.headers.contains_key(ORIGIN);
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some() && host == text(HOST)
}
