//! Takes connections of nodes that dial here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::server::{Acceptor, ClientHello};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::{LazyConfigAcceptor, TlsStream, server};

use crate::listener::{REST, is_of_one_client, tune};
use crate::peers::Shared;
use crate::peers::drive::run;
use crate::peers::{Desk, desk};
use crate::rotating::DESK_ALPN;
use crate::tls_words::words;

/// Accepts until the links are to end. What is wrong with one connection harms no other.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_client(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "accepting peers failed, trying again");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Ok(turn) = Arc::clone(&shared.handshakes).try_acquire_owned() else {
            let text = "link refused: too many handshakes at once";
            shared.table.refuse(address, text.to_owned());
            continue;
        };
        tune(&stream, address);
        tokio::spawn(serve(Arc::clone(&shared), stream, (address, turn)));
    }
}

/// TLS, then the link, both within the time for a handshake.
async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    (address, turn): (SocketAddr, OwnedSemaphorePermit),
) {
    let timeout = shared.config.limits.handshake_timeout;
    let begun = Instant::now();
    let secured = tokio::time::timeout(timeout, secure(&shared, stream)).await;
    let (stream, desk) = match secured {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => {
            let text = format!("link refused: TLS: {}", words(&error));
            return shared.table.refuse(address, text);
        }
        Err(_elapsed) => {
            let text = format!("link refused: no TLS within {timeout:?}");
            return shared.table.refuse(address, text);
        }
    };
    if let Some(desk) = desk {
        let left = timeout.saturating_sub(begun.elapsed());
        return desk::serve(&shared, &desk, stream, (address, turn, left)).await;
    }
    let mut config = shared.link_config(None);
    config.bind_timeout = timeout.saturating_sub(begun.elapsed());
    let ended = run(&shared, TlsStream::Server(stream), config, Some(turn)).await;
    match ended.node {
        Some(node) if !ended.is_orderly => node.ended(ended.reason),
        Some(_) => {}
        None => shared.table.refuse(address, ended.reason),
    }
}

/// TLS for a link, or for the desk if that is what is asked for and there is one.
async fn secure(
    shared: &Arc<Shared>,
    stream: TcpStream,
) -> io::Result<(server::TlsStream<TcpStream>, Option<Arc<dyn Desk>>)> {
    let ends = shared.config.certificates.current();
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let asks = asks_desk(&start.client_hello());
    match shared.config.desk.clone().filter(|_| asks) {
        Some(desk) => Ok((start.into_stream(ends.desk).await?, Some(desk))),
        None => Ok((start.into_stream(ends.server).await?, None)),
    }
}

fn asks_desk(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn().into_iter().flatten();
    offered.any(|protocol| protocol == DESK_ALPN)
}
