//! The client's commands: what a person asks of a node.
//!
//! Each file has the flags of its commands beside what they do. All answer on a [`Screen`], as text or as JSON.

mod auth;
mod cluster;
mod conflicts;
mod examples;
mod foretold;
mod islands;
mod keys;
mod keyspace;
mod kv;
mod lease;
mod members;
mod node;
mod snapshot;
mod txn;
mod watch;

pub(crate) use cluster::{now, span};
pub(crate) use conflicts::hex;

use anyhow::Context;
use clap::Subcommand;

use crate::client::{Client, ConnectionOptions};
use crate::screen::Screen;

/// Commands that talk to a node.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Show how a node is: version, revision, sizes, alarms
    #[command(after_help = examples::STATUS)]
    Status,
    /// Read keys
    #[command(after_help = kv::GET_EXAMPLES)]
    Get(kv::GetOptions),
    /// Write a key
    #[command(after_help = kv::PUT_EXAMPLES)]
    Put(kv::PutOptions),
    /// Delete keys
    #[command(after_help = kv::DEL_EXAMPLES)]
    Del(kv::DelOptions),
    /// Do several things at once, if conditions hold
    #[command(after_help = txn::EXAMPLES)]
    Txn(txn::TxnOptions),
    /// Follow changes as they happen
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::WatchOptions),
    /// Grant, keep and revoke leases
    #[command(after_help = examples::LEASE)]
    #[command(subcommand)]
    Lease(lease::Lease),
    /// Forget the history before a revision
    #[command(after_help = examples::COMPACT)]
    Compact(kv::CompactOptions),
    /// Save the whole store to a file, or check such a file
    #[command(after_help = examples::SNAPSHOT)]
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Users of a node
    #[command(after_help = examples::USER)]
    #[command(subcommand)]
    User(auth::User),
    /// Roles: what users may read and write
    #[command(after_help = examples::ROLE)]
    #[command(subcommand)]
    Role(auth::Role),
    /// Turn authentication on and off
    #[command(after_help = examples::AUTH)]
    #[command(subcommand)]
    Auth(auth::Auth),
    /// Alarms that stop writes
    #[command(after_help = examples::ALARM)]
    #[command(subcommand)]
    Alarm(node::Alarm),
    /// Keyspaces: each is an etcd cluster of its own to its clients
    #[command(after_help = keyspace::EXAMPLES)]
    #[command(subcommand)]
    Keyspace(keyspace::Keyspace),
    /// Members of the cluster
    #[command(after_help = examples::MEMBER)]
    #[command(subcommand)]
    Member(node::Member),
}

impl Ask {
    /// What a failure is told to have attempted.
    const fn attempted(&self) -> &'static str {
        match self {
            Self::Status => "ask how the node is",
            Self::Get(_) => "get",
            Self::Put(_) => "put",
            Self::Del(_) => "delete",
            Self::Txn(_) => "run the transaction",
            Self::Watch(_) => "watch",
            Self::Lease(_) => "work on leases",
            Self::Compact(_) => "compact",
            Self::Snapshot(_) => "save a snapshot",
            Self::User(_) => "work on users",
            Self::Role(_) => "work on roles",
            Self::Auth(_) => "work on authentication",
            Self::Alarm(_) => "work on alarms",
            Self::Keyspace(_) => "work on keyspaces",
            Self::Member(_) => "ask for members",
        }
    }
}

/// Whether a command found what it looked for; not finding is exit code 1, as with grep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It did, or had nothing to look for.
    Yes,
    /// It did not.
    No,
}

/// Runs one command to its end.
pub(crate) async fn run(
    ask: &Ask,
    connection: &ConnectionOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    if let Ask::Snapshot(snapshot) = ask
        && let Some(done) = snapshot::run_alone(snapshot, screen)
    {
        return done;
    }
    let connection = &at_keyspace(connection).await?;
    let client = &mut Client::connect(connection).await?;
    answer(client, ask, connection, screen)
        .await
        .with_context(|| ask.attempted().to_owned())
}

/// The connection to the keyspace that was named, whose addresses keyspace `default` has.
pub(crate) async fn at_keyspace(
    connection: &ConnectionOptions,
) -> anyhow::Result<ConnectionOptions> {
    let Some(name) = &connection.keyspace else {
        return Ok(connection.clone());
    };
    let found = async {
        let mut client = Client::connect(connection).await?;
        keyspace::addresses(&mut client, name).await
    };
    let endpoints = found
        .await
        .with_context(|| format!("find keyspace {name}"))?;
    Ok(ConnectionOptions {
        endpoints,
        ..connection.clone()
    })
}

async fn answer(
    client: &mut Client,
    ask: &Ask,
    connection: &ConnectionOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    match ask {
        Ask::Status => node::status(client, connection, screen).await,
        Ask::Get(options) => kv::get(client, options, screen).await,
        Ask::Put(options) => kv::put(client, options, screen).await,
        Ask::Del(options) => kv::del(client, options, screen).await,
        Ask::Txn(options) => txn::txn(client, options, screen).await,
        Ask::Watch(options) => watch::watch(client, options, screen).await,
        Ask::Lease(lease) => lease::run(client, lease, screen).await,
        Ask::Compact(options) => kv::compact(client, options, screen).await,
        Ask::Snapshot(snapshot) => snapshot::run(client, snapshot, screen).await,
        Ask::User(user) => auth::user(client, user, screen).await,
        Ask::Role(role) => auth::role(client, role, screen).await,
        Ask::Auth(auth) => auth::auth(client, auth, screen).await,
        Ask::Alarm(alarm) => node::alarm(client, alarm, screen).await,
        Ask::Keyspace(keyspace) => keyspace::run(client, keyspace, (connection, screen)).await,
        Ask::Member(member) => node::member(client, member, screen).await,
    }
}
