//! etcd's messages, as the front has them generated.

pub(crate) use holm_etcd::proto::{authpb, etcdserverpb, mvccpb};
