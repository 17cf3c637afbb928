//! The socket in the folder of the sites, by which `holm link` and `holm site` reach the process that runs them.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::crew::Crew;
use super::protocol::{Answer, REQUEST_BYTES_MAX, Request, SOCKET};

/// Questions at once; more wait.
const QUESTIONS_MAX: usize = 16;
/// How long a question may take to arrive, and an answer to leave.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the socket, for this user alone. The folder is locked by now, so an old socket is nobody's. Call it before
/// other threads make files: for a moment, they too would be for this user alone.
///
/// # Errors
///
/// A path that is too long for a socket, or that cannot be written.
pub(super) fn open(data_dir: &Path) -> anyhow::Result<UnixListener> {
    let path = data_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove the old {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let opened = UnixListener::bind(&path);
    umask(before);
    opened.with_context(|| {
        format!(
            "open {} (a socket's path has 107 bytes at most: a shorter --data-dir may help)",
            path.display()
        )
    })
}

/// Answers questions for ever.
pub(super) async fn serve(listener: UnixListener, crew: Crew) {
    let room = Arc::new(Semaphore::new(QUESTIONS_MAX));
    loop {
        let place = Arc::clone(&room).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _address)) => {
                let crew = crew.clone();
                tokio::spawn(async move {
                    // Who asked and went away needs no answer.
                    answer(stream, &crew).await.ok();
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket takes no question");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, crew: &Crew) -> std::io::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut line = String::new();
    let mut from = BufReader::new(from.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(PATIENCE, from.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => crew.answer(request).await,
        Err(error) => Answer::Refused {
            why: format!("this is no question of this release: {error}"),
        },
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    tokio::time::timeout(PATIENCE, to.write_all(&text)).await?
}
