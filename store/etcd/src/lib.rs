//! the etcd v3 front: gRPC, JSON gateway, health and metrics

pub mod proto;
pub mod web;
