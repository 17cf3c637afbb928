//! get, put, del and compact.

use std::io::Read;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::Found;
use super::keys::{
    KeyRange, lease_text, parse_lease, record_json, record_line, records_json, revision_json,
};
use crate::client::Client;
use crate::progress::Progress;
use crate::quantity::count;
use crate::screen::{Screen, Table, readable};
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::wire::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, ResponseHeader,
};
use crate::wire::mvccpb::KeyValue;

pub(crate) const GET_EXAMPLES: &str = "\
Examples:
  holm get a                        the key a
  holm get /jobs/ --prefix --long   all keys below /jobs/, with revisions and leases
  holm get a --revision 12          as it was at revision 12
  holm get /jobs/ --prefix --count   how many there are
  holm get a --value > file         the value's bytes alone

Exit code 1 if the one key that was asked for is not there.";

pub(crate) const PUT_EXAMPLES: &str = "\
Examples:
  holm put a 1
  holm put a - < file               the value from standard input
  holm put a 1 --lease 694d7550     gone when the lease ends";

pub(crate) const DEL_EXAMPLES: &str = "\
Examples:
  holm del a
  holm del /jobs/ --prefix --previous   and show what was deleted

Exit code 1 if there was nothing to delete.";

/// What to order by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SortBy {
    /// The key
    Key,
    /// How often it was written since it was made
    Version,
    /// The revision that made it
    Create,
    /// The revision that last wrote it
    Modify,
    /// The value
    Value,
}

/// Flags of `holm get`.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct GetOptions {
    #[command(flatten)]
    keys: KeyRange,

    /// At most so many keys; 0 is all
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    limit: i64,

    /// As it was at this revision; 0 is now
    #[arg(
        long,
        visible_alias = "rev",
        value_name = "REVISION",
        default_value_t = 0
    )]
    revision: i64,

    /// Order by this
    #[arg(long, value_enum)]
    sort_by: Option<SortBy>,

    /// Order downwards
    #[arg(long)]
    descending: bool,

    /// Keys without values
    #[arg(long)]
    keys_only: bool,

    /// How many keys there are, no keys
    #[arg(long)]
    count: bool,

    /// Take what this node has, without asking whether it is the newest
    #[arg(long)]
    serializable: bool,

    /// Show revisions, versions and leases too
    #[arg(long, short)]
    long: bool,

    /// The values' bytes alone, nothing between them
    #[arg(long, conflicts_with_all = ["long", "count", "keys_only"])]
    value: bool,
}

/// Reads keys.
pub(super) async fn get(
    client: &mut Client,
    options: &GetOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    let (key, range_end) = options.keys.ends();
    let sort_target = match options.sort_by.unwrap_or(SortBy::Key) {
        SortBy::Key => SortTarget::Key,
        SortBy::Version => SortTarget::Version,
        SortBy::Create => SortTarget::Create,
        SortBy::Modify => SortTarget::Mod,
        SortBy::Value => SortTarget::Value,
    };
    let sort_order = match (options.sort_by, options.descending) {
        (_, true) => SortOrder::Descend,
        (Some(_), false) => SortOrder::Ascend,
        (None, false) => SortOrder::None,
    };
    let request = RangeRequest {
        key,
        range_end,
        limit: options.limit,
        revision: options.revision,
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable: options.serializable,
        keys_only: options.keys_only,
        count_only: options.count,
        ..RangeRequest::default()
    };
    let answer: RangeResponse = client.call("/etcdserverpb.KV/Range", &request).await?;
    show_range(options, &answer, screen)?;
    let is_missing = options.keys.is_single() && answer.count == 0;
    if is_missing && !screen.is_json() && !options.count {
        anyhow::bail!("no key {}", options.keys.key);
    }
    Ok(if is_missing { Found::No } else { Found::Yes })
}

fn show_range(options: &GetOptions, answer: &RangeResponse, screen: Screen) -> anyhow::Result<()> {
    if options.value {
        for record in &answer.kvs {
            screen.raw(&record.value)?;
        }
        return Ok(());
    }
    let json = json!({
        "revision": revision(answer.header.as_ref()),
        "count": answer.count,
        "more": answer.more,
        "kvs": records_json(&answer.kvs),
    });
    let mut text = if options.count {
        count(u64::try_from(answer.count)?)
    } else if options.long {
        long_table(&answer.kvs)
    } else {
        short_table(&answer.kvs, options.keys_only)
    };
    if answer.more && !options.count {
        text.push_str(&format!(
            "... {} of {} keys\n",
            answer.kvs.len(),
            answer.count
        ));
    }
    Ok(screen.show(&text, &json)?)
}

fn short_table(records: &[KeyValue], keys_only: bool) -> String {
    let mut table = Table::default();
    for record in records {
        let mut cells = vec![readable(&record.key)];
        if !keys_only {
            cells.push(readable(&record.value));
        }
        table.row(cells);
    }
    table.text()
}

fn long_table(records: &[KeyValue]) -> String {
    let mut table = Table::titled(&["KEY", "MODIFIED", "CREATED", "VERSION", "LEASE", "VALUE"]);
    for record in records {
        table.row(vec![
            readable(&record.key),
            record.mod_revision.to_string(),
            record.create_revision.to_string(),
            record.version.to_string(),
            if record.lease == 0 {
                "-".to_owned()
            } else {
                lease_text(record.lease)
            },
            readable(&record.value),
        ]);
    }
    table.text()
}

/// Flags of `holm put`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PutOptions {
    /// The key
    key: String,

    /// The value; `-` reads standard input
    #[arg(
        required_unless_present = "ignore_value",
        conflicts_with = "ignore_value",
        allow_hyphen_values = true
    )]
    value: Option<String>,

    /// Delete the key when this lease ends
    #[arg(long, value_name = "ID", value_parser = parse_lease, conflicts_with = "ignore_lease")]
    lease: Option<i64>,

    /// Show what was there before
    #[arg(long, visible_alias = "prev-kv")]
    previous: bool,

    /// Keep the value, change only the lease; the key must exist
    #[arg(long)]
    ignore_value: bool,

    /// Keep the lease, change only the value; the key must exist
    #[arg(long)]
    ignore_lease: bool,
}

/// Writes a key.
pub(super) async fn put(
    client: &mut Client,
    options: &PutOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    let value = match options.value.as_deref() {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes)?;
            Bytes::from(bytes)
        }
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
        None => Bytes::new(),
    };
    let request = PutRequest {
        key: Bytes::copy_from_slice(options.key.as_bytes()),
        value,
        lease: options.lease.unwrap_or(0),
        prev_kv: options.previous,
        ignore_value: options.ignore_value,
        ignore_lease: options.ignore_lease,
    };
    let answer: PutResponse = client.call("/etcdserverpb.KV/Put", &request).await?;
    let revision = revision(answer.header.as_ref());
    let mut json = revision_json(revision);
    let mut text = format!("OK, revision {revision}");
    if options.previous {
        json["previous"] = answer.prev_kv.as_ref().map(record_json).unwrap_or_default();
        let before = answer
            .prev_kv
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), record_line);
        text.push_str(&format!(", before: {before}"));
    }
    screen.show(&text, &json)?;
    Ok(Found::Yes)
}

/// Flags of `holm del`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DelOptions {
    #[command(flatten)]
    keys: KeyRange,

    /// Show what was deleted
    #[arg(long, visible_alias = "prev-kv")]
    previous: bool,
}

/// Deletes keys.
pub(super) async fn del(
    client: &mut Client,
    options: &DelOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    let (key, range_end) = options.keys.ends();
    let request = DeleteRangeRequest {
        key,
        range_end,
        prev_kv: options.previous,
    };
    let answer: DeleteRangeResponse = client
        .call("/etcdserverpb.KV/DeleteRange", &request)
        .await?;
    let revision = revision(answer.header.as_ref());
    let mut json = revision_json(revision);
    json["deleted"] = answer.deleted.into();
    let mut text = format!("deleted {}, revision {revision}\n", answer.deleted);
    if options.previous {
        json["previous"] = records_json(&answer.prev_kvs);
        text.push_str(&short_table(&answer.prev_kvs, false));
    }
    screen.show(&text, &json)?;
    Ok(if answer.deleted == 0 {
        Found::No
    } else {
        Found::Yes
    })
}

/// Flags of `holm compact`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompactOptions {
    /// Every change before this revision is forgotten
    revision: i64,

    /// Wait, however long, until the index holds nothing of it any more; files follow by themselves
    #[arg(long)]
    physical: bool,
}

/// Forgets history.
pub(super) async fn compact(
    client: &mut Client,
    options: &CompactOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    let request = CompactionRequest {
        revision: options.revision,
        physical: options.physical,
    };
    let path = "/etcdserverpb.KV/Compact";
    let _answer: CompactionResponse = if options.physical {
        let mut progress = Progress::new();
        client
            .call_patiently(path, &request, &mut |waited| {
                progress.show(&format!("compacting: {} s", waited.as_secs()));
            })
            .await?
    } else {
        client.call(path, &request).await?
    };
    let revision = options.revision;
    screen.show(
        &format!("compacted before revision {revision}"),
        &json!({ "compacted": revision }),
    )?;
    Ok(Found::Yes)
}

/// The revision in an answer's header.
pub(super) fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}
