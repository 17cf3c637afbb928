//! How bytes get in and between sites: listeners, links, TLS and certificates.
//!
//! A [`Listener`] accepts, shakes hands, learns which protocol the client speaks and hands a
//! [`Connection`] to whoever serves it. Nothing here knows gRPC, HTTP or etcd.
//!
//! ```text
//!   TCP ─► room? ─► TLS (if configured) ─► HTTP/2 or HTTP/1? ─► Connection ─► handler
//!          pause     5 s, 1,024 at once      ALPN, else the        its own task
//!          + WARN    beyond: closed          first 24 bytes
//! ```
//!
//! Between the nodes of a cluster, [`Peers`] keeps links up: two connections a pair, TLS 1.3 with
//! both ends authenticated, queues with limits, certificates that can be replaced under traffic.
//! What two nodes must say to each other first is decided in `spine/link`. An [`Authority`]
//! signs the nodes' certificates, [`Rotating`] reads them again when they change. A [`Cable`]
//! stands for the network between the sites of one machine, and can be cut.
//!
//! Who has no certificate yet, or wants a new one, goes to a node's [`Desk`] with a [`visit`]:
//! one question, one answer, behind the port of the links.
//!
//! # Invariants
//!
//! - I1 A listener that is not on loopback has TLS, or it is not opened.
//! - I2 At most [`Room`]'s number of connections are open, over all listeners that share it; when
//!   it is full, accepting pauses and nobody who is connected notices.
//! - I3 A client that has not finished its handshake, or not shown its protocol, within
//!   [`Limits::handshake_timeout`] is closed; so is one beyond [`Limits::handshakes_max`].
//! - I4 New certificates serve new handshakes; open connections keep theirs. Files that do not
//!   fit together leave the old ones in place, with a warning.
//! - I5 [`Connection::common_name`] is set only from a certificate that was verified, and only
//!   where certificates are to name users.
//! - I6 There is no link without TLS, on loopback neither.
//! - I7 A frame handed to a link leaves behind all that were handed to its class before, over
//!   one connection at a time; a rotation loses none of them and keeps their order.
//! - I8 What waits for a node has a limit; beyond it the newest is dropped and counted, and so
//!   is what was handed over while the connection was down.
//! - I9 At most [`Limits::handshakes_max`] connections are let into a node's links before they
//!   have shown who they are, each for [`Limits::handshake_timeout`].
//!
//! - I10 A visitor's question leaves only once the node that it is for has shown an authority
//!   with the fingerprint that was given, or one that is trusted already.
//! - I11 At most 8 questions are with a desk at once, of 64 KiB at most.
//!
//! # What it does not do
//!
//! It sets no deadline for a request and reads no request: that is the front's. For clients it
//! makes certificates for itself only ([`Certificates::self_made`]), signed by nobody. Links
//! promise no delivery: a protocol sends again what still matters.
//!
//! # Reading on
//!
//! `listener.rs`, `gate.rs`, then `certificates.rs`; `preface.rs` tells the protocols apart. For
//! links `peers.rs`, then `peers/connection.rs` and `peers/drive.rs`.

mod authority;
mod certificates;
mod error;
mod gate;
mod listener;
mod names;
mod peers;
mod preface;
mod proxy;
mod room;
mod rotating;
mod stream;
mod tls_words;
mod visit;

pub use authority::{
    Authority, Issued, NodeKey, Trusted, replace, requested_key, signer_of_pem, trusted_of_pem,
};
pub use certificates::{CertificateFiles, Certificates};
pub use error::NetError;
pub use gate::{Connection, Gate, Limits};
pub use listener::{ListenConfig, Listener};
pub use peers::{
    Class, Deliver, Desk, LinkView, Peer, Peers, PeersConfig, PeersError, RefusalView,
};
pub use preface::{PREFACE, Protocol, sniff};
pub use proxy::{Cable, CableView, Direction, Way};
pub use room::Room;
pub use rotating::{CertificateTerm, LinkFiles, Rotating, term_of_file, term_of_pem};
pub use stream::Stream;
pub use visit::{Trust, VisitError, visit};
