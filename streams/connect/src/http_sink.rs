//! Rows out by HTTP: a POST of lines with an `Idempotency-Key`, over one connection that is kept.
//! The socket is handed in, so TLS is somebody else's.
//!
//! |answer|means|
//! |--|--|
//! |2xx|committed|
//! |408, 425, 429, 5xx, none|the same again after `Retry-After`, or 100 ms doubling to 30 s|
//! |any other|these rows are never taken: they are set aside|

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use holm_lanes::{Batch, Field};

use crate::reader::Format;
use crate::sink::{Guarantee, Sink, SinkError};
use crate::writer::write;

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The longest head of an answer.
const HEAD_MAX: usize = 16 << 10;
/// The longest body of an answer that is read to keep the connection.
const BODY_MAX: usize = 64 << 10;

/// A connection.
pub trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// Makes connections to one address, with their deadlines set.
pub trait Dial: Send + fmt::Debug {
    /// A new connection.
    ///
    /// # Errors
    ///
    /// If there is none to be had.
    fn dial(&mut self) -> io::Result<Box<dyn Duplex>>;

    /// Lets so much time pass.
    fn pause(&mut self, time: Duration);
}

/// Where rows are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The stream's name: it begins each key.
    pub stream: String,
    /// Host and port, as the request names them.
    pub host: String,
    /// What follows them.
    pub path: String,
    /// More lines of the request's head: a secret that was read from a file, say.
    pub headers: Vec<(String, String)>,
}

/// An HTTP server as a sink.
pub struct HttpSink {
    target: Target,
    dial: Box<dyn Dial>,
    connection: Option<Box<dyn Duplex>>,
    fields: Vec<Field>,
    retry: Duration,
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold secrets.
        let mut shown = formatter.debug_struct("HttpSink");
        shown.field("host", &self.target.host);
        shown
            .field("path", &self.target.path)
            .finish_non_exhaustive()
    }
}

/// What a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    retry: Option<Duration>,
    is_kept: bool,
}

impl HttpSink {
    /// A sink that posts to a target.
    #[must_use]
    pub fn new(target: Target, dial: Box<dyn Dial>, fields: &[Field]) -> Self {
        Self {
            target,
            dial,
            connection: None,
            fields: fields.to_vec(),
            retry: RETRY_MIN,
        }
    }

    fn request(&self, first: u64, body: &str) -> String {
        let Target {
            stream,
            host,
            path,
            headers,
        } = &self.target;
        let mut text = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\nIdempotency-Key: {stream}-{first}\r\n",
            body.len()
        );
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text += body;
        text
    }

    fn exchange(&mut self, request: &str) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dial.dial()?,
        };
        connection.write_all(request.as_bytes())?;
        connection.flush()?;
        let answer = read_answer(&mut *connection)?;
        if answer.is_kept {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn later(&mut self, reason: String, asked: Option<Duration>) -> SinkError {
        let retry = asked.unwrap_or(self.retry).min(RETRY_MAX);
        self.retry = (self.retry * 2).min(RETRY_MAX);
        SinkError::Unavailable {
            sink: self.target.host.clone(),
            reason,
            retry,
        }
    }
}

impl Sink for HttpSink {
    fn name(&self) -> &str {
        &self.target.host
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn begin(&mut self) -> Result<Option<u64>, SinkError> {
        Ok(None)
    }

    fn put(&mut self, first: u64, rows: &Batch) -> Result<(), SinkError> {
        let mut body = String::new();
        write(Format::JsonLines, &self.fields, rows, &mut body);
        let request = self.request(first, &body);
        let had_connection = self.connection.is_some();
        let mut answer = self.exchange(&request);
        if answer.is_err() && had_connection {
            // A kept connection may have been closed meanwhile: once more on a new one.
            answer = self.exchange(&request);
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(self.later(error.to_string(), None)),
        };
        let status = answer.status;
        match status {
            200..=299 => {
                self.retry = RETRY_MIN;
                Ok(())
            }
            408 | 425 | 429 | 500..=599 => Err(self.later(format!("http {status}"), answer.retry)),
            _ => Err(SinkError::Rejected {
                sink: self.target.host.clone(),
                reason: format!("http {status}"),
            }),
        }
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer has {what}"))
}

/// Reads a whole answer, so that the next one begins at its beginning.
fn read_answer(connection: &mut dyn Duplex) -> io::Result<Answer> {
    let mut held = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(&held[..end]).map_err(|_wrong| odd("no text"))?;
            let (mut answer, length) = read_head(head)?;
            if answer.status / 100 == 1 {
                held.drain(..end + 4);
                continue;
            }
            let Some(length) = length.filter(|length| *length <= BODY_MAX) else {
                answer.is_kept = false;
                return Ok(answer);
            };
            let mut rest = length.saturating_sub(held.len() - end - 4);
            while rest > 0 {
                let wanted = rest.min(piece.len());
                connection.read_exact(&mut piece[..wanted])?;
                rest -= wanted;
            }
            return Ok(answer);
        }
        if held.len() > HEAD_MAX {
            return Err(odd("too long a head"));
        }
        match connection.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => held.extend_from_slice(&piece[..count]),
        }
    }
}

/// The answer, and the length of its body where it is said.
fn read_head(head: &str) -> io::Result<(Answer, Option<usize>)> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.parse().ok());
    let status = status.filter(|_| is_http).ok_or_else(|| odd("no status"))?;
    let mut answer = Answer {
        status,
        retry: None,
        is_kept: true,
    };
    let mut length = (status == 204).then_some(0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok(),
            "connection" if value.eq_ignore_ascii_case("close") => answer.is_kept = false,
            "retry-after" => answer.retry = value.parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    Ok((answer, length))
}

#[cfg(test)]
mod tests {
    use holm_lanes::{Kind, Lane, Values};

    use super::*;
    use crate::scripted::Server;

    fn sink(answers: &[&str]) -> (Server, HttpSink, Batch) {
        let server = Server::new(answers, 7);
        let target = Target {
            stream: "hot".into(),
            host: "h:1".into(),
            path: "/in".into(),
            headers: vec![],
        };
        let fields = [Field {
            name: "n".into(),
            kind: Kind::BigInt,
            nullable: false,
        }];
        let rows = Batch::of(vec![Lane::dense(Values::Int(vec![1, 2]))]);
        let sink = HttpSink::new(target, Box::new(server.clone()), &fields);
        (server, sink, rows)
    }

    const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn rows_go_with_a_key_over_one_connection() {
        let (server, mut sink, rows) = sink(&[FINE, "HTTP/1.1 204 No\r\n\r\n", FINE]);
        for first in [0, 2, 4] {
            sink.put(first, &rows).unwrap();
        }
        assert_eq!(*server.dials.lock().unwrap(), 1);
        let sent = server.sent.lock().unwrap();
        let expected = "POST /in HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/x-ndjson\r\n\
                        Content-Length: 16\r\nIdempotency-Key: hot-0\r\n\r\n{\"n\":1}\n{\"n\":2}\n";
        assert!(sent.starts_with(expected), "{sent}");
        assert!(sent.contains("Idempotency-Key: hot-4\r\n"));
    }

    #[test]
    fn answers_say_what_becomes_of_rows() {
        let busy = "HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        let down = "HTTP/1.1 503 Down\r\nConnection: close\r\n\r\n";
        let bad = "HTTP/1.1 422 Bad\r\nContent-Length: 0\r\n\r\n";
        let (server, mut sink, rows) = sink(&[busy, down, "", bad, FINE]);
        let mut retries = Vec::new();
        for _ in 0..3 {
            match sink.put(0, &rows) {
                Err(SinkError::Unavailable { retry, .. }) => retries.push(retry),
                other => panic!("it was not available: {other:?}"),
            }
        }
        let millis: Vec<u128> = retries.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [7_000, 200, 400]);
        let rejected = sink.put(0, &rows).unwrap_err();
        assert_eq!(rejected.to_string(), "h:1: http 422");
        sink.put(2, &rows).unwrap();
        assert_eq!(*server.dials.lock().unwrap(), 3);
    }
}
