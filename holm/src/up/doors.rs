//! The node's listeners: for clients, and for the console.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use holm_net::{Certificates, Limits, ListenConfig, Listener, Room};

use crate::config::{Config, Tls};

/// Open listeners.
#[derive(Debug)]
pub(super) struct Doors {
    /// Where clients come in.
    pub(super) clients: Vec<Listener>,
    /// Where health and metrics are.
    pub(super) console: Option<Listener>,
    /// The connections that all of them share.
    pub(super) room: Room,
    /// What the node proves itself with; none without TLS.
    pub(super) certificates: Option<Arc<Certificates>>,
}

impl Doors {
    /// Opens all of them. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// The first that cannot be opened, and why: somebody listens there, a certificate does not fit.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let certificates = certificates(config)?;
        let kept = certificates.clone();
        let room = Room::of_process();
        let open = |address: SocketAddr, certificates: Option<Arc<Certificates>>| {
            let (room, limits) = (room.clone(), Limits::default());
            Listener::bind(ListenConfig {
                address,
                certificates,
                room,
                limits,
            })
        };
        let mut clients = Vec::new();
        for address in &config.listen {
            let listener = open(*address, certificates.clone()).context(hint("--listen"))?;
            clients.push(listener);
        }
        let console = config.console.map(|address| {
            // On loopback the console stays plain, for probes and scrapers without certificates.
            let needed = certificates.clone().filter(|_| !address.ip().is_loopback());
            open(address, needed).context(hint("--console"))
        });
        Ok(Self {
            clients,
            console: console.transpose()?,
            room,
            certificates: kept,
        })
    }
}

fn hint(flag: &str) -> String {
    format!("open {flag}")
}

fn certificates(config: &Config) -> anyhow::Result<Option<Arc<Certificates>>> {
    match &config.tls {
        Tls::Off => Ok(None),
        Tls::Files(files) => Ok(Some(Certificates::load(files.clone())?)),
        Tls::SelfMade => {
            let folder = config.data_dir.join("tls");
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("make {} for the certificate", folder.display()))?;
            Ok(Some(Certificates::self_made(&folder, &names(config))?))
        }
    }
}

/// Whom a certificate of our own is for: this machine, by every name it listens under.
fn names(config: &Config) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(config.listen.iter().map(|address| address.ip().to_string()));
    names.sort_unstable();
    names.dedup();
    names
}
