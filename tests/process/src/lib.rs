//! real processes, real clients, real crashes
