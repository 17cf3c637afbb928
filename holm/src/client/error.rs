//! What can go wrong between a person and a node, in sentences.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why a client command failed.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// `--endpoints` is empty.
    #[error("no endpoint is given: --endpoints 127.0.0.1:2379")]
    NoEndpoint,
    /// A user without a password.
    #[error("no password for user {user}: write --user {user}:PASSWORD or set HOLM_PASSWORD")]
    NoPassword {
        /// The user.
        user: String,
    },
    /// The file of `--context`.
    #[error("--context {}", .place.display())]
    Context {
        /// The file.
        place: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An endpoint that is no address.
    #[error("--endpoints {endpoint}: write host:port, or a URL such as https://node.example:2379")]
    NoAddress {
        /// What was given.
        endpoint: String,
    },
    /// Nobody answers there.
    #[error(
        "cannot reach {endpoint}: is a node running there? `holm up` starts one, --endpoints names another"
    )]
    Connect {
        /// The address.
        endpoint: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A certificate file that cannot be used.
    #[error("use {} for TLS: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS did not come to terms.
    #[error("make TLS with {endpoint}: {advice}")]
    Tls {
        /// The address.
        endpoint: String,
        /// What to do about it.
        advice: &'static str,
        /// What the library says.
        source: io::Error,
    },
    /// The other end speaks no HTTP/2.
    #[error("speak HTTP/2 with {endpoint}: is it an etcd v3 node, and plain or TLS as you said?")]
    Handshake {
        /// The address.
        endpoint: String,
        /// What the library says.
        source: h2::Error,
    },
    /// The first bytes of an answer are no HTTP/2, which is what TLS looks like without TLS.
    #[error(
        "call {path}: that is no plain HTTP/2 (if the node has TLS: https://host:port and --cacert)"
    )]
    NoHttp2 {
        /// The method.
        path: &'static str,
        /// What the library says.
        source: h2::Error,
    },
    /// The connection broke.
    #[error("call {path}: the connection broke; a write may have happened")]
    Transport {
        /// The method.
        path: &'static str,
        /// What the library says.
        source: h2::Error,
    },
    /// No answer in time.
    #[error(
        "call {path}: no answer within {timeout:?}; a write may have happened (--timeout waits longer)"
    )]
    Timeout {
        /// The method.
        path: &'static str,
        /// How long we waited.
        timeout: Duration,
    },
    /// The node refused.
    #[error("{message} ({name}){}{}", advice(message), cut_off(island.as_deref()))]
    Refused {
        /// The gRPC code.
        code: u32,
        /// The code's name.
        name: &'static str,
        /// What the node says.
        message: String,
        /// What a node says that is cut off from the majority of its cluster.
        island: Option<String>,
    },
    /// Bytes that are no gRPC.
    #[error("the node sent {what}")]
    Protocol {
        /// What it sent.
        what: &'static str,
    },
    /// A message that is not what the method answers.
    #[error("the node sent a message that cannot be read")]
    Message(#[from] prost::DecodeError),
}

/// What a person can do about a refusal that etcd's words leave open.
fn advice(message: &str) -> &'static str {
    const ADVICE: [(&str, &str); 9] = [
        (
            "database space exceeded",
            ": if `holm status` shows that the quota is not reached, a site's disk is nearly full: make room there; \
             else delete keys and `holm compact`, or raise --quota-backend-bytes",
        ),
        (
            "request is too large",
            ": write less at once, or start the node with a larger --max-request-bytes",
        ),
        (
            "required revision has been compacted",
            ": `holm status` shows from which revision on history is kept",
        ),
        (
            "required revision is a future revision",
            ": `holm status` shows the newest",
        ),
        (
            "invalid user ID or password",
            ": check --user and the password; `holm user passwd` by root sets a new one",
        ),
        (
            "invalid auth token",
            ": the login has expired; log in again with --user",
        ),
        (
            "user name is empty",
            ": the node demands a login; add --user NAME",
        ),
        (
            "permission denied",
            ": `holm role grant` by root allows more, --user logs in as somebody else",
        ),
        (
            "too many requests",
            ": the node has as much as it can do; try again soon",
        ),
    ];
    let known = ADVICE.iter().find(|(text, _)| message.ends_with(text));
    known.map_or("", |(_, advice)| advice)
}

/// gRPC's name of a status code.
pub(crate) fn code_name(code: u32) -> &'static str {
    usize::try_from(code)
        .ok()
        .and_then(|at| holm_telemetry::GRPC_CODES.get(at))
        .copied()
        .unwrap_or("no gRPC code")
}

/// That the answer came from a node that is cut off, if it did.
fn cut_off(island: Option<&str>) -> String {
    let text = |island| format!("; this site is cut off from the majority: {island}");
    island.map_or_else(String::new, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do_where_that_is_known() {
        let refused = |message: &str| {
            ClientError::Refused {
                code: 8,
                name: code_name(8),
                message: message.to_owned(),
                island: None,
            }
            .to_string()
        };
        let full = refused("etcdserver: mvcc: database space exceeded");
        assert!(
            full.starts_with("etcdserver: mvcc: database space exceeded (ResourceExhausted): "),
            "{full}"
        );
        assert!(full.contains("--quota-backend-bytes"), "{full}");
        assert_eq!(
            refused("something new"),
            "something new (ResourceExhausted)"
        );
    }
}
