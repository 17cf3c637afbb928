//! Users and roles that come from another keyspace.

use super::{AUTH_BYTES_MAX, AuthState};
use crate::restore::RestoredAuth;
use crate::store::Store;

impl AuthState {
    /// The state that they make. Roles that a user has and that are not there give nothing.
    pub(crate) fn restore(auth: RestoredAuth) -> Self {
        let mut state = Self {
            enabled: auth.enabled,
            revision: auth.revision.max(1),
            users: auth.users,
            roles: auth.roles,
            ..Self::default()
        };
        for role in state.roles.values_mut() {
            role.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let names: Vec<String> = state.users.keys().cloned().collect();
        for name in &names {
            if let Some(user) = state.users.get_mut(name) {
                user.roles.sort();
                user.roles.dedup();
            }
            state.regrant(name);
        }
        state
    }

    /// A user or role that holds more than is kept.
    pub(crate) fn too_large(&self) -> Option<String> {
        let users = self.users.iter().map(|(name, user)| {
            let bytes: usize = user.roles.iter().map(String::len).sum();
            (name, bytes)
        });
        let roles = self.roles.iter().map(|(name, role)| {
            let bytes: usize = role.iter().map(super::change::bytes_of).sum();
            (name, bytes)
        });
        let mut all = users.chain(roles);
        all.find(|(_, bytes)| *bytes > AUTH_BYTES_MAX)
            .map(|(name, _)| name.clone())
    }

    /// Writes all of it into a store.
    pub(crate) fn save_all(&self, store: &mut Store) {
        self.save_state(store);
        for name in self.roles.keys() {
            self.save_role(store, name);
        }
        for name in self.users.keys() {
            self.save_user(store, name);
        }
    }
}
