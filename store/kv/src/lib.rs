//! the MVCC engine: revisions, transactions, watches, leases, users
