//! logs and metrics
