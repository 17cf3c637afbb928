//! Documents: a value for each path, so that concurrent changes of different parts all count.
//!
//! A document that was put where none was, or in place of all of another, stays one whole value
//! with the bytes that were put. The first update that saw it and changes a part breaks it up
//! into rows, one a path; that is the same at each site, for such an update comes after it
//! everywhere.
//!
//! ```text
//! path      n x (u8 kind (field 1, element 2, member 3), varint length, bytes)
//!   field     its name         element   the fields that tell it apart, as an object
//!   member    the scalar, as it is written
//! node      0 leaf: its text   1 map   2 list   3 member   (1 and 3 in a list: varint place)
//! ```
//!
//! What would surprise: a map with anything alive in it is shown, whatever stands at its own
//! path; so a scalar never hides what somebody wrote beneath it at the same time. Items of a
//! list that merges are shown by the place that they had when they were put first.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Hlc;
use crate::encode::{DecodeError, Reader, put_body, put_varint};
use crate::json::{DEPTH_MAX, Json, write_text};
use crate::kind::Unfit;
use crate::ranges::{put_after, take_after};
use crate::schema::{List, PLAIN, Schema};
use crate::state::{Sibling, State};
use crate::update::Change;
use crate::vector::{Dot, Vector};
use crate::wire::Mark;

/// How long a document may be.
pub const DOCUMENT_MAX: usize = 1 << 20;
/// How many paths a document may have.
pub const PATHS_MAX: usize = 10_000;

const FIELD: u8 = 1;
const ELEMENT: u8 = 2;
const MEMBER: u8 = 3;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A value without parts of its own.
    Leaf,
    /// An object.
    Map,
    /// A list whose items merge.
    List,
    /// An item of a set.
    Member,
}

impl Node {
    const fn number(self) -> u8 {
        match self {
            Self::Leaf => 0,
            Self::Map => 1,
            Self::List => 2,
            Self::Member => 3,
        }
    }

    fn of(number: u8, what: &'static str) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Leaf),
            1 => Ok(Self::Map),
            2 => Ok(Self::List),
            3 => Ok(Self::Member),
            _unknown => Err(DecodeError::Wrong { what }),
        }
    }
}

/// A change to one path of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The path and all beneath it goes.
    Remove(Bytes),
    /// This stands there now.
    Set(Bytes, Node, Bytes),
}

/// What one update left at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where.
    pub path: Bytes,
    /// Which update.
    pub dot: Dot,
    /// Its time.
    pub hlc: Hlc,
    /// The lease of the document, at its root; 0 elsewhere.
    pub lease: i64,
    /// What stands there.
    pub node: Node,
    /// The text of a leaf; the place of an item.
    pub value: Bytes,
}

/// Rows, by path and dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows(Vec<Row>);

type Parts = BTreeMap<Bytes, (Node, Bytes)>;

impl Rows {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn all(&self) -> &[Row] {
        &self.0
    }

    pub(crate) fn has_of(&self, dot: Dot) -> bool {
        self.0.iter().any(|it| it.dot == dot)
    }

    pub(crate) fn delete(&mut self, deps: &Vector) {
        self.0.retain(|it| !deps.covers(it.dot));
    }

    pub(crate) fn keep_covered(&mut self, vector: &Vector) {
        self.0.retain(|it| vector.covers(it.dot));
    }

    fn has(&self, row: &Row) -> bool {
        let name = (&row.path, row.dot);
        let place = |it: &Row| (&it.path, it.dot).cmp(&name);
        self.0.binary_search_by(place).is_ok()
    }

    fn sort(&mut self) {
        self.0
            .sort_unstable_by(|one, other| (&one.path, one.dot).cmp(&(&other.path, other.dot)));
    }

    /// Adds a whole document path by path. One that cannot be read is one leaf.
    pub(crate) fn break_up(&mut self, whole: &Sibling) {
        let parts = Json::parse(&whole.value).and_then(|json| parts(&json, &PLAIN));
        let parts = parts
            .unwrap_or_else(|_| Parts::from([(Bytes::new(), (Node::Leaf, whole.value.clone()))]));
        self.0
            .extend(parts.into_iter().map(|(path, (node, value))| Row {
                lease: if path.is_empty() { whole.lease } else { 0 },
                path,
                dot: whole.dot,
                hlc: whole.hlc,
                node,
                value,
            }));
        self.sort();
    }

    /// Changes paths. Removes what was seen there in any case.
    pub(crate) fn write(
        &mut self,
        deps: &Vector,
        (lease, mark): (i64, Mark),
        writes: &[Write],
        is_let_in: bool,
    ) {
        for write in writes {
            match write {
                Write::Remove(path) => {
                    let is_gone = |it: &Row| it.path.starts_with(path) && deps.covers(it.dot);
                    self.0.retain(|it| !is_gone(it));
                }
                Write::Set(path, ..) => {
                    let is_gone = |it: &Row| it.path == *path && deps.covers(it.dot);
                    self.0.retain(|it| !is_gone(it));
                }
            }
        }
        for write in writes {
            if let Write::Set(path, node, value) = write
                && is_let_in
            {
                self.0.push(Row {
                    path: path.clone(),
                    dot: mark.dot,
                    hlc: mark.hlc,
                    lease: if path.is_empty() { lease } else { 0 },
                    node: *node,
                    value: value.clone(),
                });
            }
        }
        self.sort();
    }

    pub(crate) fn joined((ours, seen): (&Self, &Vector), (theirs, told): (&Self, &Vector)) -> Self {
        let kept = ours.0.iter();
        let kept = kept.filter(|it| theirs.has(it) || !told.covers(it.dot));
        let news = theirs.0.iter();
        let news = news.filter(|it| !ours.has(it) && !seen.covers(it.dot));
        let mut joined = Self(kept.chain(news).cloned().collect());
        joined.sort();
        joined
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_varint(
            out,
            u64::try_from(self.0.len()).expect("a length fits 64 bits"),
        );
        let mut before = Bytes::new();
        for it in &self.0 {
            put_after(out, &before, &it.path);
            before = it.path.clone();
            out.put_u8(it.dot.slot.value());
            put_varint(out, it.dot.seq);
            out.put_u64_le(it.hlc.value());
            out.put_u8(it.node.number());
            put_varint(out, it.lease.cast_unsigned());
            put_body(out, &it.value);
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let what = "a document";
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..reader.varint(what)? {
            let before = rows.last().map(|it| it.path.clone());
            let path = take_after(reader, &before.unwrap_or_default())?;
            check_path(&path)?;
            let (slot, seq) = (reader.slot()?, reader.varint(what)?);
            let row = Row {
                path,
                dot: Dot { slot, seq },
                hlc: Hlc::new(reader.u64(what)?),
                node: Node::of(reader.byte(what)?, what)?,
                lease: reader.varint(what)?.cast_signed(),
                value: reader.body(what)?,
            };
            let rises = |last: &Row| (&last.path, last.dot) < (&row.path, row.dot);
            if seq == 0 || !rows.last().is_none_or(rises) {
                return Err(DecodeError::Wrong { what });
            }
            rows.push(row);
        }
        Ok(Self(rows))
    }
}

pub(crate) fn encode_writes(writes: &[Write], out: &mut BytesMut) {
    put_varint(
        out,
        u64::try_from(writes.len()).expect("a length fits 64 bits"),
    );
    let mut before = Bytes::new();
    for write in writes {
        let path = match write {
            Write::Remove(path) => {
                out.put_u8(0);
                path
            }
            Write::Set(path, node, _) => {
                out.put_u8(node.number() + 1);
                path
            }
        };
        put_after(out, &before, path);
        before = path.clone();
        if let Write::Set(_, _, value) = write {
            put_body(out, value);
        }
    }
}

pub(crate) fn decode_writes(reader: &mut Reader) -> Result<Vec<Write>, DecodeError> {
    let what = "changes of a document";
    let mut writes = Vec::new();
    let mut before = Bytes::new();
    for _ in 0..reader.varint(what)? {
        let kind = reader.byte(what)?;
        let path = take_after(reader, &before)?;
        check_path(&path)?;
        before = path.clone();
        writes.push(match kind.checked_sub(1) {
            None => Write::Remove(path),
            Some(node) => Write::Set(path, Node::of(node, what)?, reader.body(what)?),
        });
    }
    Ok(writes)
}

fn segment(path: &Bytes, kind: u8, name: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(path.len() + name.len() + 4);
    out.put_slice(path);
    out.put_u8(kind);
    put_body(&mut out, name);
    out.freeze()
}

/// The first part of a path and the rest; none if it is no path.
fn split(path: &Bytes) -> Result<(u8, Bytes, Bytes), DecodeError> {
    let what = "a path";
    let mut reader = Reader::new(path.clone());
    let kind = reader.byte(what)?;
    let name = reader.body(what)?;
    if !(FIELD..=MEMBER).contains(&kind) || core::str::from_utf8(&name).is_err() {
        return Err(DecodeError::Wrong { what });
    }
    Ok((kind, name, reader.rest()))
}

fn check_path(path: &Bytes) -> Result<(), DecodeError> {
    let mut rest = path.clone();
    for _ in 0..=DEPTH_MAX {
        if rest.is_empty() {
            return Ok(());
        }
        (_, _, rest) = split(&rest)?;
    }
    Err(DecodeError::Wrong { what: "a path" })
}

/// A path as a person reads it: `.spec.ports[{"port":80}].name`.
#[must_use]
pub fn path_text(path: &Bytes) -> String {
    let (mut text, mut rest) = (String::new(), path.clone());
    while let Ok((kind, name, behind)) = split(&rest) {
        let name = String::from_utf8_lossy(&name).into_owned();
        if kind == FIELD {
            text.push('.');
            text.push_str(&name);
        } else {
            text.push('[');
            text.push_str(&name);
            text.push(']');
        }
        rest = behind;
    }
    if text.is_empty() {
        text.push('.');
    }
    text
}

/// A document path by path.
fn parts(json: &Json, schema: &Schema) -> Result<Parts, Unfit> {
    let mut found = Parts::new();
    part(json, schema, (Bytes::new(), Bytes::new()), &mut found)?;
    Ok(found)
}

/// One part, at a path; in a list also with its place there.
fn part(
    json: &Json,
    schema: &Schema,
    (path, place): (Bytes, Bytes),
    found: &mut Parts,
) -> Result<(), Unfit> {
    if found.len() >= PATHS_MAX {
        return Err(Unfit::Paths);
    }
    match (json, &schema.list) {
        (Json::Object(fields), _) if !schema.is_atomic => {
            found.insert(path.clone(), (Node::Map, place));
            for (name, value) in fields {
                let at = segment(&path, FIELD, name.as_bytes());
                part(value, schema.field(name), (at, Bytes::new()), found)?;
            }
        }
        (Json::Array(items), List::Set | List::Map(_)) => {
            found.insert(path.clone(), (Node::List, Bytes::new()));
            for (at, item) in items.iter().enumerate() {
                let place = varint(at);
                let name = match &schema.list {
                    List::Map(keys) => told_apart(item, keys)?,
                    List::Set | List::Atomic if item.is_scalar() => item.written(),
                    List::Set | List::Atomic => return Err(Unfit::Member),
                };
                let is_set = schema.list == List::Set;
                let kind = if is_set { MEMBER } else { ELEMENT };
                let at = segment(&path, kind, name.as_bytes());
                if found.contains_key(&at) {
                    return Err(Unfit::Item { name });
                }
                if is_set {
                    found.insert(at, (Node::Member, place));
                } else {
                    part(item, schema.item(), (at, place), found)?;
                }
            }
        }
        _leaf => {
            let text = Bytes::from(json.written());
            found.insert(path, (Node::Leaf, text));
        }
    }
    if found.len() > PATHS_MAX {
        return Err(Unfit::Paths);
    }
    Ok(())
}

fn varint(number: usize) -> Bytes {
    let mut out = BytesMut::new();
    put_varint(&mut out, u64::try_from(number).expect("it fits 64 bits"));
    out.freeze()
}

/// The fields that tell an item of a list apart, as an object.
fn told_apart(item: &Json, keys: &[String]) -> Result<String, Unfit> {
    let fields = item.fields().ok_or(Unfit::Keys)?;
    let mut named = BTreeMap::new();
    for key in keys {
        match fields.get(key) {
            Some(value) if value.is_scalar() => drop(named.insert(key.clone(), value.clone())),
            // Kubernetes lets a key be missing that has a default.
            None => {}
            Some(_) => return Err(Unfit::Keys),
        }
    }
    if named.is_empty() {
        return Err(Unfit::Keys);
    }
    Ok(Json::Object(named).written())
}

/// All rows of a state, whole documents broken up.
fn rows_of(state: &State) -> Rows {
    let mut rows = Rows(state.rows().to_vec());
    state.siblings().iter().for_each(|it| rows.break_up(it));
    rows
}

/// What a put of a document changes, given what its site shows.
pub(crate) fn put(
    state: &State,
    schema: &Schema,
    (key, lease, value): (Bytes, i64, Bytes),
) -> Result<Change, Unfit> {
    if value.len() > DOCUMENT_MAX {
        return Err(Unfit::Length);
    }
    let json = Json::parse(&value)?;
    let wanted = parts(&json, schema)?;
    // Who breaks a whole document up does so without a schema.
    let is_plain = parts(&json, &PLAIN).is_ok_and(|plain| plain == wanted);
    let rows = rows_of(state);
    let mut here: BTreeMap<&Bytes, Vec<&Row>> = BTreeMap::new();
    for row in rows.all() {
        here.entry(&row.path).or_default().push(row);
    }
    let mut writes: Vec<Write> = Vec::new();
    for path in here.keys().filter(|path| !wanted.contains_key(**path)) {
        let top = topmost(path, &wanted);
        let last = writes.last();
        if last != Some(&Write::Remove(top.clone())) {
            writes.push(Write::Remove(top));
        }
    }
    let mut is_kept = false;
    for (path, (node, value)) in wanted {
        let stays = match here.get(&path).map(Vec::as_slice) {
            Some([row]) => row.node == node && (node != Node::Leaf || row.value == value),
            Some(_) | None => false,
        };
        // The root is written in any case: it has the lease, and says that a put was here.
        if stays && !path.is_empty() {
            is_kept = true;
        } else {
            writes.push(Write::Set(path, node, value));
        }
    }
    if !is_kept && is_plain {
        return Ok(Change::Put { key, lease, value });
    }
    Ok(Change::Paths { key, lease, writes })
}

/// The beginning of a path that is not wanted, as short as can be.
fn topmost(path: &Bytes, wanted: &Parts) -> Bytes {
    let mut rest = path.clone();
    while let Ok((_, _, behind)) = split(&rest) {
        let top = path.slice(..path.len() - behind.len());
        if !wanted.contains_key(&top) {
            return top;
        }
        rest = behind;
    }
    path.clone()
}

/// What a state shows as a document, and the lease that it hangs on.
pub(crate) fn shown(state: &State) -> Option<(Bytes, i64)> {
    if state.rows().is_empty()
        && let [only] = state.siblings()
    {
        return Some((only.value.clone(), only.lease));
    }
    let rows = rows_of(state);
    let mut tree = Tree::default();
    rows.all().iter().for_each(|row| tree.insert(row));
    let lease = tree.winner().map_or(0, |it| it.lease);
    if rows.is_empty() {
        return None;
    }
    let mut out = String::new();
    tree.render(&[], &mut out);
    Some((Bytes::from(out), lease))
}

/// The rows of a document as what they make.
#[derive(Debug, Default)]
struct Tree<'a> {
    here: Vec<&'a Row>,
    fields: BTreeMap<Bytes, Self>,
    items: BTreeMap<(u8, Bytes), Self>,
}

impl<'a> Tree<'a> {
    fn insert(&mut self, row: &'a Row) {
        let (mut at, mut rest) = (self, row.path.clone());
        while let Ok((kind, name, behind)) = split(&rest) {
            at = if kind == FIELD {
                at.fields.entry(name).or_default()
            } else {
                at.items.entry((kind, name)).or_default()
            };
            rest = behind;
        }
        at.here.push(row);
    }

    fn winner(&self) -> Option<&'a Row> {
        let all = self.here.iter().copied();
        all.max_by_key(|it| (it.hlc, it.dot.slot))
    }

    fn place(&self) -> u64 {
        let placed = self
            .here
            .iter()
            .filter(|it| matches!(it.node, Node::Map | Node::Member));
        let first = placed.max_by_key(|it| (it.hlc, it.dot.slot));
        let place = first.map(|it| Reader::new(it.value.clone()).varint("a place"));
        place.and_then(Result::ok).unwrap_or(u64::MAX)
    }

    /// Adds it to `out`. An item of a list has the fields that tell it apart in any case.
    fn render(&self, apart: &[u8], out: &mut String) {
        let named = Json::parse(apart).ok();
        let named = named.as_ref().and_then(Json::fields);
        if !self.fields.is_empty() || named.is_some() {
            let mut texts: BTreeMap<&[u8], String> = BTreeMap::new();
            for (name, json) in named.into_iter().flatten() {
                texts.insert(name.as_bytes(), json.written());
            }
            for (name, tree) in &self.fields {
                let mut text = String::new();
                tree.render(&[], &mut text);
                texts.insert(name, text);
            }
            out.push('{');
            for (at, (name, text)) in texts.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(&String::from_utf8_lossy(name), out);
                out.push(':');
                out.push_str(text);
            }
            out.push('}');
        } else if self.items.is_empty() {
            match self.winner().map(|it| (it.node, &it.value)) {
                Some((Node::Leaf, value)) => out.push_str(&String::from_utf8_lossy(value)),
                Some((Node::List, _)) => out.push_str("[]"),
                Some((Node::Map | Node::Member, _)) | None => out.push_str("{}"),
            }
        } else {
            self.render_items(out);
        }
    }

    fn render_items(&self, out: &mut String) {
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_by_key(|(_, tree)| tree.place());
        out.push('[');
        for (at, ((kind, name), tree)) in items.into_iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            if *kind == MEMBER {
                out.push_str(&String::from_utf8_lossy(name));
            } else {
                tree.render(name, out);
            }
        }
        out.push(']');
    }
}

/// What lost at a path of a document, and to what.
pub(crate) struct Lost {
    pub(crate) path: Bytes,
    pub(crate) winner: Row,
    pub(crate) losers: Vec<Row>,
}

/// At which paths values stand side by side, or beneath each other, one of which is new.
pub(crate) fn lost(before: &State, after: &State) -> Vec<Lost> {
    let is_one = after.rows().is_empty() && after.siblings().len() < 2;
    if is_one {
        return Vec::new();
    }
    let (before, rows) = (rows_of(before), rows_of(after));
    let by_time = |it: &&Row| (it.hlc, it.dot.slot);
    let mut found = Vec::new();
    let mut rest = rows.all();
    while let Some(first) = rest.first() {
        let path = &first.path;
        let (group, behind) = rest.split_at(rest.partition_point(|it| it.path == *path));
        rest = behind;
        let beneath = &rest[..rest.partition_point(|it| it.path.starts_with(path))];
        let shown = if beneath.is_empty() { group } else { beneath };
        let Some(winner) = shown.iter().max_by_key(by_time) else {
            continue;
        };
        let is_same = |it: &Row| beneath.is_empty() && it.value == winner.value;
        let loses = |it: &&Row| it.node == Node::Leaf && it.dot != winner.dot && !is_same(it);
        let losers: Vec<Row> = group.iter().filter(loses).cloned().collect();
        let is_new = |it: &Row| !before.has(it);
        if !losers.is_empty() && (is_new(winner) || losers.iter().any(is_new)) {
            found.push(Lost {
                path: path.clone(),
                winner: winner.clone(),
                losers,
            });
        }
    }
    found
}
