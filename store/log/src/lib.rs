//! the write-ahead log of a node
