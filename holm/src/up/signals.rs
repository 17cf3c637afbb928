//! When to stop: a signal, the end of the process that started this one, or the node's own failure.

use std::sync::Arc;

use holm_runtime::OnFailure;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// What may end the node.
#[derive(Debug)]
pub(crate) struct Ends {
    terminate: Signal,
    interrupt: Signal,
    failure: watch::Receiver<Option<String>>,
    input: watch::Receiver<bool>,
    /// Whether the end of the input was told: once is enough.
    input_told: bool,
}

/// Why the node ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody asked for it.
    Signal(&'static str),
    /// It cannot go on.
    Failure(String),
}

impl Ends {
    /// Begins to listen, with `ends_with_input` for the end of standard input too. Must be called within a runtime.
    pub(crate) fn listen(
        failure: watch::Receiver<Option<String>>,
        ends_with_input: bool,
    ) -> std::io::Result<Self> {
        let (sender, input) = watch::channel(false);
        if ends_with_input {
            std::thread::Builder::new()
                .name("holm-input".to_owned())
                .spawn(move || {
                    // However it ends, there is nobody at the other end any more.
                    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
                    sender.send_replace(true);
                })?;
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            failure,
            input,
            input_told: false,
        })
    }

    /// Waits for the next reason to end.
    pub(crate) async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Signal("SIGTERM"),
            _ = self.interrupt.recv() => End::Signal("SIGINT"),
            Ok(_) = self.input.wait_for(|ended| *ended), if !self.input_told => {
                self.input_told = true;
                End::Signal("the end of its input")
            }
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
