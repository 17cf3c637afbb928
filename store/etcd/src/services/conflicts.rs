//! Which concurrent writes met at a site, for operators: nothing that lost is lost unseen.

use holm_kv::MetLine;
use holm_local_first::{Conflict, Entry, Party, path_text};

use super::Services;
use crate::context::Context;
use crate::holm::{ConflictParty, ConflictView, ConflictsRequest, ConflictsResponse};
use crate::status::{Code, Status};

/// How many one answer has at most: each may hold values of some KiB.
const MOST: usize = 256;

impl Services {
    /// Which concurrent writes met at this site in a local-first keyspace.
    ///
    /// # Errors
    ///
    /// If this site does not serve the keyspace, or it is not local-first; if users are enforced
    /// and the caller is no administrator, for values are shown.
    pub async fn conflicts(
        &self,
        cx: &Context,
        request: ConflictsRequest,
    ) -> Result<ConflictsResponse, Status> {
        self.check_is_default()?;
        self.check_admin(cx)?;
        let name = request.name.as_str();
        let Some(keyspace) = self.neighbour(name) else {
            let text = format!(
                "this site does not serve keyspace {name}: `holm keyspace show {name}` tells where it is"
            );
            return Err(Status::new(Code::NotFound, text));
        };
        let view = keyspace.handle().view();
        if view.island.is_none() {
            let text = format!("keyspace {name} is linearizable: its writes are never concurrent");
            return Err(Status::new(Code::FailedPrecondition, text));
        }
        let (mut lines, oldest) = view.conflicts(request.after, MOST + 1);
        let has_more = lines.len() > MOST;
        lines.truncate(MOST);
        let sites = self.sites_by_slot(name).await?;
        let named = |slot: u32| sites.iter().find(|(it, _)| *it == slot);
        let mut conflicts = Vec::new();
        for line in lines {
            let mut shown = view_of(line)?;
            for party in shown.winner.iter_mut().chain(&mut shown.losers) {
                party.site = named(party.slot).map_or_else(String::new, |(_, name)| name.clone());
            }
            conflicts.push(shown);
        }
        Ok(ConflictsResponse {
            conflicts,
            has_more,
            oldest,
        })
    }
}

fn view_of((number, line): MetLine) -> Result<ConflictView, Status> {
    let damaged = |error: &str| Status::new(Code::DataLoss, format!("read a conflict: {error}"));
    let entry = Entry::decode(line).map_err(|error| damaged(&error.to_string()))?;
    let Entry::Met {
        revision,
        unix_ms,
        conflict,
    } = entry
    else {
        return Err(damaged("it is none"));
    };
    let Conflict {
        id,
        kind,
        key,
        path,
        winner,
        losers,
    } = *conflict;
    Ok(ConflictView {
        number,
        id: id.to_vec(),
        kind: kind.name().to_owned(),
        key: key.to_vec(),
        revision,
        unix_ms,
        winner: Some(party(winner)),
        losers: losers.into_iter().map(party).collect(),
        path: if path.is_empty() {
            String::new()
        } else {
            path_text(&path)
        },
    })
}

pub(super) fn party(party: Party) -> ConflictParty {
    ConflictParty {
        slot: u32::from(party.dot.slot.value()),
        seq: party.dot.seq,
        unix_ms: party.hlc.unix_ms(),
        digest: party.digest.0.to_vec(),
        length: party.length,
        value: party.value.to_vec(),
        site: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holm_local_first::{ConflictKind, Dot, Hlc, Mark, Slot};

    use super::*;

    #[test]
    fn a_conflict_says_where_in_a_document_it_is() {
        let mark = |number: u8| Mark {
            dot: Dot {
                slot: Slot::new(number).unwrap(),
                seq: 1,
            },
            hlc: Hlc::default(),
        };
        let one =
            |number, value: &'static [u8]| Party::new(mark(number), &Bytes::from_static(value));
        let place = (
            &Bytes::from_static(b"web"),
            &Bytes::from_static(b"\x01\x04spec\x01\x05image"),
        );
        let kind = ConflictKind::PathLost;
        let conflict = Conflict::new(kind, place, one(1, b"a"), vec![one(2, b"b")]);
        let entry = Entry::Met {
            revision: 7,
            unix_ms: 8,
            conflict: Box::new(conflict),
        };
        let view = view_of((3, entry.encode())).unwrap();
        assert_eq!((&*view.key, &*view.path), (&b"web"[..], ".spec.image"));
    }
}
