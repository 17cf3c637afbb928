//! A proxy between sites, whose links can be cut, slowed and healed while they are used.
//!
//! It stands for the network between the islands of one machine: each directed pair of sites
//! has a listener that the one dials in place of the other. Bytes pass unread. A cut lets
//! nothing through and says nothing, as a dead line does: connections stay, and new ones are
//! accepted and hang. After a heal what was held goes on, so a short cut is only a delay.
//!
//! ```text
//!   site a ─► listener of a>b ─► reader ─► delay line ─► writer ─► site b
//!                                 stops     8 MiB          leaves each piece
//!                                 when full                when its time has come
//! ```
//!
//! Each piece leaves a fixed time after it came, so a delay costs no throughput until the line
//! holds as many bytes as it may.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::listener::{REST, open, tune};

/// Bytes in one piece.
const PIECE: usize = 64 << 10;

/// Bytes that one direction of one connection may hold.
const HELD_MAX: usize = 8 << 20;

/// Pieces that one direction of one connection may hold; a piece may be short.
const PIECES_MAX: usize = 4_096;

/// Connections through one pair at once; further ones are closed.
const CONNECTIONS_MAX: usize = 1_024;

/// Two sites, the one that dials first.
pub type Pair = (String, String);

/// Why a command to the proxy was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// There is no such pair.
    #[error("no link from site {from} to site {to}")]
    NoLink {
        /// Whence.
        from: String,
        /// Whither.
        to: String,
    },
    /// The pair is there already.
    #[error("there is a link from site {from} to site {to} already")]
    Exists {
        /// Whence.
        from: String,
        /// Whither.
        to: String,
    },
    /// No listener can be had.
    #[error("listen for the link from site {from} to site {to} on {address}")]
    Listen {
        /// Whence.
        from: String,
        /// Whither.
        to: String,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What the network does to bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing passes.
    pub is_cut: bool,
    /// Everything takes so much longer.
    pub delay: Duration,
}

/// How it is between two sites, in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairView {
    /// Whence.
    pub from: String,
    /// Whither.
    pub to: String,
    /// What happens to bytes on this way.
    pub weather: Weather,
}

/// A running proxy; cheap to clone. It ends when the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct Proxy {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The weather from each site to each other.
    ways: Mutex<BTreeMap<Pair, watch::Sender<Weather>>>,
    /// The listeners' tasks; a pair has one if its first site dials its second.
    listeners: Mutex<BTreeMap<Pair, tokio::task::AbortHandle>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        for task in lock(&self.listeners).values() {
            task.abort();
        }
    }
}

impl Proxy {
    /// A proxy without links.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the link by which site `from` dials site `to`, which listens at `target`. Gives the
    /// address that `from` is to dial instead. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Exists`], [`ProxyError::Listen`].
    pub fn link(
        &self,
        (from, to): (&str, &str),
        listen: SocketAddr,
        target: SocketAddr,
    ) -> Result<SocketAddr, ProxyError> {
        let pair = (from.to_owned(), to.to_owned());
        let failed = |source| ProxyError::Listen {
            from: from.to_owned(),
            to: to.to_owned(),
            address: listen,
            source,
        };
        let mut listeners = lock(&self.shared.listeners);
        if listeners.contains_key(&pair) {
            let (from, to) = pair;
            return Err(ProxyError::Exists { from, to });
        }
        let listener = open(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let ways = [self.way(from, to), self.way(to, from)];
        let task = tokio::spawn(accept(listener, target, ways));
        listeners.insert(pair, task.abort_handle());
        Ok(address)
    }

    /// Nothing passes between two sites, in either direction.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NoLink`].
    pub fn cut(&self, one: &str, other: &str) -> Result<(), ProxyError> {
        self.cut_one_way(one, other)?;
        self.cut_one_way(other, one)
    }

    /// Nothing passes from a site to another; what comes back does.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NoLink`].
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<(), ProxyError> {
        self.change((from, to), |weather| weather.is_cut = true)
    }

    /// Everything between two sites takes `delay` longer, each way.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NoLink`].
    pub fn slow(&self, one: &str, other: &str, delay: Duration) -> Result<(), ProxyError> {
        self.change((one, other), |weather| weather.delay = delay)?;
        self.change((other, one), |weather| weather.delay = delay)
    }

    /// Everything passes between two sites, at once, in both directions.
    ///
    /// # Errors
    ///
    /// [`ProxyError::NoLink`].
    pub fn heal(&self, one: &str, other: &str) -> Result<(), ProxyError> {
        self.change((one, other), |weather| *weather = Weather::default())?;
        self.change((other, one), |weather| *weather = Weather::default())
    }

    /// The weather on each way, in order of the sites' names.
    #[must_use]
    pub fn views(&self) -> Vec<PairView> {
        let ways = lock(&self.shared.ways);
        let view = |((from, to), weather): (&Pair, &watch::Sender<Weather>)| PairView {
            from: from.clone(),
            to: to.clone(),
            weather: *weather.borrow(),
        };
        ways.iter().map(view).collect()
    }

    fn change(
        &self,
        (from, to): (&str, &str),
        how: impl FnOnce(&mut Weather),
    ) -> Result<(), ProxyError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        let pair = (from, to);
        let ways = lock(&self.shared.ways);
        match ways.get(&pair) {
            Some(weather) => {
                weather.send_modify(how);
                Ok(())
            }
            None => {
                let (from, to) = pair;
                Err(ProxyError::NoLink { from, to })
            }
        }
    }

    fn way(&self, from: &str, to: &str) -> watch::Receiver<Weather> {
        let mut ways = lock(&self.shared.ways);
        let pair = (from.to_owned(), to.to_owned());
        ways.entry(pair)
            .or_insert_with(|| watch::Sender::new(Weather::default()))
            .subscribe()
    }
}

/// Accepts for one pair until it is aborted; its connections end with it.
async fn accept(listener: TcpListener, target: SocketAddr, ways: [watch::Receiver<Weather>; 2]) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < CONNECTIONS_MAX => {
                    tune(&stream, peer);
                    connections.spawn(carry(stream, target, ways.clone()));
                }
                Ok((_, peer)) => tracing::warn!(%peer, "too many connections through the proxy"),
                Err(error) => {
                    tracing::warn!(%error, "accepting for the proxy failed, trying again");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
}

/// Carries one connection until both directions have ended or one has broken.
async fn carry(
    stream: TcpStream,
    target: SocketAddr,
    [mut forth, back]: [watch::Receiver<Weather>; 2],
) {
    // The first packet of a connection goes the same way as all others.
    if passable(&mut forth).await.is_err() {
        return;
    }
    let onward = match TcpStream::connect(target).await {
        Ok(onward) => onward,
        Err(error) => return tracing::debug!(%target, %error, "the proxy's target is not there"),
    };
    tune(&onward, target);
    let (near_read, near_write) = stream.into_split();
    let (far_read, far_write) = onward.into_split();
    let ended = tokio::try_join!(
        pass(near_read, far_write, forth),
        pass(far_read, near_write, back)
    );
    if let Err(error) = ended {
        tracing::debug!(%target, %error, "a connection through the proxy broke");
    }
}

/// Carries one direction.
async fn pass(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let (tx, rx) = mpsc::channel(PIECES_MAX);
    let room = Arc::new(Semaphore::new(HELD_MAX));
    tokio::try_join!(
        take(reader, (tx, Arc::clone(&room)), weather.clone()),
        give(writer, (rx, room), weather)
    )?;
    Ok(())
}

/// A piece and when it is to leave.
type Piece = (Instant, Vec<u8>);

/// Reads pieces and stamps them, as long as there is room.
async fn take(
    mut reader: impl AsyncRead + Unpin,
    (tx, room): (mpsc::Sender<Piece>, Arc<Semaphore>),
    weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let count = reader.read(&mut piece).await?;
        if count == 0 {
            return Ok(());
        }
        piece.truncate(count);
        let weight = u32::try_from(count).expect("a piece is small");
        let Ok(permit) = room.acquire_many(weight).await else {
            return Ok(());
        };
        permit.forget();
        let leaves = Instant::now() + weather.borrow().delay;
        if tx.send((leaves, piece)).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes pieces when their time has come and the way is open.
async fn give(
    mut writer: impl AsyncWrite + Unpin,
    (mut rx, room): (mpsc::Receiver<Piece>, Arc<Semaphore>),
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    while let Some((leaves, piece)) = rx.recv().await {
        // A heal ends the waiting of what is on its way, too; order is the channel's.
        while weather.borrow().delay > Duration::ZERO && Instant::now() < leaves {
            tokio::select! {
                () = tokio::time::sleep_until(leaves) => break,
                changed = weather.changed() => changed.map_err(io::Error::other)?,
            }
        }
        passable(&mut weather).await?;
        writer.write_all(&piece).await?;
        room.add_permits(piece.len());
    }
    passable(&mut weather).await?;
    writer.shutdown().await
}

/// Waits until the way is not cut; an error says that the proxy is gone.
async fn passable(weather: &mut watch::Receiver<Weather>) -> io::Result<()> {
    let open = weather.wait_for(|weather| !weather.is_cut).await;
    open.map(drop).map_err(io::Error::other)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
