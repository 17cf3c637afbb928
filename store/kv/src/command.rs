//! What a client may ask of a keyspace, free of any wire format.
//!
//! The names and meanings are etcd's. A [`Proposal`] is what goes through the sequencer;
//! reads outside a transaction never do.

use bytes::Bytes;
use holm_base::Term;

/// A command and on whose behalf it is asked: the unit that the sequencer orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who asks, if users are enforced.
    pub caller: Option<Caller>,
    /// What is asked.
    pub command: Command,
}

/// An authenticated user, and the state of the user table in which that was established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// The auth revision that the token was issued under; another one at apply is refused.
    pub auth_revision: u64,
}

/// Everything that changes a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write one key.
    Put(Put),
    /// Delete a key or a range.
    DeleteRange(DeleteRange),
    /// Compare, then do one of two lists of operations.
    Txn(Txn),
    /// Forget history below a revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: i64,
    },
    /// Create a lease. The id is chosen before it is proposed, never zero.
    LeaseGrant {
        /// Its id.
        id: i64,
        /// Seconds to live, as asked; raised to the minimum at apply.
        ttl: i64,
        /// The minimum of the node that proposed it, in seconds.
        ttl_min: i64,
    },
    /// End leases now, deleting their keys: one revision each.
    LeaseRevoke {
        /// Its id.
        id: i64,
    },
    /// Remember how much longer leases have to live: (id, seconds).
    LeaseCheckpoint {
        /// The leases.
        remaining: Vec<(i64, i64)>,
    },
    /// Leases whose time is up. Changes nothing if `term` is not the entry's own term.
    LeaseExpire {
        /// The proposer's term.
        term: Term,
        /// The leases, each of which takes one revision if it has keys.
        ids: Vec<i64>,
    },
    /// Raise or clear an alarm.
    Alarm {
        /// Whether it is raised (else cleared).
        raise: bool,
        /// The node that it concerns.
        member: u64,
        /// Which one.
        kind: AlarmKind,
        /// Whether the node itself raised it, so that it may clear it by itself.
        by_node: bool,
    },
    /// Change users, roles or whether they are enforced.
    Auth(AuthChange),
    /// Remember something about the cluster: member table, version, downgrade target.
    Cluster {
        /// What it is about.
        name: String,
        /// What is remembered; `None` forgets it.
        value: Option<Bytes>,
    },
    /// Remember something about the cluster if what is remembered of it is just this:
    /// [`crate::outcome::Outcome::Txn`] says whether it was.
    ClusterSwap {
        /// What it is about.
        name: String,
        /// What must be remembered; `None` if nothing may be.
        expected: Option<Bytes>,
        /// What is remembered from then on.
        value: Bytes,
    },
    /// In a local-first keyspace: something of other islands is taken in.
    Island(holm_local_first::Proposal),
}

/// Write one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The key, not empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease that the key hangs on; 0 for none.
    pub lease: i64,
    /// Whether the answer carries what was there before.
    pub prev_kv: bool,
    /// Keep the value that is there.
    pub ignore_value: bool,
    /// Keep the lease that is there.
    pub ignore_lease: bool,
}

/// Delete a key or a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRange {
    /// The key, or the first of the range.
    pub key: Bytes,
    /// The end of the range, as [`crate::KeyRange`] reads it.
    pub range_end: Bytes,
    /// Whether the answer carries what was deleted.
    pub prev_kv: bool,
}

/// Read a key or a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The key, or the first of the range.
    pub key: Bytes,
    /// The end of the range, as [`crate::KeyRange`] reads it.
    pub range_end: Bytes,
    /// At most so many; 0 for all.
    pub limit: i64,
    /// As of this revision; 0 or less for now.
    pub revision: i64,
    /// In which direction.
    pub sort_order: SortOrder,
    /// By what.
    pub sort_target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Leave everything out but the count.
    pub count_only: bool,
    /// Only keys last changed at or after this; 0 for no bound. Likewise the next three.
    pub min_mod_revision: i64,
    /// Only keys last changed at or before this.
    pub max_mod_revision: i64,
    /// Only keys created at or after this.
    pub min_create_revision: i64,
    /// Only keys created at or before this.
    pub max_create_revision: i64,
}

/// A direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// By key, rising, unless the target is another: then rising by that, of the first keys
    /// that the limit leaves and one more.
    #[default]
    None,
    /// Rising.
    Ascend,
    /// Falling.
    Descend,
}

/// What to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// How often it was written since it was created.
    Version,
    /// When it was created.
    Create,
    /// When it was last changed.
    Mod,
    /// The value.
    Value,
}

/// Compare, then do one of two lists of operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// Done if they do.
    pub success: Vec<TxnOp>,
    /// Done if one does not.
    pub failure: Vec<TxnOp>,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Read.
    Range(Range),
    /// Write.
    Put(Put),
    /// Delete.
    DeleteRange(DeleteRange),
    /// A transaction within.
    Txn(Txn),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key, or the first of the range.
    pub key: Bytes,
    /// The end of the range; every key within must satisfy it.
    pub range_end: Bytes,
    /// How the key's side relates to `target`.
    pub result: CompareResult,
    /// What it is compared with.
    pub target: CompareTarget,
}

/// How two sides relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// Equal.
    Equal,
    /// The key's side is greater.
    Greater,
    /// The key's side is less.
    Less,
    /// Not equal.
    NotEqual,
}

/// What a key is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// Its version.
    Version(i64),
    /// Its create revision.
    Create(i64),
    /// Its mod revision.
    Mod(i64),
    /// Its value.
    Value(Bytes),
    /// Its lease.
    Lease(i64),
}

/// Which alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// No space is left, or the quota is used up.
    NoSpace,
    /// Data is damaged.
    Corrupt,
}

/// What a permission allows on its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Write only.
    Write,
    /// Both.
    ReadWrite,
}

/// A permission of a role: access to a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// What is allowed.
    pub access: Access,
    /// The key, or the first of the range.
    pub key: Bytes,
    /// The end of the range, as [`crate::KeyRange`] reads it.
    pub range_end: Bytes,
}

/// A change of users, roles, or whether they are enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    /// Enforce users from now on.
    Enable,
    /// Stop enforcing them.
    Disable,
    /// Create a user. The hash is bcrypt's, made by the front; empty for no password.
    UserAdd {
        /// The user's name.
        name: String,
        /// The password's hash; empty if there is none.
        password_hash: String,
        /// Whether it can log in by certificate only.
        no_password: bool,
    },
    /// Remove a user.
    UserDelete {
        /// The user's name.
        name: String,
    },
    /// Give a user another password.
    UserChangePassword {
        /// The user's name.
        name: String,
        /// The password's hash; empty if there is none.
        password_hash: String,
    },
    /// Give a user a role.
    UserGrantRole {
        /// The user's name.
        user: String,
        /// The role's name.
        role: String,
    },
    /// Take a role from a user.
    UserRevokeRole {
        /// The user's name.
        name: String,
        /// The role's name.
        role: String,
    },
    /// Create a role.
    RoleAdd {
        /// The role's name.
        name: String,
    },
    /// Remove a role, from its users too.
    RoleDelete {
        /// The role's name.
        role: String,
    },
    /// Give a role a permission, or change one on the same range.
    RoleGrantPermission {
        /// The role's name.
        name: String,
        /// What it may do.
        permission: Permission,
    },
    /// Take a permission from a role.
    RoleRevokePermission {
        /// The role's name.
        role: String,
        /// The permission's range.
        key: Bytes,
        /// The permission's range.
        range_end: Bytes,
    },
}
