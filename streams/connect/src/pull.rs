//! Rows by HTTP, asked for: a page is fetched at an interval, and what is new in it is taken once.
//!
//! A page is lines of JSON or a list of objects. What it begins with is known by its length and
//! digest: a page that begins with all of the last one has grown, and only the rest is taken; any
//! other is taken whole. So a page that did not change gives nothing, whether or not the server
//! says so itself (`ETag`, 304), and that holds through a restart: length and digest are the
//! source's position, and lie in the log with the rows.
//!
//! |answer|means|
//! |--|--|
//! |200|the page|
//! |304|it is what it was|
//! |any other, none, a page that is too long|again after `Retry-After`, or 500 ms doubling to 60 s|

use std::fmt;
use std::io;
use std::time::Duration;

use crate::http_sink::{Dial, Duplex};
use crate::push;
use crate::source::{Piece, Position, Repeats, Source, SourceError, Taken};

const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest head of an answer.
const HEAD_MAX: usize = 16 << 10;
/// The longest page.
pub const PAGE_MAX: usize = 8 << 20;

/// Where a page lies, and how often it is looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    /// Host and port, as the request names them.
    pub host: String,
    /// What follows them.
    pub path: String,
    /// More lines of the request's head: a secret that was read from a file, say.
    pub headers: Vec<(String, String)>,
    /// How long it waits between two looks.
    pub interval: Duration,
}

impl fmt::Debug for Page {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold secrets.
        let mut shown = formatter.debug_struct("Page");
        shown.field("host", &self.host).field("path", &self.path);
        shown.finish_non_exhaustive()
    }
}

/// How much of a page was taken: its bytes, and what they are known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    bytes: usize,
    digest: u64,
    /// Rows that were given, of all pages.
    rows: u64,
}

/// A page that is looked at again and again.
pub struct PullSource {
    name: String,
    page: Page,
    dial: Box<dyn Dial>,
    connection: Option<Box<dyn Duplex>>,
    etag: Option<String>,
    known: Known,
    /// How long it still waits.
    left: Duration,
    /// Why it waits longer than its interval, and how long it would wait the next time.
    failing: Option<String>,
    retry: Duration,
    is_stopped: bool,
}

impl fmt::Debug for PullSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("PullSource");
        shown.field("page", &self.page).field("known", &self.known);
        shown.finish_non_exhaustive()
    }
}

/// What a server answered.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    retry: Option<Duration>,
    etag: Option<String>,
    length: Option<usize>,
    is_chunked: bool,
    is_kept: bool,
    body: Vec<u8>,
}

impl PullSource {
    /// A source of a page.
    #[must_use]
    pub fn new(name: &str, page: Page, dial: Box<dyn Dial>) -> Self {
        Self {
            name: name.to_owned(),
            page,
            dial,
            connection: None,
            etag: None,
            known: Known::default(),
            left: Duration::ZERO,
            failing: None,
            retry: RETRY_MIN,
            is_stopped: false,
        }
    }

    fn exchange(&mut self) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dial.dial()?,
        };
        let Page {
            host,
            path,
            headers,
            ..
        } = &self.page;
        let mut text = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json, application/x-ndjson\r\n"
        );
        if let Some(etag) = &self.etag {
            text += &format!("If-None-Match: {etag}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        connection.write_all(text.as_bytes())?;
        connection.flush()?;
        let answer = Incoming::new(&mut *connection).answer()?;
        if answer.is_kept {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn ask(&mut self) -> Result<Taken, (String, Option<Duration>)> {
        let had_connection = self.connection.is_some();
        let mut answer = self.exchange();
        if answer.is_err() && had_connection {
            // A kept connection may have been closed meanwhile: once more on a new one.
            answer = self.exchange();
        }
        let answer = answer.map_err(|error| (error.to_string(), None))?;
        match answer.status {
            200 => {
                let taken = self.taken(&answer.body).map_err(|reason| (reason, None))?;
                self.etag = answer.etag;
                Ok(taken)
            }
            304 => Ok(Taken::Nothing),
            301..=308 => Err((
                format!(
                    "http {}; the place itself is asked, no other",
                    answer.status
                ),
                answer.retry,
            )),
            status => Err((format!("http {status}"), answer.retry)),
        }
    }

    /// What is new in a page.
    fn taken(&mut self, body: &[u8]) -> Result<Taken, String> {
        let mut rows = push::as_lines(body).map_err(|bad| bad.to_string())?;
        if rows.last().is_some_and(|byte| *byte != b'\n') {
            rows.push(b'\n');
        }
        let known = self.known;
        let start = rows.get(..known.bytes).map(digest);
        let from = if start == Some(known.digest) {
            known.bytes
        } else {
            0
        };
        let fresh = rows.split_off(from);
        if from == 0 {
            self.known.digest = digest(&fresh);
            self.known.bytes = fresh.len();
        } else {
            rows.extend_from_slice(&fresh);
            self.known.digest = digest(&rows);
            self.known.bytes = rows.len();
        }
        if fresh.is_empty() {
            return Ok(Taken::Nothing);
        }
        let first_row = known.rows + 1;
        self.known.rows += long(fresh.iter().filter(|byte| **byte == b'\n').count());
        let Known {
            bytes,
            digest,
            rows,
        } = self.known;
        Ok(Taken::Rows(Piece {
            rows: fresh,
            first_row,
            position: Position::of(&[long(bytes), digest, rows]),
            key: None,
        }))
    }

    fn unavailable(&self, reason: &str) -> SourceError {
        SourceError::Unavailable {
            source_name: self.name.clone(),
            reason: format!("{}{}: {reason}", self.page.host, self.page.path),
            retry: Duration::from_millis(1),
        }
    }
}

impl Source for PullSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn header(&self) -> Option<&str> {
        None
    }

    /// What is new in the page, when its time has come; as one piece, whatever the credit, if
    /// there is any: a page is logged whole or not at all.
    fn take(&mut self, credit: usize, wait: Duration) -> Result<Taken, SourceError> {
        if self.is_stopped {
            return Ok(Taken::End);
        }
        if !self.left.is_zero() {
            let step = self.left.min(wait);
            self.dial.pause(step);
            self.left -= step;
            return match &self.failing {
                Some(reason) => Err(self.unavailable(reason)),
                None => Ok(Taken::Nothing),
            };
        }
        if credit == 0 {
            return Ok(Taken::Nothing);
        }
        match self.ask() {
            Ok(taken) => {
                self.left = self.page.interval;
                (self.failing, self.retry) = (None, RETRY_MIN);
                Ok(taken)
            }
            Err((reason, asked)) => {
                self.connection = None;
                self.left = asked.unwrap_or(self.retry).min(RETRY_MAX);
                self.retry = (self.retry * 2).min(RETRY_MAX);
                let error = self.unavailable(&reason);
                self.failing = Some(reason);
                Err(error)
            }
        }
    }

    fn acknowledge(&mut self, _through: &Position) {}

    fn seek(&mut self, position: &Position) -> Result<(), SourceError> {
        let place = |number: u64| usize::try_from(number).ok();
        self.known = match position.numbers().as_deref() {
            Some([]) => Known::default(),
            Some([bytes, digest, rows]) if place(*bytes).is_some() => Known {
                bytes: place(*bytes).unwrap_or_default(),
                digest: *digest,
                rows: *rows,
            },
            _ => {
                let reason = "the position is none of a page's";
                return Err(SourceError::refused(&self.name, reason));
            }
        };
        Ok(())
    }

    fn replayable(&self) -> bool {
        false
    }

    /// What was taken of the page is known, and lies in the log with the rows.
    fn repeats(&self) -> Repeats {
        Repeats::CountOnce
    }

    /// What is known of the page goes on where the log ends; otherwise all of it were new.
    fn go_on(&mut self, position: &Position) -> Result<(), SourceError> {
        self.seek(position)
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}

/// FNV-1a: it tells a page from the next, not from one that somebody made to look like it.
fn digest(bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(start, mix)
}

fn long(count: usize) -> u64 {
    u64::try_from(count).expect("memory is smaller")
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer has {what}"))
}

/// What comes over a connection.
struct Incoming<'a> {
    connection: &'a mut dyn Duplex,
    held: Vec<u8>,
}

impl<'a> Incoming<'a> {
    const fn new(connection: &'a mut dyn Duplex) -> Self {
        Self {
            connection,
            held: Vec::new(),
        }
    }

    /// Reads once; false at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 << 10];
        let count = self.connection.read(&mut piece)?;
        self.held.extend_from_slice(&piece[..count]);
        Ok(count > 0)
    }

    fn needs_more(&mut self) -> io::Result<()> {
        if self.more()? {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Everything before these bytes, which are dropped; no more than so many.
    fn until(&mut self, end: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        loop {
            let found = self.held.windows(end.len()).position(|bytes| bytes == end);
            if let Some(found) = found {
                let before = self.held.drain(..found + end.len());
                let mut before: Vec<u8> = before.collect();
                before.truncate(found);
                return Ok(before);
            }
            if self.held.len() > limit {
                return Err(odd("too long a head"));
            }
            self.needs_more()?;
        }
    }

    fn exactly(&mut self, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
        if into.len() + bytes > PAGE_MAX {
            return Err(odd("more than 8 MiB; nothing of it was taken"));
        }
        while self.held.len() < bytes {
            self.needs_more()?;
        }
        into.extend(self.held.drain(..bytes));
        Ok(())
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = loop {
            let head = self.until(b"\r\n\r\n", HEAD_MAX)?;
            let head = String::from_utf8(head).map_err(|_wrong| odd("no text for a head"))?;
            let answer = head_of(&head)?;
            if answer.status / 100 != 1 {
                break answer;
            }
        };
        if answer.status == 204 || answer.status == 304 {
            return Ok(answer);
        }
        let mut body = Vec::new();
        if answer.is_chunked {
            loop {
                let line = self.until(b"\r\n", 1_024)?;
                let line = String::from_utf8_lossy(&line);
                let size = line.split(';').next().unwrap_or_default().trim();
                let size =
                    usize::from_str_radix(size, 16).map_err(|_wrong| odd("no size of a chunk"))?;
                if size == 0 {
                    // Trailers end with an empty line.
                    while !self.until(b"\r\n", HEAD_MAX)?.is_empty() {}
                    break;
                }
                self.exactly(size, &mut body)?;
                self.until(b"\r\n", 2)?;
            }
        } else if let Some(length) = answer.length {
            self.exactly(length, &mut body)?;
        } else {
            answer.is_kept = false;
            while self.more()? {
                if self.held.len() > PAGE_MAX {
                    return Err(odd("more than 8 MiB; nothing of it was taken"));
                }
            }
            body = std::mem::take(&mut self.held);
        }
        answer.body = body;
        Ok(answer)
    }
}

fn head_of(head: &str) -> io::Result<Answer> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.parse().ok());
    let mut answer = Answer {
        status: status.filter(|_| is_http).ok_or_else(|| odd("no status"))?,
        is_kept: true,
        ..Answer::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let length = value.parse().map_err(|_wrong| odd("no length"))?;
                answer.length = Some(length);
            }
            "transfer-encoding" => {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(odd("an encoding that was not asked for"));
                }
                answer.is_chunked = true;
            }
            "connection" if value.eq_ignore_ascii_case("close") => answer.is_kept = false,
            "retry-after" => answer.retry = value.parse().ok().map(Duration::from_secs),
            "etag" => answer.etag = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::Server;

    fn source(answers: &[String]) -> (Server, PullSource) {
        let server = Server::new(answers, 7_777);
        let page = Page {
            host: "h:1".into(),
            path: "/rows".into(),
            headers: vec![("Authorization".into(), "Bearer x".into())],
            interval: Duration::ZERO,
        };
        let source = PullSource::new("page", page, Box::new(server.clone()));
        (server, source)
    }

    fn page(head: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Rows that come in one look, with the number of the first, and the place behind them.
    fn look(source: &mut PullSource) -> Option<(u64, String, Position)> {
        match source.take(1, Duration::ZERO).unwrap() {
            Taken::Rows(piece) => Some((
                piece.first_row,
                String::from_utf8(piece.rows).unwrap(),
                piece.position,
            )),
            other => {
                assert_eq!(other, Taken::Nothing);
                None
            }
        }
    }

    #[test]
    fn what_is_new_in_a_page_is_taken_once() {
        let answers = [
            page("ETag: \"a\"\r\n", "{\"n\":1}\n{\"n\":2}\n"),
            "HTTP/1.1 304 Same\r\n\r\n".to_owned(),
            page("", "{\"n\":1}\n{\"n\":2}\n{\"n\":3}"),
            page("", "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n"),
            page("", "[{\"n\":9},\n{\"n\":8}]"),
            page("", "[{\"n\":9},{\"n\":8},{\"n\":7}]"),
        ];
        let (server, mut pull) = source(&answers);
        let rows = |found: Option<(u64, String, Position)>| found.map(|it| (it.0, it.1));
        let wanted = |first, text: &str| Some((first, text.to_owned()));
        assert_eq!(rows(look(&mut pull)), wanted(1, "{\"n\":1}\n{\"n\":2}\n"));
        assert_eq!(look(&mut pull), None);
        assert_eq!(
            rows(look(&mut pull)),
            wanted(3, "{\"n\":3}\n"),
            "it has grown"
        );
        assert_eq!(
            look(&mut pull),
            None,
            "it is the same, whatever the server says"
        );
        assert_eq!(
            rows(look(&mut pull)),
            wanted(4, "{\"n\":9}\n{\"n\":8}\n"),
            "another page"
        );
        assert_eq!(rows(look(&mut pull)), wanted(6, "{\"n\":7}\n"));
        assert_eq!(*server.dials.lock().unwrap(), 1, "over one connection");
        let sent = server.sent.lock().unwrap();
        assert_eq!(sent.matches("Authorization: Bearer x\r\n").count(), 6);
        assert_eq!(
            sent.matches("If-None-Match: \"a\"\r\n").count(),
            2,
            "{sent}"
        );
    }

    #[test]
    fn a_position_is_a_place_to_go_on() {
        let (_, mut before) = source(&[page("", "{\"n\":1}\n{\"n\":2}\n")]);
        let (_, _, position) = look(&mut before).unwrap();
        let (_, mut again) = source(&[
            page("", "{\"n\":1}\n{\"n\":2}\n"),
            page("", "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n"),
        ]);
        again.go_on(&position).unwrap();
        assert_eq!(look(&mut again), None, "its rows are logged");
        assert_eq!(
            look(&mut again).map(|it| (it.0, it.1)),
            Some((3, "{\"n\":3}\n".to_owned()))
        );
        again.seek(&Position::of(&[1])).unwrap_err();
        again.seek(&Position::START).unwrap();
        assert_eq!(again.known, Known::default());
    }

    #[test]
    fn pages_come_in_chunks_and_to_the_end() {
        let chunks = "HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      8;x=y\r\n{\"n\":1}\n\r\n4\r\n{\"n\"\r\n4\r\n:2}\n\r\n0\r\nTrailer: t\r\n\r\n";
        let to_the_end = "HTTP/1.1 200 OK\r\n\r\n{\"n\":5}\n";
        let (server, mut pull) = source(&[chunks.to_owned(), to_the_end.to_owned()]);
        assert_eq!(look(&mut pull).unwrap().1, "{\"n\":1}\n{\"n\":2}\n");
        assert_eq!(look(&mut pull).unwrap().1, "{\"n\":5}\n");
        assert!(pull.connection.is_none());
        assert_eq!(*server.dials.lock().unwrap(), 1);
    }

    #[test]
    fn what_fails_waits_longer_and_longer() {
        let long = "x".repeat(PAGE_MAX + 1);
        let answers = [
            "HTTP/1.1 500 Down\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".to_owned(),
            page("", &long),
            format!("HTTP/1.1 200 OK\r\n\r\n{long}"),
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}",
                PAGE_MAX + 1
            ),
            "HTTP/1.1 301 Elsewhere\r\nContent-Length: 0\r\n\r\n".to_owned(),
            page("", "[1,"),
            page("", "{\"n\":1}\n"),
        ];
        let (_, mut pull) = source(&answers);
        let mut waits = Vec::new();
        let mut reasons = String::new();
        for _ in 0..7 {
            let error = pull.take(1, Duration::ZERO).unwrap_err();
            reasons += &error.to_string();
            waits.push(pull.left.as_millis());
            pull.left = Duration::from_nanos(1);
            let still = pull.take(1, Duration::from_millis(1)).unwrap_err();
            assert_eq!(still, error, "it says why it waits");
        }
        assert_eq!(waits, [500, 7_000, 2_000, 4_000, 8_000, 16_000, 32_000]);
        assert_eq!(reasons.matches("more than 8 MiB").count(), 3, "{reasons}");
        assert!(reasons.contains("page: h:1/rows: http 500"), "{reasons}");
        assert!(reasons.contains("http 301"), "{reasons}");
        assert_eq!(look(&mut pull).unwrap().0, 1);
        assert_eq!(pull.retry, RETRY_MIN);
        pull.stop();
        assert_eq!(pull.take(1, Duration::ZERO), Ok(Taken::End));
    }
}
