//! One port for everything: gRPC over HTTP/2, the gateway and health over HTTP/1.

use std::sync::Arc;

use holm_net::{Connection, Protocol};
use tokio::sync::watch;

use crate::grpc::Server;
use crate::web::Web;

/// What a listener hands its connections to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Front {
    server: Arc<Server>,
    web: Web,
}

impl Front {
    /// A front that gives gRPC to `server` and everything else to `web`.
    #[must_use]
    pub const fn new(server: Arc<Server>, web: Web) -> Self {
        Self { server, web }
    }

    /// Serves a connection until the client leaves, or until `stop` turns true and what is in
    /// hand is answered.
    pub async fn serve(&self, connection: Connection, mut stop: watch::Receiver<bool>) {
        let Connection {
            stream,
            protocol,
            common_name,
            peer: _,
            is_tls: _,
        } = connection;
        match protocol {
            Protocol::Http2 => self.server.serve(stream, common_name, stop).await,
            Protocol::Http1 => {
                let stopped = async move {
                    // An error means that the node is gone, which is a stop too.
                    stop.wait_for(|it| *it).await.ok();
                };
                self.web.serve(stream, stopped).await;
            }
        }
    }
}
