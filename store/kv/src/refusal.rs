//! Why a request was refused. The front alone knows etcd's codes and texts for these.

use holm_base::Revision;

/// Why a request changed nothing or found nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The put keeps a value or lease, but the key does not exist.
    #[error("keep value or lease: key not found")]
    KeyNotFound,
    /// There is no such lease.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The lease id is taken.
    #[error("lease already exists")]
    LeaseExists,
    /// The lease would live too long.
    #[error("too large lease ttl")]
    LeaseTtlTooLarge,
    /// The revision was compacted away.
    #[error("revision is below the compacted {compacted}")]
    Compacted {
        /// The oldest readable revision.
        compacted: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision is above the current {current}")]
    FutureRevision {
        /// The newest revision.
        current: Revision,
    },
    /// No space: the quota is used up or the disk is full.
    #[error("database space exceeded")]
    NoSpace,
    /// The request is larger than the log takes.
    #[error("request is too large")]
    TooLarge,
    /// The transaction reads more than it may.
    #[error("transaction reads more than {} bytes", crate::txn::READS_MAX)]
    ReadsTooMuch,
    /// Too much waits already.
    #[error("too many requests")]
    Busy,
    /// The log has owed an answer for longer than an election timeout: whether this node still
    /// leads is not certain, and nothing was changed.
    #[error("the log does not answer")]
    Stalled,
    /// Nobody leads the keyspace, or this node does not know who.
    #[error("no leader")]
    NoLeader,
    /// Leadership was lost on the way: the outcome is unknown.
    #[error("leader changed")]
    LeaderChanged,
    /// No answer came in time: the outcome is unknown.
    #[error("timed out")]
    TimedOut,
    /// The record's bytes are damaged and no copy is in reach.
    #[error("corrupt: {place}")]
    Corrupt {
        /// File and offset.
        place: String,
    },
    /// The node is stopping or its disk has failed.
    #[error("stopped")]
    Stopped,
    /// The caller may not do this.
    #[error("permission denied")]
    PermissionDenied,
    /// The user or role would hold more than can be kept in one piece.
    #[error("user or role would be too large")]
    AuthTooLarge,
    /// The request needs that one at a time holds something, which islands cannot promise.
    #[error("a local-first keyspace cannot promise mutual exclusion")]
    NoMutualExclusion,
    /// The revision is another island's, and cannot be compared with one of this.
    #[error("revision {revision} belongs to another site")]
    ForeignRevision {
        /// What was named.
        revision: Revision,
    },
    /// The value is none of the keyspace's type.
    #[error("{0}")]
    Unfit(#[from] holm_local_first::Unfit),
    /// Users of a local-first keyspace are not built.
    #[error("a local-first keyspace has no users yet")]
    NoUsers,
    /// The site takes no writes of the keyspace any more.
    #[error("this site takes no writes of the keyspace any more")]
    Ended,
    /// The user table changed since the caller's token was issued.
    #[error("revision of auth store is old")]
    AuthOldRevision,
    /// Enabling users needs a user called root.
    #[error("root user does not exist")]
    RootUserNotExist,
    /// That user needs the role called root.
    #[error("root user does not have root role")]
    RootRoleNotGranted,
    /// The user name is taken.
    #[error("user name already exists")]
    UserExists,
    /// There is no such user.
    #[error("user name not found")]
    UserNotFound,
    /// The user name is empty.
    #[error("user name is empty")]
    UserEmpty,
    /// The role name is taken.
    #[error("role name already exists")]
    RoleExists,
    /// There is no such role.
    #[error("role name not found")]
    RoleNotFound,
    /// The role name is empty.
    #[error("role name is empty")]
    RoleEmpty,
    /// The user does not have the role.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// The role does not have the permission.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// No permission was given.
    #[error("permission not given")]
    PermissionNotGiven,
    /// The request makes no sense while users are enforced.
    #[error("invalid auth management")]
    InvalidAuthManagement,
    /// Users are not enforced.
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    /// Name or password is wrong.
    #[error("authentication failed")]
    AuthFailed,
}
