//! listeners, TLS and certificates
