//! What can happen to one end of a link.

use holm_wire::{Frame, WireError};

use crate::identity::Identity;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Wake,
    /// TLS is done. Comes first, once.
    Open {
        /// 32 bytes that both ends of this very TLS session export, and nobody else can.
        exporter: [u8; 32],
        /// Whom the other's verified certificate names; `None` if it names no node.
        certificate: Option<Identity>,
    },
    /// A frame came.
    Frame(Frame),
    /// Bytes came, perhaps part of a long frame: the other end lives.
    Heard,
    /// The stream cannot be read any further.
    Damage(WireError),
    /// This boot of the other end's node was seen on some connection.
    Fence {
        /// The highest.
        boot: u64,
    },
    /// Another connection took over; frames of planes are not sent here any more.
    Drain,
    /// This end wants a new connection and the other end dials.
    Renew,
}
