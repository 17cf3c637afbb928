//! The storage half through its boundary: against a twin, through crashes, damage and full
//! disks.

mod compat;
mod crash;
mod damage;
mod model;
mod sequencer;
mod space;
mod twin;
