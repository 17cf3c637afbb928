//! The one line that a node greets with.

use std::net::SocketAddr;

use holm_etcd::services::Neighbours;

use super::keyspaces::Shown;
use crate::config::{Config, Tls};

/// What is served, where.
pub(super) fn text(
    config: &Config,
    clients: &[SocketAddr],
    console: Option<SocketAddr>,
    shown: &Shown,
) -> String {
    let clients: Vec<String> = clients.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "holm {}  keyspace default  linearizable  etcd API {}",
        env!("CARGO_PKG_VERSION"),
        clients.join(", ")
    );
    if config.tls != Tls::Off {
        text.push_str(" (TLS)");
    }
    if let Some(console) = console {
        text.push_str(&format!("  console {console}"));
    }
    for services in shown.keyspaces() {
        let (handle, name) = (services.handle(), services.handle().keyspace());
        let urls = handle.identity().client_urls.join(", ");
        text.push_str(&format!(
            "\n  keyspace {name}  linearizable  etcd API {urls}"
        ));
    }
    text
}
