//! The lines that a node greets with.

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
    if config.tls == Tls::SelfMade {
        let certificate = config.data_dir.join("tls").join("certificate.pem");
        text.push_str(&format!(
            "\n  clients trust it by --cacert {}",
            certificate.display()
        ));
    }
    for services in shown.keyspaces() {
        let (handle, name) = (services.handle(), services.handle().keyspace());
        let urls = handle.identity().client_urls.join(", ");
        let guarantee = services.guarantee();
        text.push_str(&format!(
            "\n  keyspace {name}  {guarantee}  etcd API {urls}"
        ));
    }
    text
}
