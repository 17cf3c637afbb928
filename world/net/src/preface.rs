//! Telling HTTP/2 from HTTP/1 by a connection's first bytes.
//!
//! HTTP/2 without TLS begins with a preface of 24 bytes that no HTTP/1 request can begin with.
//! The bytes read are given back, for the protocol's own reader wants them too.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes that open every HTTP/2 connection (RFC 9113, section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1, or nonsense: HTTP/1 has an answer for that.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Reads until the protocol is certain; gives it and the bytes read.
///
/// Reads no more than 24 bytes, and stops at the first that differs from [`PREFACE`].
///
/// # Errors
///
/// What the stream says; `UnexpectedEof` if it ends before a byte came.
pub async fn sniff<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Protocol, Vec<u8>)> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() {
        let mut rest = [0; PREFACE.len()];
        let want = PREFACE.len() - seen.len();
        let count = stream.read(&mut rest[..want]).await?;
        if count == 0 {
            return ended(seen);
        }
        seen.extend_from_slice(&rest[..count]);
        if !PREFACE.starts_with(&seen) {
            return Ok((Protocol::Http1, seen));
        }
    }
    Ok((Protocol::Http2, seen))
}

/// A stream that ended early: without a byte it is nobody's, otherwise HTTP/1 answers it.
fn ended(seen: Vec<u8>) -> io::Result<(Protocol, Vec<u8>)> {
    if seen.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok((Protocol::Http1, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn sniffed(pieces: &[&[u8]]) -> io::Result<(Protocol, Vec<u8>)> {
        let (mut near, mut far) = tokio::io::duplex(64);
        for piece in pieces {
            near.write_all(piece).await?;
        }
        drop(near);
        sniff(&mut far).await
    }

    #[tokio::test]
    async fn preface_means_http2_and_is_given_back() {
        let (protocol, seen) = sniffed(&[&PREFACE[..3], &PREFACE[3..]]).await.unwrap();
        assert_eq!(protocol, Protocol::Http2);
        assert_eq!(seen, PREFACE);
    }

    #[tokio::test]
    async fn first_wrong_byte_means_http1() {
        let (protocol, seen) = sniffed(&[b"P", b"OST /v3/kv/put HTTP/1.1\r\n"])
            .await
            .unwrap();
        assert_eq!(protocol, Protocol::Http1);
        assert!(seen.starts_with(b"PO") && seen.len() <= 24);
    }

    #[tokio::test]
    async fn stream_that_ends_within_the_preface_is_answered_as_http1() {
        let (protocol, seen) = sniffed(&[b"PRI * HT"]).await.unwrap();
        assert_eq!(
            (protocol, seen.as_slice()),
            (Protocol::Http1, &b"PRI * HT"[..])
        );
    }

    #[tokio::test]
    async fn silent_stream_is_nobodys() {
        let error = sniffed(&[]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
