//! What the cache shows of itself: a line, JSON, and metrics for Prometheus.
//!
//! Over HTTP/1, on the port of the clients: `/health`, `/status`, `/metrics`. A request is read up
//! to its empty line and answered once; the connection ends with the answer.

use std::fmt::Write as _;
use std::time::Duration;

use holm_net::Stream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::keeper::{Keeper, Link, View, seconds};
use crate::quantity;

/// How long a client may take to say what it wants, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Answers one request.
pub(super) async fn serve(mut stream: Stream, keeper: &Keeper) {
    let answered = tokio::time::timeout(PATIENCE, async {
        let Some(path) = asked(&mut stream).await? else {
            return Ok(());
        };
        let text = page(&path, keeper);
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    });
    if !matches!(answered.await, Ok(Ok(()))) {
        tracing::debug!("a client of the pages left early");
    }
}

/// The path that is asked for; none for what is no GET.
async fn asked(stream: &mut Stream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let text = String::from_utf8_lossy(&head);
    let path = text
        .strip_prefix("GET ")
        .and_then(|it| it.split(' ').next());
    Ok(path.map(str::to_owned))
}

fn page(path: &str, keeper: &Keeper) -> String {
    let view = keeper.view();
    let (status, kind, body) = match path {
        "/health" => ("200 OK", "application/json", health(&view, keeper.bound())),
        "/status" => (
            "200 OK",
            "application/json",
            json(&view, keeper.bound()).to_string(),
        ),
        "/metrics" => ("200 OK", holm_telemetry::CONTENT_TYPE, metrics(&view)),
        _ => (
            "404 Not Found",
            "text/plain",
            "a cache has /health, /status and /metrics\n".to_owned(),
        ),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn health(view: &View, bound: Duration) -> String {
    let is_fresh = view.age.is_some_and(|age| age <= bound);
    json!({ "health": is_fresh.to_string(), "reason": mode(view, bound) }).to_string()
}

/// What becomes of reads now.
pub(super) fn mode(view: &View, bound: Duration) -> &'static str {
    match (&view.link, view.age) {
        (Link::Refused(_), _) => "pass-through: the home tells nothing",
        (Link::Up, Some(age)) if age <= bound && view.is_slow => {
            "pass-through: the way home is too long"
        }
        (Link::Up, Some(age)) if age <= bound => "fresh",
        (Link::Up | Link::Down, _) => "cut off",
    }
}

/// How it is, in a line.
pub(super) fn line(view: &View, bound: Duration) -> String {
    let age = view.age.map_or_else(|| "?".to_owned(), seconds);
    let it = &view.tally;
    let answered = it.hits + it.misses;
    let share = match answered + it.forwarded {
        0 => "-".to_owned(),
        all => format!("{} %", it.hits * 100 / all),
    };
    format!(
        "{}; {age} old of {}; {} hits ({share}), {} misses, {} home, {} refused; {} updates, {} invalidations; {} keys, {}",
        mode(view, bound),
        seconds(bound),
        quantity::count(it.hits),
        quantity::count(it.misses),
        quantity::count(it.forwarded),
        quantity::count(view.refused),
        quantity::count(it.updates),
        quantity::count(it.invalidations),
        view.keys,
        quantity::bytes(u64::try_from(view.bytes).unwrap_or(u64::MAX)),
    )
}

/// How it is, for programs.
pub(super) fn json(view: &View, bound: Duration) -> Value {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let it = &view.tally;
    let why = match &view.link {
        Link::Refused(why) => Some(why.as_str()),
        Link::Up | Link::Down => None,
    };
    json!({
        "mode": mode(view, bound),
        "refusal": why,
        "bound_ms": millis(bound),
        "age_ms": view.age.map(millis),
        "round_trip_ms": view.round_trip.map(millis),
        "is_pass_through": view.is_slow || why.is_some(),
        "hits": it.hits,
        "misses": it.misses,
        "forwarded": it.forwarded,
        "refused": view.refused,
        "stale": view.stale,
        "updates": it.updates,
        "invalidations": it.invalidations,
        "evictions": it.evictions,
        "frames": it.frames,
        "gaps": it.gaps,
        "keys": view.keys,
        "bytes": view.bytes,
    })
}

fn metrics(view: &View) -> String {
    let mut text = String::new();
    for (name, help, value) in counters(view) {
        put(
            &mut text,
            (&format!("{name}_total"), "counter"),
            help,
            &value.to_string(),
        );
    }
    for (name, help, value) in gauges(view) {
        put(&mut text, (name, "gauge"), help, &value);
    }
    text
}

fn put(text: &mut String, (name, kind): (&str, &str), help: &str, value: &str) {
    let name = format!("holm_cache_{name}");
    // Writing to a text cannot fail.
    writeln!(
        text,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
    )
    .ok();
}

fn counters(view: &View) -> [(&'static str, &'static str, u64); 10] {
    let it = &view.tally;
    let fetched = "Reads answered once their key was fetched.";
    let stale = "Reads answered beyond the bound while cut off.";
    let over = "Values declared over by the home.";
    [
        ("hits", "Reads answered from memory.", it.hits),
        ("misses", fetched, it.misses),
        ("forwarded", "Reads sent home.", it.forwarded),
        ("refused", "Reads refused while cut off.", view.refused),
        ("stale", stale, view.stale),
        ("updates", "Values sent by the home unasked.", it.updates),
        ("invalidations", over, it.invalidations),
        ("evictions", "Values thrown out for room.", it.evictions),
        ("frames", "Frames from the home.", it.frames),
        ("gaps", "Frames that were missing.", it.gaps),
    ]
}

fn gauges(view: &View) -> [(&'static str, &'static str, String); 5] {
    let age = view.age.map(|it| it.as_secs_f64().to_string());
    let age = age.unwrap_or_else(|| "NaN".to_owned());
    let is_home = view.is_slow || matches!(view.link, Link::Refused(_));
    let flag = |is_so: bool| u8::from(is_so).to_string();
    let (passing, up) = (flag(is_home), flag(view.link == Link::Up));
    let told = "Whether the home tells what happens.";
    [
        ("age_seconds", "How old an answer may be.", age),
        ("pass_through", "Whether all reads go home.", passing),
        ("connected", told, up),
        ("keys", "Keys kept.", view.keys.to_string()),
        ("bytes", "Bytes kept.", view.bytes.to_string()),
    ]
}
