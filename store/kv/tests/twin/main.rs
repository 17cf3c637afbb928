//! The keyspace against a twin that keeps everything: random and in every small world, from
//! are sent, and rule by rule.

mod codec;
mod dumb;
mod exhaustive;
mod guard;
mod hash;
mod lease;
mod model;
mod script;
mod watch_oracle;
