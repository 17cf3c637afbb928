//! The reader: believes nothing that it has not checked, and never holds more than one path
//! of pages.
//!
//! What would surprise: a small bucket has no page of its own; its page lies in its value.

use bytes::Bytes;
use core::ops::ControlFlow;
use holm_base::ByteCount;
use holm_machine::{Disk, DiskError};
use sha2::{Digest, Sha256};

use crate::layout::{
    BRANCH, BUCKET, BUCKET_FLAG, ELEMENT, LEAF, META, Meta, PAGE_HEAD, PageHead, index, u32_at,
    u64_at, wide,
};

/// How deep a tree may be; etcd's stay below 8.
const DEPTH_MAX: usize = 64;
/// How long a page with its overflow may be: far above the largest value that etcd takes.
const RUN_BYTES_MAX: u64 = 256 << 20;
/// How many buckets a file may have; etcd's have 11.
const BUCKETS_MAX: usize = 1024;
const SUM_BYTES: u64 = 32;
const SECTOR: u64 = 512;
const BUFFER: usize = 256 << 10;

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no whole meta in it.
    #[error("read the database: this is no file of etcd's, or its beginning is damaged")]
    Foreign,
    /// The checksum behind it is another.
    #[error(
        "read the database: its SHA-256 does not fit, so it is damaged or cut off: take another copy of it"
    )]
    Sum,
    /// Something in it cannot be.
    #[error("read the database: page {page} is damaged: {found}")]
    Damaged {
        /// The page.
        page: u64,
        /// What is wrong with it.
        found: &'static str,
    },
    /// The disk refused.
    #[error("read the database")]
    Disk(#[from] DiskError),
}

/// The checksum behind a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// It is there, and fits.
    Right([u8; 32]),
    /// There is none: a database taken from a member's folder, not a snapshot.
    Absent,
}

/// Reads the whole file and compares it with the SHA-256 behind it.
///
/// # Errors
///
/// [`ReadError::Sum`] if it does not fit, or the disk's.
pub fn check_sum(disk: &dyn Disk) -> Result<Sum, ReadError> {
    let bytes = disk.len()?.value();
    if bytes % SECTOR != SUM_BYTES {
        return Ok(Sum::Absent);
    }
    let (mut sum, mut at, end) = (Sha256::new(), 0, bytes - SUM_BYTES);
    let mut buffer = vec![0; BUFFER];
    while at < end {
        let len = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
        disk.read(ByteCount::new(at), &mut buffer[..len])?;
        sum.update(&buffer[..len]);
        at += wide(len);
    }
    let mut stated = [0; 32];
    disk.read(ByteCount::new(end), &mut stated)?;
    let found: [u8; 32] = sum.finalize().into();
    if found == stated {
        Ok(Sum::Right(stated))
    } else {
        Err(ReadError::Sum)
    }
}

/// A key, where it is and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bucket's name.
    pub bucket: Bytes,
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// A file whose newest whole meta was found.
#[derive(Debug)]
pub struct Database<'a> {
    disk: &'a dyn Disk,
    meta: Meta,
    buckets: Vec<(Bytes, Bytes)>,
}

impl<'a> Database<'a> {
    /// Finds the newest whole meta and reads the buckets' names.
    ///
    /// # Errors
    ///
    /// [`ReadError::Foreign`] if there is no such meta, and as [`ReadError`] says.
    pub fn open(disk: &'a dyn Disk) -> Result<Self, ReadError> {
        let meta = newest_meta(disk)?;
        let mut it = Self {
            disk,
            meta,
            buckets: Vec::new(),
        };
        let mut buckets = Vec::new();
        let mut walk = Walk::new(&it);
        let _all = walk.tree(Start::Page(meta.root), &mut |item| {
            let is_sane = item.flags == BUCKET_FLAG && item.value.len() >= BUCKET;
            if !is_sane || buckets.len() == BUCKETS_MAX {
                return Err("the root holds something that is no bucket, or too many");
            }
            buckets.push((item.key, item.value));
            Ok(ControlFlow::Continue(()))
        })?;
        it.buckets = buckets;
        Ok(it)
    }

    /// The transaction that the file is the state of.
    #[must_use]
    pub const fn txid(&self) -> u64 {
        self.meta.txid
    }

    /// How many bytes of the file its pages take up.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_bytes)
    }

    /// The buckets' names, rising.
    pub fn buckets(&self) -> impl Iterator<Item = &Bytes> {
        self.buckets.iter().map(|(name, _)| name)
    }

    /// Visits the keys of a bucket in order, none if there is no such bucket, until `each`
    /// breaks off. Every page on the way is checked; values share a page's memory.
    ///
    /// # Errors
    ///
    /// As [`ReadError`] says; `each` has then seen what lay before.
    pub fn read(
        &self,
        bucket: &[u8],
        each: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let found = self.buckets.iter().find(|(name, _)| name == bucket);
        let Some((_, value)) = found else {
            return Ok(());
        };
        let _broke_off = Walk::new(self).bucket(value, each)?;
        Ok(())
    }

    /// Reads every page of every bucket: that all is in order, and no page is in two places.
    ///
    /// # Errors
    ///
    /// As [`ReadError`] says.
    pub fn check(&self) -> Result<(), ReadError> {
        self.read_all(&mut |_| ControlFlow::Continue(()))
    }

    /// Visits the keys of all buckets, and checks as [`Database::check`] does.
    ///
    /// # Errors
    ///
    /// As [`ReadError`] says; `each` has then seen what lay before.
    pub fn read_all(
        &self,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut walk = Walk::new(self);
        let _all = walk.tree(Start::Page(self.meta.root), &mut |_| {
            Ok(ControlFlow::Continue(()))
        })?;
        for (name, value) in &self.buckets {
            let flow = walk.bucket(value, &mut |key, value| {
                let bucket = name.clone();
                each(Entry { bucket, key, value })
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The metas lie at the file's start and one page behind it, whatever a page's size is.
fn newest_meta(disk: &dyn Disk) -> Result<Meta, ReadError> {
    let len = disk.len()?.value();
    let mut newest: Option<Meta> = None;
    for at in core::iter::once(0).chain((10..=16).map(|bits| 1_u64 << bits)) {
        let mut bytes = [0; META];
        if at + wide(PAGE_HEAD + META) > len {
            continue;
        }
        disk.read(ByteCount::new(at + wide(PAGE_HEAD)), &mut bytes)?;
        let meta = Meta::decode(&bytes).filter(|meta| {
            let page = u64::from(meta.page_bytes);
            let is_size = page.is_power_of_two() && (1 << 10..=1 << 16).contains(&page);
            is_size && (at == 0 || at == page)
        });
        if let Some(meta) = meta
            && newest.is_none_or(|newest| newest.txid < meta.txid)
        {
            newest = Some(meta);
        }
    }
    let meta = newest.ok_or(ReadError::Foreign)?;
    let used = meta.pages.checked_mul(u64::from(meta.page_bytes));
    if used.is_none_or(|used| used > len) {
        return Err(damaged(0, "the file ends before the last page"));
    }
    Ok(meta)
}

const fn damaged(page: u64, found: &'static str) -> ReadError {
    ReadError::Damaged { page, found }
}

/// Where a tree begins.
enum Start {
    Page(u64),
    /// A page within a bucket's value.
    Inline(Bytes),
}

struct Item {
    flags: u32,
    key: Bytes,
    value: Bytes,
}

type Each<'a> = dyn FnMut(Item) -> Result<ControlFlow<()>, &'static str> + 'a;

/// One way through pages, none of which may come twice.
struct Walk<'a> {
    disk: &'a dyn Disk,
    meta: Meta,
    seen: Vec<u64>,
}

/// A branch on the path: its children that are still to be visited, last one first.
struct Branch {
    children: Vec<u64>,
}

impl<'a> Walk<'a> {
    fn new(database: &Database<'a>) -> Self {
        let words = usize::try_from(database.meta.pages.div_ceil(64));
        Self {
            disk: database.disk,
            meta: database.meta,
            seen: vec![0; words.expect("there are no more pages than the file has bytes")],
        }
    }

    fn bucket(
        &mut self,
        value: &Bytes,
        each: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let root = u64_at(value, 0).ok_or_else(|| damaged(0, "a bucket has no root"))?;
        let start = if root == 0 {
            Start::Inline(value.slice(BUCKET..))
        } else {
            Start::Page(root)
        };
        self.tree(start, &mut |item| {
            if item.flags != 0 {
                return Err("there is a bucket within a bucket");
            }
            Ok(each(item.key, item.value))
        })
    }

    fn tree(&mut self, start: Start, each: &mut Each<'_>) -> Result<ControlFlow<()>, ReadError> {
        let mut path: Vec<Branch> = Vec::new();
        let mut last: Option<Bytes> = None;
        let mut next = match start {
            Start::Page(page) => Some((page, self.page(page)?)),
            Start::Inline(bytes) => Some((0, bytes)),
        };
        while let Some((page, bytes)) = next {
            let head = PageHead::decode(&bytes).ok_or_else(|| damaged(page, "it is cut off"))?;
            match head.flags {
                LEAF => {
                    if leaf(page, head, &bytes, &mut last, each)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                BRANCH if page != 0 && path.len() < DEPTH_MAX => {
                    path.push(branch(page, head, &bytes)?);
                }
                _ => return Err(damaged(page, "it is no page of a tree, or lies too deep")),
            }
            next = self.next(&mut path)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next(&mut self, path: &mut Vec<Branch>) -> Result<Option<(u64, Bytes)>, ReadError> {
        while let Some(branch) = path.last_mut() {
            if let Some(page) = branch.children.pop() {
                return Ok(Some((page, self.page(page)?)));
            }
            path.pop();
        }
        Ok(None)
    }

    /// A page with its overflow.
    fn page(&mut self, page: u64) -> Result<Bytes, ReadError> {
        if page < 2 || page >= self.meta.pages {
            return Err(damaged(page, "it lies outside the file"));
        }
        let size = u64::from(self.meta.page_bytes);
        let at = ByteCount::new(page * size);
        let mut head = [0; PAGE_HEAD];
        self.disk.read(at, &mut head)?;
        let head = PageHead::decode(&head).expect("it was read whole");
        if head.id != page {
            return Err(damaged(page, "it says that it is another page"));
        }
        let pages = u64::from(head.overflow) + 1;
        if pages > self.meta.pages - page || pages * size > RUN_BYTES_MAX {
            return Err(damaged(page, "it is longer than can be"));
        }
        for page in page..page + pages {
            self.claim(page)?;
        }
        let len = usize::try_from(pages * size).expect("a run is bounded");
        let mut bytes = vec![0; len];
        self.disk.read(at, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    fn claim(&mut self, page: u64) -> Result<(), ReadError> {
        let word = usize::try_from(page / 64).expect("it is below the count of pages");
        let bit = 1_u64 << (page % 64);
        if self.seen[word] & bit != 0 {
            return Err(damaged(page, "it is in two places"));
        }
        self.seen[word] |= bit;
        Ok(())
    }
}

fn leaf(
    page: u64,
    head: PageHead,
    bytes: &Bytes,
    last: &mut Option<Bytes>,
    each: &mut Each<'_>,
) -> Result<ControlFlow<()>, ReadError> {
    for place in 0..usize::from(head.count) {
        let item = leaf_item(bytes, head, place)
            .ok_or_else(|| damaged(page, "a key or value lies outside it"))?;
        if last.as_ref().is_some_and(|last| *last >= item.key) {
            return Err(damaged(page, "its keys are not in order"));
        }
        *last = Some(item.key.clone());
        let flow = each(item).map_err(|found| damaged(page, found))?;
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn leaf_item(bytes: &Bytes, head: PageHead, place: usize) -> Option<Item> {
    let at = PAGE_HEAD + place * ELEMENT;
    let flags = u32_at(bytes, at)?;
    let start = at.checked_add(index(u32_at(bytes, at + 4)?))?;
    let middle = start.checked_add(index(u32_at(bytes, at + 8)?))?;
    let end = middle.checked_add(index(u32_at(bytes, at + 12)?))?;
    let table = PAGE_HEAD + usize::from(head.count) * ELEMENT;
    (start >= table && end <= bytes.len()).then(|| Item {
        flags,
        key: bytes.slice(start..middle),
        value: bytes.slice(middle..end),
    })
}

fn branch(page: u64, head: PageHead, bytes: &Bytes) -> Result<Branch, ReadError> {
    let mut children = Vec::with_capacity(usize::from(head.count));
    for place in (0..usize::from(head.count)).rev() {
        let child = u64_at(bytes, PAGE_HEAD + place * ELEMENT + 8);
        children.push(child.ok_or_else(|| damaged(page, "a child lies outside it"))?);
    }
    if children.is_empty() {
        return Err(damaged(page, "it is a branch without children"));
    }
    Ok(Branch { children })
}
