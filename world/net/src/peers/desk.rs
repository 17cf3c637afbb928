//! The desk: one question and one answer, for whoever wants to join or wants a new certificate.
//!
//! It is behind the same port as the links, told apart by the protocol that TLS agrees on. Who
//! asks need not show a certificate; one that is shown was verified.
//!
//! ```text
//!   u32 length, at most 64 KiB   question        u32 length, at most 64 KiB   answer
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use holm_link::Identity;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

use crate::names::identity;
use crate::peers::Shared;

/// The longest question, and the longest answer.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Questions that may be with the desk at once; more are turned away.
pub(crate) const VISITORS_MAX: usize = 8;

/// How long an answer may take: a change of members, and more than that.
const ANSWER: Duration = Duration::from_secs(30);

/// How long whoever was answered may take to hang up.
const FAREWELL: Duration = Duration::from_secs(1);

/// Who answers.
pub trait Desk: Send + Sync + std::fmt::Debug {
    /// The answer to a question. `whom` is who the certificate names that was shown and
    /// verified, if one was.
    fn answer(
        &self,
        whom: Option<Identity>,
        question: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Vec<u8>> + Send + '_>>;
}

/// Serves one visitor; `left` is how long the question may still take to come.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    desk: &Arc<dyn Desk>,
    mut stream: TlsStream<TcpStream>,
    (address, turn, left): (SocketAddr, OwnedSemaphorePermit, Duration),
) {
    let refuse = |text: &str| shared.table.refuse(address, text.to_owned());
    let Ok(_place) = Arc::clone(&shared.visitors).try_acquire_owned() else {
        return refuse("desk: too many questions at once");
    };
    let question = match tokio::time::timeout(left, read(&mut stream)).await {
        Ok(Ok(question)) => question,
        Ok(Err(error)) => return refuse(&format!("desk: read a question: {error}")),
        Err(_elapsed) => return refuse("desk: no question in time"),
    };
    drop(turn);
    let shown = stream.get_ref().1.peer_certificates();
    let whom = shown.and_then(<[CertificateDer<'_>]>::first);
    let answering = desk.answer(whom.and_then(identity), question);
    let answered = tokio::select! {
        () = shared.stop() => return,
        answered = tokio::time::timeout(ANSWER, answering) => answered,
    };
    let Ok(answer) = answered else {
        return refuse("desk: no answer in time");
    };
    let said = async {
        write(&mut stream, &answer).await?;
        stream.shutdown().await?;
        // Until they hang up, or the answer might be thrown away with the connection.
        read_end(&mut stream).await
    };
    match tokio::time::timeout(ANSWER.min(left + FAREWELL), said).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => refuse(&format!("desk: write an answer: {error}")),
    }
}

async fn read_end(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    match stream.read(&mut [0]).await {
        // Many hang up without a word, once they have what they came for.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Reads one message.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32_le().await?).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        let text = format!("a message of {length} bytes, {MESSAGE_BYTES_MAX} is the limit");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message.
pub(crate) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(message.len()).ok();
    let length = length.filter(|_| message.len() <= MESSAGE_BYTES_MAX);
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a message beyond the limit");
    stream.write_u32_le(length.ok_or_else(too_long)?).await?;
    stream.write_all(message).await?;
    stream.flush().await
}
