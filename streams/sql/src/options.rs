//! What may stand behind WITH: a word that its connector does not know would do nothing, unseen.

use crate::refusal::{Refusal, Span, nearest};

/// What a table of any connector may say.
const OF_ANY: [&str; 6] = ["connector", "format", "late", "dedup", "idle", "retain"];
/// What connectors know besides, as sources or as sinks.
const OF: [(&str, &[&str]); 8] = [
    ("stdin", &[]),
    ("stdout", &[]),
    ("print", &[]),
    ("file", &["path", "follow"]),
    ("filesystem", &["path", "follow"]),
    (
        "http",
        &[
            "url",
            "interval",
            "guarantee",
            "token-file",
            "ca",
            "cert",
            "key",
        ],
    ),
    (
        "mqtt",
        &["url", "topic", "user", "password-file", "ca", "cert", "key"],
    ),
    ("keyspace", &["keyspace", "prefix"]),
];

/// Looks whether a table's connector knows what is said behind WITH. A table without one may say
/// what any knows, and of a connector that is not ours nothing is known: the command line says
/// where such tables lie.
///
/// # Errors
///
/// At the first word that it does not know.
pub(crate) fn check(connector: &str, keys: &[(String, Span)]) -> Result<(), Refusal> {
    let is_it = |of: &&(&str, &[&str])| connector.is_empty() || of.0 == connector;
    if !OF.iter().any(|of| is_it(&of)) {
        return Ok(());
    }
    let own = || OF.iter().filter(is_it).flat_map(|of| of.1).copied();
    let known = || OF_ANY.into_iter().chain(own());
    let Some((key, span)) = keys.iter().find(|(key, _)| !known().any(|it| it == key)) else {
        return Ok(());
    };
    let names: Vec<String> = known().map(|name| format!("'{name}'")).collect();
    let mut message = match connector {
        "" => format!("a table without a connector knows no option '{key}'"),
        own => format!(
            "{own} knows no option '{key}'; it knows {}",
            names.join(", ")
        ),
    };
    if let Some(near) = nearest(key, known()) {
        message += &format!("; did you mean '{near}'?");
    }
    Err(Refusal::new(*span, message))
}
