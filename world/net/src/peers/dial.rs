//! Keeps one connection to one node up: dials, dials again, and dials a successor when asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::listener::tune;
use crate::peers::backoff::Backoff;
use crate::peers::drive::{Ended, run};
use crate::peers::table::Node;
use crate::peers::{Class, Shared};
use crate::tls_words::words;

/// How long a TCP connection may take to come about.
const CONNECT: Duration = Duration::from_secs(1);

/// A successor is dialled so often at most, whoever asks for it.
const RENEW_MIN: Duration = Duration::from_secs(1);

/// Connections of one lane that may exist at once: one that carries, its predecessor, one that
/// is being made.
const AT_ONCE: usize = 3;

/// Dials until the node is no member any more or the links are to end.
pub(crate) async fn keep_up(shared: Arc<Shared>, node: Arc<Node>, class: Class) {
    tokio::select! {
        () = shared.stop() => {}
        () = node.gone() => {}
        () = dial_on(&shared, &node, class) => {}
    }
}

async fn dial_on(shared: &Arc<Shared>, node: &Arc<Node>, class: Class) {
    let mut backoff = Backoff::new(shared.seed());
    let mut connections = JoinSet::new();
    loop {
        let dialled = Instant::now();
        connections.spawn(dial(Arc::clone(shared), Arc::clone(node), class));
        // Until something asks for another connection.
        loop {
            tokio::select! {
                Some(ended) = connections.join_next() => {
                    let was_bound = ended.is_ok_and(|ended| ended.node.is_some());
                    if was_bound {
                        backoff.reset();
                    }
                    if was_bound && node.lane(class).carrier().is_some() {
                        continue;
                    }
                    if connections.is_empty() || !was_bound {
                        tokio::time::sleep(backoff.wait()).await;
                        break;
                    }
                }
                () = node.lane(class).renew.notified(), if connections.len() < AT_ONCE => {
                    tokio::time::sleep_until(dialled + RENEW_MIN).await;
                    break;
                }
            }
        }
    }
}

/// One connection, from dialling to its end.
async fn dial(shared: Arc<Shared>, node: Arc<Node>, class: Class) -> Ended {
    let address = node.address();
    let ended = match connect(&shared, &address).await {
        Ok((stream, left)) => {
            let mut config = shared.link_config(Some((node.id, class)));
            config.bind_timeout = left;
            run(&shared, stream, config, None).await
        }
        Err(error) => Ended {
            reason: format!("dial {address}: {error}"),
            node: None,
            is_orderly: false,
        },
    };
    if !ended.is_orderly {
        node.ended(ended.reason.clone());
    }
    ended
}

/// TCP and TLS, and how much is left of the time for a handshake.
async fn connect(
    shared: &Arc<Shared>,
    address: &str,
) -> io::Result<(TlsStream<TcpStream>, Duration)> {
    let timeout = shared.config.limits.handshake_timeout;
    let begun = Instant::now();
    let late = |what: &'static str| move |_elapsed| io::Error::new(io::ErrorKind::TimedOut, what);
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(late("no connection within a second"))??;
    if let Ok(peer) = stream.peer_addr() {
        tune(&stream, peer);
    }
    let connector = TlsConnector::from(shared.config.certificates.current().client);
    let name = ServerName::try_from("holm").expect("it is a host name");
    let stream = tokio::time::timeout(timeout, connector.connect(name, stream))
        .await
        .map_err(late("no TLS in time"))?
        .map_err(|error| io::Error::new(error.kind(), format!("TLS: {}", words(&error))))?;
    let left = timeout.saturating_sub(begun.elapsed());
    Ok((TlsStream::Client(stream), left))
}
