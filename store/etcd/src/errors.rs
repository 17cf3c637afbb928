//! The errors that clients know: one function each, with etcd's code and its exact text.
//!
//! What would surprise: [`too_many_requests`] and [`not_enough_started_members`] leave with the
//! code Unknown, whatever etcd's own table says, for its server sends them so.

use holm_kv::Refusal;

use crate::status::{Code, Status};

/// The rows of the table: a name, a code, a text, what it is for.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $code:ident $text:literal;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name() -> Status {
                Status::new(Code::$code, concat!("etcdserver: ", $text))
            }
        )*

        /// Each row's name, code and text, so that tests and documents can walk the table.
        pub const TABLE: &[(&str, Code, &str)] = &[
            $((stringify!($name), Code::$code, concat!("etcdserver: ", $text)),)*
        ];
    };
}

errors! {
    /// A request without a key.
    key_not_provided InvalidArgument "key is not provided";
    /// The key is not there; also an operation of a transaction that is none.
    key_not_found InvalidArgument "key not found";
    /// A put that keeps the value and brings one.
    value_provided InvalidArgument "value is provided";
    /// A put that keeps the lease and brings one.
    lease_provided InvalidArgument "lease is provided";
    /// More operations than a transaction may hold.
    too_many_operations InvalidArgument "too many operations in txn request";
    /// A transaction whose reads come to more than is held in memory.
    reads_too_much InvalidArgument "txn request reads more than 64 MiB";
    /// Two writes of one key on one path of a transaction.
    duplicate_key InvalidArgument "duplicate key given in txn request";
    /// An order or a target that does not exist.
    invalid_sort_option InvalidArgument "invalid sort option";
    /// Above `--max-request-bytes`.
    request_too_large InvalidArgument "request is too large";
    /// A wrong name or password, without saying which.
    authentication_failed InvalidArgument "authentication failed, invalid user ID or password";
    /// Users changed between the token and the request: log in again.
    auth_old_revision InvalidArgument "revision of auth store is old";
    /// A request without a user while users are enforced; or a user to be made without a name.
    user_empty InvalidArgument "user name is empty";
    /// A role without a name.
    role_empty InvalidArgument "role name is empty";
    /// A grant that grants nothing.
    permission_not_given InvalidArgument "permission not given";
    /// A change of users that would lock everybody out.
    invalid_auth_management InvalidArgument "invalid auth management";
    /// URLs that are none.
    bad_member_urls InvalidArgument "given member URLs are invalid";
    /// A version that is none.
    wrong_downgrade_format InvalidArgument "wrong downgrade target version format";
    /// A version that nobody can go down to from here.
    invalid_downgrade_target InvalidArgument "invalid downgrade target version";
    /// The revision was compacted away.
    compacted OutOfRange "mvcc: required revision has been compacted";
    /// The revision is yet to come.
    future_revision OutOfRange "mvcc: required revision is a future revision";
    /// A lease that would live too long.
    lease_ttl_too_large OutOfRange "too large lease TTL";
    /// The quota is used up, or the disk is full.
    no_space ResourceExhausted "mvcc: database space exceeded";
    /// Too much waits already.
    too_many_requests Unknown "too many requests";
    /// There is no such lease.
    lease_not_found NotFound "requested lease not found";
    /// There is no such member.
    member_not_found NotFound "member not found";
    /// The lease's id is taken.
    lease_exists FailedPrecondition "lease already exists";
    /// Enforcing users needs a user called root.
    root_user_not_exist FailedPrecondition "root user does not exist";
    /// That user needs the role called root.
    root_role_not_granted FailedPrecondition "root user does not have root role";
    /// The user's name is taken.
    user_exists FailedPrecondition "user name already exists";
    /// There is no such user.
    user_not_found FailedPrecondition "user name not found";
    /// The role's name is taken.
    role_exists FailedPrecondition "role name already exists";
    /// There is no such role.
    role_not_found FailedPrecondition "role name not found";
    /// The user does not have the role.
    role_not_granted FailedPrecondition "role is not granted to the user";
    /// The role does not have the permission.
    permission_not_granted FailedPrecondition "permission is not granted to the role";
    /// A user with too many roles, or a role with too many permissions.
    auth_too_large FailedPrecondition "user or role holds too much: its limit is 1 MiB";
    /// Users are not enforced.
    auth_not_enabled FailedPrecondition "authentication is not enabled";
    /// A lock or an election in a local-first keyspace.
    no_mutual_exclusion FailedPrecondition
        "this keyspace is local-first: it cannot promise mutual exclusion; use a linearizable keyspace";
    /// Another member leads.
    not_leader FailedPrecondition "not leader";
    /// Leadership cannot go to that member.
    bad_leader_transferee FailedPrecondition "bad leader transferee";
    /// The member votes already.
    member_not_learner FailedPrecondition "can only promote a learner member";
    /// Another member has that URL.
    peer_url_exists FailedPrecondition "Peer URLs already exists";
    /// The member's id is taken, or was that of one who left.
    member_id_exists FailedPrecondition "member ID already exist";
    /// The learner lacks too much to get a vote.
    learner_not_ready FailedPrecondition
        "can only promote a learner member which is in sync with leader";
    /// The cluster has all the learners that it may have.
    too_many_learners FailedPrecondition "too many learner members in cluster";
    /// The cluster has all the voters that it may have.
    too_many_voters FailedPrecondition "too many voting members in cluster: the limit is 7";
    /// Nothing is to be called off.
    no_inflight_downgrade FailedPrecondition "no inflight downgrade job";
    /// The caller may not do this.
    permission_denied PermissionDenied "permission denied";
    /// The token is unknown, expired or forged.
    invalid_auth_token Unauthenticated "invalid auth token";
    /// Nobody leads.
    no_leader Unavailable "no leader";
    /// Another member took the lead; whether the request was carried out is unknown.
    leader_changed Unavailable "leader changed";
    /// The answer did not come in time; whether the request was carried out is unknown.
    timed_out Unavailable "request timed out";
    /// The same, for a request that was begun under a leader who failed.
    timed_out_by_leader Unavailable "request timed out, possibly due to previous leader failure";
    /// Too few members are in reach to change who belongs to the cluster.
    unhealthy Unavailable "unhealthy cluster";
    /// A node without a vote answers serializable reads and questions for its status only.
    not_for_learners Unavailable "rpc not supported for learner";
    /// The node is stopping.
    stopped Unavailable "server stopped";
    /// Data is damaged and no copy is in reach.
    corrupt DataLoss "corrupt cluster";
    /// The members that would be left cannot agree on anything.
    not_enough_started_members Unknown "re-configuration failed due to not enough started members";
    /// The next leader did not take over in time.
    transfer_timed_out Unknown "request timed out, leader transfer took too long";
    /// A change of users in a local-first keyspace.
    no_users Unimplemented "users of a local-first keyspace are not built yet";
    /// A write at a site that leaves a local-first keyspace.
    island_ended FailedPrecondition
        "this site takes no writes of the keyspace any more: ask another of its sites";
    /// An action that does not exist.
    unknown_method Unknown "unknown method";
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::KeyNotFound => key_not_found(),
            Refusal::LeaseNotFound => lease_not_found(),
            Refusal::LeaseExists => lease_exists(),
            Refusal::LeaseTtlTooLarge => lease_ttl_too_large(),
            Refusal::Compacted { .. } => compacted(),
            Refusal::FutureRevision { .. } => future_revision(),
            Refusal::NoSpace => no_space(),
            Refusal::TooLarge => request_too_large(),
            Refusal::ReadsTooMuch => reads_too_much(),
            Refusal::Busy => too_many_requests(),
            Refusal::Stalled | Refusal::TimedOut => timed_out(),
            Refusal::NoLeader => no_leader(),
            Refusal::LeaderChanged => leader_changed(),
            Refusal::Corrupt { .. } => corrupt(),
            Refusal::Stopped => stopped(),
            Refusal::PermissionDenied => permission_denied(),
            Refusal::NoMutualExclusion => no_mutual_exclusion(),
            Refusal::ForeignRevision { revision } => Self::new(
                Code::InvalidArgument,
                format!("etcdserver: revision {revision} belongs to another site"),
            ),
            Refusal::Unfit(why) => Self::new(Code::InvalidArgument, format!("etcdserver: {why}")),
            Refusal::NoUsers => no_users(),
            Refusal::Ended => island_ended(),
            Refusal::AuthTooLarge => auth_too_large(),
            Refusal::AuthOldRevision => auth_old_revision(),
            Refusal::RootUserNotExist => root_user_not_exist(),
            Refusal::RootRoleNotGranted => root_role_not_granted(),
            Refusal::UserExists => user_exists(),
            Refusal::UserNotFound => user_not_found(),
            Refusal::UserEmpty => user_empty(),
            Refusal::RoleExists => role_exists(),
            Refusal::RoleNotFound => role_not_found(),
            Refusal::RoleEmpty => role_empty(),
            Refusal::RoleNotGranted => role_not_granted(),
            Refusal::PermissionNotGranted => permission_not_granted(),
            Refusal::PermissionNotGiven => permission_not_given(),
            Refusal::InvalidAuthManagement => invalid_auth_management(),
            Refusal::AuthNotEnabled => auth_not_enabled(),
            Refusal::AuthFailed => authentication_failed(),
        }
    }
}

#[cfg(test)]
mod tests;
