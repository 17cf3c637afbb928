//! Users, roles, and what each user may do.
//!
//! What would surprise: the state is immutable once published. Checks run at apply, on the
//! state that the log's order gives, and again nowhere: a front may check early on a view, but
//! only apply decides. Passwords are seen here as hashes only.

mod change;
mod grant;
mod restore;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{self, Reader};
use crate::command::{Access, Caller, Compare, DeleteRange, Permission, Put, Range, Txn, TxnOp};
use crate::outcome::RoleView;
use crate::range::KeyRange;
use crate::refusal::Refusal;
use crate::store::{FactKind, Store};
use grant::Grants;

/// The name of the user and of the role that may do everything.
pub const ROOT: &str = "root";

/// The version of the layouts of users, roles and state in facts.
const FACT_VERSION: u8 = 1;

/// How many bytes of roles a user, or of permissions a role, may hold; every node of a keyspace
/// agrees on it. Each grant rewrites them, and a checkpoint holds them in one block.
pub const AUTH_BYTES_MAX: usize = 1 << 20;

/// A user as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserView {
    /// The password's bcrypt hash; empty if there is none.
    pub password_hash: String,
    /// Whether only a certificate logs the user in.
    pub no_password: bool,
    /// The roles, sorted.
    pub roles: Vec<String>,
}

/// Users, roles, whether they are enforced, and how often that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthState {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, UserView>,
    roles: BTreeMap<String, Vec<Permission>>,
    /// What each user may do, from its roles.
    grants: BTreeMap<String, Grants>,
}

impl Default for AuthState {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            grants: BTreeMap::new(),
        }
    }
}

impl AuthState {
    /// Whether users are enforced.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.enabled
    }

    /// How often users, roles or their enforcement changed; 1 at first. A token is issued
    /// under a revision, and under a newer one its requests are refused.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// A user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&UserView> {
        self.users.get(name)
    }

    /// All users' names, sorted.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// A role and what it may do; the root role may read and write everything.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<RoleView> {
        let permissions = self.roles.get(name)?;
        let everything = Permission {
            access: Access::ReadWrite,
            key: Bytes::new(),
            range_end: Bytes::from_static(b"\0"),
        };
        Some(RoleView {
            name: name.to_owned(),
            permissions: if name == ROOT {
                vec![everything]
            } else {
                permissions.clone()
            },
        })
    }

    /// All roles' names, sorted.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// Whether a user is there and has the root role.
    #[must_use]
    pub fn is_admin(&self, name: &str) -> bool {
        self.grants.get(name).is_some_and(Grants::is_root)
    }

    /// Whether the caller may put, and read what was there if that is asked for. Which keys
    /// share the lease is checked at apply.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserEmpty`], [`Refusal::AuthOldRevision`] or [`Refusal::PermissionDenied`];
    /// likewise for the other checks. Without enforcement everything is allowed.
    pub fn check_put(&self, caller: Option<&Caller>, put: &Put) -> Result<(), Refusal> {
        let key = KeyRange::One(put.key.clone());
        self.check_write_of(caller, &key)?;
        if put.prev_kv {
            self.check_read_of(caller, &key)?;
        }
        Ok(())
    }

    /// Whether the caller may read a range.
    ///
    /// # Errors
    ///
    /// As [`AuthState::check_put`].
    pub fn check_range(&self, caller: Option<&Caller>, range: &Range) -> Result<(), Refusal> {
        let keys = KeyRange::new(range.key.clone(), range.range_end.clone());
        self.check_read_of(caller, &keys)
    }

    /// Whether the caller may delete, and read what was there if that is asked for.
    ///
    /// # Errors
    ///
    /// As [`AuthState::check_put`].
    pub fn check_delete(
        &self,
        caller: Option<&Caller>,
        delete: &DeleteRange,
    ) -> Result<(), Refusal> {
        let keys = KeyRange::new(delete.key.clone(), delete.range_end.clone());
        self.check_write_of(caller, &keys)?;
        if delete.prev_kv {
            self.check_read_of(caller, &keys)?;
        }
        Ok(())
    }

    /// Whether the caller may do everything that a transaction may come to: comparisons, both
    /// branches, nested ones included.
    ///
    /// # Errors
    ///
    /// As [`AuthState::check_put`].
    pub fn check_txn(&self, caller: Option<&Caller>, txn: &Txn) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        for compare in &txn.compare {
            self.check_compare(caller, compare)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                TxnOp::Range(range) => self.check_range(caller, range)?,
                TxnOp::Put(put) => self.check_put(caller, put)?,
                TxnOp::DeleteRange(delete) => self.check_delete(caller, delete)?,
                TxnOp::Txn(inner) => self.check_txn(caller, inner)?,
            }
        }
        Ok(())
    }

    fn check_compare(&self, caller: Option<&Caller>, compare: &Compare) -> Result<(), Refusal> {
        let keys = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        self.check_read_of(caller, &keys)
    }

    /// Whether the caller may read, or watch, all of `keys`.
    ///
    /// # Errors
    ///
    /// As [`AuthState::check_put`].
    pub fn check_read_of(&self, caller: Option<&Caller>, keys: &KeyRange) -> Result<(), Refusal> {
        self.check_grant(caller, |grants| grants.may_read(keys))
    }

    /// Whether the caller may write all of `keys`.
    ///
    /// # Errors
    ///
    /// As [`AuthState::check_put`].
    pub fn check_write_of(&self, caller: Option<&Caller>, keys: &KeyRange) -> Result<(), Refusal> {
        self.check_grant(caller, |grants| grants.may_write(keys))
    }

    /// Whether the caller may write all of `keys`; anybody may, if there are none.
    pub(crate) fn check_write_of_all(
        &self,
        caller: Option<&Caller>,
        keys: &BTreeSet<Bytes>,
    ) -> Result<(), Refusal> {
        if keys.is_empty() {
            return Ok(());
        }
        self.check_grant(caller, |grants| grants.may_write_all(keys))
    }

    fn check_grant(
        &self,
        caller: Option<&Caller>,
        allows: impl FnOnce(&Grants) -> bool,
    ) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        let caller = caller.ok_or(Refusal::UserEmpty)?;
        if caller.auth_revision == 0 {
            return Err(Refusal::UserEmpty);
        }
        if caller.auth_revision < self.revision {
            return Err(Refusal::AuthOldRevision);
        }
        match self.grants.get(&caller.user) {
            Some(grants) if grants.is_root() || allows(grants) => Ok(()),
            Some(_) | None => Err(Refusal::PermissionDenied),
        }
    }

    /// Whether the caller has the root role. As in etcd, an old token suffices.
    ///
    /// # Errors
    ///
    /// [`Refusal::UserEmpty`] or [`Refusal::PermissionDenied`].
    pub fn check_admin(&self, caller: Option<&Caller>) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        match caller.filter(|it| !it.user.is_empty()) {
            None => Err(Refusal::UserEmpty),
            Some(caller) if self.is_admin(&caller.user) => Ok(()),
            Some(_) => Err(Refusal::PermissionDenied),
        }
    }

    /// Reads the state from a store's facts.
    pub(crate) fn open(store: &Store) -> Self {
        let mut state = Self::default();
        if let Some((enabled, revision)) = store.fact(FactKind::Auth, b"").and_then(read_state) {
            (state.enabled, state.revision) = (enabled, revision);
        }
        store.facts(FactKind::Role, &mut |name, value| {
            if let (Ok(name), Some(role)) = (str::from_utf8(name), read_role(value)) {
                state.roles.insert(name.to_owned(), role);
            }
        });
        store.facts(FactKind::User, &mut |name, value| {
            if let (Ok(name), Some(user)) = (str::from_utf8(name), read_user(value)) {
                state.users.insert(name.to_owned(), user);
            }
        });
        let names: BTreeSet<String> = state.users.keys().cloned().collect();
        for name in &names {
            state.regrant(name);
        }
        state
    }

    /// Works out anew what a user may do.
    fn regrant(&mut self, name: &str) {
        match self.users.get(name) {
            Some(user) => {
                let grants = Grants::new(&user.roles, &self.roles);
                self.grants.insert(name.to_owned(), grants);
            }
            None => {
                self.grants.remove(name);
            }
        }
    }

    fn save_state(&self, store: &mut Store) {
        let mut out = BytesMut::with_capacity(10);
        out.put_u8(FACT_VERSION);
        out.put_u8(u8::from(self.enabled));
        out.put_u64_le(self.revision);
        store.set_fact(FactKind::Auth, b"", Some(out.freeze()));
    }

    fn save_user(&self, store: &mut Store, name: &str) {
        let value = self.users.get(name).map(|user| {
            let mut out = BytesMut::new();
            out.put_u8(FACT_VERSION);
            out.put_u8(u8::from(user.no_password));
            codec::write_bytes(&mut out, user.password_hash.as_bytes());
            codec::write_count(&mut out, user.roles.len());
            for role in &user.roles {
                codec::write_bytes(&mut out, role.as_bytes());
            }
            out.freeze()
        });
        store.set_fact(FactKind::User, name.as_bytes(), value);
    }

    fn save_role(&self, store: &mut Store, name: &str) {
        let value = self.roles.get(name).map(|permissions| {
            let mut out = BytesMut::new();
            out.put_u8(FACT_VERSION);
            codec::write_count(&mut out, permissions.len());
            for permission in permissions {
                codec::write_permission(&mut out, permission);
            }
            out.freeze()
        });
        store.set_fact(FactKind::Role, name.as_bytes(), value);
    }
}

fn read_state(fact: Bytes) -> Option<(bool, u64)> {
    let (head, revision) = fact.split_at_checked(2)?;
    let revision = u64::from_le_bytes(revision.try_into().ok()?);
    (head[0] == FACT_VERSION).then_some((head[1] == 1, revision))
}

fn read_user(fact: &Bytes) -> Option<UserView> {
    let mut reader = Reader::new(fact);
    if reader.byte().ok()? != FACT_VERSION {
        return None;
    }
    Some(UserView {
        no_password: reader.boolean("password mark").ok()?,
        password_hash: reader.string().ok()?,
        roles: reader.list(Reader::string).ok()?,
    })
}

fn read_role(fact: &Bytes) -> Option<Vec<Permission>> {
    let mut reader = Reader::new(fact);
    if reader.byte().ok()? != FACT_VERSION {
        return None;
    }
    reader.list(Reader::permission).ok()
}
