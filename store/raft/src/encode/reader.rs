//! Reading: every length is checked against what is there.

use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::{NodeId, Op, Term, Time};

use super::{DecodeError, VERSION};
use crate::message::{Origin, Position, ReadPoint, Round};

/// Reads from front to back; what is not there is an error.
pub(crate) struct Reader {
    bytes: Bytes,
    what: &'static str,
}

impl Reader {
    pub(crate) fn new(bytes: &Bytes, what: &'static str) -> Self {
        let bytes = bytes.clone();
        Self { bytes, what }
    }

    pub(crate) const fn short(&self) -> DecodeError {
        DecodeError::Short { what: self.what }
    }

    pub(crate) const fn nonsense(&self) -> DecodeError {
        DecodeError::Nonsense { what: self.what }
    }

    pub(crate) const fn unknown(&self, kind: u8) -> DecodeError {
        let what = self.what;
        DecodeError::Kind { what, kind }
    }

    /// The kind and the flags.
    pub(crate) fn head(&mut self) -> Result<(u8, u8), DecodeError> {
        let [version, kind, flags, _spare] = self.array()?;
        if version != VERSION {
            let what = self.what;
            return Err(DecodeError::Version { what, version });
        }
        Ok((kind, flags))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let found = self.bytes.first_chunk::<N>().copied();
        let found = found.ok_or_else(|| self.short())?;
        self.bytes = self.bytes.slice(N..);
        Ok(found)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn op(&mut self) -> Result<Op, DecodeError> {
        self.u64().map(Op::new)
    }

    pub(crate) fn term(&mut self) -> Result<Term, DecodeError> {
        self.u64().map(Term::new)
    }

    pub(crate) fn time(&mut self) -> Result<Time, DecodeError> {
        self.u64().map(Time::from_nanos)
    }

    pub(crate) fn position(&mut self) -> Result<Position, DecodeError> {
        Ok(Position {
            term: self.term()?,
            op: self.op()?,
        })
    }

    pub(crate) fn origin(&mut self) -> Result<Origin, DecodeError> {
        Ok(Origin {
            node: NodeId::new(self.u64()?),
            boot: self.u64()?,
        })
    }

    pub(crate) fn round(&mut self) -> Result<Round, DecodeError> {
        Ok(Round {
            boot: self.u64()?,
            number: self.u64()?,
        })
    }

    pub(crate) fn read(&mut self) -> Result<ReadPoint, DecodeError> {
        Ok(ReadPoint {
            op: self.op()?,
            configuration: self.position()?,
        })
    }

    pub(crate) fn nodes(&mut self, count: usize) -> Result<Vec<NodeId>, DecodeError> {
        if count > self.bytes.len() / 8 {
            return Err(self.short());
        }
        (0..count).map(|_| self.u64().map(NodeId::new)).collect()
    }

    /// How many things follow, each of `least` bytes or more: no more than there is room for.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, DecodeError> {
        let count = wide(self.u32()?);
        if count > self.bytes.len() / least {
            return Err(self.short());
        }
        Ok(count)
    }

    /// A part behind its length.
    pub(crate) fn sized(&mut self) -> Result<Bytes, DecodeError> {
        let len = wide(self.u32()?);
        if len > self.bytes.len() {
            return Err(self.short());
        }
        Ok(self.bytes.split_to(len))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        core::mem::take(&mut self.bytes)
    }

    pub(crate) const fn end(&self) -> Result<(), DecodeError> {
        let (what, extra) = (self.what, self.bytes.len());
        if extra == 0 {
            Ok(())
        } else {
            Err(DecodeError::Long { what, extra })
        }
    }
}

pub(crate) fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("what is sent or kept is far below 4 GiB")
}

pub(crate) fn wide(len: u32) -> usize {
    usize::try_from(len).expect("an address has 32 bits at least")
}
