//! The format against itself, against harm, and against a file of etcd.

mod compat;
mod damage;
mod round;
mod support;
