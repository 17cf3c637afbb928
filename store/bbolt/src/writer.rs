//! The writer: pages in the order in which they become full, twice.
//!
//! What would surprise: a branch follows its children, and the root is the last page of all.
//! So a pass needs only one open page per level; the first pass finds out where the root will
//! be and how long the file is, which its first page has to say.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::layout::{
    BRANCH, BUCKET, BUCKET_FLAG, ELEMENT, LEAF, META_FLAG, Meta, PAGE, PAGE_HEAD, PageHead, narrow,
    wide,
};

/// Where the file goes.
pub trait Sink {
    /// Takes the file's next bytes: a page, or a page with its overflow.
    ///
    /// # Errors
    ///
    /// [`Closed`] if nobody wants them any more; the writer then stops.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Closed>;
}

/// Nobody wants the rest of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the file: nobody takes the rest of it")]
pub struct Closed;

/// Why a file could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A bucket or key does not come behind the one before it.
    #[error("write key {key:?}: it is not above the one before it")]
    Order {
        /// The key, or the bucket's name.
        key: Bytes,
    },
    /// A key came before any bucket was begun.
    #[error("write key {key:?}: no bucket was begun")]
    Homeless {
        /// The key.
        key: Bytes,
    },
    /// The second pass gave other contents than the first.
    #[error("write the file: {found} pages, where {planned} were planned")]
    Changed {
        /// How many pages the first pass came to.
        planned: u64,
        /// How many the second did, or had when it went beyond.
        found: u64,
    },
    /// Nobody takes the rest.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// What the first pass found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    root: u64,
    pages: u64,
}

impl Plan {
    /// How long the file is, without the checksum behind it.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.pages * wide(PAGE)
    }
}

/// Makes a file from buckets and keys in rising order. Holds one open page per level.
pub struct Writer<'a> {
    sink: Option<(&'a mut dyn Sink, Plan)>,
    sum: Sha256,
    next: u64,
    root: Tree,
    bucket: Option<(Bytes, Tree)>,
}

impl core::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let pages = self.next;
        f.debug_struct("Writer")
            .field("pages", &pages)
            .finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    /// The first pass: finds out how long the file is. Values are only measured.
    #[must_use]
    pub fn measure() -> Self {
        Self {
            sink: None,
            sum: Sha256::new(),
            next: 2,
            root: Tree::default(),
            bucket: None,
        }
    }

    /// The second pass, which must give the same. `txid` is the transaction that the file
    /// claims to be the state of; at least 1.
    ///
    /// # Errors
    ///
    /// [`WriteError::Closed`].
    pub fn write(plan: Plan, txid: u64, sink: &'a mut dyn Sink) -> Result<Self, WriteError> {
        let mut it = Self::measure();
        for id in 0..2 {
            // The second meta is that of the transaction before: of no effect, and whole.
            let page = meta_page(plan, id, txid.max(1) - id);
            it.sum.update(page);
            sink.take(&page)?;
        }
        it.sink = Some((sink, plan));
        Ok(it)
    }

    /// Begins a bucket; the one before is complete.
    ///
    /// # Errors
    ///
    /// [`WriteError::Order`] if its name is not above the last one's, and those of
    /// [`Writer::put`].
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), WriteError> {
        self.end_bucket()?;
        self.bucket = Some((Bytes::copy_from_slice(name), Tree::default()));
        Ok(())
    }

    /// Adds a key to the bucket at hand. Cost: reference counts, and a page's copy when one
    /// is full.
    ///
    /// # Errors
    ///
    /// As [`WriteError`] says; the file is then of no use.
    pub fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), WriteError> {
        let Some((_, tree)) = &mut self.bucket else {
            return Err(WriteError::Homeless { key });
        };
        let mut out = Out {
            sink: &mut self.sink,
            sum: &mut self.sum,
            next: &mut self.next,
        };
        tree.put(
            Leaf {
                flags: 0,
                key,
                value,
            },
            &mut out,
        )
    }

    /// Ends the first pass.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`].
    pub fn plan(mut self) -> Result<Plan, WriteError> {
        let root = self.end()?;
        let pages = self.next;
        Ok(Plan { root, pages })
    }

    /// Ends the second pass. Gives the SHA-256 of the whole file, which etcd's tools expect
    /// right behind it.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`].
    pub fn finish(mut self) -> Result<[u8; 32], WriteError> {
        let root = self.end()?;
        let found = Plan {
            root,
            pages: self.next,
        };
        if let Some((_, plan)) = self.sink
            && plan != found
        {
            return Err(WriteError::Changed {
                planned: plan.pages,
                found: found.pages,
            });
        }
        Ok(self.sum.finalize().into())
    }

    fn end_bucket(&mut self) -> Result<(), WriteError> {
        let Some((name, mut tree)) = self.bucket.take() else {
            return Ok(());
        };
        let mut out = Out {
            sink: &mut self.sink,
            sum: &mut self.sum,
            next: &mut self.next,
        };
        let page = tree.end(&mut out)?;
        let mut value = BytesMut::zeroed(BUCKET);
        value[..8].copy_from_slice(&page.to_le_bytes());
        let leaf = Leaf {
            flags: BUCKET_FLAG,
            key: name,
            value: value.freeze(),
        };
        self.root.put(leaf, &mut out)
    }

    fn end(&mut self) -> Result<u64, WriteError> {
        self.end_bucket()?;
        let mut out = Out {
            sink: &mut self.sink,
            sum: &mut self.sum,
            next: &mut self.next,
        };
        self.root.end(&mut out)
    }
}

fn meta_page(plan: Plan, id: u64, txid: u64) -> [u8; PAGE] {
    let head = PageHead {
        id,
        flags: META_FLAG,
        count: 0,
        overflow: 0,
    };
    let meta = Meta {
        page_bytes: narrow(PAGE),
        root: plan.root,
        pages: plan.pages,
        txid,
    };
    let mut page = [0; PAGE];
    page[..PAGE_HEAD].copy_from_slice(&head.encode());
    let body = meta.encode();
    page[PAGE_HEAD..PAGE_HEAD + body.len()].copy_from_slice(&body);
    page
}

#[derive(Debug)]
struct Leaf {
    flags: u32,
    key: Bytes,
    value: Bytes,
}

#[derive(Debug)]
struct Child {
    key: Bytes,
    page: u64,
}

/// One bucket's open pages.
#[derive(Debug)]
struct Tree {
    leaf: Vec<Leaf>,
    leaf_bytes: usize,
    last: Option<Bytes>,
    levels: Vec<Level>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            leaf: Vec::new(),
            leaf_bytes: PAGE_HEAD,
            last: None,
            levels: Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Level {
    children: Vec<Child>,
    key_bytes: usize,
}

impl Level {
    const fn bytes(&self) -> usize {
        PAGE_HEAD + self.children.len() * ELEMENT + self.key_bytes
    }

    fn push(&mut self, child: Child) {
        self.key_bytes += child.key.len();
        self.children.push(child);
    }
}

impl Tree {
    fn put(&mut self, leaf: Leaf, out: &mut Out<'_, '_>) -> Result<(), WriteError> {
        if self.last.as_ref().is_some_and(|last| *last >= leaf.key) {
            return Err(WriteError::Order { key: leaf.key });
        }
        let bytes = ELEMENT + leaf.key.len() + leaf.value.len();
        if !self.leaf.is_empty() && self.leaf_bytes + bytes > PAGE {
            self.end_leaf(out)?;
        }
        self.last = Some(leaf.key.clone());
        self.leaf_bytes += bytes;
        self.leaf.push(leaf);
        Ok(())
    }

    fn end_leaf(&mut self, out: &mut Out<'_, '_>) -> Result<(), WriteError> {
        let page = out.leaf(&self.leaf, self.leaf_bytes)?;
        // A copy: a slice would keep the memory of all that it was read with.
        let first = self.leaf.first();
        let first = first.map(|leaf| Bytes::copy_from_slice(&leaf.key));
        self.leaf.clear();
        self.leaf_bytes = PAGE_HEAD;
        let key = first.unwrap_or_default();
        self.add(0, Child { key, page }, out)
    }

    /// Adds a child to a level. A full page leaves its last child to the next one, for a
    /// branch needs two: etcd's library does not expect fewer.
    fn add(&mut self, at: usize, child: Child, out: &mut Out<'_, '_>) -> Result<(), WriteError> {
        let (mut at, mut child) = (at, child);
        loop {
            if at == self.levels.len() {
                self.levels.push(Level::default());
            }
            let level = &mut self.levels[at];
            let fits = level.bytes() + ELEMENT + child.key.len() <= PAGE;
            if fits || level.children.len() < 3 {
                level.push(child);
                return Ok(());
            }
            let mut full = core::mem::take(level);
            let kept = full.children.pop().expect("there are three");
            full.key_bytes -= kept.key.len();
            level.push(kept);
            level.push(child);
            child = out.branch(&full)?;
            at += 1;
        }
    }

    /// Ends all pages; gives the root's.
    fn end(&mut self, out: &mut Out<'_, '_>) -> Result<u64, WriteError> {
        if !self.leaf.is_empty() || self.levels.is_empty() {
            self.end_leaf(out)?;
        }
        let mut at = 0;
        loop {
            let is_top = at + 1 == self.levels.len();
            let level = core::mem::take(&mut self.levels[at]);
            if let [only] = level.children.as_slice()
                && is_top
            {
                return Ok(only.page);
            }
            let child = out.branch(&level)?;
            at += 1;
            self.add(at, child, out)?;
        }
    }
}

/// Gives pages their numbers and, in the second pass, writes them.
struct Out<'b, 'a> {
    sink: &'b mut Option<(&'a mut dyn Sink, Plan)>,
    sum: &'b mut Sha256,
    next: &'b mut u64,
}

impl Out<'_, '_> {
    fn leaf(&mut self, items: &[Leaf], bytes: usize) -> Result<u64, WriteError> {
        self.page(LEAF, items.len(), bytes, &mut |page| {
            let mut at = items.len() * ELEMENT;
            for (place, item) in items.iter().enumerate() {
                page.put_u32_le(item.flags);
                page.put_u32_le(narrow(at - place * ELEMENT));
                page.put_u32_le(narrow(item.key.len()));
                page.put_u32_le(narrow(item.value.len()));
                at += item.key.len() + item.value.len();
            }
            for item in items {
                page.put_slice(&item.key);
                page.put_slice(&item.value);
            }
        })
    }

    fn branch(&mut self, level: &Level) -> Result<Child, WriteError> {
        let items = &level.children;
        let page = self.page(BRANCH, items.len(), level.bytes(), &mut |page| {
            let mut at = items.len() * ELEMENT;
            for (place, item) in items.iter().enumerate() {
                page.put_u32_le(narrow(at - place * ELEMENT));
                page.put_u32_le(narrow(item.key.len()));
                page.put_u64_le(item.page);
                at += item.key.len();
            }
            for item in items {
                page.put_slice(&item.key);
            }
        })?;
        let key = items.first().map(|item| item.key.clone());
        Ok(Child {
            key: key.unwrap_or_default(),
            page,
        })
    }

    fn page(
        &mut self,
        flags: u16,
        count: usize,
        bytes: usize,
        body: &mut dyn FnMut(&mut BytesMut),
    ) -> Result<u64, WriteError> {
        let id = *self.next;
        let pages = bytes.div_ceil(PAGE);
        *self.next += wide(pages);
        let Some((sink, plan)) = self.sink else {
            return Ok(id);
        };
        if *self.next > plan.pages {
            return Err(WriteError::Changed {
                planned: plan.pages,
                found: *self.next,
            });
        }
        let head = PageHead {
            id,
            flags,
            count: u16::try_from(count).expect("elements of 16 bytes share 4 KiB"),
            overflow: narrow(pages - 1),
        };
        let mut page = BytesMut::with_capacity(pages * PAGE);
        page.put_slice(&head.encode());
        body(&mut page);
        page.resize(pages * PAGE, 0);
        self.sum.update(&page);
        sink.take(&page)?;
        Ok(id)
    }
}
