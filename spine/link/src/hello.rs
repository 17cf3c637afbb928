//! The greeting, and its bytes.
//!
//! ```text
//!   0 "HOLMLINK"   8 u16 version   10 u16 bytes in all   12 u64 cluster   20 u64 node
//!  28 u64 boot    36 [32] nonce    68 [32] policy hash
//! 100 u8 planes x {u8 id, u16 lowest, u16 highest}
//!     u8 layers x {u16 layer, u8 flags: 1 required, u8 x {u32 choice, u8 rank, u32 params}}
//! ```
//!
//! A later version may append; what stands behind the layers and within `bytes` is skipped, and
//! is part of the digest all the same.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};
use holm_base::{ClusterId, NodeId};

use crate::config::PlaneRange;
use crate::layers::{Choice, Layer, LayerId};

const MAGIC: &[u8; 8] = b"HOLMLINK";
const VERSION: u16 = 1;
const PLANES_MAX: usize = 32;
const LAYERS_MAX: usize = 64;
const CHOICES_MAX: usize = 32;
/// Bytes before the planes.
const FIXED: usize = 100;

/// What an end says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its run.
    pub boot: u64,
    /// Random, so that no two Binds are equal; the first half is that of the process.
    pub nonce: [u8; 32],
    /// The digest of the policy it follows.
    pub policy: [u8; 32],
    /// What it can do.
    pub offer: Offer,
}

/// What an end can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The planes it speaks, in rising order.
    pub planes: Vec<PlaneRange>,
    /// Its layers, in rising order.
    pub layers: Vec<Layer>,
}

/// Why bytes are no greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// They begin otherwise.
    #[error("hello: it does not begin with HOLMLINK")]
    Magic,
    /// Version 0.
    #[error("hello: version {version} is not known")]
    Version {
        /// What it says.
        version: u16,
    },
    /// The length it names is not the length it has.
    #[error("hello: says it has {named} bytes and has {found}")]
    Length {
        /// What it says.
        named: usize,
        /// What came.
        found: usize,
    },
    /// It ends within a field.
    #[error("hello: it ends early")]
    Short,
    /// More than is allowed.
    #[error("hello: {count} {what}, {max} is the limit")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// What it says.
        count: usize,
        /// What is allowed.
        max: usize,
    },
    /// Ids do not rise, or a range is empty.
    #[error("hello: {what} out of order")]
    Order {
        /// Of what.
        what: &'static str,
    },
}

impl Hello {
    /// What tells the process that greets from another that runs as the same boot: a copy of
    /// its data directory, started beside it.
    #[must_use]
    pub fn run(&self) -> [u8; 16] {
        let (run, _of_connection) = self.nonce.split_first_chunk().expect("16 are within 32");
        *run
    }

    /// Its bytes.
    ///
    /// # Panics
    ///
    /// If it has more planes, layers or choices than the limits: the configuration is ours.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        out.put_u64_le(self.cluster.value());
        out.put_u64_le(self.node.value());
        out.put_u64_le(self.boot);
        out.put_slice(&self.nonce);
        out.put_slice(&self.policy);
        put_count(&mut out, self.offer.planes.len(), PLANES_MAX);
        for plane in &self.offer.planes {
            out.put_u8(plane.plane);
            out.put_u16_le(plane.lowest);
            out.put_u16_le(plane.highest);
        }
        put_count(&mut out, self.offer.layers.len(), LAYERS_MAX);
        for layer in &self.offer.layers {
            out.put_u16_le(layer.id.value());
            out.put_u8(u8::from(layer.is_required));
            put_count(&mut out, layer.choices.len(), CHOICES_MAX);
            for choice in &layer.choices {
                out.put_u32_le(choice.id);
                out.put_u8(choice.rank);
                out.put_u32_le(choice.params);
            }
        }
        let bytes = u16::try_from(out.len()).expect("the limits keep it below 64 KiB");
        out[10..12].copy_from_slice(&bytes.to_le_bytes());
        out.freeze()
    }

    /// Reads a greeting.
    ///
    /// # Errors
    ///
    /// [`HelloError`] for anything but a greeting within the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let mut reader = Reader { bytes };
        if reader.take::<8>()? != *MAGIC {
            return Err(HelloError::Magic);
        }
        let version = reader.u16()?;
        if version == 0 {
            return Err(HelloError::Version { version });
        }
        let (named, found) = (usize::from(reader.u16()?), bytes.len());
        if named != found {
            return Err(HelloError::Length { named, found });
        }
        let hello = Self {
            cluster: ClusterId::new(reader.u64()?),
            node: NodeId::new(reader.u64()?),
            boot: reader.u64()?,
            nonce: reader.take()?,
            policy: reader.take()?,
            offer: Offer {
                planes: reader.planes()?,
                layers: reader.layers()?,
            },
        };
        debug_assert!(found >= FIXED, "the fields before the planes were read");
        match (version, reader.bytes) {
            (VERSION, []) => Ok(hello),
            (VERSION, _) => Err(HelloError::Length {
                named,
                found: found - reader.bytes.len(),
            }),
            (_, _) => Ok(hello),
        }
    }
}

fn put_count(out: &mut BytesMut, count: usize, max: usize) {
    assert!(count <= max, "the configuration keeps to the limits");
    out.put_u8(u8::try_from(count).expect("the limits fit a byte"));
}

/// What is left to read.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HelloError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(HelloError::Short)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, HelloError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, HelloError> {
        self.take().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &'static str, max: usize) -> Result<usize, HelloError> {
        match usize::from(self.u8()?) {
            count if count > max => Err(HelloError::TooMany { what, count, max }),
            count => Ok(count),
        }
    }

    fn planes(&mut self) -> Result<Vec<PlaneRange>, HelloError> {
        let mut planes: Vec<PlaneRange> = Vec::new();
        for _ in 0..self.count("planes", PLANES_MAX)? {
            let plane = PlaneRange {
                plane: self.u8()?,
                lowest: self.u16()?,
                highest: self.u16()?,
            };
            let rises = planes.last().is_none_or(|last| last.plane < plane.plane);
            if !rises || plane.lowest > plane.highest {
                return Err(HelloError::Order { what: "planes" });
            }
            planes.push(plane);
        }
        Ok(planes)
    }

    fn layers(&mut self) -> Result<Vec<Layer>, HelloError> {
        let mut layers: Vec<Layer> = Vec::new();
        for _ in 0..self.count("layers", LAYERS_MAX)? {
            let id = LayerId::new(self.u16()?);
            let is_required = self.u8()? & 1 == 1;
            let choices = self.choices()?;
            if layers.last().is_some_and(|last| last.id >= id) {
                return Err(HelloError::Order { what: "layers" });
            }
            layers.push(Layer {
                id,
                is_required,
                choices,
            });
        }
        Ok(layers)
    }

    fn choices(&mut self) -> Result<Vec<Choice>, HelloError> {
        let mut choices: Vec<Choice> = Vec::new();
        for _ in 0..self.count("choices", CHOICES_MAX)? {
            let choice = Choice {
                id: self.u32()?,
                rank: self.u8()?,
                params: self.u32()?,
            };
            if choices.last().is_some_and(|last| last.id >= choice.id) {
                return Err(HelloError::Order { what: "choices" });
            }
            choices.push(choice);
        }
        Ok(choices)
    }
}
