//! `/livez` and `/readyz`: named checks, together or one by one.

use holm_kv::command::AlarmKind;
use http::{Method, Response, StatusCode};

use super::Web;
use super::answer::{AnswerBody, method_not_allowed, text};
use super::query::Query;
use super::vitals::ReadFailure;

/// One thing to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// No alarm says that data is damaged.
    DataCorruption,
    /// What is here can be read.
    SerializableRead,
    /// What is current can be read.
    LinearizableRead,
    /// This node has a vote. A node alone always has.
    NonLearner,
}

/// Which checks an address asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checks {
    kind: &'static str,
    checks: &'static [Check],
}

const LIVE: &[Check] = &[Check::SerializableRead];
const READY: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, web: &Web) -> Result<(), ReadFailure> {
        match self {
            Self::DataCorruption => {
                if web.vitals.alarms().contains(&AlarmKind::Corrupt) {
                    return Err(ReadFailure {
                        why: "alarm activated: CORRUPT".to_owned(),
                    });
                }
                Ok(())
            }
            Self::SerializableRead => web.vitals.read_here(),
            Self::LinearizableRead => web.vitals.read_current().await,
            Self::NonLearner if web.vitals.is_learner() => Err(ReadFailure {
                why: "not supported for learner".to_owned(),
            }),
            Self::NonLearner => Ok(()),
        }
    }
}

/// The checks of an address: of a whole kind, or the one that is named below it.
pub(crate) fn find(path: &str) -> Option<Checks> {
    let (kind, checks, rest) = match (path.strip_prefix("/livez"), path.strip_prefix("/readyz")) {
        (Some(rest), _) => ("livez", LIVE, rest),
        (None, Some(rest)) => ("readyz", READY, rest),
        (None, None) => return None,
    };
    if rest.is_empty() {
        return Some(Checks { kind, checks });
    }
    let name = rest.strip_prefix('/')?;
    let at = checks.iter().position(|check| check.name() == name)?;
    Some(Checks {
        kind,
        checks: &checks[at..=at],
    })
}

/// `ok`, or 503 and a line for each check.
///
/// `?verbose` shows the lines of success too; `?exclude=NAME` leaves a check out.
pub(crate) async fn answer(
    web: &Web,
    method: &Method,
    checks: &Checks,
    query: &Query<'_>,
) -> Response<AnswerBody> {
    if method != Method::GET {
        return method_not_allowed();
    }
    let mut lines = String::new();
    let mut well = true;
    for check in checks
        .checks
        .iter()
        .filter(|check| !query.lists("exclude", check.name()))
    {
        let name = check.name();
        let result = check.run(web).await;
        web.metrics.count_check(checks.kind, name, result.is_ok());
        match result {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(failure) => {
                well = false;
                lines.push_str(&format!("[-]{name} failed: {failure}\n"));
            }
        }
    }
    if !well {
        tracing::warn!(kind = checks.kind, %lines, "health check failed");
        return text(StatusCode::SERVICE_UNAVAILABLE, lines + "\n");
    }
    let shown = if query.has("verbose") {
        lines
    } else {
        String::new()
    };
    text(StatusCode::OK, shown + "ok\n")
}

/// An alarm's name in etcd's API.
pub(crate) const fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_names_all_checks_or_one() {
        assert_eq!(find("/readyz").map(|found| found.checks.len()), Some(4));
        assert_eq!(
            find("/livez/serializable_read"),
            Some(Checks {
                kind: "livez",
                checks: &[Check::SerializableRead]
            })
        );
        for unknown in [
            "/livez/linearizable_read",
            "/livezz",
            "/readyz/",
            "/readyz/a/b",
            "/",
        ] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }
}
