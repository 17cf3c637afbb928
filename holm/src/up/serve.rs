//! A node's life between its start and its stop: who comes in, and when it ends.

use std::time::Duration;

use anyhow::bail;
use holm_etcd::front::Front;
use holm_etcd::web::Web;
use holm_net::Listener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::doors::Doors;
use super::signals::{End, Ends};

/// How long requests in hand may take once the node is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until told to stop, then through `parting`, then until the requests in hand are answered.
///
/// # Errors
///
/// The node's own failure.
pub(super) async fn serve(
    doors: Doors,
    front: Front,
    web: Web,
    mut ends: Ends,
    parting: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut serving = open(doors, &front, &web, &stopped);
    match ends.next().await {
        End::Failure(why) => bail!("the node cannot go on: {why}"),
        End::Signal(name) => tracing::info!(signal = name, "stopping"),
    }
    tokio::select! {
        () = parting => {}
        end = ends.next() => match end {
            End::Failure(why) => bail!("the node cannot go on: {why}"),
            End::Signal(name) => tracing::warn!(signal = name, "told again to stop"),
        },
    }
    stop.send_replace(true);
    let all_left = async { while serving.join_next().await.is_some() {} };
    tokio::select! {
        () = all_left => tracing::info!("all connections have ended"),
        () = tokio::time::sleep(GRACE) => {
            tracing::warn!("connections did not end in time and are cut");
        }
        end = ends.next() => match end {
            End::Failure(why) => bail!("the node cannot go on: {why}"),
            End::Signal(name) => tracing::warn!(signal = name, "told again to stop: connections are cut"),
        },
    }
    Ok(())
}

/// Gives each listener its task.
fn open(doors: Doors, front: &Front, web: &Web, stopped: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    for listener in doors.clients {
        clients(&mut serving, listener, front, stopped);
    }
    if let Some(listener) = doors.console {
        let (web, stop) = (web.clone(), stopped.clone());
        serving.spawn(listener.serve(until(stopped.clone()), move |connection| {
            let (web, stop) = (web.clone(), until(stop.clone()));
            async move { web.serve(connection.stream, stop).await }
        }));
    }
    serving
}

/// Gives a listener for clients its task.
pub(super) fn clients(
    serving: &mut JoinSet<()>,
    listener: Listener,
    front: &Front,
    stopped: &watch::Receiver<bool>,
) {
    let (front, stop) = (front.clone(), stopped.clone());
    serving.spawn(listener.serve(until(stopped.clone()), move |connection| {
        let (front, stop) = (front.clone(), stop.clone());
        async move { front.serve(connection, stop).await }
    }));
}

/// Ready when it is to stop.
pub(crate) async fn until(mut stop: watch::Receiver<bool>) {
    // An error means that nobody can say stop any more, which is one.
    stop.wait_for(|told| *told).await.ok();
}
