//! the threads that drive a replica
