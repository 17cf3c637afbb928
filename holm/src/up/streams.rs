//! The streams of a site: opened with it in its data directory, served at an address of their own, stopped with it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use holm_net::{Limits, ListenConfig, Listener, Room};
use holm_serve::{Front, Plane, Service};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::keyspace_port::SitePorts;
use super::until;
use crate::config::{Config, Tls};

/// Where the streams lie in the data directory.
const FOLDER: &str = "streams";

/// Streams that run.
#[derive(Debug)]
pub(super) struct Streams {
    plane: Plane,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// Opens the streams of a site, if it is to have any. Must be called within a runtime, once clients are served: a
/// stream may be of a keyspace of the same site.
///
/// # Errors
///
/// If somebody listens at their address, or their folder cannot be read.
pub(super) fn open(
    config: &Config,
    room: &Room,
    clients: &[SocketAddr],
) -> anyhow::Result<Option<Streams>> {
    let root = config.data_dir.join(FOLDER);
    let Some(address) = config.streams else {
        if root.is_dir() {
            tracing::warn!("this site has streams, and they do not run without --streams-listen");
        }
        return Ok(None);
    };
    anyhow::ensure!(
        address.ip().is_loopback(),
        "--streams-listen {address} is not loopback: streams have no users yet, so that whoever reaches them could make \
         and drop any; listen on 127.0.0.1"
    );
    let listener = Listener::bind(ListenConfig {
        address,
        certificates: None,
        room: room.clone(),
        limits: Limits::default(),
    })
    .context("open --streams-listen")?;
    let address = listener.address();
    let front = Front::new(&config.name);
    let ports = SitePorts::new(clients, config.tls == Tls::Off);
    let plane = Plane::open(&root, front.clone(), Arc::new(ports)).context("open the streams")?;
    let service = Service::new(front, plane.clone());
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(until(stopped.clone()), move |connection| {
        let (service, stop) = (service.clone(), until(stopped.clone()));
        async move { service.serve(connection.stream, stop).await }
    }));
    tracing::info!(%address, "streams are served");
    Ok(Some(Streams {
        plane,
        stop,
        serving,
    }))
}

impl Streams {
    /// Ends all streams when what they took is safe; they go on where they were at the next start.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        let plane = self.plane;
        if tokio::task::spawn_blocking(move || plane.stop())
            .await
            .is_err()
        {
            tracing::error!("stopping the streams has failed");
        }
        self.serving.abort();
    }
}
