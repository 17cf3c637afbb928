//! A client in memory.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program includes this file"
)]

use holm_etcd::web::Web;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends these bytes on one connection and gives all that came back.
pub async fn exchange(web: &Web, sent: &[u8]) -> String {
    let (mut near, far) = tokio::io::duplex(256 * 1024);
    let client = async {
        near.write_all(sent).await.unwrap();
        let mut text = Vec::new();
        near.read_to_end(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    };
    tokio::join!(web.serve(far, std::future::pending()), client).1
}

/// The status and the body of one request.
pub async fn ask(web: &Web, method: &str, path: &str) -> (u16, String) {
    let sent = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let text = exchange(web, sent.as_bytes()).await;
    split(&text)
}

/// The status and the body of an answer.
pub fn split(text: &str) -> (u16, String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no answer: {text}")),
        body.to_owned(),
    )
}
