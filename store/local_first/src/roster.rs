//! The table of members as a site's log takes it: with the nodes behind its slots, and with those
//! slots of which this site takes in nothing more until the next table.
//!
//! ```text
//! roster    u8 version 1, varint length, table of members, u8 n, n x (u8 slot, u64 node)
//!           u8 version 2, the same, n x (u8 slot, u8 m, m x u64 node): a site has several nodes
//! charter   u8 version 1, u8 1 and varint length, roster, or u8 0
//!           u8 n, n x (u8 slot, varint through)            stopped
//!           u8 version 2, the same, u8 slot                set back
//! ```
//!
//! A slot goes in two steps. First every site that stays *stops*: it takes in nothing more of that
//! slot, and says how far it is. Then a table says how far the slot counts, and whoever lacks
//! something of that fetches it.
//!
//! Version 2 of a roster is written only where a site has several nodes, that of a charter only where the site's data
//! are an older copy, so older releases read all else.
//!
//! What would surprise: a site's own slot can be stopped. It originates nothing from then on, so
//! what it has of itself is all that there will ever be.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::{DecodeError, Reader, put_body, put_varint};
use crate::members::Members;
use crate::vector::{Slot, Vector};

const VERSION: u8 = 1;
/// Of a roster in which a site has several nodes.
const SEVERAL: u8 = 2;
/// Of a charter of a site that is set back.
const SET_BACK: u8 = 2;

/// A table of members, and the nodes of each active slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The table.
    pub members: Members,
    /// Which nodes have which slot: one at least, in order, and 255 at most.
    pub nodes: BTreeMap<Slot, Vec<u64>>,
}

impl Roster {
    /// Writes it down.
    ///
    /// # Panics
    ///
    /// If a site has more than 255 nodes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        let has_several = self.nodes.values().any(|nodes| nodes.len() != 1);
        out.put_u8(if has_several { SEVERAL } else { VERSION });
        put_body(&mut out, &self.members.encode());
        out.put_u8(u8::try_from(self.nodes.len()).expect("there are 255 slots"));
        for (slot, nodes) in &self.nodes {
            out.put_u8(slot.value());
            if has_several {
                out.put_u8(u8::try_from(nodes.len()).expect("a site has 255 nodes at most"));
            }
            nodes.iter().for_each(|node| out.put_u64_le(*node));
        }
        out.freeze()
    }

    /// Reads what [`Roster::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "a roster";
        let mut reader = Reader::new(bytes);
        let has_several = match reader.byte(what)? {
            VERSION => false,
            SEVERAL => true,
            version => return Err(DecodeError::Version { what, version }),
        };
        let members = Members::decode(reader.body(what)?)?;
        let mut nodes = BTreeMap::new();
        for _ in 0..reader.byte(what)? {
            let slot = reader.slot()?;
            let found = if has_several {
                several(&mut reader, what)?
            } else {
                vec![reader.u64(what)?]
            };
            push_in_order(&mut nodes, (slot, found), what)?;
        }
        reader.end(what)?;
        Ok(Self { members, nodes })
    }
}

/// What a site goes by: the newest table that its log has, and what it has stopped since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charter {
    roster: Option<Roster>,
    stops: BTreeMap<Slot, u64>,
    set_back: Option<Slot>,
}

impl Charter {
    /// The newest table; none while the sites are those that it began with.
    #[must_use]
    pub const fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// The slots of which nothing more is taken in until the next table, and how far each is.
    #[must_use]
    pub const fn stops(&self) -> &BTreeMap<Slot, u64> {
        &self.stops
    }

    /// The slot of this site, or the one under which it would go on, of which others know more: its data are an older
    /// copy, and what it says of that slot is not what counts.
    #[must_use]
    pub const fn set_back(&self) -> Option<Slot> {
        self.set_back
    }

    /// A table came; whether it is newer than what was known. Slots that it says nothing final of
    /// stay stopped.
    pub fn follow(&mut self, roster: Roster) -> bool {
        let known = self.roster.as_ref().map_or(1, |it| it.members.epoch());
        if roster.members.epoch() <= known {
            return false;
        }
        let is_open = |slot: &Slot| roster.members.active().contains_key(slot);
        self.stops.retain(|slot, _| is_open(slot));
        self.set_back = self.set_back.filter(is_open);
        self.roster = Some(roster);
        true
    }

    /// Nothing more of a slot is taken in, of which this site has so much. The first time counts;
    /// of a slot that does not go on, the table has said it already.
    pub fn stop(&mut self, slot: Slot, through: u64) {
        let frozen = self.roster.as_ref().map(|it| it.members.frozen());
        if frozen.is_none_or(|it| !it.contains_key(&slot)) {
            self.stops.entry(slot).or_insert(through);
        }
    }

    /// Others know more than this site does of a slot of its own, of which it has so much: that is stopped. Of one that
    /// does not go on, the table has said it already.
    pub fn set_back_at(&mut self, slot: Slot, through: u64) {
        self.stop(slot, through);
        if self.stops.contains_key(&slot) {
            self.set_back = Some(slot);
        }
    }

    /// The site has what another had in place of its own: so much it has of the slots that are
    /// stopped.
    pub fn adopt(&mut self, vector: &Vector) {
        for (slot, through) in &mut self.stops {
            *through = vector.seq(*slot);
        }
    }

    /// Up to where each slot counts that does not go on (I12).
    #[must_use]
    pub fn limits(&self) -> BTreeMap<Slot, u64> {
        let frozen = self.roster.iter().flat_map(|it| it.members.frozen());
        let frozen = frozen.map(|(slot, it)| (*slot, it.through));
        let stops = self.stops.iter().map(|(slot, through)| (*slot, *through));
        frozen.chain(stops).collect()
    }

    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(self.set_back.map_or(VERSION, |_| SET_BACK));
        out.put_u8(u8::from(self.roster.is_some()));
        if let Some(roster) = &self.roster {
            put_body(&mut out, &roster.encode());
        }
        out.put_u8(u8::try_from(self.stops.len()).expect("there are 255 slots"));
        for (slot, through) in &self.stops {
            out.put_u8(slot.value());
            put_varint(&mut out, *through);
        }
        if let Some(slot) = self.set_back {
            out.put_u8(slot.value());
        }
        out.freeze()
    }

    /// Reads what [`Charter::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "a charter";
        let mut reader = Reader::new(bytes);
        let is_set_back = match reader.byte(what)? {
            VERSION => false,
            SET_BACK => true,
            version => return Err(DecodeError::Version { what, version }),
        };
        let roster = match reader.byte(what)? {
            0 => None,
            1 => Some(Roster::decode(reader.body(what)?)?),
            _other => return Err(DecodeError::Wrong { what }),
        };
        let mut stops = BTreeMap::new();
        for _ in 0..reader.byte(what)? {
            let (slot, through) = (reader.slot()?, reader.varint(what)?);
            push_in_order(&mut stops, (slot, through), what)?;
        }
        let set_back = is_set_back.then(|| reader.slot()).transpose()?;
        if set_back.is_some_and(|slot| !stops.contains_key(&slot)) {
            return Err(DecodeError::Wrong { what });
        }
        reader.end(what)?;
        Ok(Self {
            roster,
            stops,
            set_back,
        })
    }
}

/// The nodes of a site: one at least, each once, in order.
fn several(reader: &mut Reader, what: &'static str) -> Result<Vec<u64>, DecodeError> {
    let mut nodes = Vec::new();
    for _ in 0..reader.byte(what)? {
        let node = reader.u64(what)?;
        if nodes.last().is_some_and(|last| *last >= node) {
            return Err(DecodeError::Wrong { what });
        }
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(DecodeError::Wrong { what });
    }
    Ok(nodes)
}

fn push_in_order<T>(
    into: &mut BTreeMap<Slot, T>,
    (slot, found): (Slot, T),
    what: &'static str,
) -> Result<(), DecodeError> {
    if into.last_key_value().is_some_and(|(last, _)| *last >= slot) {
        return Err(DecodeError::Wrong { what });
    }
    into.insert(slot, found);
    Ok(())
}
