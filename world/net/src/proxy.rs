//! A cable between two sites that can be cut, slowed and healed: a TCP proxy for trying faults.
//!
//! ```text
//!   first ──► door of first ──► line, first to second ──► second's address
//!         ◄──               ◄── line, second to first ◄──
//! ```
//!
//! Either site may dial: each has a door of its own, and both doors share the two directions.
//! A line keeps order, delays each byte by the same time without holding back its followers, and
//! is bounded; when it is full, TCP's own back-pressure holds the sender.
//!
//! Cut, nothing is lost that TCP would not lose: bytes and ends of connections wait in the line
//! and go on when it is healed, connections stay half-open, and new ones hang until whoever
//! dialled gives up. What differs from a cable: the dialler's kernel connects at once (no round
//! trip), and after a heal nothing waits for a retransmission. Delays are whole milliseconds, for
//! that is what timers here can do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::error::NetError;

/// What one read takes at most.
const CHUNK_BYTES: usize = 64 << 10;
/// What a line holds at most: 100 ms at 160 MB a second.
const LINE_BYTES: usize = 16 << 20;
/// How many pieces a line holds at most, however small.
const LINE_CHUNKS: usize = 16 << 10;
/// Connections through one door; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// The pause after the system refused a connection, for want of files say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How one direction of a cable is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Bytes pass at once.
    #[default]
    Open,
    /// Nothing passes.
    Cut,
    /// Bytes pass after this long.
    Slow(Duration),
}

/// Which site of a pair sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The first to the second.
    There,
    /// The second to the first.
    Back,
}

impl Direction {
    const fn index(self) -> usize {
        match self {
            Self::There => 0,
            Self::Back => 1,
        }
    }

    const fn reversed(self) -> Self {
        match self {
            Self::There => Self::Back,
            Self::Back => Self::There,
        }
    }
}

/// How a cable is now. Index 0 is the direction from the first site to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CableView {
    /// Both directions.
    pub ways: [Way; 2],
    /// Bytes that came out at the far end, since the start.
    pub bytes: [u64; 2],
    /// Connections through it, those that hang included.
    pub connections: usize,
}

/// A running proxy for one pair of sites. Dropping it closes its doors and its connections.
#[derive(Debug)]
pub struct Cable {
    doors: [SocketAddr; 2],
    shared: Shared,
    accepting: [AbortHandle; 2],
}

/// What all connections of a cable see.
#[derive(Clone, Debug)]
struct Shared {
    ways: Arc<watch::Sender<[Way; 2]>>,
    bytes: Arc<[AtomicU64; 2]>,
    room: Arc<Semaphore>,
}

impl Cable {
    /// Opens both doors on loopback, on ports of the system's choice, for sites that listen at
    /// `sites`. Must be called within a runtime. Nobody needs to listen there yet.
    ///
    /// # Errors
    ///
    /// [`NetError::Listen`] if the system gives no port.
    pub async fn lay(sites: [SocketAddr; 2]) -> Result<Self, NetError> {
        let shared = Shared {
            ways: Arc::new(watch::Sender::new([Way::Open; 2])),
            bytes: Arc::default(),
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        };
        let [first, second] = sites;
        let (there, accepting_there) = open(second, Direction::There, &shared).await?;
        let (back, accepting_back) = open(first, Direction::Back, &shared).await?;
        Ok(Self {
            doors: [there, back],
            shared,
            accepting: [accepting_there, accepting_back],
        })
    }

    /// Where a site dials to reach the other one: the first for [`Direction::There`], the second
    /// for [`Direction::Back`].
    #[must_use]
    pub const fn door(&self, towards: Direction) -> SocketAddr {
        self.doors[towards.index()]
    }

    /// Changes one direction, for connections old and new.
    pub fn set(&self, direction: Direction, way: Way) {
        self.shared
            .ways
            .send_modify(|ways| ways[direction.index()] = way);
    }

    /// How it is now.
    #[must_use]
    pub fn view(&self) -> CableView {
        let bytes = |at: usize| self.shared.bytes[at].load(Ordering::Relaxed);
        CableView {
            ways: *self.shared.ways.borrow(),
            bytes: [bytes(0), bytes(1)],
            connections: CONNECTIONS_MAX - self.shared.room.available_permits(),
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
    }
}

async fn open(
    target: SocketAddr,
    towards: Direction,
    shared: &Shared,
) -> Result<(SocketAddr, AbortHandle), NetError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let fail = |source| NetError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let door = listener.local_addr().map_err(fail)?;
    let task = tokio::spawn(accept(listener, target, towards, shared.clone()));
    Ok((door, task.abort_handle()))
}

/// Takes connections for ever. Its end ends them, for it owns their tasks.
async fn accept(listener: TcpListener, target: SocketAddr, towards: Direction, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((client, _address)) => {
                // Beyond the limit one hangs here, and more in the system's own queue.
                let place = Arc::clone(&shared.room).acquire_owned().await;
                let place = place.expect("a cable's room is never closed");
                let shared = shared.clone();
                connections.spawn(carry(client, target, towards, shared, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a cable takes no connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from its dialling to the end of both directions.
async fn carry(
    client: TcpStream,
    target: SocketAddr,
    towards: Direction,
    shared: Shared,
    _place: OwnedSemaphorePermit,
) {
    client.set_nodelay(true).ok();
    let (client_in, client_out) = client.into_split();
    let (there_in, there_out) = line();
    let mut filling = std::pin::pin!(fill(client_in, there_in));
    let server = tokio::select! {
        // Who dialled has given up, and the other site never heard of it.
        () = &mut filling => return,
        server = reach(target, shared.ways.subscribe()) => server,
    };
    // A site that is down refuses, and so do we: by hanging up.
    let Ok(server) = server else { return };
    server.set_nodelay(true).ok();
    let (server_in, server_out) = server.into_split();
    let (back_in, back_out) = line();
    tokio::join!(
        filling,
        drain(there_out, server_out, Passage::new(&shared, towards)),
        fill(server_in, back_in),
        drain(
            back_out,
            client_out,
            Passage::new(&shared, towards.reversed())
        ),
    );
}

/// Connects when neither direction is cut: to connect needs both.
async fn reach(
    target: SocketAddr,
    mut ways: watch::Receiver<[Way; 2]>,
) -> std::io::Result<TcpStream> {
    let is_whole = |ways: &[Way; 2]| !ways.contains(&Way::Cut);
    ways.wait_for(is_whole)
        .await
        .map_err(|_cable_gone| std::io::ErrorKind::ConnectionAborted)?;
    TcpStream::connect(target).await
}

/// Bytes on their way, and their share of the line's room. No bytes are the end.
struct Chunk {
    bytes: Box<[u8]>,
    arrived: Instant,
    _room: OwnedSemaphorePermit,
}

/// Where bytes go into a line.
struct LineIn {
    chunks: mpsc::Sender<Chunk>,
    room: Arc<Semaphore>,
}

fn line() -> (LineIn, mpsc::Receiver<Chunk>) {
    let (chunks, out) = mpsc::channel(LINE_CHUNKS);
    let room = Arc::new(Semaphore::new(LINE_BYTES));
    (LineIn { chunks, room }, out)
}

/// Reads until the sender ends, or nobody takes the bytes any more. A broken connection ends as
/// a closed one does: behind the bytes before it.
async fn fill(mut from: impl AsyncRead + Unpin, line: LineIn) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let arrived = Instant::now();
        let share = u32::try_from(count).expect("a chunk is 64 KiB at most");
        let room = Arc::clone(&line.room).acquire_many_owned(share).await;
        let chunk = Chunk {
            bytes: buffer[..count].into(),
            arrived,
            _room: room.expect("the line's room is never closed"),
        };
        if line.chunks.send(chunk).await.is_err() || count == 0 {
            return;
        }
    }
}

/// One direction, as a line sees it.
struct Passage {
    ways: watch::Receiver<[Way; 2]>,
    direction: Direction,
    bytes: Arc<[AtomicU64; 2]>,
}

impl Passage {
    fn new(shared: &Shared, direction: Direction) -> Self {
        Self {
            ways: shared.ways.subscribe(),
            direction,
            bytes: Arc::clone(&shared.bytes),
        }
    }

    /// Ready when what arrived then may pass; `None` when the cable is gone.
    async fn pass(&mut self, arrived: Instant) -> Option<()> {
        loop {
            let way = self.ways.borrow_and_update()[self.direction.index()];
            let due = match way {
                Way::Open => return Some(()),
                Way::Slow(delay) if arrived + delay <= Instant::now() => return Some(()),
                Way::Slow(delay) => Some(arrived + delay),
                Way::Cut => None,
            };
            let changed = match due {
                Some(due) => tokio::select! {
                    changed = self.ways.changed() => changed,
                    () = tokio::time::sleep_until(due) => Ok(()),
                },
                None => self.ways.changed().await,
            };
            changed.ok()?;
        }
    }
}

/// Writes what comes out of a line, in its time, and then the end.
async fn drain(
    mut line: mpsc::Receiver<Chunk>,
    mut to: impl AsyncWrite + Unpin,
    mut passage: Passage,
) {
    while let Some(chunk) = line.recv().await {
        if passage.pass(chunk.arrived).await.is_none() {
            return;
        }
        if chunk.bytes.is_empty() {
            // An end that cannot be told reaches a receiver that is gone.
            to.shutdown().await.ok();
            return;
        }
        if to.write_all(&chunk.bytes).await.is_err() {
            return;
        }
        let count = u64::try_from(chunk.bytes.len()).expect("a chunk is 64 KiB at most");
        passage.bytes[passage.direction.index()].fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
