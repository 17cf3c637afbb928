//! A run of a replica as bytes, and its replay: the same inputs at the same moments must give the
//! same effects (machine I5).
//!
//! ```text
//! recording  "HOLMSTEP", u16 version 1, u16 0, then frames
//! frame      u32 bytes, u64 check of them, the bytes: u8 kind, then
//!   1 Start  what the replica began with
//!   2 Steps  u64 now, u32 count, inputs, u64 hash of all effects
//!   3 End    u8 why: 1 the node stopped, 2 the file may not grow further
//! ```
//!
//! A batch is one step, as the replica sees it. Hashes and checks are FNV-1a: they find
//! accidents, not forgers. A process that is killed leaves a torn last frame or no End.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use bytes::{BufMut, Bytes, BytesMut};
use holm_base::{NodeId, Time, WriteId};
use holm_machine::Effects;

use crate::config::Config;
use crate::effect::Effect;
use crate::encode::DecodeError;
use crate::encode::reader::Reader;
use crate::encode::recording::{input, put_input, put_start, start};
use crate::input::Input;
use crate::node::{Raft, Restored};

const MAGIC: &[u8; 8] = b"HOLMSTEP";
const VERSION: u16 = 1;
const HEADER: usize = 12;
const FRAME_HEADER: usize = 12;

const START: u8 = 1;
const STEPS: u8 = 2;
const END: u8 = 3;

/// Why a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The node stopped.
    Stopped,
    /// It had become as large as it may.
    Full,
}

/// Turns what happens to a replica into bytes. It keeps none of them.
#[derive(Debug, Default)]
pub struct Recorder {
    frame: BytesMut,
}

impl Recorder {
    /// The header, and what the replica begins with at [`Time::ZERO`].
    pub fn start(&mut self, config: &Config, restored: &Restored) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        self.open(START);
        put_start(&mut self.frame, config, restored);
        out.put_slice(&self.close());
        out.freeze()
    }

    /// Notes what is about to happen to the replica.
    pub fn before(&mut self, now: Time, inputs: &[Input]) {
        self.open(STEPS);
        self.frame.put_u64_le(now.nanos());
        let count = u32::try_from(inputs.len()).expect("a batch is in memory");
        self.frame.put_u32_le(count);
        for input in inputs {
            put_input(&mut self.frame, input);
        }
    }

    /// The frame of what was noted and of what came of it.
    pub fn after(&mut self, effects: &[Effect]) -> Bytes {
        self.frame.put_u64_le(digest(effects));
        self.close()
    }

    /// The last frame.
    pub fn end(&mut self, why: Ended) -> Bytes {
        self.open(END);
        self.frame.put_u8(match why {
            Ended::Stopped => 1,
            Ended::Full => 2,
        });
        self.close()
    }

    fn open(&mut self, kind: u8) {
        self.frame.clear();
        self.frame.put_bytes(0, FRAME_HEADER);
        self.frame.put_u8(kind);
    }

    fn close(&mut self) -> Bytes {
        let body = &self.frame[FRAME_HEADER..];
        let (bytes, check) = (body.len(), check(body));
        let bytes = u32::try_from(bytes).expect("a batch is far below 4 GiB");
        self.frame[..4].copy_from_slice(&bytes.to_le_bytes());
        self.frame[4..FRAME_HEADER].copy_from_slice(&check.to_le_bytes());
        self.frame.split().freeze()
    }
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it says itself.
    Said(Ended),
    /// In the middle, as when the process was killed.
    Torn,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Whose recording it is.
    pub node: NodeId,
    /// Which run of it.
    pub boot: u64,
    /// How many steps had equal effects.
    pub steps: u64,
    /// How many inputs they took.
    pub inputs: u64,
    /// The moment of the last of them.
    pub until: Time,
    /// The first step whose effects differ, if one does; nothing behind it was replayed.
    pub differs: Option<Difference>,
    /// How the recording ends; `Torn` too if a step differed before that was known.
    pub ending: Ending,
}

/// A step whose effects differ from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which, counted from 1.
    pub step: u64,
    /// When.
    pub now: Time,
    /// What happened.
    pub inputs: Vec<String>,
    /// What the replay wants; what was recorded is known by its hash only.
    pub effects: Vec<String>,
}

/// Why a recording cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// It is something else.
    #[error("this is no recording of a replica")]
    Foreign,
    /// Another release made it.
    #[error("the recording has version {version}, this release replays version {VERSION}")]
    Version {
        /// The version found.
        version: u16,
    },
    /// It ends before the replica started.
    #[error("the recording ends before the replica started")]
    Empty,
    /// A frame is damaged, and others stand behind it.
    #[error("the recording is damaged at byte {at}")]
    Damaged {
        /// Where the frame begins.
        at: usize,
    },
    /// A frame is whole and makes no sense.
    #[error("the recording cannot be read at byte {at}")]
    Unreadable {
        /// Where the frame begins.
        at: usize,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// Replays a recording up to its end or to the first step whose effects differ.
///
/// # Errors
///
/// As [`RecordingError`] says: it is none, or damaged.
///
/// # Panics
///
/// Where the recorded inputs break an invariant of the replica; a sound recording has none.
pub fn replay(recording: &Bytes) -> Result<Replayed, RecordingError> {
    let Some((header, _)) = recording.split_at_checked(HEADER) else {
        return Err(RecordingError::Foreign);
    };
    if header[..8] != *MAGIC {
        return Err(RecordingError::Foreign);
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(RecordingError::Version { version });
    }
    let mut frames = Frames {
        bytes: recording.slice(HEADER..),
        at: HEADER,
    };
    let Some((at, kind, mut from)) = frames.advance()? else {
        return Err(RecordingError::Empty);
    };
    if kind != START {
        let source = from.unknown(kind);
        return Err(RecordingError::Unreadable { at, source });
    }
    let unreadable = |source| RecordingError::Unreadable { at, source };
    let (config, restored) = start(&mut from).map_err(unreadable)?;
    from.end().map_err(unreadable)?;
    let replayed = Replayed {
        node: config.node,
        boot: config.boot,
        steps: 0,
        inputs: 0,
        until: Time::ZERO,
        differs: None,
        ending: Ending::Torn,
    };
    let raft = Raft::restore(config, restored, Time::ZERO);
    walk(frames, raft, replayed)
}

fn walk(
    mut frames: Frames,
    mut raft: Raft,
    mut replayed: Replayed,
) -> Result<Replayed, RecordingError> {
    let (mut effects, mut asked) = (Effects::new(), WriteId::ZERO);
    while let Some((at, kind, mut from)) = frames.advance()? {
        let unreadable = |source| RecordingError::Unreadable { at, source };
        match kind {
            STEPS => {
                let (now, inputs, hash) = steps(&mut from).map_err(unreadable)?;
                if now < replayed.until {
                    return Err(unreadable(from.nonsense()));
                }
                if let Some(through) = unasked(&inputs, asked) {
                    let what = format!("nothing: it never asked for write {through}");
                    replayed.differs = Some(Difference {
                        step: replayed.steps + 1,
                        now,
                        inputs: inputs.iter().map(|it| format!("{it:?}")).collect(),
                        effects: alloc::vec![what],
                    });
                    return Ok(replayed);
                }
                raft.step_batch(now, inputs.iter().cloned(), &mut effects);
                if digest(effects.as_slice()) != hash {
                    replayed.differs = Some(Difference {
                        step: replayed.steps + 1,
                        now,
                        inputs: inputs.iter().map(|it| format!("{it:?}")).collect(),
                        effects: effects.drain().map(|it| format!("{it:?}")).collect(),
                    });
                    return Ok(replayed);
                }
                for effect in effects.drain() {
                    if let Effect::Persist { write, .. } = effect {
                        asked = write;
                    }
                }
                replayed.steps += 1;
                replayed.inputs += u64::try_from(inputs.len()).unwrap_or(u64::MAX);
                replayed.until = now;
            }
            END => {
                let why = from.array().map_err(unreadable)?;
                replayed.ending = Ending::Said(match why {
                    [1] => Ended::Stopped,
                    [2] => Ended::Full,
                    [_other] => return Err(unreadable(from.nonsense())),
                });
                return Ok(replayed);
            }
            kind => return Err(unreadable(from.unknown(kind))),
        }
    }
    Ok(replayed)
}

/// A write that is reported durable and that the replay has not asked for: it has gone another
/// way, in a manner that hashes have not shown.
fn unasked(inputs: &[Input], asked: WriteId) -> Option<WriteId> {
    inputs.iter().find_map(|input| match *input {
        Input::Durable { through } => Some(through).filter(|through| *through > asked),
        Input::Wake
        | Input::Message { .. }
        | Input::Suspect { .. }
        | Input::Request { .. }
        | Input::Read { .. }
        | Input::Fetched { .. }
        | Input::Saved { .. }
        | Input::Release { .. }
        | Input::Lacking { .. }
        | Input::Loaded { .. }
        | Input::Stored { .. }
        | Input::Operate { .. } => None,
    })
}

fn steps(from: &mut Reader) -> Result<(Time, Vec<Input>, u64), DecodeError> {
    let now = from.time()?;
    let count = from.count(1)?;
    let mut inputs = Vec::with_capacity(count.min(1 << 16));
    for _ in 0..count {
        inputs.push(input(from)?);
    }
    let hash = from.u64()?;
    from.end()?;
    Ok((now, inputs, hash))
}

/// The frames of a recording, up to the first that is not whole.
struct Frames {
    bytes: Bytes,
    at: usize,
}

impl Frames {
    /// Where the next begins, its kind, and what is in it; nothing at the end or at a torn one.
    fn advance(&mut self) -> Result<Option<(usize, u8, Reader)>, RecordingError> {
        let at = self.at;
        let Some((header, rest)) = self.bytes.split_at_checked(FRAME_HEADER) else {
            return Ok(None);
        };
        let (bytes, wanted) = header.split_at(4);
        let bytes = bytes.first_chunk().map(|it| u32::from_le_bytes(*it));
        let wanted = wanted.first_chunk().map(|it| u64::from_le_bytes(*it));
        let (Some(bytes), Some(wanted)) = (bytes, wanted) else {
            return Ok(None);
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let Some(body) = rest.get(..bytes) else {
            return Ok(None);
        };
        if check(body) != wanted {
            let is_last = rest.len() == bytes;
            return if is_last {
                Ok(None)
            } else {
                Err(RecordingError::Damaged { at })
            };
        }
        let body = self.bytes.slice(FRAME_HEADER..FRAME_HEADER + bytes);
        self.bytes = self.bytes.slice(FRAME_HEADER + bytes..);
        self.at += FRAME_HEADER + bytes;
        let mut from = Reader::new(&body, "a recorded step");
        match from.array() {
            Ok([kind]) => Ok(Some((at, kind, from))),
            Err(source) => Err(RecordingError::Unreadable { at, source }),
        }
    }
}

/// FNV-1a with 64 bits.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn check(bytes: &[u8]) -> u64 {
    let mut fnv = Fnv::new();
    fnv.write(bytes);
    fnv.finish()
}

fn digest(effects: &[Effect]) -> u64 {
    let mut fnv = Fnv::new();
    effects.hash(&mut fnv);
    fnv.finish()
}
