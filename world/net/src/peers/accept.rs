//! Takes connections of nodes that dial here.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::listener::{REST, is_of_one_client, tune};
use crate::peers::Shared;
use crate::peers::drive::run;

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
    let acceptor = TlsAcceptor::from(shared.config.certificates.current().server);
    let stream = match tokio::time::timeout(timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return shared
                .table
                .refuse(address, format!("link refused: TLS: {error}"));
        }
        Err(_elapsed) => {
            let text = format!("link refused: no TLS within {timeout:?}");
            return shared.table.refuse(address, text);
        }
    };
    let mut config = shared.link_config(None);
    config.bind_timeout = timeout.saturating_sub(begun.elapsed());
    let ended = run(&shared, TlsStream::Server(stream), config, Some(turn)).await;
    match ended.node {
        Some(node) if !ended.is_orderly => node.ended(ended.reason),
        Some(_) => {}
        None => shared.table.refuse(address, ended.reason),
    }
}
