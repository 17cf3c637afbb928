//! The connection home over which the cache is told what happens: opened, kept, opened again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holm_etcd::holm::cache::{Ask, CacheAsk, CacheTell, Open, Tell};
use holm_etcd::status::Code;
use holm_freshness::ToCache;
use tokio::sync::{mpsc, watch};

use super::keeper::{ASKS_MAX, Keeper, Link};
use crate::ask;
use crate::client::{Client, ClientError, ConnectionOptions, Stream};

/// How long after a connection was lost the next is tried, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long after it was refused: that changes when somebody changes it.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);
/// How long a home may take to say who it is.
const GREETING: Duration = Duration::from_secs(3);
/// The shortest silence after which a connection is given up.
const SILENCE_MIN: Duration = Duration::from_secs(5);

/// The home, and what the cache is for.
#[derive(Clone, Debug)]
pub(super) struct Home {
    connection: ConnectionOptions,
    keyspace: String,
    /// Counts homes that were lost: the next one that was named has its turn.
    lost: Arc<AtomicUsize>,
}

impl Home {
    pub(super) fn new(connection: ConnectionOptions, keyspace: String) -> Self {
        Self {
            connection,
            keyspace,
            lost: Arc::default(),
        }
    }

    /// A connection to the keyspace.
    ///
    /// # Errors
    ///
    /// Nobody is there, or nobody there knows the keyspace.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let mut named = self.connection.clone();
        self.turn(&mut named);
        let mut found = ask::at_keyspace(&named).await?;
        if found.endpoints != named.endpoints {
            self.turn(&mut found);
        }
        Ok(Client::connect(&found).await?)
    }

    /// That there is no such keyspace.
    fn missing(&self) -> anyhow::Error {
        let (name, from) = (&self.keyspace, self.connection.endpoints.join(","));
        anyhow::anyhow!(
            "cache keyspace {name} of {from}: there is no such keyspace: `holm keyspace list --endpoints {from}` shows all"
        )
    }

    /// Puts the one first whose turn it is: one that hangs takes connections too.
    fn turn(&self, connection: &mut ConnectionOptions) {
        let endpoints = &mut connection.endpoints;
        let first = self.lost.load(Ordering::Relaxed) % endpoints.len().max(1);
        endpoints.rotate_left(first);
    }
}

/// Keeps a connection for as long as it is polled. It ends only if the home, before it has told anything, says that it
/// has no such keyspace: somebody mistook the name. What was there before may come back.
pub(super) async fn keep(home: &Home, keeper: &Arc<Keeper>) -> anyhow::Error {
    let (mut pause, mut said, mut was_up) = (AGAIN.0, String::new(), false);
    loop {
        let Err(error) = follow(home, keeper).await else {
            continue;
        };
        was_up |= keeper.view().link == Link::Up;
        if !was_up && is_missing(&error) {
            return home.missing();
        }
        let why = format!("{error:#}");
        let refused = refusal(&error);
        let is_refused = refused.is_some();
        if why != said {
            tracing::warn!(why, is_refused, "the home tells nothing");
            said = why;
        }
        if keeper.view().link == Link::Up {
            (pause, said) = (AGAIN.0, String::new());
        }
        home.lost.fetch_add(1, Ordering::Relaxed);
        keeper.down(refused.map_or(Link::Down, Link::Refused));
        tokio::time::sleep(if is_refused { REFUSED_AGAIN } else { pause }).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

/// Whether a home said that it has no such keyspace, and was not cut off from those who may know better.
fn is_missing(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(ClientError::Refused {
            code, island: None, ..
        }) => is_code(*code, Code::NotFound),
        _ => false,
    }
}

/// Why a home that is there does not want to tell anything.
fn refusal(error: &anyhow::Error) -> Option<String> {
    let Some(ClientError::Refused { code, message, .. }) = error.downcast_ref() else {
        return None;
    };
    if is_code(*code, Code::Unimplemented) {
        return Some("the home knows no caches: it is no Holm, or an older one".to_owned());
    }
    let is_for_good = [Code::InvalidArgument, Code::FailedPrecondition];
    let mut all = is_for_good.into_iter();
    all.any(|one| is_code(*code, one)).then(|| message.clone())
}

fn is_code(number: u32, code: Code) -> bool {
    number == u32::from(code.number())
}

/// One connection from its beginning to its end.
async fn follow(home: &Home, keeper: &Arc<Keeper>) -> anyhow::Result<()> {
    let mut client = home.connect().await?;
    let bound_us = u64::try_from(keeper.bound().as_micros()).unwrap_or(u64::MAX);
    let open = Open {
        keyspace: home.keyspace.clone(),
        bound_us,
    };
    let first = CacheAsk {
        ask: Some(Ask::Open(open)),
    };
    let mut stream = client.open("/holm.v1.Cache/Follow", &first, false).await?;
    let greeted = tokio::time::timeout(GREETING, stream.next::<CacheTell>()).await;
    let Some(CacheTell {
        tell: Some(Tell::Opened(opened)),
    }) = greeted.map_err(|_elapsed| anyhow::anyhow!("the home is silent"))??
    else {
        anyhow::bail!("the home does not say who it is");
    };
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    tracing::info!(home = client.endpoint(), "the home tells what happens");
    let hang_up = keeper.hang_up();
    keeper.up(opened, asks);
    talk(&mut stream, keeper, asked, hang_up).await
}

async fn talk(
    stream: &mut Stream,
    keeper: &Arc<Keeper>,
    mut asked: mpsc::Receiver<CacheAsk>,
    mut hang_up: watch::Receiver<u64>,
) -> anyhow::Result<()> {
    let patience = (keeper.bound() * 10).max(SILENCE_MIN);
    loop {
        let due = keeper.wake();
        tokio::select! {
            told = stream.next::<CacheTell>() => {
                let told = told?.ok_or_else(|| anyhow::anyhow!("the home has ended"))?;
                let message = ToCache::try_from(told).map_err(|it| anyhow::anyhow!("{it}"))?;
                keeper.hear(message);
            }
            Some(ask) = asked.recv() => stream.send(&ask)?,
            _ = hang_up.changed() => anyhow::bail!("the connection was given up"),
            () = tokio::time::sleep(due) => {
                anyhow::ensure!(keeper.silence() <= patience, "the home has been silent for {patience:?}");
            }
        }
    }
}
