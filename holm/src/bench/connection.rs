//! One connection of the load generator: a [`Session`] on a plain TCP socket that never blocks.
//!
//! The output is written once for all requests that became due together, and answers are read into one buffer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use thiserror::Error;

use super::session::{Route, Session, SessionError, Sink};

/// Why a connection cannot go on.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    /// Nobody listens there.
    #[error("connect to {endpoint}: is a server running there?")]
    Connect {
        /// The server's address.
        endpoint: String,
        /// The socket's answer.
        source: io::Error,
    },
    /// The socket failed.
    #[error("connection to {endpoint}")]
    Io {
        /// The server's address.
        endpoint: String,
        /// The socket's answer.
        source: io::Error,
    },
    /// The server closed it.
    #[error("server closed the connection")]
    Closed,
    /// What came is not what HTTP/2 allows.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    endpoint: String,
    session: Session,
    input: Vec<u8>,
    filled: usize,
    written: usize,
}

const INPUT_BYTES: usize = 256 * 1024;
/// Output that does not leave is a server that does not read: requests stop until it does.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

impl Connection {
    /// Connects and says hello; the server's own hello is read by [`Connection::receive`].
    pub(crate) fn open(endpoint: &str, route: Route) -> Result<Self, ConnectionError> {
        Self::with(endpoint, Session::new(route))
    }

    /// The same with small windows; see [`Session::narrow`].
    pub(crate) fn open_narrow(endpoint: &str, route: Route) -> Result<Self, ConnectionError> {
        Self::with(endpoint, Session::narrow(route))
    }

    fn with(endpoint: &str, session: Session) -> Result<Self, ConnectionError> {
        let failed = |source| ConnectionError::Connect {
            endpoint: endpoint.to_owned(),
            source,
        };
        let socket = TcpStream::connect(endpoint).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            socket,
            endpoint: endpoint.to_owned(),
            session,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            written: 0,
        })
    }

    /// The socket, to wait on.
    pub(crate) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether bytes wait for room in the socket.
    pub(crate) fn has_output(&self) -> bool {
        self.written < self.session.output.len()
    }

    /// Streams that have no end yet.
    pub(crate) fn open_streams(&self) -> u32 {
        self.session.open_streams()
    }

    /// Whether a message of `bytes` may be sent now.
    pub(crate) fn can_begin(&self, bytes: usize) -> bool {
        self.session.can_begin(bytes) && self.session.output.len() - self.written < OUTPUT_BYTES_MAX
    }

    /// Whether no message of `bytes` can ever be sent in one piece, as this generator must.
    pub(crate) fn too_large(&self, bytes: usize) -> bool {
        self.session.too_large(bytes)
    }

    /// Puts a request into the output. The caller has asked [`Connection::can_begin`].
    pub(crate) fn begin(&mut self, tag: u32, message: &[u8], last: u8) {
        self.session.begin(tag, message, last);
    }

    /// Writes what there is. Bytes that do not fit stay; see [`Connection::has_output`].
    pub(crate) fn flush(&mut self) -> Result<(), ConnectionError> {
        while self.has_output() {
            match self.socket.write(&self.session.output[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        self.session.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what has come and hands it on.
    pub(crate) fn receive(&mut self, sink: &mut impl Sink) -> Result<(), ConnectionError> {
        loop {
            let space = self.input.len() - self.filled;
            let bytes = match self.socket.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.failed(source)),
            };
            self.filled += bytes;
            let used = self.session.take(&self.input[..self.filled], sink)?;
            self.input.copy_within(used..self.filled, 0);
            self.filled -= used;
            if bytes < space {
                return Ok(());
            }
        }
    }

    fn failed(&self, source: io::Error) -> ConnectionError {
        ConnectionError::Io {
            endpoint: self.endpoint.clone(),
            source,
        }
    }
}
