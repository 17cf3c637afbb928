//! the etcd v3 front: gRPC, JSON gateway, health and metrics

pub mod authority;
pub mod causal;
pub mod context;
pub mod convert;
mod door;
pub mod errors;
pub mod front;
pub mod grpc;
pub mod holm;
pub mod keyspaces;
pub mod members;
mod password;
pub mod proto;
mod pulse;
mod random;
mod seat;
pub mod services;
mod sites;
pub mod snapshot;
pub mod status;
pub mod token;
pub mod validate;
pub mod web;
