//! The messages of etcd's v3 API, made from `store/etcd/proto` by `cargo xtask bless proto`.
//!
//! What would surprise: byte fields are [`bytes::Bytes`] and share the memory of the frame they
//! came in; each message has a JSON form too, the gateway's.

#![expect(
    clippy::allow_attributes,
    reason = "generated code keeps to no lint of ours"
)]

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[allow(
            missing_docs, unreachable_pub, unused_qualifications, unused_lifetimes, clippy::all,
            clippy::use_self, clippy::str_to_string, clippy::redundant_clone,
            clippy::too_many_lines, clippy::struct_excessive_bools, clippy::clone_on_ref_ptr,
            clippy::map_err_ignore, clippy::uninlined_format_args, clippy::or_fun_call,
            clippy::allow_attributes_without_reason, clippy::derive_partial_eq_without_eq,
            clippy::match_wildcard_for_single_variants, rustdoc::all,
            reason = "generated"
        )]
        pub mod $name;
    )*};
}

packages! {
    /// Users, roles, permissions.
    authpb
    /// The requests and responses of KV, Watch, Lease, Cluster, Maintenance and Auth.
    etcdserverpb
    /// The standard health service.
    grpc_health_v1
    /// Keys and events.
    mvccpb
    /// Elections.
    v3electionpb
    /// Locks.
    v3lockpb
}
