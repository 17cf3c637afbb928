//! `/health`: the question that etcd's clients and old probes ask.

use http::{Method, Response, StatusCode};

use super::answer::{AnswerBody, method_not_allowed, text, whole};
use super::query::Query;
use super::{Web, check};

/// `{"health":"true","reason":""}`, or 503 and the reason.
///
/// `?exclude=NOSPACE` overlooks that alarm; `?serializable=true` asks only whether this node can
/// read what it has.
pub(crate) async fn answer(web: &Web, method: &Method, query: &Query<'_>) -> Response<AnswerBody> {
    if method != Method::GET {
        return method_not_allowed();
    }
    match reason(web, query).await {
        None => {
            web.metrics.server.health_success.inc();
            whole(
                StatusCode::OK,
                super::answer::TEXT,
                "{\"health\":\"true\",\"reason\":\"\"}",
            )
        }
        Some(reason) => {
            web.metrics.server.health_failures.inc();
            tracing::warn!(%reason, "health asked for and bad");
            let reason = serde_json::Value::from(reason);
            let body = format!("{{\"health\":\"false\",\"reason\":{reason}}}\n");
            text(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

/// Why the node is not well; `None` if it is.
async fn reason(web: &Web, query: &Query<'_>) -> Option<String> {
    let alarms = web.vitals.alarms();
    let mut names = alarms.into_iter().map(check::alarm_name);
    if let Some(name) = names.find(|name| !query.lists("exclude", name)) {
        return Some(format!("ALARM {name}"));
    }
    let read = if query.is("serializable", "true") {
        web.vitals.read_here()
    } else if web.vitals.has_leader() {
        web.vitals.read_current().await
    } else {
        return Some("RAFT NO LEADER".to_owned());
    };
    read.err().map(|failure| format!("RANGE ERROR:{failure}"))
}
