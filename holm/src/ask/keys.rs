//! Which keys a command means, and how a record is shown.

use bytes::Bytes;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::screen::{put_bytes, readable};
use crate::wire::mvccpb::KeyValue;

/// One key, or a range of them.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyRange {
    /// The key; with --prefix the beginning of the keys
    pub(crate) key: String,

    /// The first key behind the range
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    pub(crate) range_end: Option<String>,

    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "from_key")]
    pub(crate) prefix: bool,

    /// All keys from KEY on
    #[arg(long)]
    pub(crate) from_key: bool,
}

impl KeyRange {
    /// Key and range end as requests have them.
    pub(crate) fn ends(&self) -> (Bytes, Bytes) {
        let key = self.key.as_bytes();
        if self.prefix || self.from_key {
            let start = if key.is_empty() { b"\0" } else { key };
            let end = if self.prefix {
                prefix_end(key)
            } else {
                vec![0]
            };
            return (Bytes::copy_from_slice(start), Bytes::from(end));
        }
        let end = self.range_end.clone().unwrap_or_default();
        (Bytes::copy_from_slice(key), Bytes::from(end.into_bytes()))
    }

    /// Whether one key is meant, so that its absence is an answer.
    pub(crate) fn is_single(&self) -> bool {
        !self.prefix && !self.from_key && self.range_end.is_none()
    }
}

/// The first key behind all that begin with `prefix`; `"\0"`, which means no end, where there is none.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A lease's id as people write it.
pub(crate) fn lease_text(id: i64) -> String {
    format!("{id:x}")
}

/// Reads a lease's id.
pub(crate) fn parse_lease(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    i64::from_str_radix(digits, 16)
        .map_err(|_no_number| format!("`{text}` is no lease: its id is hexadecimal"))
}

/// A record for programs.
pub(crate) fn record_json(record: &KeyValue) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "key", &record.key);
    put_bytes(&mut object, "value", &record.value);
    object.insert("mod_revision".to_owned(), record.mod_revision.into());
    object.insert("create_revision".to_owned(), record.create_revision.into());
    object.insert("version".to_owned(), record.version.into());
    if record.lease != 0 {
        object.insert("lease".to_owned(), lease_text(record.lease).into());
    }
    object.into()
}

/// Records for programs.
pub(crate) fn records_json<'a>(records: impl IntoIterator<Item = &'a KeyValue>) -> Value {
    records
        .into_iter()
        .map(record_json)
        .collect::<Vec<_>>()
        .into()
}

/// A record on one line.
pub(crate) fn record_line(record: &KeyValue) -> String {
    format!("{} = {}", readable(&record.key), readable(&record.value))
}

/// A result with nothing but the revision.
pub(crate) fn revision_json(revision: i64) -> Value {
    json!({ "revision": revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(key: &str) -> KeyRange {
        KeyRange {
            key: key.to_owned(),
            range_end: None,
            prefix: false,
            from_key: false,
        }
    }

    fn prefix(key: &str) -> (Bytes, Bytes) {
        KeyRange {
            prefix: true,
            ..single(key)
        }
        .ends()
    }

    #[test]
    fn prefixes_end_behind_their_last_key() {
        assert_eq!(prefix("ab"), ("ab".into(), "ac".into()));
        assert_eq!(
            prefix(""),
            (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
        );
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"\0");
    }

    #[test]
    fn from_key_has_no_end() {
        let from = KeyRange {
            from_key: true,
            ..single("b")
        };
        assert_eq!(from.ends(), ("b".into(), Bytes::from_static(b"\0")));
        assert_eq!(single("b").ends(), ("b".into(), Bytes::new()));
    }

    #[test]
    fn leases_are_hexadecimal() {
        assert_eq!(parse_lease("32695410dcc0ca06"), Ok(0x3269_5410_dcc0_ca06));
        assert_eq!(parse_lease("0x10"), Ok(16));
        assert!(parse_lease("lease").is_err());
    }
}
