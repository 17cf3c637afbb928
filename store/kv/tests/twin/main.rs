//! The keyspace against a twin that keeps everything: on random input, in every small world,
//! from what watchers are sent alone, and rule by rule.

mod codec;
mod dumb;
mod exhaustive;
mod guard;
mod hash;
mod lease;
mod model;
mod script;
mod watch_oracle;
