//! What one end of a link asks for.

use alloc::vec::Vec;
use core::time::Duration;

use holm_base::NodeId;
use holm_wire::Frame;

use crate::identity::Identity;
use crate::layers::{Chosen, LayerId};
use crate::reason::Reason;

/// What it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this frame, behind all that was handed over before.
    Send(Frame),
    /// Binds are equal: frames may be sent, and will be delivered.
    Bind(Binding),
    /// A frame of a plane that both speak.
    Deliver(Frame),
    /// The other end wants a new connection; this end dials.
    Renew,
    /// Write what was sent, then end the connection. Nothing follows.
    Close(Reason),
    /// Something that an operator would chart.
    Note(Event),
}

/// What both ends have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Who is at the other end.
    pub node: NodeId,
    /// How its certificate names it.
    pub identity: Identity,
    /// Its run.
    pub boot: u64,
    /// Which process of that run.
    pub run: [u8; 16],
    /// The choice in each layer that has one, in rising order.
    pub chosen: Vec<Chosen>,
    /// The planes that both speak, with the version to speak, in rising order.
    pub planes: Vec<(u8, u16)>,
}

impl Binding {
    /// What was chosen in a layer.
    #[must_use]
    pub fn choice(&self, layer: LayerId) -> Option<u32> {
        let chosen = self.chosen.iter().find(|chosen| chosen.layer == layer);
        chosen.map(|chosen| chosen.choice)
    }
}

/// What happened, for whoever listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A ping came back.
    Returned {
        /// How long it took.
        after: Duration,
        /// The same, smoothed over the last ones.
        smooth: Duration,
    },
    /// The ends follow different policies; each holds to its own.
    PolicyDiffers,
    /// Both offer a layer that neither requires, and have nothing in common.
    LayerUnused {
        /// Which.
        layer: LayerId,
    },
    /// A frame of a plane, version or kind that was not agreed on was dropped.
    FrameDropped {
        /// What it said.
        plane: u8,
        /// What it said.
        kind: u8,
        /// What it said.
        version: u16,
    },
}
