//! Asks a server over the JSON gateway, with requests and answers as JSON values.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::base64;
use crate::http::{Connection, Lines};
use crate::space::Space;

/// A server closes a connection that is idle for ten seconds; one that was for this long is not used again.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// A client of the gateway. It connects when it must and keeps the connection while it is used.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    space: Option<Arc<Space>>,
    connection: Option<(Connection, Instant)>,
    token: Option<String>,
}

/// Status and JSON of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; a string if it was no JSON.
    pub body: Value,
}

impl Answer {
    /// Whether the request succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// The header's revision; 0 where there is none.
    #[must_use]
    pub fn revision(&self) -> i64 {
        number(&self.body["header"]["revision"])
    }

    /// The error's text; empty for a success.
    #[must_use]
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Gateway {
    /// A client of the server at `address`; it connects at the first request.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            space: None,
            connection: None,
            token: None,
        }
    }

    /// A client of the server at `address` in a network of its own.
    #[must_use]
    pub const fn in_space(address: SocketAddr, space: Arc<Space>) -> Self {
        Self {
            address,
            space: Some(space),
            connection: None,
            token: None,
        }
    }

    fn open(&self) -> Result<Connection> {
        match &self.space {
            Some(space) => space.within(|| Connection::open(self.address)),
            None => Connection::open(self.address),
        }
    }

    /// Sends `token` with each request from now on, or none.
    pub fn authorize(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// Posts a request to a path below `/v3/`.
    ///
    /// # Errors
    ///
    /// No whole answer: the request may have been carried out or not.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.ask("POST", &format!("/v3/{path}"), body.to_string().as_bytes())
    }

    /// Gets a path such as `/health`.
    ///
    /// # Errors
    ///
    /// No whole answer.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask("GET", path, b"")
    }

    /// Sends any bytes as a body.
    ///
    /// # Errors
    ///
    /// No whole answer.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        let kept = self.connection.take();
        let kept = kept.filter(|(_, used)| used.elapsed() < KEPT_FOR);
        let mut connection = match kept {
            Some((connection, _)) => connection,
            None => self.open()?,
        };
        let token = self.token.clone();
        let headers: Vec<(&str, &str)> = token
            .iter()
            .map(|token| ("Authorization", token.as_str()))
            .collect();
        let reply = connection.ask(method, path, &headers, body)?;
        self.connection = Some((connection, Instant::now()));
        let text = reply.text();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer {
            status: reply.status,
            body,
        })
    }

    /// Opens a stream such as `watch`; each line is a JSON object.
    ///
    /// # Errors
    ///
    /// The server does not answer with a stream.
    pub fn follow(&self, path: &str, body: &Value) -> Result<Stream> {
        let connection = self.open()?;
        let token = self.token.clone();
        let headers: Vec<(&str, &str)> = token
            .iter()
            .map(|token| ("Authorization", token.as_str()))
            .collect();
        let lines = connection.follow(
            &format!("/v3/{path}"),
            &headers,
            body.to_string().as_bytes(),
        )?;
        Ok(Stream { lines })
    }

    /// Puts a key; the answer's revision when the server has acknowledged it.
    ///
    /// # Errors
    ///
    /// No answer, or a refusal.
    pub fn put(&mut self, key: &str, value: &str) -> Result<i64> {
        let body = json!({"key": base64::encode(key.as_bytes()), "value": base64::encode(value.as_bytes())});
        let answer = self.post("kv/put", &body)?;
        anyhow::ensure!(answer.is_ok(), "put {key}: {}", answer.body);
        Ok(answer.revision())
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// No answer, or a refusal.
    pub fn value(&mut self, key: &str) -> Result<Option<String>> {
        let answer = self.post("kv/range", &json!({"key": base64::encode(key.as_bytes())}))?;
        anyhow::ensure!(answer.is_ok(), "get {key}: {}", answer.body);
        let Some(found) = answer.body["kvs"].get(0) else {
            return Ok(None);
        };
        Ok(Some(text(&found["value"])))
    }
}

/// An answer that goes on.
#[derive(Debug)]
pub struct Stream {
    lines: Lines,
}

impl Stream {
    /// What the next line has as its `result`, waiting for it; `None` at the stream's end.
    ///
    /// # Errors
    ///
    /// A broken stream, or a line that is an error.
    pub fn next_result(&mut self) -> Result<Option<Value>> {
        let Some(line) = self.lines.next_line()? else {
            return Ok(None);
        };
        let value: Value =
            serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))?;
        let result = value.get("result").cloned();
        Ok(Some(result.with_context(|| {
            format!("a stream's line without result: {line}")
        })?))
    }
}

/// A number that the gateway writes as a string; 0 where it is left out.
#[must_use]
pub fn number(value: &Value) -> i64 {
    match value {
        Value::String(digits) => digits.parse().unwrap_or(0),
        other => other.as_i64().unwrap_or(0),
    }
}

/// The text in a base64 field; empty where it is left out.
#[must_use]
pub fn text(value: &Value) -> String {
    let bytes = value.as_str().and_then(base64::decode).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
