//! The virtual disk: storage code runs over it unchanged, and every change is a numbered step.

mod device;
mod handle;
mod sheet;
mod storage;
mod survival;

pub use storage::{Fault, Storage};
pub use survival::Survival;
