//! The node's parts, each told what the configuration says about it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use holm_etcd::front::Front;
use holm_etcd::grpc;
use holm_etcd::services::{self, Services};
use holm_etcd::token::TokenConfig;
use holm_etcd::web::{NodeVitals, Versions, Web, gateway};
use holm_kv::HubConfig;
use holm_net::Room;
use holm_runtime::Handle;
use holm_telemetry::Metrics;

use super::alarms;
use super::peers::Links;
use crate::config::Config;

/// A message may be larger than the request in it, by what surrounds it, as etcd allows.
const SURROUNDINGS_BYTES: u64 = 512 << 10;

/// The fronts of a node: everything for clients, and what the console shows.
pub(super) fn fronts(
    config: &Config,
    (handle, links): (&Handle, Arc<Links>),
    room: &Room,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Front, Web, Services)> {
    let services = services(config, handle, metrics)?;
    if let Some(cluster) = &config.cluster {
        services.with_links(Arc::<Links>::clone(&links));
        let (followed, cluster) = (services.clone(), cluster.clone());
        let (tended, lifetime) = (Arc::clone(&links), config.wish.lifetime);
        tokio::spawn(async move { links.follow(followed, cluster).await });
        let opened = services.clone();
        tokio::spawn(async move { tended.tend(opened, lifetime).await });
    }
    let tended = services.clone();
    // Ends with the node, and at once at a node alone.
    tokio::spawn(async move { tended.tend().await });
    tokio::spawn(alarms::tell(handle.clone()));
    let (front, console) = front(config, &services, room, metrics)?;
    Ok((front, console, services))
}

/// The front of a keyspace beside `default`.
pub(super) fn keyspace_front(
    config: &Config,
    (handle, links): (&Handle, Arc<Links>),
    room: &Room,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Front, Services)> {
    let services = services(config, handle, metrics)?;
    if config.cluster.is_some() {
        services.with_links(links);
    }
    let (front, _console) = front(config, &services, room, metrics)?;
    Ok((front, services))
}

fn services(config: &Config, handle: &Handle, metrics: &Arc<Metrics>) -> anyhow::Result<Services> {
    let mut tokens = TokenConfig::parse(&config.auth_token, &mut |file| std::fs::read(file))
        .context("--auth-token")?;
    if let TokenConfig::Simple { lifetime } = &mut tokens {
        *lifetime = config.auth_token_ttl;
    }
    let limits = service_limits(config)?;
    Services::new(handle.clone(), limits, &tokens, Arc::clone(metrics)).context("--auth-token")
}

/// What serves the clients of a keyspace, and what its console shows.
fn front(
    config: &Config,
    services: &Services,
    room: &Room,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Front, Web)> {
    let versions = Versions {
        server: services::VERSION.to_owned(),
        cluster: services::CLUSTER_VERSION.to_owned(),
        storage: services::CLUSTER_VERSION.to_owned(),
    };
    let vitals = Arc::new(NodeVitals::new(services.clone(), room.clone()));
    let console = Web::new(vitals, Arc::clone(metrics), versions);
    let calls = gateway(services, services.limits().request_bytes_max);
    let web = console.clone().with_gateway(calls);
    let server = grpc::Server::new(services.clone(), web.clone(), grpc_limits(config)?, metrics);
    Ok((Front::new(server, web), console))
}

/// What the engine is told.
pub(super) fn engine(config: &Config) -> holm_kv::Config {
    holm_kv::Config {
        quota_bytes: config.quota_bytes,
        election_timeout: config.election_timeout,
        hub: HubConfig {
            progress_interval: config.progress_interval,
            fragment_bytes: fragment_bytes(config.request_bytes_max),
            ..HubConfig::default()
        },
        ..holm_kv::Config::default()
    }
}

/// An answer to a watch is cut where the largest message that we would take ends.
fn fragment_bytes(request_bytes_max: u64) -> usize {
    let bytes = request_bytes_max.saturating_add(SURROUNDINGS_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn service_limits(config: &Config) -> anyhow::Result<services::Limits> {
    Ok(services::Limits {
        request_bytes_max: usize::try_from(config.request_bytes_max)?,
        operations_max: usize::try_from(config.txn_ops_max)?,
        lease_seconds_min: lease_seconds_min(config.election_timeout)?,
        ..services::Limits::default()
    })
}

fn grpc_limits(config: &Config) -> anyhow::Result<grpc::Limits> {
    Ok(grpc::Limits {
        message_bytes_max: usize::try_from(config.request_bytes_max + SURROUNDINGS_BYTES)?,
        request_timeout: Duration::from_secs(5) + config.election_timeout * 2,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
        ping_interval_min: config.keepalive_time_min,
        ..grpc::Limits::default()
    })
}

/// One and a half election timeouts, in whole seconds upwards.
fn lease_seconds_min(election_timeout: Duration) -> anyhow::Result<i64> {
    Ok(i64::try_from(
        (election_timeout * 3 / 2).as_millis().div_ceil(1000),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_watch_answers_follow_the_largest_request() {
        assert_eq!(fragment_bytes(3 << 19), HubConfig::default().fragment_bytes);
        assert_eq!(fragment_bytes(8 << 20), (8 << 20) + (1 << 19));
    }

    #[test]
    fn least_lease_follows_the_election_timeout() {
        let least = |ms| lease_seconds_min(Duration::from_millis(ms)).unwrap();
        assert_eq!((least(1000), least(100), least(2000)), (2, 1, 3));
    }
}
