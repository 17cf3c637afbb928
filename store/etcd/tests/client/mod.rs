//! A client in memory, and a node as ill as a test needs it.

#![expect(unreachable_pub, reason = "each test program includes this file")]

use std::pin::Pin;
use std::sync::Arc;

use holm_etcd::web::{ReadFailure, Versions, Vitals, Web};
use holm_kv::command::AlarmKind;
use holm_telemetry::{Metrics, Readings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A node with the illnesses that it is given.
#[derive(Clone, Debug)]
pub struct Patient {
    pub alarms: Vec<AlarmKind>,
    pub has_leader: bool,
    pub here: Result<(), ReadFailure>,
    pub current: Result<(), ReadFailure>,
}

impl Default for Patient {
    fn default() -> Self {
        Self {
            alarms: Vec::new(),
            has_leader: true,
            here: Ok(()),
            current: Ok(()),
        }
    }
}

impl Vitals for Patient {
    fn alarms(&self) -> Vec<AlarmKind> {
        self.alarms.clone()
    }

    fn has_leader(&self) -> bool {
        self.has_leader
    }

    fn read_here(&self) -> Result<(), ReadFailure> {
        self.here.clone()
    }

    fn read_current(&self) -> Pin<Box<dyn Future<Output = Result<(), ReadFailure>> + Send + '_>> {
        Box::pin(std::future::ready(self.current.clone()))
    }

    fn readings(&self) -> Readings {
        Readings {
            has_leader: self.has_leader,
            revision: 7,
            ..Readings::default()
        }
    }
}

pub fn web(patient: Patient) -> Web {
    let versions = Versions {
        server: "3.6.12".to_owned(),
        cluster: "3.6.0".to_owned(),
        storage: "3.6.0".to_owned(),
    };
    Web::new(
        Arc::new(patient),
        Arc::new(Metrics::new("0.1.0", "3.6.12")),
        versions,
    )
}

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
