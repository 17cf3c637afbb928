//! The loops of one connection: read, write, wake. They run in one task.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use holm_link::{FRAME_MAX_UNBOUND, Identity, Input, Link};
use holm_machine::Effects;
use holm_wire::{BODY_MAX, Decoder};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsStream;

use crate::names::identity;
use crate::peers::connection::{Connection, WRITE};
use crate::peers::pen::Pen;
use crate::peers::table::Node;
use crate::peers::{Class, Shared};
use crate::rotating::ALPN;
use crate::tls_words::words;

/// Bytes to ask for in one read.
const READ: usize = 64 << 10;

/// How long the last frames of a connection may take to leave, and the other end to hang up.
const FAREWELL: Duration = Duration::from_secs(1);

/// What only the two ends of a TLS session can compute, under this label.
const EXPORTER: &[u8] = b"EXPORTER-holm-link-1";

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reason: String,
    /// Whom it was bound to, if it ever was.
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) is_orderly: bool,
}

/// Runs a link over a connection that TLS has secured, until it ends.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    mut stream: TlsStream<TcpStream>,
    config: holm_link::Config,
    handshake: Option<OwnedSemaphorePermit>,
) -> Ended {
    set_buffer(&mut stream);
    let silence_max = config.silence_max;
    let connection = Connection::new(Link::new(config), handshake);
    // Also when this future is dropped, as it is when the node stops.
    let retire = Retire(Arc::clone(&connection));
    let ended = match whom(&stream) {
        Ok((exporter, certificate)) => {
            let open = Input::Open {
                exporter,
                certificate,
            };
            connection.step(shared, open);
            converse(shared, &connection, (stream, silence_max)).await
        }
        Err(error) => Err(io::Error::other(error)),
    };
    drop(retire);
    let closed = connection.closed();
    if let (None, Some((node, _))) = (&closed, connection.carried()) {
        // No goodbye: the other end, or what is between, let go of it.
        let is_last = Class::BOTH
            .into_iter()
            .all(|class| node.lane(class).carrier().is_none());
        if is_last && !node.is_gone() && !*shared.stopped.borrow() {
            shared.deliver.hung_up(node.id);
        }
    }
    let reason = match (&closed, ended) {
        (Some(reason), _) => reason.to_string(),
        (None, Ok(())) => "link closed: the other end hung up".to_owned(),
        (None, Err(error)) => format!("link closed: {}", words(&error)),
    };
    Ended {
        reason,
        node: connection.carried().map(|(node, _)| Arc::clone(node)),
        is_orderly: closed.is_some_and(|reason| reason.is_orderly()),
    }
}

/// Takes a connection out of the table when it ends, however it ends.
struct Retire(Arc<Connection>);

impl Drop for Retire {
    fn drop(&mut self) {
        self.0.retire();
    }
}

/// All three loops, until one ends or the node is to stop.
async fn converse(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    (stream, silence_max): (TlsStream<TcpStream>, Duration),
) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(stream);
    let mut reading = std::pin::pin!(read(shared, connection, (reader, silence_max / 4)));
    connection.begin(Pen::new(writer));
    let writing = std::pin::pin!(write(connection));
    let waking = std::pin::pin!(wake(shared, connection));
    let leaving = std::pin::pin!(leave(shared, connection));
    tokio::select! {
        ended = &mut reading => ended,
        ended = writing => {
            ended?;
            // All that is ours has left. What is theirs must be read until they hang up, or
            // the system would answer it by throwing away what they have not read yet.
            tokio::time::timeout(FAREWELL, reading).await.unwrap_or(Ok(()))
        }
        () = waking => Ok(()),
        () = leaving => Ok(()),
    }
}

/// Reads frames and lets the link see them.
async fn read(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    (mut reader, pause): (impl AsyncRead + Unpin, Duration),
) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(READ);
    let mut decoder = Decoder::new();
    decoder.set_body_max(FRAME_MAX_UNBOUND);
    let (mut effects, mut mail) = (Effects::new(), Vec::new());
    let mut is_bound = false;
    loop {
        input.reserve(READ);
        // A long body made it long, and is gone.
        if input.is_empty() && input.capacity() > 4 * READ {
            input = BytesMut::with_capacity(READ);
        }
        if reader.read_buf(&mut input).await? == 0 {
            if let Err(error) = decoder.end(&input) {
                connection.step(shared, Input::Damage(error));
            }
            return Ok(());
        }
        connection.count_read();
        connection.step_with(shared, Input::Heard, &mut effects, &mut mail);
        loop {
            match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    connection.step_with(shared, Input::Frame(frame), &mut effects, &mut mail);
                }
                Err(error) => {
                    connection.step_with(shared, Input::Damage(error), &mut effects, &mut mail);
                    break;
                }
            }
            if !is_bound && connection.carried().is_some() {
                is_bound = true;
                decoder.set_body_max(BODY_MAX);
                if let Some(before) = connection.predecessor() {
                    connection.hand_over(shared, &mut mail);
                    hold(shared, connection, (&before, pause)).await;
                }
            }
        }
        connection.hand_over(shared, &mut mail);
    }
}

/// Waits until what the predecessor still carries has arrived, so that a rotation keeps frames
/// in order; but not longer than it makes progress.
async fn hold(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    (before, pause): (&Arc<Connection>, Duration),
) {
    let mut dry = std::pin::pin!(before.run_dry(pause));
    while tokio::time::timeout(pause, &mut dry).await.is_err() {
        // Nobody reads here meanwhile, and that is not the other end's silence.
        connection.step(shared, Input::Heard);
    }
}

/// Writes what there is, all of it in one write, until the link is closed.
async fn write(connection: &Connection) -> io::Result<()> {
    while !poll_fn(|cx| connection.poll_write(cx)).await? {
        connection.work().await;
    }
    poll_fn(|cx| connection.poll_shutdown(cx)).await
}

/// Wakes the link when it wants to be; ends a while after the link is closed, for an end that
/// does not read must not keep it open.
async fn wake(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    loop {
        if connection.closed().is_some() {
            return tokio::time::sleep(FAREWELL).await;
        }
        let Some(at) = connection.wake_at() else {
            connection.deadline_moved().await;
            continue;
        };
        let pause = at.since(shared.now());
        tokio::select! {
            () = tokio::time::sleep(pause) => connection.step(shared, Input::Wake),
            () = connection.deadline_moved() => {}
        }
    }
}

/// Comes when the node stops, or the other is no member any more.
async fn leave(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    loop {
        match connection.carried() {
            Some((node, _)) => {
                tokio::select! {
                    () = shared.stop() => return,
                    () = node.gone() => return,
                }
            }
            None => {
                tokio::select! {
                    () = shared.stop() => return,
                    () = tokio::time::sleep(FAREWELL) => {}
                }
            }
        }
    }
}

/// The exporter of this session, and whom the other's certificate names. TLS lets a client pass
/// that names no protocol at all; here it does not.
fn whom(stream: &TlsStream<TcpStream>) -> Result<([u8; 32], Option<Identity>), rustls::Error> {
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(ALPN) {
        return Err(rustls::Error::NoApplicationProtocol);
    }
    let exporter = match stream {
        TlsStream::Client(it) => it
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER, None),
        TlsStream::Server(it) => it
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER, None),
    }?;
    let shown = session
        .peer_certificates()
        .and_then(<[CertificateDer<'_>]>::first);
    Ok((exporter, shown.and_then(identity)))
}

/// Lets one write take a whole batch, so that it leaves in one call.
fn set_buffer(stream: &mut TlsStream<TcpStream>) {
    let limit = Some(2 * WRITE);
    match stream {
        TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(limit),
        TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(limit),
    }
}
