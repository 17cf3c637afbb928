//! the etcd v3 front: gRPC, JSON gateway, health and metrics

pub mod convert;
pub mod errors;
pub mod proto;
pub mod status;
pub mod validate;
pub mod web;
