//! What a cache and its home say to each other on a call of `holm.v1.Cache/Follow`: one ordered
//! stream each way.
//!
//! ```text
//!  cache: Open, then Report, Fetch, Evict     home: Opened, then Frame, Value
//! ```
//!
//! The rules of it are `spine/freshness`'s; this is its form on the wire. A message without
//! anything in it is one of a later version and is refused: who skips a frame knows nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use holm_base::Revision;
use holm_freshness::{Found, Item, KeyId, ToCache, ToHome};

use crate::status::{Code, Status};

/// Bounds that can be kept: below, messages would be all that happens; above, nobody means it.
pub const BOUNDS: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(3_600);

/// What a cache says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CacheAsk {
    /// Which of them.
    #[prost(oneof = "Ask", tags = "1, 2, 3, 4")]
    pub ask: Option<Ask>,
}

/// One thing that a cache says.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Ask {
    /// First of all, and never again.
    #[prost(message, tag = "1")]
    Open(Open),
    /// A moment, and what was read.
    #[prost(message, tag = "2")]
    Report(Report),
    /// Asks for a key.
    #[prost(message, tag = "3")]
    Fetch(Fetch),
    /// A key was thrown out; its number.
    #[prost(uint64, tag = "4")]
    Evict(u64),
}

/// How a cache begins.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Open {
    /// The keyspace that it believes to speak to.
    #[prost(string, tag = "1")]
    pub keyspace: String,
    /// How old what it answers may be, in microseconds.
    #[prost(uint64, tag = "2")]
    pub bound_us: u64,
}

/// A moment of the cache.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Report {
    /// Its number, from 1.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Keys that were read for the first time since their last update, by number.
    #[prost(uint64, repeated, tag = "2")]
    pub read: Vec<u64>,
}

/// Asks for a key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Fetch {
    /// Its number, rising.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The key.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
}

/// What a home says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CacheTell {
    /// Which of them.
    #[prost(oneof = "Tell", tags = "1, 2, 3")]
    pub tell: Option<Tell>,
}

/// One thing that a home says.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Tell {
    /// First of all, and never again.
    #[prost(message, tag = "1")]
    Opened(Opened),
    /// All that happened since the frame before.
    #[prost(message, tag = "2")]
    Frame(Frame),
    /// The answer to a fetch.
    #[prost(message, tag = "3")]
    Value(Value),
}

/// Who the home is: what stands in the headers of answers.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Opened {
    /// The cluster.
    #[prost(fixed64, tag = "1")]
    pub cluster: u64,
    /// The member.
    #[prost(fixed64, tag = "2")]
    pub member: u64,
    /// The term.
    #[prost(uint64, tag = "3")]
    pub term: u64,
}

/// All that happened to a cache's keys since the frame before.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Frame {
    /// Its number, from 1.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The newest report after whose arrival the home made sure that it lacks nothing.
    #[prost(uint64, tag = "2")]
    pub echo: u64,
    /// All up to this revision is told.
    #[prost(int64, tag = "3")]
    pub revision: i64,
    /// What happened.
    #[prost(message, repeated, tag = "4")]
    pub items: Vec<FrameItem>,
}

/// What happened to a key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FrameItem {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What it holds now; missing if that has to be fetched.
    #[prost(message, optional, tag = "2")]
    pub found: Option<Holding>,
}

/// What a key holds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Holding {
    /// The KeyValue message; missing if there is no such key.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub record: Option<Bytes>,
    /// When it changed last.
    #[prost(int64, tag = "2")]
    pub revision: i64,
}

/// The answer to a fetch.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Value {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Its number, if its changes are told from here on.
    #[prost(uint64, optional, tag = "2")]
    pub id: Option<u64>,
    /// What it holds.
    #[prost(message, optional, tag = "3")]
    pub found: Option<Holding>,
    /// The number of the fetch.
    #[prost(uint64, tag = "4")]
    pub number: u64,
}

impl From<ToHome> for CacheAsk {
    fn from(message: ToHome) -> Self {
        let ask = match message {
            ToHome::Report { number, read } => Ask::Report(Report {
                number,
                read: read.into_iter().map(|it| it.0).collect(),
            }),
            ToHome::Fetch { number, key } => Ask::Fetch(Fetch { number, key }),
            ToHome::Evict { id } => Ask::Evict(id.0),
        };
        Self { ask: Some(ask) }
    }
}

impl TryFrom<CacheAsk> for ToHome {
    type Error = Status;

    fn try_from(message: CacheAsk) -> Result<Self, Status> {
        match message.ask {
            Some(Ask::Report(Report { number, read })) => Ok(Self::Report {
                number,
                read: read.into_iter().map(KeyId).collect(),
            }),
            Some(Ask::Fetch(fetch)) if fetch.key.is_empty() => {
                Err(unknown("a fetch without a key"))
            }
            Some(Ask::Fetch(Fetch { number, key })) => Ok(Self::Fetch { number, key }),
            Some(Ask::Evict(id)) => Ok(Self::Evict { id: KeyId(id) }),
            Some(Ask::Open(_)) => Err(unknown("a second opening")),
            None => Err(unknown("nothing that is known here")),
        }
    }
}

impl From<ToCache> for CacheTell {
    fn from(message: ToCache) -> Self {
        let tell = match message {
            ToCache::Frame {
                number,
                echo,
                revision,
                items,
            } => Tell::Frame(Frame {
                number,
                echo,
                revision: revision.value(),
                items: items.into_iter().map(FrameItem::from).collect(),
            }),
            ToCache::Value {
                number,
                key,
                id,
                found,
            } => Tell::Value(Value {
                number,
                key,
                id: id.map(|it| it.0),
                found: Some(found.into()),
            }),
        };
        Self { tell: Some(tell) }
    }
}

impl TryFrom<CacheTell> for ToCache {
    type Error = Status;

    fn try_from(message: CacheTell) -> Result<Self, Status> {
        match message.tell {
            Some(Tell::Frame(frame)) => Ok(Self::Frame {
                number: frame.number,
                echo: frame.echo,
                revision: Revision::new(frame.revision),
                items: frame.items.into_iter().map(Item::from).collect(),
            }),
            Some(Tell::Value(value)) => {
                let found = value.found;
                let found = found.ok_or_else(|| unknown("a value that holds nothing"))?;
                Ok(Self::Value {
                    number: value.number,
                    key: value.key,
                    id: value.id.map(KeyId),
                    found: found.into(),
                })
            }
            Some(Tell::Opened(_)) => Err(unknown("a second opening")),
            None => Err(unknown("nothing that is known here")),
        }
    }
}

impl From<Item> for FrameItem {
    fn from(item: Item) -> Self {
        match item {
            Item::Update(id, found) => Self {
                id: id.0,
                found: Some(found.into()),
            },
            Item::Invalidate(id) => Self {
                id: id.0,
                found: None,
            },
        }
    }
}

impl From<FrameItem> for Item {
    fn from(item: FrameItem) -> Self {
        match item.found {
            Some(found) => Self::Update(KeyId(item.id), found.into()),
            None => Self::Invalidate(KeyId(item.id)),
        }
    }
}

impl From<Found> for Holding {
    fn from(found: Found) -> Self {
        Self {
            record: found.value,
            revision: found.revision.value(),
        }
    }
}

impl From<Holding> for Found {
    fn from(holding: Holding) -> Self {
        Self {
            value: holding.record,
            revision: Revision::new(holding.revision),
        }
    }
}

fn unknown(what: &str) -> Status {
    let text = format!("a cache and its home do not understand each other: {what} was said");
    Status::new(Code::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the other side reads it.
    fn carried<M: prost::Message + Default>(message: &M) -> M {
        M::decode(message.encode_to_vec().as_slice()).unwrap()
    }

    fn found(value: Option<&'static str>) -> Found {
        Found {
            value: value.map(|it| Bytes::from_static(it.as_bytes())),
            revision: Revision::new(1_700_000_000_000_000),
        }
    }

    #[test]
    fn what_a_cache_says_arrives_as_it_was_said() {
        for said in [
            ToHome::Report {
                number: 7,
                read: vec![KeyId(1), KeyId(1 << 40)],
            },
            ToHome::Fetch {
                number: 3,
                key: Bytes::from_static(b"a\0"),
            },
            ToHome::Evict { id: KeyId(9) },
        ] {
            let heard = ToHome::try_from(carried(&CacheAsk::from(said.clone())));
            assert_eq!(heard, Ok(said));
        }
    }

    #[test]
    fn what_a_home_says_arrives_as_it_was_said() {
        for said in [
            ToCache::Frame {
                number: 3,
                echo: 0,
                revision: Revision::new(5),
                items: vec![
                    Item::Update(KeyId(4), found(Some(""))),
                    Item::Update(KeyId(5), found(None)),
                    Item::Invalidate(KeyId(6)),
                ],
            },
            ToCache::Value {
                number: 8,
                key: Bytes::from_static(b"a"),
                id: None,
                found: found(Some("x")),
            },
        ] {
            let heard = ToCache::try_from(carried(&CacheTell::from(said.clone())));
            assert_eq!(heard, Ok(said));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let empty = CacheTell { tell: None };
        assert!(ToCache::try_from(empty).is_err());
        let again = CacheAsk {
            ask: Some(Ask::Open(Open::default())),
        };
        assert!(ToHome::try_from(again).is_err());
        let nothing = CacheAsk {
            ask: Some(Ask::Fetch(Fetch::default())),
        };
        assert!(ToHome::try_from(nothing).is_err());
    }
}
