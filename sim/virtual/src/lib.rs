//! a virtual disk that tears, loses, fills and fails on demand
