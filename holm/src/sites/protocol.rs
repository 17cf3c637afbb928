//! What `holm link` and `holm site` say to the process that runs the sites: one line of JSON each way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The socket in the folder of the sites.
pub(super) const SOCKET: &str = "control.sock";
/// The longest question.
pub(super) const REQUEST_BYTES_MAX: u64 = 4 << 10;
/// The longest answer.
pub(super) const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    /// All links.
    Links,
    /// Another state for a link, both ways or from the first to the second.
    Set {
        /// One site.
        from: String,
        /// The other.
        to: String,
        /// Whether the way back stays as it is.
        one_way: bool,
        /// The state.
        state: LinkState,
    },
    /// All links open.
    HealAll,
    /// All sites.
    Sites,
    /// Something to be done with a site's process.
    Site {
        /// The site.
        name: String,
        /// What.
        act: Act,
    },
}

/// How one direction of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LinkState {
    /// Bytes pass at once.
    Open,
    /// Nothing passes.
    Cut,
    /// Bytes pass later.
    Slow {
        /// By so much.
        delay_us: u64,
    },
}

/// What can be done with a site's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Act {
    /// Ends it with SIGKILL.
    Kill,
    /// Starts it on its old data.
    Start,
    /// Asks it to end.
    Stop,
    /// Holds it with SIGSTOP.
    Pause,
    /// Lets it go on.
    Resume,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The links that were asked for or changed.
    Links {
        /// One a pair of sites.
        links: Vec<LinkRow>,
    },
    /// The sites that were asked for or changed.
    Sites {
        /// One a site.
        sites: Vec<SiteRow>,
    },
    /// Nothing was done.
    Refused {
        /// Why, and what to do instead.
        why: String,
    },
}

/// A link between two sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkRow {
    /// One site.
    pub(super) first: String,
    /// The other.
    pub(super) second: String,
    /// From the first to the second.
    pub(super) there: LinkState,
    /// From the second to the first.
    pub(super) back: LinkState,
    /// Bytes that reached the second since the sites were started.
    pub(super) bytes_there: u64,
    /// Bytes that reached the first.
    pub(super) bytes_back: u64,
    /// Connections now, those that hang included.
    pub(super) connections: usize,
}

/// A site's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SiteRow {
    /// The site.
    pub(super) name: String,
    /// One of [`STATES`].
    pub(super) state: String,
    /// Its process, while there is one.
    pub(super) pid: Option<u32>,
    /// Where etcd clients connect.
    pub(super) endpoint: String,
    /// Where health and metrics are.
    pub(super) console: String,
    /// Where its data and its log lie.
    pub(super) data: String,
    /// How it ended, if it ended by itself.
    pub(super) ended: Option<String>,
}

/// What a site can be, and what that means.
pub(super) const STATES: &[(&str, &str)] = &[
    ("serving", "answers everything"),
    (
        "no leader",
        "answers, but takes no writes, for it knows of no leader",
    ),
    ("starting", "runs and does not answer yet"),
    ("paused", "is held by SIGSTOP"),
    ("stopped", "was told to end"),
    ("killed", "was ended by SIGKILL"),
    ("died", "ended by itself"),
];

impl LinkState {
    /// The state that delays by that much; none is open.
    pub(super) fn slow(delay: Duration) -> Self {
        match u64::try_from(delay.as_micros()) {
            Ok(0) => Self::Open,
            delay => Self::Slow {
                delay_us: delay.unwrap_or(u64::MAX),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_it_always_was() {
        let cut = Request::Set {
            from: "a".to_owned(),
            to: "c".to_owned(),
            one_way: true,
            state: LinkState::slow(Duration::from_millis(15)),
        };
        let line = serde_json::to_string(&cut).unwrap();
        let expected = r#"{"ask":"set","from":"a","to":"c","one_way":true,"state":{"slow":{"delay_us":15000}}}"#;
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), cut);
        let kill = r#"{"ask":"site","name":"b","act":"kill"}"#;
        let request = serde_json::from_str(kill).unwrap();
        assert!(matches!(request, Request::Site { act: Act::Kill, .. }));
        let more = r#"{"ask":"site","name":"b","act":"kill","more":1}"#;
        assert!(serde_json::from_str::<Request>(more).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"ask":"fly"}"#).is_err());
    }

    #[test]
    fn no_delay_is_open() {
        assert_eq!(LinkState::slow(Duration::ZERO), LinkState::Open);
    }
}
