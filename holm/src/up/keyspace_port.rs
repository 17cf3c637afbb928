//! The site's own keyspaces as streams see them: an etcd client of this very site.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args as _;
use clap::FromArgMatches as _;
use holm_connect::{Change, Keyspace, KeyspaceError};
use holm_serve::Ports;
use tokio::runtime::Handle;

use crate::client::{Client, ClientError, ConnectionOptions, Stream};
use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::etcdserverpb::request_op::Request;
use crate::wire::etcdserverpb::watch_request::RequestUnion;
use crate::wire::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::wire::mvccpb::event::EventType;

/// What a site gives its streams.
#[derive(Debug)]
pub(super) struct SitePorts {
    endpoint: Option<String>,
    is_plain: bool,
    runtime: Handle,
}

impl SitePorts {
    /// Ports to a site whose clients connect here.
    pub(super) fn new(clients: &[SocketAddr], is_plain: bool) -> Self {
        Self {
            endpoint: clients.first().map(ToString::to_string),
            is_plain,
            runtime: Handle::current(),
        }
    }
}

impl Ports for SitePorts {
    fn keyspace(&self, name: &str) -> Result<Box<dyn Keyspace>, String> {
        if !self.is_plain {
            return Err("streams reach keyspaces of a site without TLS alone, so far".to_owned());
        }
        let endpoint = self.endpoint.clone();
        let endpoint = endpoint.ok_or_else(|| "this site has no clients".to_owned())?;
        let command = ConnectionOptions::augment_args(clap::Command::new("port"));
        let mut words = vec!["port".to_owned(), "--endpoints".to_owned(), endpoint];
        if !matches!(name, "" | "default") {
            words.extend(["--keyspace".to_owned(), name.to_owned()]);
        }
        let matches = command.try_get_matches_from(words);
        let options = matches.and_then(|matches| ConnectionOptions::from_arg_matches(&matches));
        Ok(Box::new(Port {
            options: options.map_err(|error| error.to_string())?,
            runtime: self.runtime.clone(),
            client: None,
            watch: None,
        }))
    }
}

/// One keyspace. Its calls block: they come from the threads of streams.
#[derive(Debug)]
struct Port {
    options: ConnectionOptions,
    runtime: Handle,
    client: Option<Client>,
    watch: Option<Stream>,
}

fn failed(error: ClientError) -> KeyspaceError {
    match error {
        // InvalidArgument, PermissionDenied, Unauthenticated: asking again changes nothing.
        ClientError::Refused {
            code: 3 | 7 | 16, ..
        } => KeyspaceError::Refused(error.to_string()),
        error => KeyspaceError::Unavailable(error.to_string()),
    }
}

/// The key behind all that begin with a prefix.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

impl Port {
    fn call<A: prost::Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl prost::Message,
    ) -> Result<A, KeyspaceError> {
        let runtime = self.runtime.clone();
        let done = runtime.block_on(async {
            let mut client = match self.client.take() {
                Some(client) => client,
                None => Client::connect(&self.options).await?,
            };
            let answer = client.call(path, request).await?;
            self.client = Some(client);
            Ok(answer)
        });
        done.map_err(failed)
    }

    /// A revision of zero is the newest.
    fn range(
        &mut self,
        key: &[u8],
        end: Vec<u8>,
        revision: i64,
    ) -> Result<RangeResponse, KeyspaceError> {
        let request = RangeRequest {
            key: key.to_vec().into(),
            range_end: end.into(),
            revision,
            ..RangeRequest::default()
        };
        self.call("/etcdserverpb.KV/Range", &request)
    }

    fn below(&mut self, prefix: &[u8], revision: i64) -> Result<RangeResponse, KeyspaceError> {
        let from = if prefix.is_empty() { b"\0" } else { prefix };
        self.range(from, end_of(prefix), revision)
    }
}

/// Records as puts.
fn changes_of(records: Vec<crate::wire::mvccpb::KeyValue>) -> Vec<Change> {
    let change = |record: crate::wire::mvccpb::KeyValue| Change {
        key: record.key.to_vec(),
        value: Some(record.value.to_vec()),
        revision: record.mod_revision,
    };
    records.into_iter().map(change).collect()
}

impl Keyspace for Port {
    fn value(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, KeyspaceError> {
        let answer = self.range(key, Vec::new(), 0)?;
        Ok(answer.kvs.first().map(|record| record.value.to_vec()))
    }

    fn all(&mut self, prefix: &[u8]) -> Result<(Vec<Change>, i64), KeyspaceError> {
        let answer = self.below(prefix, 0)?;
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok((changes_of(answer.kvs), revision))
    }

    fn all_at(&mut self, prefix: &[u8], revision: i64) -> Result<Vec<Change>, KeyspaceError> {
        let answer = self.below(prefix, revision)?;
        Ok(changes_of(answer.kvs))
    }

    fn watch(&mut self, prefix: &[u8], from: i64) -> Result<(), KeyspaceError> {
        let key = if prefix.is_empty() { b"\0" } else { prefix };
        let create = WatchCreateRequest {
            key: key.to_vec().into(),
            range_end: end_of(prefix).into(),
            start_revision: from,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let runtime = self.runtime.clone();
        let opened = runtime.block_on(async {
            let mut client = Client::connect(&self.options).await?;
            client
                .open("/etcdserverpb.Watch/Watch", &request, false)
                .await
        });
        self.watch = Some(opened.map_err(failed)?);
        Ok(())
    }

    fn changes(&mut self, wait: Duration) -> Result<Vec<Change>, KeyspaceError> {
        let lost = || KeyspaceError::Unavailable("the watch has ended".to_owned());
        let runtime = self.runtime.clone();
        let mut watch = self.watch.take().ok_or_else(lost)?;
        let next = runtime
            .block_on(async { tokio::time::timeout(wait, watch.next::<WatchResponse>()).await });
        let Ok(next) = next else {
            self.watch = Some(watch);
            return Ok(Vec::new());
        };
        let answer = next.map_err(failed)?.ok_or_else(lost)?;
        if answer.compact_revision > 0 {
            let to = answer.compact_revision;
            return Err(KeyspaceError::Compacted { to });
        }
        if answer.canceled {
            return Err(KeyspaceError::Refused(answer.cancel_reason));
        }
        self.watch = Some(watch);
        let changes = answer.events.into_iter().filter_map(|event| {
            let is_put = event.r#type() == EventType::Put;
            let record = event.kv?;
            Some(Change {
                key: record.key.to_vec(),
                value: is_put.then(|| record.value.to_vec()),
                revision: record.mod_revision,
            })
        });
        Ok(changes.collect())
    }

    fn put_if(
        &mut self,
        (key, value): (&[u8], Option<&[u8]>),
        puts: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<bool, KeyspaceError> {
        let (target, union) = match value {
            Some(value) => (
                CompareTarget::Value,
                TargetUnion::Value(value.to_vec().into()),
            ),
            None => (CompareTarget::Version, TargetUnion::Version(0)),
        };
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: key.to_vec().into(),
            target_union: Some(union),
            ..Compare::default()
        };
        let put = |(key, value): &(Vec<u8>, Vec<u8>)| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                ..PutRequest::default()
            })),
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: puts.iter().map(put).collect(),
            failure: Vec::new(),
        };
        let answer: TxnResponse = self.call("/etcdserverpb.KV/Txn", &request)?;
        Ok(answer.succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::end_of;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(end_of(b"/a"), b"/b");
        assert_eq!(end_of(&[1, 255]), [2]);
        assert_eq!(end_of(&[255, 255]), [0]);
        assert_eq!(end_of(b""), [0]);
    }
}
