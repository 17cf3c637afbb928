//! A small HTTP/1.1 client over one kept connection: enough for the gateway, and no more.
//!
//! It reads strictly. A server whose framing is wrong fails the test, where a forgiving
//! client would hide it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The longest that any answer may take, on a machine that is busy with builds too.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection, reused from request to request.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// Status and body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How the length of a body is told.
enum Framing {
    Length(usize),
    Chunks,
}

impl Connection {
    /// Connects; fails at once if nobody listens.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    ///
    /// A broken connection, or an answer that is no HTTP.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply> {
        self.send(method, path, headers, body)?;
        let (status, framing) = self.head()?;
        let body = match framing {
            Framing::Length(length) => self.exactly(length)?,
            Framing::Chunks => self.chunks()?,
        };
        Ok(Reply { status, body })
    }

    /// Sends a request whose answer never ends; the next lines are its pieces.
    ///
    /// # Errors
    ///
    /// A broken connection, an answer that is not 200, or one that is not chunked.
    pub fn follow(mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Lines> {
        self.send("POST", path, headers, body)?;
        let (status, framing) = self.head()?;
        match framing {
            Framing::Chunks if status == 200 => Ok(Lines {
                connection: self,
                rest: Vec::new(),
            }),
            Framing::Chunks | Framing::Length(_) => {
                bail!("{path} answered {status} instead of a stream")
            }
        }
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<()> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream
            .get_mut()
            .write_all(&bytes)
            .context("send a request")
    }

    fn head(&mut self) -> Result<(u16, Framing)> {
        let first = self.text_line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("not a status line: {first:?}"))?;
        let mut framing = Framing::Length(0);
        loop {
            let line = self.text_line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok((status, framing));
            }
            if let Some(length) = line.strip_prefix("content-length:") {
                framing = Framing::Length(
                    length
                        .trim()
                        .parse()
                        .context("a content length is a number")?,
                );
            } else if line.starts_with("transfer-encoding:") && line.contains("chunked") {
                framing = Framing::Chunks;
            }
        }
    }

    fn text_line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).context("read a line")? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context("read a body")?;
        Ok(body)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            body.extend(chunk);
        }
        Ok(body)
    }

    fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.text_line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16)
            .with_context(|| format!("no chunk length: {line:?}"))?;
        if length == 0 {
            // etcd's gateway passes gRPC's trailers on behind the last chunk.
            while !self.text_line()?.is_empty() {}
            return Ok(None);
        }
        let chunk = self.exactly(length)?;
        if !self.text_line()?.is_empty() {
            bail!("a chunk does not end with a line end");
        }
        Ok(Some(chunk))
    }
}

/// The lines of an answer that goes on for as long as it is read.
#[derive(Debug)]
pub struct Lines {
    connection: Connection,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line, waiting for it; `None` when the server has ended the answer.
    ///
    /// # Errors
    ///
    /// A broken connection, or nothing for twenty seconds.
    pub fn next_line(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()));
            }
            match self.connection.chunk()? {
                Some(chunk) => self.rest.extend(chunk),
                None => return Ok(None),
            }
        }
    }
}
