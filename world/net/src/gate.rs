//! The gate: what a client must do before anybody serves it.
//!
//! It works on any byte stream, so that handshakes are tested without a socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::certificates::Certificates;
use crate::names::common_name;
use crate::preface::{Protocol, sniff};
use crate::stream::{Carrier, Stream};

/// Bounds on connections that have not shown yet who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many may shake hands at once; one more is closed.
    pub handshakes_max: usize,
    /// A handshake that takes longer is closed.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    /// 1,024 at once, 5 seconds each.
    fn default() -> Self {
        Self {
            handshakes_max: 1_024,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// A client that has shaken hands.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes, from the first on.
    pub stream: Stream,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The common name of its verified certificate, where certificates name users.
    pub common_name: Option<Arc<str>>,
    /// Whether it came through TLS.
    pub is_tls: bool,
}

/// Where clients show who they are and what they speak.
#[derive(Debug)]
pub struct Gate {
    certificates: Option<Arc<Certificates>>,
    handshakes: Arc<Semaphore>,
    timeout: Duration,
}

impl Gate {
    /// A gate that shakes hands with TLS if there are certificates, within `limits`.
    #[must_use]
    pub fn new(certificates: Option<Arc<Certificates>>, limits: Limits) -> Self {
        let handshakes = Arc::new(Semaphore::new(limits.handshakes_max));
        Self {
            certificates,
            handshakes,
            timeout: limits.handshake_timeout,
        }
    }

    /// Shakes hands with a client within the process; `None` if it may not come in.
    pub async fn admit(&self, stream: DuplexStream, peer: SocketAddr) -> Option<Connection> {
        let _turn = self.turn()?;
        self.shake_hands(Carrier::Memory(stream), peer).await
    }

    /// The right to shake hands; `None` if too many do so already.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.handshakes).try_acquire_owned().ok()
    }

    /// Shakes hands within the time allowed; `None` if that fails, which is the client's loss.
    pub(crate) async fn shake_hands(
        &self,
        carrier: Carrier,
        peer: SocketAddr,
    ) -> Option<Connection> {
        match tokio::time::timeout(self.timeout, self.greet(carrier, peer)).await {
            Ok(Ok(connection)) => Some(connection),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Ok(Err(error)) => {
                tracing::info!(%peer, %error, "handshake refused");
                None
            }
            Err(_) => {
                tracing::info!(%peer, "handshake timed out");
                None
            }
        }
    }

    async fn greet(&self, carrier: Carrier, peer: SocketAddr) -> io::Result<Connection> {
        let Some(certificates) = &self.certificates else {
            let (stream, protocol) = recognize(Stream::plain(carrier)).await?;
            return Ok(Connection {
                stream,
                peer,
                protocol,
                common_name: None,
                is_tls: false,
            });
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(certificates.current());
        let stream = acceptor.accept(carrier).await?;
        let (_, session) = stream.get_ref();
        let agreed = session.alpn_protocol().map(<[u8]>::to_vec);
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let shown = shown.filter(|_| certificates.name_users());
        let common_name = shown.and_then(common_name).map(Arc::from);
        let stream = Stream::tls(stream);
        let (stream, protocol) = match agreed.as_deref() {
            Some(b"h2") => (stream, Protocol::Http2),
            Some(_) => (stream, Protocol::Http1),
            None => recognize(stream).await?,
        };
        Ok(Connection {
            stream,
            peer,
            protocol,
            common_name,
            is_tls: true,
        })
    }
}

/// Reads just enough to know the protocol, and puts it back.
async fn recognize(mut stream: Stream) -> io::Result<(Stream, Protocol)> {
    let (protocol, seen) = sniff(&mut stream).await?;
    stream.put_back(seen);
    Ok((stream, protocol))
}
