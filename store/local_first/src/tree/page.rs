//! Pages of the index: how they are written, which of them, and how a tree is read again.
//!
//! ```text
//! page of 4 KiB: u32 crc32c of its number (u64) and the rest, u8 version 1, u8 level, u16 entries, u64 generation
//! leaf (level 0): varint length, key, [32] digest
//! inner:          varint length, separator, u64 page, u64 count, [32] sum
//! zeros to the end
//! ```
//!
//! Numbers are little-endian. The first separator of a page may be less than the one that leads
//! to the page says; it is of no account. What would surprise: a page names the generation that
//! wrote it, and one below it is never of a later one, so a page that was used again is noticed.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Child, Kids, NAME_MAX, Node, Tree};
use crate::encode::{DecodeError, Reader, put_body};
use crate::ranges::{Digest, Sum};

/// How long a page is.
pub const PAGE_BYTES: usize = 4096;
const HEAD_BYTES: usize = 16;
pub(super) const ENTRIES_BYTES: usize = PAGE_BYTES - HEAD_BYTES;
const VERSION: u8 = 1;
const WHAT: &str = "a page of the index";
/// No tree is so deep: a page has at least three entries.
const LEVEL_MAX: u8 = 40;

/// What is to be written so that the index is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The pages, each with its number; those below another come before it.
    pub pages: Vec<(u64, Bytes)>,
    /// The page that all others are found from.
    pub root: u64,
    /// Pages that may be used again once all this is durable.
    pub freed: Vec<u64>,
}

pub(super) const fn leaf_bytes(key: &Bytes) -> usize {
    length_bytes(key) + key.len() + 32
}

pub(super) const fn child_bytes(separator: &Bytes) -> usize {
    length_bytes(separator) + separator.len() + 8 + 8 + 32
}

const fn length_bytes(key: &Bytes) -> usize {
    if key.len() < 0x80 { 1 } else { 2 }
}

impl Tree {
    /// Writes all pages that changed since this was last called. `page` gives out numbers, from
    /// 1; `generation` rises from call to call.
    pub fn write(&mut self, generation: u64, mut page: impl FnMut() -> u64) -> Written {
        let mut pages = Vec::new();
        let root = write(&self.root, (0, generation), &mut page, &mut pages).0;
        Written {
            pages,
            root,
            freed: core::mem::take(&mut self.dead),
        }
    }

    /// Reads a tree that was written. `get` gives a page by its number.
    ///
    /// Cost: a read and a checksum for each page; nothing is hashed.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says; also if a page is missing, or pages do not fit each other.
    pub fn read(
        root: u64,
        get: &mut impl FnMut(u64) -> Option<Bytes>,
    ) -> Result<Self, DecodeError> {
        let bounds = (Bytes::new(), None);
        let (node, _level) = read(root, (LEVEL_MAX, u64::MAX), &bounds, get)?;
        Ok(Self {
            root: node,
            dead: Vec::new(),
        })
    }
}

/// Writes what is below a node and has changed, and the node. Gives its page and its level.
fn write(
    node: &Node,
    (depth, generation): (u8, u64),
    page: &mut impl FnMut() -> u64,
    pages: &mut Vec<(u64, Bytes)>,
) -> (u64, u8) {
    assert!(depth < LEVEL_MAX, "a page has at least three entries");
    let known = node.page();
    if known > 0 {
        return (known, level(node));
    }
    let mut entries = BytesMut::with_capacity(PAGE_BYTES);
    let (count, level) = match &node.kids {
        Kids::Leaf(keys) => {
            for (key, digest) in keys {
                put_body(&mut entries, key);
                entries.put_slice(&digest.0);
            }
            (keys.len(), 0)
        }
        Kids::Inner(children) => {
            let mut level = 0;
            for child in children {
                let below = write(&child.node, (depth + 1, generation), page, pages);
                put_body(&mut entries, &child.first);
                entries.put_u64_le(below.0);
                entries.put_u64_le(child.sum.count);
                for part in child.sum.digests {
                    entries.put_u64_le(part);
                }
                level = below.1 + 1;
            }
            (children.len(), level)
        }
    };
    let mut out = BytesMut::with_capacity(PAGE_BYTES);
    out.put_u32_le(0);
    out.put_u8(VERSION);
    out.put_u8(level);
    out.put_u16_le(u16::try_from(count).expect("a page has few entries"));
    out.put_u64_le(generation);
    out.put_slice(&entries);
    assert!(out.len() <= PAGE_BYTES, "what does not fit was split");
    out.put_bytes(0, PAGE_BYTES - out.len());
    let number = page();
    assert!(number > 0, "pages count from 1");
    let sum = checksum(number, &out[4..]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    node.page.store(number, Ordering::Relaxed);
    pages.push((number, out.freeze()));
    (number, level)
}

/// With the number in it, a page that stands in another's place is noticed.
fn checksum(number: u64, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), rest)
}

fn level(node: &Node) -> u8 {
    match &node.kids {
        Kids::Leaf(_) => 0,
        Kids::Inner(children) => children.first().map_or(0, |it| level(&it.node) + 1),
    }
}

/// Reads a page and all below it: of a level and a generation not above these, and of keys that
/// lie between two bounds.
fn read(
    number: u64,
    (level_max, generation_max): (u8, u64),
    bounds: &(Bytes, Option<Bytes>),
    get: &mut impl FnMut(u64) -> Option<Bytes>,
) -> Result<(Arc<Node>, u8), DecodeError> {
    let wrong = DecodeError::Wrong { what: WHAT };
    let bytes = get(number).filter(|it| it.len() == PAGE_BYTES);
    let bytes = bytes.ok_or(DecodeError::Short { what: WHAT })?;
    let mut reader = Reader::new(bytes.clone());
    if reader.u32(WHAT)? != checksum(number, &bytes[4..]) {
        return Err(DecodeError::Checksum { what: WHAT });
    }
    let version = reader.byte(WHAT)?;
    if version != VERSION {
        let what = WHAT;
        return Err(DecodeError::Version { what, version });
    }
    let level = reader.byte(WHAT)?;
    let count = reader.u16(WHAT)?;
    let generation = reader.u64(WHAT)?;
    if level > level_max || generation > generation_max || number == 0 {
        return Err(wrong);
    }
    let kids = if level == 0 {
        read_leaf(&mut reader, count, bounds)?
    } else {
        read_inner(&mut reader, (level, generation, count), bounds, get)?
    };
    let rest = ENTRIES_BYTES - kids.bytes();
    if reader.take(rest, WHAT)?.iter().any(|it| *it != 0) {
        return Err(wrong);
    }
    let node = Node::new(kids);
    node.page.store(number, Ordering::Relaxed);
    Ok((Arc::new(node), level))
}

fn name(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    let name = reader.body(WHAT)?;
    if name.len() > NAME_MAX {
        return Err(DecodeError::Wrong { what: WHAT });
    }
    // A copy: a slice would keep the whole page in memory.
    Ok(Bytes::copy_from_slice(&name))
}

fn read_leaf(
    reader: &mut Reader,
    count: u16,
    (from, to): &(Bytes, Option<Bytes>),
) -> Result<Kids, DecodeError> {
    let mut keys: Vec<(Bytes, Digest)> = Vec::new();
    for _ in 0..count {
        let key = name(reader)?;
        let mut digest = Digest([0; 32]);
        digest.0.copy_from_slice(&reader.take(32, WHAT)?);
        let rises = keys.last().is_none_or(|(last, _)| *last < key);
        let is_within = key >= *from && to.as_ref().is_none_or(|to| key < *to);
        if !rises || !is_within {
            return Err(DecodeError::Wrong { what: WHAT });
        }
        keys.push((key, digest));
    }
    Ok(Kids::Leaf(keys))
}

fn read_inner(
    reader: &mut Reader,
    (level, generation, count): (u8, u64, u16),
    (from, to): &(Bytes, Option<Bytes>),
    get: &mut impl FnMut(u64) -> Option<Bytes>,
) -> Result<Kids, DecodeError> {
    let wrong = DecodeError::Wrong { what: WHAT };
    let mut entries: Vec<(Bytes, u64, Sum)> = Vec::new();
    for _ in 0..count {
        let first = name(reader)?;
        let number = reader.u64(WHAT)?;
        let mut sum = Sum {
            count: reader.u64(WHAT)?,
            digests: [0; 4],
        };
        for part in &mut sum.digests {
            *part = reader.u64(WHAT)?;
        }
        if entries.last().is_some_and(|(last, ..)| *last >= first) {
            return Err(wrong);
        }
        entries.push((first, number, sum));
    }
    if entries.is_empty() {
        return Err(wrong);
    }
    let mut children = Vec::with_capacity(entries.len());
    for (at, (first, number, sum)) in entries.iter().enumerate() {
        let begin = if at == 0 { from } else { first };
        let end = entries.get(at + 1).map(|(next, ..)| next).or(to.as_ref());
        let bounds = (begin.clone(), end.cloned());
        let (node, below) = read(*number, (level - 1, generation), &bounds, get)?;
        if below != level - 1 || node.kids.sum() != *sum {
            return Err(wrong);
        }
        children.push(Child {
            first: first.clone(),
            sum: *sum,
            node,
        });
    }
    Ok(Kids::Inner(children))
}
