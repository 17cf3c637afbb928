//! What older etcds answer differently from the newest, each with its reason.
//!
//! Holm does what the newest does. A row here either says how an older answer reads today, or
//! names requests that an older etcd carried out and newer ones refuse: after those the two
//! servers hold different data, so that they cannot be sent to both.

use serde_json::Value;

use super::Version;
use crate::base64;
use crate::gateway::Answer;
use crate::generate::Request;

/// The first version that was seen to ask for a login, and for permissions, in all calls about
/// leases, in compaction, and in questions about the node. 3.5.1 and 3.4.23 were seen not to.
const ASKS_EVERYBODY: Version = (3, 5, 30);

/// The first version that was seen to answer about progress only where all watches of a stream
/// have caught up. 3.5.1 and 3.4.23 were seen to answer always.
pub const CHECKS_PROGRESS: Version = (3, 5, 30);

/// The gateway's answer as the newest etcd would have written it.
#[must_use]
pub fn gateway_answer(version: Version, mut answer: Answer) -> Answer {
    if answer.body.get("code").is_none() {
        return answer;
    }
    // A failed precondition (code 9) is 400 since 3.5; 3.4 said 412.
    if version < (3, 5, 0) && answer.body["code"] == 9 {
        answer.status = 400;
    }
    // 3.5 dropped the second name of an error's text. Holm keeps it (etcd-differences.md).
    if version >= (3, 5, 0) {
        answer.body["error"] = answer.body["message"].clone();
    }
    answer
}

/// Why a request cannot be sent to an etcd of that version and to Holm; `None` if it can.
#[must_use]
pub fn unasked(version: Version, request: &Request) -> Option<&'static str> {
    let about_all = request.path == "kv/compaction" || request.path.starts_with("lease/");
    if version < ASKS_EVERYBODY && about_all && request.user.is_some() {
        return Some("carried out for anybody and with any token, where newer ones ask");
    }
    let is_grant = request.path == "auth/role/grant";
    if version < ASKS_EVERYBODY && is_grant && !is_plain_grant(&request.body) {
        return Some("older ones take permissions on no keys, and show what root was given");
    }
    if version >= (3, 5, 0) {
        return None;
    }
    let is_root = matches!(request.user, None | Some("root"));
    match request.path {
        "auth/status" => Some("the call is there since 3.5"),
        "auth/authenticate" if request.user.is_some() => {
            Some("3.4 looks at the token that comes with a login, which may have run out")
        }
        "auth/role/get" if request.body["role"] == "root" => {
            Some("3.4 does not show that the role root may do everything")
        }
        "kv/txn" if !is_root && request.body.to_string().contains("request_txn") => {
            Some("3.4 leaves nested operations unchecked")
        }
        _ => None,
    }
}

/// Whether a permission is on some keys, and not for the role root.
fn is_plain_grant(body: &Value) -> bool {
    let bytes = |name: &str| {
        let text = body["perm"][name].as_str();
        text.and_then(base64::decode).unwrap_or_default()
    };
    let (key, end) = (bytes("key"), bytes("range_end"));
    let in_order = end.is_empty() || end == b"\0" || key < end;
    body["name"] != "root" && !key.is_empty() && in_order
}

/// Whether clients should drop their tokens when users are no longer enforced. Older etcds refuse
/// requests with such a token as `invalid auth token`; newer ones overlook it, and so does Holm.
#[must_use]
pub fn refuses_old_tokens(version: Version) -> bool {
    version < ASKS_EVERYBODY
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_errors_of_older_gateways_are_read_anew() {
        let refused = Answer {
            status: 412,
            body: json!({"code": 9, "message": "no"}),
        };
        assert_eq!(gateway_answer((3, 4, 23), refused.clone()).status, 400);
        let newer = gateway_answer((3, 5, 1), refused);
        assert_eq!((newer.status, &newer.body["error"]), (412, &json!("no")));
        let fine = Answer {
            status: 200,
            body: json!({"header": {}}),
        };
        assert_eq!(gateway_answer((3, 4, 23), fine.clone()), fine);
    }

    #[test]
    fn grants_on_no_keys_are_told_apart() {
        let grant = |name: &str, key: &str, end: &str| {
            let code = |text: &str| base64::encode(text.as_bytes());
            is_plain_grant(
                &json!({"name": name, "perm": {"key": code(key), "range_end": code(end)}}),
            )
        };
        assert!(grant("r", "a", "") && grant("r", "a", "\0") && grant("r", "a", "b"));
        assert!(!grant("r", "", "") && !grant("r", "b", "a") && !grant("root", "a", ""));
    }

    #[test]
    fn the_newest_is_asked_everything() {
        let request = |user| Request {
            path: "kv/compaction",
            body: json!({}),
            user,
        };
        assert!(unasked((3, 5, 1), &request(Some("ada"))).is_some());
        assert!(unasked((3, 5, 1), &request(Some("root"))).is_some());
        assert!(unasked((3, 5, 1), &request(None)).is_none());
        assert!(unasked(ASKS_EVERYBODY, &request(Some("ada"))).is_none());
    }
}
