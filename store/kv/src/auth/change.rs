//! Changes of users and roles, each with etcd's checks in etcd's order.
//!
//! What would surprise: enabling does not move the auth revision, and granting a role that the
//! user has is no change at all; so the tokens that are out stay good.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{AUTH_BYTES_MAX, AuthState, ROOT, UserView};
use crate::command::{AuthChange, Permission};
use crate::refusal::Refusal;
use crate::store::Store;

/// Whether a change moves the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    Yes,
    No,
}

impl AuthState {
    /// Makes a change, here and in the store.
    ///
    /// # Errors
    ///
    /// The first check that failed; nothing is changed then.
    pub(crate) fn change(&mut self, store: &mut Store, change: &AuthChange) -> Result<(), Refusal> {
        let moved = match change {
            AuthChange::Enable => self.enable()?,
            AuthChange::Disable => self.disable(),
            AuthChange::UserAdd {
                name,
                password_hash,
                no_password,
            } => {
                let user = UserView {
                    password_hash: password_hash.clone(),
                    no_password: *no_password,
                    roles: Vec::new(),
                };
                self.user_add(store, name, user)?
            }
            AuthChange::UserDelete { name } => self.user_delete(store, name)?,
            AuthChange::UserChangePassword {
                name,
                password_hash,
            } => self.user_change_password(store, name, password_hash)?,
            AuthChange::UserGrantRole { user, role } => self.user_grant(store, user, role)?,
            AuthChange::UserRevokeRole { name, role } => self.user_revoke(store, name, role)?,
            AuthChange::RoleAdd { name } => self.role_add(store, name)?,
            AuthChange::RoleDelete { role } => self.role_delete(store, role)?,
            AuthChange::RoleGrantPermission { name, permission } => {
                self.role_grant(store, name, permission)?
            }
            AuthChange::RoleRevokePermission {
                role,
                key,
                range_end,
            } => self.role_revoke(store, role, (key, range_end))?,
        };
        if moved == Moved::Yes {
            self.revision += 1;
        }
        self.save_state(store);
        Ok(())
    }

    fn enable(&mut self) -> Result<Moved, Refusal> {
        if !self.enabled {
            let root = self.users.get(ROOT).ok_or(Refusal::RootUserNotExist)?;
            if !root.roles.iter().any(|it| it == ROOT) {
                return Err(Refusal::RootRoleNotGranted);
            }
            self.enabled = true;
        }
        Ok(Moved::No)
    }

    const fn disable(&mut self) -> Moved {
        if self.enabled {
            self.enabled = false;
            Moved::Yes
        } else {
            Moved::No
        }
    }

    fn user_add(
        &mut self,
        store: &mut Store,
        name: &str,
        user: UserView,
    ) -> Result<Moved, Refusal> {
        if name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.users.contains_key(name) {
            return Err(Refusal::UserExists);
        }
        self.users.insert(name.to_owned(), user);
        self.user_changed(store, name);
        Ok(Moved::Yes)
    }

    fn user_delete(&mut self, store: &mut Store, name: &str) -> Result<Moved, Refusal> {
        if self.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.users.remove(name).ok_or(Refusal::UserNotFound)?;
        self.user_changed(store, name);
        Ok(Moved::Yes)
    }

    fn user_change_password(
        &mut self,
        store: &mut Store,
        name: &str,
        hash: &str,
    ) -> Result<Moved, Refusal> {
        let user = self.users.get_mut(name).ok_or(Refusal::UserNotFound)?;
        hash.clone_into(&mut user.password_hash);
        self.user_changed(store, name);
        Ok(Moved::Yes)
    }

    fn user_grant(&mut self, store: &mut Store, name: &str, role: &str) -> Result<Moved, Refusal> {
        let user = self.users.get_mut(name).ok_or(Refusal::UserNotFound)?;
        if role != ROOT && !self.roles.contains_key(role) {
            return Err(Refusal::RoleNotFound);
        }
        let Err(at) = user.roles.binary_search_by(|it| it.as_str().cmp(role)) else {
            return Ok(Moved::No);
        };
        check_bytes(user.roles.iter().map(String::len).sum(), role.len())?;
        user.roles.insert(at, role.to_owned());
        self.user_changed(store, name);
        Ok(Moved::Yes)
    }

    fn user_revoke(&mut self, store: &mut Store, name: &str, role: &str) -> Result<Moved, Refusal> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        let user = self.users.get_mut(name).ok_or(Refusal::UserNotFound)?;
        let at = user.roles.iter().position(|it| it == role);
        user.roles.remove(at.ok_or(Refusal::RoleNotGranted)?);
        self.user_changed(store, name);
        Ok(Moved::Yes)
    }

    fn user_changed(&mut self, store: &mut Store, name: &str) {
        self.regrant(name);
        self.save_user(store, name);
    }

    fn role_add(&mut self, store: &mut Store, name: &str) -> Result<Moved, Refusal> {
        if name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(Refusal::RoleExists);
        }
        self.roles.insert(name.to_owned(), Vec::new());
        self.save_role(store, name);
        Ok(Moved::Yes)
    }

    fn role_delete(&mut self, store: &mut Store, name: &str) -> Result<Moved, Refusal> {
        if self.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.roles.remove(name).ok_or(Refusal::RoleNotFound)?;
        self.save_role(store, name);
        for user in self.holders(name) {
            if let Some(it) = self.users.get_mut(&user) {
                it.roles.retain(|it| it != name);
            }
            self.user_changed(store, &user);
        }
        Ok(Moved::Yes)
    }

    fn role_grant(
        &mut self,
        store: &mut Store,
        name: &str,
        permission: &Permission,
    ) -> Result<Moved, Refusal> {
        if !is_valid(permission) {
            return Err(Refusal::InvalidAuthManagement);
        }
        let role = self.roles.get_mut(name).ok_or(Refusal::RoleNotFound)?;
        let same =
            |it: &&mut Permission| it.key == permission.key && it.range_end == permission.range_end;
        if let Some(there) = role.iter_mut().find(same) {
            there.access = permission.access;
        } else {
            check_bytes(role.iter().map(bytes_of).sum(), bytes_of(permission))?;
            let at = role.partition_point(|it| it.key <= permission.key);
            role.insert(at, permission.clone());
        }
        self.role_changed(store, name);
        Ok(Moved::Yes)
    }

    fn role_revoke(
        &mut self,
        store: &mut Store,
        name: &str,
        (key, range_end): (&Bytes, &Bytes),
    ) -> Result<Moved, Refusal> {
        let role = self.roles.get_mut(name).ok_or(Refusal::RoleNotFound)?;
        let before = role.len();
        role.retain(|it| it.key != key || it.range_end != range_end);
        if role.len() == before {
            return Err(Refusal::PermissionNotGranted);
        }
        self.role_changed(store, name);
        Ok(Moved::Yes)
    }

    fn role_changed(&mut self, store: &mut Store, name: &str) {
        self.save_role(store, name);
        for user in self.holders(name) {
            self.regrant(&user);
        }
    }

    /// The users that have a role.
    fn holders(&self, role: &str) -> BTreeSet<String> {
        let has = |user: &&String| self.users[*user].roles.iter().any(|it| it == role);
        self.users.keys().filter(has).cloned().collect()
    }
}

pub(super) fn bytes_of(permission: &Permission) -> usize {
    permission.key.len() + permission.range_end.len()
}

fn check_bytes(there: usize, added: usize) -> Result<(), Refusal> {
    if there + added > AUTH_BYTES_MAX {
        return Err(Refusal::AuthTooLarge);
    }
    Ok(())
}

/// Whether a permission's range holds any key.
fn is_valid(permission: &Permission) -> bool {
    let end = &permission.range_end;
    !permission.key.is_empty() && (end.is_empty() || end.as_ref() == b"\0" || permission.key < *end)
}
