//! Causal tokens: what a client has seen, and waiting until a site has it too.

use std::time::Duration;

use holm_local_first::{Slot, Token, Vector};

use super::Services;
use super::keyspaces::invalid;
use crate::causal;
use crate::status::{Code, Status};

/// How long a call waits at most for what its client has seen elsewhere.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether that has come.
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Services {
    /// What this site has now, as a token; nothing where the keyspace is not local-first.
    #[must_use]
    pub fn causal_token(&self) -> Option<String> {
        let seen = self.handle().view().island.as_ref()?.vector.clone();
        let (cluster, keyspace) = self.token_place()?;
        Some(causal::text(&Token {
            cluster,
            keyspace,
            seen,
        }))
    }

    /// Waits until this site has what a token says that its client has seen.
    ///
    /// # Errors
    ///
    /// If the token is none, or of another keyspace; if what was seen does not come in time, with
    /// how much is missing.
    pub async fn cover(&self, token: &[u8]) -> Result<(), Status> {
        let token = causal::read(token);
        let token = token.ok_or_else(|| invalid("the presented context is none"))?;
        if self.token_place() != Some((token.cluster, token.keyspace)) {
            return Err(invalid("the presented context is of another keyspace"));
        }
        let begun = self.handle().now();
        loop {
            let view = self.handle().view();
            let Some(island) = &view.island else {
                return Ok(());
            };
            if island.vector.is_at_least(&token.seen) {
                return Ok(());
            }
            if self.handle().now().since(begun) >= PATIENCE {
                return Err(self.uncovered(&token.seen, &island.vector).await);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The cluster and the keyspace that tokens name. An island's cluster is its own, so it is
    /// that of keyspace `default`.
    fn token_place(&self) -> Option<(u64, u32)> {
        let home = self.home().ok()?;
        let cluster = home.handle().identity().cluster.value();
        let is_island = self.handle().view().island.is_some();
        is_island.then(|| (cluster, self.handle().group().value()))
    }

    /// The slots of which a client has seen more than counts.
    fn lost(&self, seen: &Vector) -> Vec<Slot> {
        let table = self.home().and_then(|home| home.keyspace_table());
        let Ok(table) = table else {
            return Vec::new();
        };
        let entry = table.find(self.handle().keyspace());
        let islands = entry.and_then(|it| it.islands.as_ref());
        let frozen = islands.and_then(|it| it.frozen().ok()).unwrap_or_default();
        let lost = frozen
            .into_iter()
            .filter(|(slot, it)| seen.seq(*slot) > it.through);
        lost.map(|(slot, _)| slot).collect()
    }

    async fn uncovered(&self, seen: &Vector, ours: &Vector) -> Status {
        let missing = seen.iter().filter_map(|(slot, seq)| {
            let behind = seq.saturating_sub(ours.seq(slot));
            (behind > 0).then_some((u32::from(slot.value()), behind))
        });
        let missing: Vec<(u32, u64)> = missing.collect();
        let names = match self.home() {
            Ok(home) => home.sites_by_slot(self.handle().keyspace()).await,
            Err(unknown) => Err(unknown),
        };
        let names = names.unwrap_or_default();
        let name = |slot: u32| {
            let found = names.iter().find(|(it, _)| *it == slot);
            found.map_or_else(|| format!("slot {slot}"), |(_, name)| name.clone())
        };
        let lost = self.lost(seen);
        if let Some(slot) = lost.first() {
            let text = format!(
                "the presented context has writes of {} that were lost with it: no site will have them; forget the \
                 context",
                name(u32::from(slot.value()))
            );
            return Status::new(Code::FailedPrecondition, text);
        }
        let behind = missing.iter();
        let behind = behind.map(|(slot, count)| format!("{count} behind on {}", name(*slot)));
        let text = format!(
            "site {} has not seen the presented context ({})",
            self.handle().identity().name,
            behind.collect::<Vec<_>>().join(", ")
        );
        Status::new(Code::Unavailable, text)
    }
}
