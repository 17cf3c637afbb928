//! When to stop: a signal, or the node's own failure.

use std::sync::Arc;

use holm_runtime::OnFailure;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// What may end the node.
#[derive(Debug)]
pub(super) struct Ends {
    terminate: Signal,
    interrupt: Signal,
    failure: watch::Receiver<Option<String>>,
}

/// Why the node ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody asked for it.
    Signal(&'static str),
    /// It cannot go on.
    Failure(String),
}

impl Ends {
    /// Begins to listen. Must be called within a runtime.
    pub(super) fn listen(failure: watch::Receiver<Option<String>>) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            failure,
        })
    }

    /// Waits for the next reason to end.
    pub(super) async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Signal("SIGTERM"),
            _ = self.interrupt.recv() => End::Signal("SIGINT"),
            Ok(failure) = self.failure.wait_for(Option::is_some) => {
                End::Failure(failure.clone().unwrap_or_default())
            }
        }
    }
}

/// A place for the node's failure, and the way there.
pub(super) fn failure() -> (OnFailure, watch::Receiver<Option<String>>) {
    let (sender, receiver) = watch::channel(None);
    let tell: OnFailure = Arc::new(move |text: &str| {
        sender.send_replace(Some(text.to_owned()));
    });
    (tell, receiver)
}
