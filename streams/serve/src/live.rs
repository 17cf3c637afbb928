//! Queries as server-sent events.
//!
//! |event|data|
//! |--|--|
//! |`site`|`{"site":..}`: whose queries follow|
//! |`query`|`{"name":..,"sql":..,"fields":[{"name":..,"kind":..},..]}`|
//! |`rows`|`{"name":..,"state":bool,"rows":[..]}`: rows that came out; with `state` in place of all before|
//! |`windows`|`{"name":..,"rows":[..]}`: the windows that are open now|
//! |`figures`|`{"name":..,"figures":{..}}`|
//! |`gone`|`{"name":..}`|

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use holm_connect::{Seen, View};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::answer::{self, AnswerBody};
use crate::front::{Front, Seat};

/// A frame goes out at most so often; what comes meanwhile goes with the next.
const GAP: Duration = Duration::from_millis(16);
/// A sign of life, which also finds out who has left.
const QUIET: Duration = Duration::from_secs(15);

/// All queries.
pub(crate) fn all(front: &Front) -> Response<AnswerBody> {
    stream(front, None)
}

/// One query.
pub(crate) fn one(front: &Front, name: &str) -> Response<AnswerBody> {
    stream(front, Some(name.to_owned()))
}

/// What is counted of each query.
pub(crate) fn figures(front: &Front) -> Response<AnswerBody> {
    let mut text = format!("{{\"site\":{},\"views\":[", quoted(front.site()));
    for (at, view) in front.views().iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let (name, figures) = (quoted(view.name()), view.latest().json());
        write!(text, "{{\"name\":{name},\"figures\":{figures}}}").expect("a string takes all");
    }
    text.push_str("]}\n");
    answer::whole(StatusCode::OK, "application/json", text)
}

struct Watcher {
    front: Front,
    only: Option<String>,
    changes: watch::Receiver<u64>,
    /// What each query was asked with last.
    next: BTreeMap<String, u64>,
    has_begun: bool,
    _seat: Seat,
}

fn stream(front: &Front, only: Option<String>) -> Response<AnswerBody> {
    let Some(seat) = front.seat() else {
        let why = "1,000 watch already";
        return answer::later(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let watcher = Watcher {
        front: front.clone(),
        only,
        changes: front.changes(),
        next: BTreeMap::new(),
        has_begun: false,
        _seat: seat,
    };
    let frames = unfold(watcher, |mut watcher| async move {
        let text = watcher.frame().await;
        let frame = Frame::data(Bytes::from(text));
        Some((Ok::<_, Infallible>(frame), watcher))
    });
    let body = StreamBody::new(frames).boxed_unsync();
    answer::with(StatusCode::OK, "text/event-stream", body)
}

impl Watcher {
    /// What is new, once something is.
    async fn frame(&mut self) -> String {
        if self.has_begun {
            sleep(GAP).await;
        }
        loop {
            self.changes.borrow_and_update();
            let text = self.collect();
            if !text.is_empty() {
                return text;
            }
            match timeout(QUIET, self.changes.changed()).await {
                Ok(Ok(())) => {}
                // The front outlives its watchers, so this is silence too.
                Ok(Err(_)) | Err(_) => return ": still here\n\n".to_owned(),
            }
        }
    }

    fn collect(&mut self) -> String {
        let mut text = String::new();
        if !self.has_begun {
            self.has_begun = true;
            let site = quoted(self.front.site());
            event("site", &format!("{{\"site\":{site}}}"), &mut text);
        }
        let mut views = self.front.views();
        if let Some(only) = &self.only {
            views.retain(|view| view.name() == only);
        }
        let is_there = |name: &String| views.iter().any(|view| view.name() == name);
        let gone: Vec<String> = self
            .next
            .keys()
            .filter(|name| !is_there(name))
            .cloned()
            .collect();
        for name in gone {
            self.next.remove(&name);
            event(
                "gone",
                &format!("{{\"name\":{}}}", quoted(&name)),
                &mut text,
            );
        }
        for view in &views {
            self.query(view, &mut text);
        }
        text
    }

    fn query(&mut self, view: &View, text: &mut String) {
        let known = self.next.get(view.name()).copied();
        let shown = view.since(known);
        if known.is_none() {
            describe(view, text);
        }
        self.next.insert(view.name().to_owned(), shown.next);
        let name = quoted(view.name());
        let mut rows = String::new();
        let (mut open, mut figures) = (None, None);
        for seen in &shown.seen {
            match seen {
                Seen::Rows(lines) => rows.push_str(lines),
                Seen::Open(lines) => open = Some(lines),
                Seen::Figures(latest) => figures = Some(latest),
            }
        }
        if shown.is_state || !rows.is_empty() {
            let (is_state, rows) = (shown.is_state, list(&rows));
            let data = format!("{{\"name\":{name},\"state\":{is_state},\"rows\":{rows}}}");
            event("rows", &data, text);
        }
        if let Some(lines) = open {
            let data = format!("{{\"name\":{name},\"rows\":{}}}", list(lines));
            event("windows", &data, text);
        }
        if let Some(figures) = figures {
            let data = format!("{{\"name\":{name},\"figures\":{}}}", figures.json());
            event("figures", &data, text);
        }
    }
}

fn describe(view: &View, text: &mut String) {
    let field = |field: &holm_lanes::Field| {
        let (name, kind) = (quoted(&field.name), quoted(&field.kind.to_string()));
        format!("{{\"name\":{name},\"kind\":{kind}}}")
    };
    let fields: Vec<String> = view.fields().iter().map(field).collect();
    let (name, sql) = (quoted(view.name()), quoted(view.sql()));
    let fields = fields.join(",");
    let data = format!("{{\"name\":{name},\"sql\":{sql},\"fields\":[{fields}]}}");
    event("query", &data, text);
}

/// Lines of JSON as a list.
fn list(lines: &str) -> String {
    format!("[{}]", lines.trim_end().replace('\n', ","))
}

fn event(kind: &str, data: &str, text: &mut String) {
    write!(text, "event: {kind}\ndata: {data}\n\n").expect("a string takes all");
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\0'..='\u{1f}' => {
                write!(quoted, "\\u{:04x}", u32::from(letter)).expect("a string takes all");
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
