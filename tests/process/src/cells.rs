//! A few numbered cells: what clients ask of them through etcd's API, and what they should answer.

use anyhow::{Context, Result, bail};
use holm_base::Prng;
use holm_check::{History, Model, Numbered};
use serde_json::{Value, json};

use crate::base64::{decode, encode};
use crate::gateway::Gateway;

/// How many cells there are.
pub const KEYS: usize = 5;

/// A cell's place, its mark, the revision that made it.
pub type Cell = (u8, u64, u64);

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Write.
    Put {
        /// The cell's place.
        key: u8,
        /// What to write: no two writes have the same.
        mark: u64,
    },
    /// Write if the cell was made at that revision; 0 for one that is not there.
    Swap {
        /// The cell's place.
        key: u8,
        /// The revision that must have made it.
        expected: u64,
        /// What to write.
        mark: u64,
    },
    /// Read all.
    Range,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Written, at this revision.
    Wrote {
        /// The revision.
        revision: u64,
    },
    /// Not as expected.
    Unchanged {
        /// The store's revision.
        revision: u64,
    },
    /// What was there.
    Found {
        /// The store's revision.
        revision: u64,
        /// All cells that are there.
        cells: Vec<Cell>,
    },
}

impl Reply {
    /// The revision that it quotes.
    #[must_use]
    pub fn revision(&self) -> u64 {
        match self {
            Self::Wrote { revision }
            | Self::Unchanged { revision }
            | Self::Found { revision, .. } => *revision,
        }
    }

    /// Remembers where cells were made, for swaps to expect.
    pub fn note(&self, seen: &mut [u64; KEYS]) {
        if let Self::Found { cells, .. } = self {
            for (key, _mark, made) in cells {
                seen[usize::from(*key)] = *made;
            }
        }
    }
}

/// Draws a call.
///
/// # Panics
///
/// Never: a cell's place is a small number.
pub fn draw(prng: &mut Prng, mark: u64, seen: &[u64; KEYS]) -> Call {
    let key = u8::try_from(prng.below(KEYS as u64)).expect("a small number");
    match prng.below(10) {
        0..4 => Call::Put { key, mark },
        4..7 => {
            let expected = seen[usize::from(key)];
            Call::Swap {
                key,
                expected,
                mark,
            }
        }
        _ => Call::Range,
    }
}

fn name(key: u8) -> String {
    encode(&[b'c', b'0' + key])
}

fn all(revision: Option<u64>) -> Value {
    let revision = revision.map(|it| it.to_string()).unwrap_or_default();
    let mut body = json!({"key": encode(b"c"), "range_end": encode(b"d")});
    if !revision.is_empty() {
        body["revision"] = Value::String(revision);
    }
    body
}

fn number(value: &Value) -> Result<u64> {
    Ok(value.as_str().unwrap_or("0").parse()?)
}

fn cells(body: &Value) -> Result<Vec<Cell>> {
    let kvs = body["kvs"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| decode(value.as_str().unwrap_or_default()).context("base64");
    let cell = |kv: &Value| {
        let (key, mark) = (text(&kv["key"])?, text(&kv["value"])?);
        let place = key.get(1).context("a cell's key has two bytes")? - b'0';
        Ok((
            place,
            String::from_utf8(mark)?.parse()?,
            number(&kv["mod_revision"])?,
        ))
    };
    kvs.iter().map(cell).collect()
}

/// Asks a site.
///
/// # Errors
///
/// Whatever is no success: its outcome is unknown.
pub fn ask(gateway: &mut Gateway, call: Call) -> Result<Reply> {
    let put =
        |key, mark: u64| json!({"key": name(key), "value": encode(mark.to_string().as_bytes())});
    let answer = match call {
        Call::Put { key, mark } => gateway.post("kv/put", &put(key, mark))?,
        Call::Swap {
            key,
            expected,
            mark,
        } => {
            let compare = json!({"key": name(key), "target": "MOD", "result": "EQUAL",
                "mod_revision": expected.to_string()});
            let body = json!({"compare": [compare], "success": [{"request_put": put(key, mark)}]});
            gateway.post("kv/txn", &body)?
        }
        Call::Range => gateway.post("kv/range", &all(None))?,
    };
    if !answer.is_ok() {
        bail!("{}", answer.body);
    }
    let revision = u64::try_from(answer.revision())?;
    Ok(match call {
        Call::Put { .. } => Reply::Wrote { revision },
        Call::Swap { .. } if answer.body["succeeded"] == true => Reply::Wrote { revision },
        Call::Swap { .. } => Reply::Unchanged { revision },
        Call::Range => Reply::Found {
            revision,
            cells: cells(&answer.body)?,
        },
    })
}

/// A site's own revision and cells.
///
/// # Errors
///
/// It does not answer.
pub fn own_state(gateway: &mut Gateway) -> Result<(u64, Vec<Cell>)> {
    let mut body = all(None);
    body["serializable"] = Value::Bool(true);
    let answer = gateway.post("kv/range", &body)?;
    if !answer.is_ok() {
        bail!("{}", answer.body);
    }
    Ok((u64::try_from(answer.revision())?, cells(&answer.body)?))
}

/// The mark of the write that made a revision.
///
/// # Errors
///
/// No cell was made there.
pub fn made_at(gateway: &mut Gateway, revision: u64) -> Result<u64> {
    let answer = gateway.post("kv/range", &all(Some(revision)))?;
    let found = cells(&answer.body)?
        .into_iter()
        .find(|cell| cell.2 == revision);
    let (_, mark, _) =
        found.with_context(|| format!("nothing was made at {revision}: {}", answer.body))?;
    Ok(mark)
}

/// Makes the last read of a history miss the newest write that it saw; false if there is none.
pub fn make_stale(history: &mut History<Call, Reply>) -> bool {
    let mut changed = History::new();
    let operations = history.operations().to_vec();
    let last = operations.iter().rposition(
        |it| matches!(it.reply(), Some(Reply::Found { cells, .. }) if !cells.is_empty()),
    );
    let mut ends: Vec<(u64, usize)> = Vec::new();
    let mut moments: Vec<(u64, usize, bool)> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        moments.push((operation.invoked, index, true));
        ends.extend(operation.returned_at().map(|at| (at, index)));
    }
    moments.extend(ends.into_iter().map(|(at, index)| (at, index, false)));
    moments.sort_unstable();
    for (_, index, is_invoked) in moments {
        let operation = &operations[index];
        if is_invoked {
            changed.invoke(operation.client, operation.call);
        } else if let Some(reply) = operation.reply() {
            let mut reply = reply.clone();
            if Some(index) == last
                && let Reply::Found { cells, .. } = &mut reply
            {
                let newest = cells.iter().map(|cell| cell.2).max();
                cells.retain(|cell| Some(cell.2) != newest);
            }
            changed.returned(index, reply);
        }
    }
    *history = changed;
    last.is_some()
}

/// What the cells should do.
#[derive(Debug)]
pub struct Cells;

impl Model for Cells {
    type Call = Call;
    type Reply = Reply;
    type State = (u64, Vec<Cell>);

    fn start(&self) -> Self::State {
        (Self::FIRST, Vec::new())
    }

    fn apply(&self, (revision, cells): &mut Self::State, call: &Call) -> Reply {
        let made = |cells: &[Cell], key| cells.iter().find(|it| it.0 == key).map_or(0, |it| it.2);
        match *call {
            Call::Range => Reply::Found {
                revision: *revision,
                cells: cells.clone(),
            },
            Call::Swap { key, expected, .. } if made(cells, key) != expected => Reply::Unchanged {
                revision: *revision,
            },
            Call::Put { key, mark } | Call::Swap { key, mark, .. } => {
                *revision += 1;
                cells.retain(|it| it.0 != key);
                cells.push((key, mark, *revision));
                cells.sort_unstable();
                Reply::Wrote {
                    revision: *revision,
                }
            }
        }
    }
}

impl Numbered for Cells {
    const FIRST: u64 = 1;

    fn mark(&self, call: &Call) -> Option<u64> {
        match *call {
            Call::Put { mark, .. } | Call::Swap { mark, .. } => Some(mark),
            Call::Range => None,
        }
    }

    fn revision(&self, reply: &Reply) -> Option<u64> {
        Some(reply.revision())
    }

    fn wrote(&self, _call: &Call, reply: &Reply) -> bool {
        matches!(reply, Reply::Wrote { .. })
    }
}
