//! A listener: an address, room for connections, and a task for each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol as Transport, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::certificates::Certificates;
use crate::error::NetError;
use crate::gate::{Connection, Gate, Limits};
use crate::room::{Place, Room};
use crate::stream::Carrier;

/// Clients that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4_096;

/// How long accepting rests after the system refused it (no descriptors, no memory).
pub(crate) const REST: Duration = Duration::from_millis(100);

/// When a silent peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where to listen, and for whom.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// TLS; without it only loopback is allowed.
    pub certificates: Option<Arc<Certificates>>,
    /// Room for connections, shared with the process's other listeners.
    pub room: Room,
    /// Bounds on handshakes.
    pub limits: Limits,
}

/// An open listener.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    gate: Arc<Gate>,
    room: Room,
}

impl Listener {
    /// Listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NetError::NotLoopback`] without TLS off loopback, [`NetError::InUse`] if somebody
    /// listens there, [`NetError::Listen`] for whatever else the system says.
    pub fn bind(config: ListenConfig) -> Result<Self, NetError> {
        let address = config.address;
        if config.certificates.is_none() && !address.ip().is_loopback() {
            return Err(NetError::NotLoopback { address });
        }
        let listener = open(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => NetError::InUse { address },
            _ => NetError::Listen { address, source },
        })?;
        let address = listener
            .local_addr()
            .map_err(|source| NetError::Listen { address, source })?;
        let gate = Arc::new(Gate::new(config.certificates, config.limits));
        Ok(Self {
            listener,
            address,
            gate,
            room: config.room,
        })
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` is ready, serving each connection by `handle` in a task of its own;
    /// returns when the last of them has ended.
    ///
    /// The handlers must watch for the stop themselves; dropping this future ends them at once.
    pub async fn serve<H, F>(self, stop: impl Future<Output = ()>, handle: H)
    where
        H: Fn(Connection) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, peer, place) = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = self.accept() => accepted,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    report(ended);
                    continue;
                }
            };
            self.admit(&mut tasks, (stream, peer, place), handle.clone());
        }
        drop(self.listener);
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    }

    /// Starts the task of an accepted client, or closes it if too many shake hands already.
    fn admit<H, F>(
        &self,
        tasks: &mut JoinSet<()>,
        (stream, peer, place): (TcpStream, SocketAddr, Place),
        handle: H,
    ) where
        H: Fn(Connection) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(turn) = self.gate.turn() else {
            tracing::warn!(%peer, "too many handshakes at once, connection closed");
            return;
        };
        let gate = Arc::clone(&self.gate);
        tasks.spawn(async move {
            let connection = gate.shake_hands(Carrier::Tcp(stream), peer).await;
            drop(turn);
            if let Some(connection) = connection {
                handle(connection).await;
            }
            drop(place);
        });
    }

    /// The next client, once there is room for it. Never fails: what the system refuses is
    /// reported and tried again. Cancelling it loses nothing.
    async fn accept(&self) -> (TcpStream, SocketAddr, Place) {
        let mut place = match self.room.try_enter() {
            Some(place) => place,
            None => {
                let connections = self.room.size();
                tracing::warn!(connections, "connection limit reached, accepting pauses");
                self.room.enter().await
            }
        };
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    tune(&stream, peer);
                    place.occupy(&self.room);
                    return (stream, peer, place);
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting failed, trying again");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

/// A listening socket. The address may be reused at once after a restart.
pub(crate) fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Transport::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Small answers leave at once, and a peer that vanished is noticed.
pub(crate) fn tune(stream: &TcpStream, peer: SocketAddr) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let socket = SockRef::from(stream);
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(%peer, %error, "socket options refused");
    }
}

/// Whether accepting failed for a client that left before its turn, not for the listener.
pub(crate) fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

/// A connection's task ended; that it panicked is our bug and must be seen.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}
