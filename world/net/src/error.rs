//! Why a listener or a certificate was refused. The texts say what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why nothing listens, or why a certificate cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Plain text on an address that others can reach.
    #[error(
        "listener {address} is not loopback and has no TLS: add --cert-file and --key-file, or \
         listen on 127.0.0.1"
    )]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Somebody else listens there.
    #[error(
        "listen on {address}: the port is in use; stop the process that has it or choose another \
         address"
    )]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The system refused the listener.
    #[error("listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A certificate, key or authority file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A self-made certificate cannot be kept.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not PEM.
    #[error("read {}: not a PEM file", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The file is PEM, but holds no certificate.
    #[error("read {}: it holds no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// What another node handed over as a certificate is none.
    #[error("read the certificate that was handed over: it is none that has dates")]
    NotHandedOver,
    /// Certificate and key do not fit together, or cannot be used.
    #[error("use certificate {} with key {}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The authorities' certificates cannot verify clients.
    #[error("verify clients by {}: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Clients are to show certificates that nobody can verify.
    #[error("client certificates are demanded but no authority is named: add --trusted-ca-file")]
    NoAuthorities,
    /// A self-made certificate cannot be made.
    #[error("make a certificate")]
    Make {
        /// What is wrong.
        #[source]
        source: rcgen::Error,
    },
    /// An authority's certificate and key are not of one authority.
    #[error("take over an authority: its certificate and its key do not fit together")]
    NotItsKey,
    /// A name does not fit a certificate.
    #[error("name a node in a certificate")]
    Identity {
        /// What is wrong.
        #[source]
        source: holm_link::IdentityError,
    },
    /// The certificate of a link names no node.
    #[error("{} names no node: it needs the URI holm://cluster/site/node", path.display())]
    NoIdentity {
        /// The certificate's file.
        path: PathBuf,
    },
}
