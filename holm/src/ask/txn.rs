//! txn: conditions and operations, as arguments or as three blocks on standard input.

use std::io::Read;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::Found;
use super::keys::{KeyRange, parse_lease, record_line, records_json};
use super::kv::revision;
use crate::client::Client;
use crate::screen::Screen;
use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::etcdserverpb::request_op::Request;
use crate::wire::etcdserverpb::response_op::Response;
use crate::wire::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest,
    TxnResponse,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm txn --if 'version(a) = 0' --then 'put a 1' --else 'get a'
  holm txn --if 'mod(a) = 7' --if 'value(b) != x' --then 'put a 2' --then 'del /old/ --prefix'
  holm txn < file        conditions, then, else: three blocks with an empty line between

Conditions: value, version, create, mod or lease of (KEY), then =, !=, < or >, then what to compare with. A key that is
not there has version, create, mod and lease 0. Operations: put KEY VALUE [--lease ID], get KEY [END] [--prefix],
del KEY [END] [--prefix]. Quote with ' or \" what has blanks in it.";

/// Flags of `holm txn`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TxnOptions {
    /// A condition; all must hold
    #[arg(long = "if", value_name = "CONDITION")]
    conditions: Vec<String>,

    /// What to do if they hold
    #[arg(long = "then", value_name = "OPERATION")]
    success: Vec<String>,

    /// What to do if they do not
    #[arg(long = "else", value_name = "OPERATION")]
    failure: Vec<String>,
}

/// Runs a transaction.
pub(super) async fn txn(
    client: &mut Client,
    options: &TxnOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    let mut options = options.clone();
    if options.conditions.is_empty() && options.success.is_empty() && options.failure.is_empty() {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .read_to_string(&mut text)
            .context("read the transaction")?;
        options = blocks(&text);
    }
    let request = request(&options)?;
    let answer: TxnResponse = client.call("/etcdserverpb.KV/Txn", &request).await?;
    let responses: Vec<(String, Value)> = answer.responses.iter().map(response).collect();
    let mut text = (if answer.succeeded {
        "succeeded"
    } else {
        "failed"
    })
    .to_owned();
    text.push_str(&format!(
        ", revision {}\n",
        revision(answer.header.as_ref())
    ));
    for (line, _json) in &responses {
        text.push_str(line);
        text.push('\n');
    }
    let json = json!({
        "revision": revision(answer.header.as_ref()),
        "succeeded": answer.succeeded,
        "responses": responses.into_iter().map(|(_line, json)| json).collect::<Vec<_>>(),
    });
    screen.show(&text, &json)?;
    Ok(Found::Yes)
}

/// Conditions, then, else; blocks end at an empty line.
fn blocks(text: &str) -> TxnOptions {
    let mut blocks = [const { Vec::new() }; 3];
    let mut at = 0;
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            at = (at + 1).min(2);
        } else {
            blocks[at].push(line.to_owned());
        }
    }
    let [conditions, success, failure] = blocks;
    TxnOptions {
        conditions,
        success,
        failure,
    }
}

fn request(options: &TxnOptions) -> anyhow::Result<TxnRequest> {
    let operations = |texts: &[String]| -> anyhow::Result<Vec<RequestOp>> {
        let read =
            |text: &String| operation(text).with_context(|| format!("read operation `{text}`"));
        texts.iter().map(read).collect()
    };
    let condition =
        |text: &String| condition(text).with_context(|| format!("read condition `{text}`"));
    Ok(TxnRequest {
        compare: options
            .conditions
            .iter()
            .map(condition)
            .collect::<anyhow::Result<_>>()?,
        success: operations(&options.success)?,
        failure: operations(&options.failure)?,
    })
}

fn condition(text: &str) -> anyhow::Result<Compare> {
    let (target, rest) = text.split_once('(').context("write it as mod(KEY) = 7")?;
    let (key, rest) = rest
        .split_once(')')
        .context("the key's bracket is not closed")?;
    let rest = rest.trim_start();
    let (result, operand) = [
        ("!=", CompareResult::NotEqual),
        ("=", CompareResult::Equal),
        (">", CompareResult::Greater),
        ("<", CompareResult::Less),
    ]
    .into_iter()
    .find_map(|(sign, result)| rest.strip_prefix(sign).map(|operand| (result, operand)))
    .context("behind the key comes =, !=, < or >")?;
    let operand = words(operand)?.join(" ");
    let number = || {
        operand
            .parse()
            .with_context(|| format!("`{operand}` is no whole number"))
    };
    let (target, union) = match target.trim() {
        "value" => (
            CompareTarget::Value,
            TargetUnion::Value(Bytes::from(operand.clone().into_bytes())),
        ),
        "version" | "ver" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "create" => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(number()?),
        ),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "lease" => {
            let id = parse_lease(&operand).map_err(anyhow::Error::msg)?;
            (CompareTarget::Lease, TargetUnion::Lease(id))
        }
        other => bail!("`{other}` is none of value, version, create, mod and lease"),
    };
    let key = words(key)?.join(" ");
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: Bytes::from(key.into_bytes()),
        range_end: Bytes::new(),
        target_union: Some(union),
    })
}

fn operation(text: &str) -> anyhow::Result<RequestOp> {
    let mut words = words(text)?;
    let lease = take_option(&mut words, "--lease")?;
    let is_prefix = words.iter().any(|word| word == "--prefix");
    words.retain(|word| word != "--prefix");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let range = |key: &str, end: Option<&str>| {
        let (key, range_end) = (key.to_owned(), end.map(str::to_owned));
        KeyRange {
            key,
            range_end,
            prefix: is_prefix,
            from_key: false,
        }
        .ends()
    };
    let request = match words.as_slice() {
        ["put", key, value] => {
            let lease = lease
                .map_or(Ok(0), |id| parse_lease(&id))
                .map_err(anyhow::Error::msg)?;
            let (key, value) = (
                Bytes::from((*key).to_owned()),
                Bytes::from((*value).to_owned()),
            );
            Request::RequestPut(PutRequest {
                key,
                value,
                lease,
                ..PutRequest::default()
            })
        }
        ["get", key, end @ ..] if end.len() <= 1 => {
            let (key, range_end) = range(key, end.first().copied());
            Request::RequestRange(RangeRequest {
                key,
                range_end,
                ..RangeRequest::default()
            })
        }
        ["del", key, end @ ..] if end.len() <= 1 => {
            let (key, range_end) = range(key, end.first().copied());
            Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                range_end,
                prev_kv: false,
            })
        }
        _ => bail!("write put KEY VALUE, get KEY [END] or del KEY [END]"),
    };
    Ok(RequestOp {
        request: Some(request),
    })
}

/// Takes `name VALUE` out of the words.
fn take_option(words: &mut Vec<String>, name: &str) -> anyhow::Result<Option<String>> {
    let Some(at) = words.iter().position(|word| word == name) else {
        return Ok(None);
    };
    words.remove(at);
    if at == words.len() {
        bail!("{name} needs a value");
    }
    Ok(Some(words.remove(at)))
}

/// Splits at blanks; quotes hold words together.
fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for sign in text.chars() {
        match quote {
            Some(open) if sign == open => quote = None,
            Some(_) => word.get_or_insert_default().push(sign),
            None if sign == '\'' || sign == '"' => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            None if sign.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(sign),
        }
    }
    if quote.is_some() {
        bail!("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

fn response(response: &ResponseOp) -> (String, Value) {
    match &response.response {
        Some(Response::ResponseRange(range)) => {
            let lines: Vec<String> = range.kvs.iter().map(record_line).collect();
            let text = if lines.is_empty() {
                "  get: nothing".to_owned()
            } else {
                format!("  get: {}", lines.join("\n       "))
            };
            (
                text,
                json!({ "get": { "count": range.count, "kvs": records_json(&range.kvs) } }),
            )
        }
        Some(Response::ResponsePut(_)) => ("  put: OK".to_owned(), json!({ "put": {} })),
        Some(Response::ResponseDeleteRange(range)) => (
            format!("  del: {}", range.deleted),
            json!({ "del": { "deleted": range.deleted } }),
        ),
        Some(Response::ResponseTxn(txn)) => (
            format!("  txn: {}", txn.succeeded),
            json!({ "txn": { "succeeded": txn.succeeded } }),
        ),
        None => ("  nothing".to_owned(), Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        let read = condition("mod(a b) > 7").unwrap();
        assert_eq!(read.key, "a b");
        assert_eq!(read.result, i32::from(CompareResult::Greater));
        assert_eq!(read.target_union, Some(TargetUnion::ModRevision(7)));
        let quoted = condition("value(k) != 'x  y'").unwrap();
        assert_eq!(quoted.target_union, Some(TargetUnion::Value("x  y".into())));
    }

    #[test]
    fn wrong_conditions_say_what_is_missing() {
        let refused = [
            ("a = 1", "write it as mod(KEY) = 7"),
            ("mod(a", "the key's bracket is not closed"),
            ("mod(a) 7", "behind the key comes =, !=, < or >"),
            ("mod(a) = x", "`x` is no whole number"),
            (
                "size(a) = 1",
                "`size` is none of value, version, create, mod and lease",
            ),
            ("value(a) = 'x", "a quote is not closed"),
        ];
        for (text, expected) in refused {
            assert_eq!(condition(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn operations_are_read() {
        let put = operation("put a 'b c' --lease 1f").unwrap().request;
        let Some(Request::RequestPut(put)) = put else {
            panic!("{put:?}")
        };
        assert_eq!(
            (put.key, put.value, put.lease),
            ("a".into(), "b c".into(), 31)
        );
        let del = operation("del /x/ --prefix").unwrap().request;
        let Some(Request::RequestDeleteRange(del)) = del else {
            panic!("{del:?}")
        };
        assert_eq!(del.range_end, "/x0");
        assert!(operation("put a").is_err());
        assert!(operation("put a b --lease").is_err());
    }

    #[test]
    fn three_blocks_are_told_apart() {
        let read = blocks("mod(a) = 0\n\nput a 1\nput b 2\n\nget a\n");
        assert_eq!(read.conditions, ["mod(a) = 0"]);
        assert_eq!(read.success, ["put a 1", "put b 2"]);
        assert_eq!(read.failure, ["get a"]);
    }
}
