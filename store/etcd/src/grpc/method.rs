//! The methods of the API, by path.

use holm_telemetry::{GrpcKind, GrpcMethod, Metrics};

macro_rules! methods {
    ($($service:literal { $($variant:ident $name:literal $kind:ident)* })*) => {
        /// A method of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Method {
            $($(
                #[doc = concat!("`", $service, "/", $name, "`")]
                $variant,
            )*)*
        }

        impl Method {
            /// The method at a request's path. Cost: comparisons of lengths, then of one text.
            pub(crate) fn at(path: &str) -> Option<Self> {
                match path {
                    $($(concat!("/", $service, "/", $name) => Some(Self::$variant),)*)*
                    _ => None,
                }
            }

            /// How many there are, and each one's counters in the order of declaration.
            pub(crate) fn counters(metrics: &Metrics) -> Vec<GrpcMethod> {
                vec![$($(metrics.grpc_method($service, $name, GrpcKind::$kind),)*)*]
            }

            /// Its place in the order of declaration.
            pub(crate) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

methods! {
    "etcdserverpb.KV" {
        Range "Range" Unary
        RangeStream "RangeStream" ServerStream
        Put "Put" Unary
        Txn "Txn" Unary
        DeleteRange "DeleteRange" Unary
        Compact "Compact" Unary
    }
    "etcdserverpb.Watch" {
        Watch "Watch" BidiStream
    }
    "etcdserverpb.Lease" {
        LeaseGrant "LeaseGrant" Unary
        LeaseRevoke "LeaseRevoke" Unary
        LeaseKeepAlive "LeaseKeepAlive" BidiStream
        LeaseTimeToLive "LeaseTimeToLive" Unary
        LeaseLeases "LeaseLeases" Unary
    }
    "etcdserverpb.Cluster" {
        MemberAdd "MemberAdd" Unary
        MemberRemove "MemberRemove" Unary
        MemberUpdate "MemberUpdate" Unary
        MemberList "MemberList" Unary
        MemberPromote "MemberPromote" Unary
    }
    "etcdserverpb.Maintenance" {
        Alarm "Alarm" Unary
        Status "Status" Unary
        Defragment "Defragment" Unary
        Hash "Hash" Unary
        HashKv "HashKV" Unary
        Snapshot "Snapshot" ServerStream
        MoveLeader "MoveLeader" Unary
        Downgrade "Downgrade" Unary
    }
    "etcdserverpb.Auth" {
        AuthEnable "AuthEnable" Unary
        AuthDisable "AuthDisable" Unary
        AuthStatus "AuthStatus" Unary
        Authenticate "Authenticate" Unary
        UserAdd "UserAdd" Unary
        UserGet "UserGet" Unary
        UserList "UserList" Unary
        UserDelete "UserDelete" Unary
        UserChangePassword "UserChangePassword" Unary
        UserGrantRole "UserGrantRole" Unary
        UserRevokeRole "UserRevokeRole" Unary
        RoleAdd "RoleAdd" Unary
        RoleGet "RoleGet" Unary
        RoleList "RoleList" Unary
        RoleDelete "RoleDelete" Unary
        RoleGrantPermission "RoleGrantPermission" Unary
        RoleRevokePermission "RoleRevokePermission" Unary
    }
    "v3lockpb.Lock" {
        Lock "Lock" Unary
        Unlock "Unlock" Unary
    }
    "v3electionpb.Election" {
        Campaign "Campaign" Unary
        Proclaim "Proclaim" Unary
        Leader "Leader" Unary
        Observe "Observe" ServerStream
        Resign "Resign" Unary
    }
    "holm.v1.Node" {
        NodeStatus "Status" Unary
        SiteAdd "SiteAdd" Unary
        SiteAuthority "SiteAuthority" Unary
        SiteAuthorityReplace "SiteAuthorityReplace" Unary
        KeyspaceCreate "KeyspaceCreate" Unary
        KeyspaceList "KeyspaceList" Unary
        KeyspaceRemove "KeyspaceRemove" Unary
        KeyspaceMember "KeyspaceMember" Unary
        Conflicts "Conflicts" Unary
        ReturnForetold "ReturnForetold" Unary
    }
    "holm.v1.Cache" {
        CacheFollow "Follow" BidiStream
    }
    "grpc.health.v1.Health" {
        HealthCheck "Check" Unary
        HealthWatch "Watch" ServerStream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_methods_and_nothing_else_does() {
        assert_eq!(Method::at("/etcdserverpb.KV/Put"), Some(Method::Put));
        assert_eq!(
            Method::at("/etcdserverpb.Maintenance/HashKV"),
            Some(Method::HashKv)
        );
        assert_eq!(Method::at("/etcdserverpb.KV/put"), None);
        assert_eq!(Method::at(""), None);
    }
}
