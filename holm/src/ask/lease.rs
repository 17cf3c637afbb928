//! lease: grant, revoke, keep-alive, ttl, list.

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

use super::Found;
use super::keys::{lease_text, parse_lease};
use crate::client::Client;
use crate::screen::{Screen, readable};
use crate::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

/// Commands about leases. Ids are hexadecimal.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Lease {
    /// Make a lease that ends after so many seconds unless it is kept
    Grant {
        /// Seconds
        seconds: i64,
        /// The lease's id; the node picks one without it
        #[arg(long, value_parser = parse_lease, default_value = "0")]
        id: i64,
    },
    /// End a lease and delete its keys
    Revoke {
        /// The lease
        #[arg(value_parser = parse_lease)]
        id: i64,
    },
    /// Keep a lease until Ctrl-C
    #[command(alias = "keepalive")]
    KeepAlive {
        /// The lease
        #[arg(value_parser = parse_lease)]
        id: i64,
        /// Keep it once and end
        #[arg(long)]
        once: bool,
    },
    /// How long a lease still lasts
    #[command(visible_alias = "timetolive")]
    Ttl {
        /// The lease
        #[arg(value_parser = parse_lease)]
        id: i64,
        /// Show its keys too
        #[arg(long)]
        keys: bool,
    },
    /// All leases
    List,
}

/// Runs one of them.
pub(super) async fn run(
    client: &mut Client,
    lease: &Lease,
    screen: Screen,
) -> anyhow::Result<Found> {
    match *lease {
        Lease::Grant { seconds, id } => grant(client, seconds, id, screen).await,
        Lease::Revoke { id } => {
            let request = LeaseRevokeRequest { id };
            let _answer: LeaseRevokeResponse = client
                .call("/etcdserverpb.Lease/LeaseRevoke", &request)
                .await?;
            let id = lease_text(id);
            screen.show(&format!("lease {id} revoked"), &json!({ "revoked": id }))?;
            Ok(Found::Yes)
        }
        Lease::KeepAlive { id, once } => keep(client, id, once, screen).await,
        Lease::Ttl { id, keys } => time_to_live(client, id, keys, screen).await,
        Lease::List => list(client, screen).await,
    }
}

async fn grant(
    client: &mut Client,
    seconds: i64,
    id: i64,
    screen: Screen,
) -> anyhow::Result<Found> {
    let request = LeaseGrantRequest { ttl: seconds, id };
    let answer: LeaseGrantResponse = client
        .call("/etcdserverpb.Lease/LeaseGrant", &request)
        .await?;
    let (id, ttl) = (lease_text(answer.id), answer.ttl);
    screen.show(
        &format!("lease {id}, {ttl} s"),
        &json!({ "lease": id, "ttl": ttl }),
    )?;
    Ok(Found::Yes)
}

/// Renews at a third of what is left, as etcd's clients do.
async fn keep(client: &mut Client, id: i64, once: bool, screen: Screen) -> anyhow::Result<Found> {
    let request = LeaseKeepAliveRequest { id };
    let mut stream = client
        .open("/etcdserverpb.Lease/LeaseKeepAlive", &request, false)
        .await?;
    loop {
        let Some(answer) = stream.next::<LeaseKeepAliveResponse>().await? else {
            bail!("the node ended the stream");
        };
        let name = lease_text(id);
        if answer.ttl <= 0 {
            bail!("lease {name} has ended, or never was");
        }
        let ttl = answer.ttl;
        screen.show(
            &format!("lease {name} kept, {ttl} s"),
            &json!({ "lease": name, "ttl": ttl }),
        )?;
        if once {
            return Ok(Found::Yes);
        }
        let pause = Duration::from_secs(u64::try_from(ttl)?) / 3;
        tokio::time::sleep(pause).await;
        stream.send(&request)?;
    }
}

async fn time_to_live(
    client: &mut Client,
    id: i64,
    keys: bool,
    screen: Screen,
) -> anyhow::Result<Found> {
    let request = LeaseTimeToLiveRequest { id, keys };
    let answer: LeaseTimeToLiveResponse = client
        .call("/etcdserverpb.Lease/LeaseTimeToLive", &request)
        .await?;
    let name = lease_text(id);
    let names: Vec<String> = answer.keys.iter().map(|key| readable(key)).collect();
    let json = json!({ "lease": name, "ttl": answer.ttl, "granted_ttl": answer.granted_ttl, "keys": names });
    if answer.ttl < 0 {
        if !screen.is_json() {
            bail!("lease {name} has ended, or never was");
        }
        screen.show("", &json)?;
        return Ok(Found::No);
    }
    let mut text = format!(
        "lease {name}, {} s left of {}\n",
        answer.ttl, answer.granted_ttl
    );
    for key in names {
        text.push_str(&format!("  {key}\n"));
    }
    screen.show(&text, &json)?;
    Ok(Found::Yes)
}

async fn list(client: &mut Client, screen: Screen) -> anyhow::Result<Found> {
    let answer: LeaseLeasesResponse = client
        .call(
            "/etcdserverpb.Lease/LeaseLeases",
            &LeaseLeasesRequest::default(),
        )
        .await?;
    let names: Vec<String> = answer
        .leases
        .iter()
        .map(|lease| lease_text(lease.id))
        .collect();
    screen.show(&names.join("\n"), &json!({ "leases": names }))?;
    Ok(Found::Yes)
}
