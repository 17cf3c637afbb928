//! watch: changes as they happen.

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

use super::Found;
use super::keys::{KeyRange, record_json};
use crate::client::Client;
use crate::screen::{Screen, put_bytes, readable};
use crate::wire::etcdserverpb::watch_request::RequestUnion;
use crate::wire::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::wire::mvccpb::Event;
use crate::wire::mvccpb::event::EventType;

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm watch /jobs/ --prefix              until Ctrl-C
  holm watch a --revision 12              first what happened since revision 12
  holm watch a --events 1 --json          the next change, as JSON";

/// Flags of `holm watch`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WatchOptions {
    #[command(flatten)]
    keys: KeyRange,

    /// Begin at this revision instead of now
    #[arg(
        long,
        visible_alias = "rev",
        value_name = "REVISION",
        default_value_t = 0
    )]
    revision: i64,

    /// Show what was there before
    #[arg(long, visible_alias = "prev-kv")]
    previous: bool,

    /// Be told the revision from time to time while nothing happens
    #[arg(long)]
    progress: bool,

    /// End after so many events
    #[arg(long, value_name = "N")]
    events: Option<u64>,
}

/// Follows changes until enough were seen.
pub(super) async fn watch(
    client: &mut Client,
    options: &WatchOptions,
    screen: Screen,
) -> anyhow::Result<Found> {
    let (key, range_end) = options.keys.ends();
    let create = WatchCreateRequest {
        key,
        range_end,
        start_revision: options.revision,
        progress_notify: options.progress,
        prev_kv: options.previous,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut stream = client
        .open("/etcdserverpb.Watch/Watch", &request, false)
        .await?;
    let mut left = options.events;
    while left != Some(0) {
        let Some(answer) = stream.next::<WatchResponse>().await? else {
            bail!("the node ended the watch");
        };
        if answer.canceled {
            bail!("{}", cancellation(&answer));
        }
        let revision = super::kv::revision(answer.header.as_ref());
        if answer.events.is_empty() && !answer.created {
            screen.show(
                &format!("revision {revision}"),
                &json!({ "revision": revision }),
            )?;
        }
        for event in &answer.events {
            if left == Some(0) {
                break;
            }
            screen.show(&line(event), &event_json(event))?;
            left = left.map(|left| left - 1);
        }
    }
    Ok(Found::Yes)
}

fn cancellation(answer: &WatchResponse) -> String {
    if answer.compact_revision > 0 {
        let compacted = answer.compact_revision;
        return format!(
            "the history before revision {compacted} is gone: watch from {compacted} or later"
        );
    }
    format!("the node canceled the watch: {}", answer.cancel_reason)
}

fn line(event: &Event) -> String {
    let Some(record) = &event.kv else {
        return String::new();
    };
    let (revision, key) = (record.mod_revision, readable(&record.key));
    let mut text = if event.r#type() == EventType::Delete {
        format!("{revision}  del  {key}")
    } else {
        format!("{revision}  put  {key} = {}", readable(&record.value))
    };
    if let Some(before) = &event.prev_kv {
        text.push_str(&format!("   before: {}", readable(&before.value)));
    }
    text
}

fn event_json(event: &Event) -> Value {
    let mut object = Map::new();
    let is_delete = event.r#type() == EventType::Delete;
    object.insert(
        "type".to_owned(),
        (if is_delete { "del" } else { "put" }).into(),
    );
    if let Some(record) = &event.kv {
        object.insert("revision".to_owned(), record.mod_revision.into());
        put_bytes(&mut object, "key", &record.key);
        if !is_delete {
            object.insert("kv".to_owned(), record_json(record));
        }
    }
    if let Some(before) = &event.prev_kv {
        object.insert("previous".to_owned(), record_json(before));
    }
    object.into()
}
