//! The storage half through its boundary: against a twin, through crashes, damage and full
//! disks.

mod model;
mod twin;
