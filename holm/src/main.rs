//! The holm binary.
fn main() {}
