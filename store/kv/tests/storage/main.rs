//! The storage half through its boundary: against a twin, through crashes, damage and full
//! disks.

mod compat;
mod crash;
mod damage;
mod model;
mod space;
mod twin;
