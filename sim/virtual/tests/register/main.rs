//! One small protocol through every kind of test, and through everything that can go wrong.

mod exhaustive;
mod gates;
mod hunt;
mod machine;
mod script;
mod simulation;
mod twin;
mod workload;
