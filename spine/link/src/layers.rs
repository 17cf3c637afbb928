//! What two ends can agree on, layer by layer, and the rule by which they do.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::reason::Reason;

/// A thing that can be done in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerId(u16);

impl LayerId {
    /// Wraps the number on the wire.
    #[must_use]
    pub const fn new(value: u16) -> Self {
        Self(value)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

/// What a connection is for: 1 `control`, 2 `bulk`.
pub const CHANNEL: LayerId = LayerId(1);

/// How bodies are compressed: 1 `none`, 2 `lz4`. Only `none` exists here.
pub const COMPRESSION: LayerId = LayerId(2);

/// One way to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its number, equal everywhere.
    pub id: u32,
    /// How much its owner likes it; more is better.
    pub rank: u8,
    /// What its owner would use it with; a matter of the implementation.
    pub params: u32,
}

impl Choice {
    /// A choice without parameters.
    #[must_use]
    pub const fn new(id: u32, rank: u8) -> Self {
        Self {
            id,
            rank,
            params: 0,
        }
    }
}

/// What one end can do in one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Which.
    pub id: LayerId,
    /// Whether the link is worth nothing without it.
    pub is_required: bool,
    /// In rising order of their ids.
    pub choices: Vec<Choice>,
}

/// What the policy demands of a layer: that it is agreed on, and how good the choice must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Which layer.
    pub layer: LayerId,
    /// The lowest rank, as this end ranks it, that will do.
    pub rank_min: u8,
}

/// What was agreed on in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chosen {
    /// The layer.
    pub layer: LayerId,
    /// The choice's id.
    pub choice: u32,
}

/// What both can do, the best in each layer (I32). Layers and choices come in rising order of
/// their ids, so this is one walk through both lists.
pub(crate) fn agree(
    ours: &[Layer],
    theirs: &[Layer],
    floors: &[Floor],
    site: &str,
) -> Result<Vec<Chosen>, Reason> {
    let mut chosen = Vec::new();
    for layer in merged(ours, theirs) {
        let (our, their) = (find(ours, layer), find(theirs, layer));
        let floor = floors.iter().find(|floor| floor.layer == layer);
        let refuse = |demand: &str| Reason::Layer {
            layer: layer_name(layer),
            ours: listed(layer, our),
            theirs: listed(layer, their),
            site: site.to_owned(),
            demand: demand.to_owned(),
        };
        let best = best(choices(our), choices(their));
        let is_required = [our, their].into_iter().flatten().any(|it| it.is_required);
        match (best, floor) {
            (Some(best), Some(floor)) if best.rank < floor.rank_min => {
                let name = choice_name(layer, best.id);
                return Err(refuse(&format!("{name} is below the policy's floor")));
            }
            (Some(best), _) => chosen.push(Chosen {
                layer,
                choice: best.id,
            }),
            (None, Some(_)) => return Err(refuse("policy requires one")),
            (None, None) if is_required => return Err(refuse("one is required")),
            (None, None) => {}
        }
    }
    Ok(chosen)
}

/// Our choice with the highest sum of ranks among those that both have.
fn best(ours: &[Choice], theirs: &[Choice]) -> Option<Choice> {
    let mut best: Option<(u16, Choice)> = None;
    for our in ours {
        let Ok(at) = theirs.binary_search_by_key(&our.id, |it| it.id) else {
            continue;
        };
        let sum = u16::from(our.rank) + u16::from(theirs[at].rank);
        // Ids rise, so an equal sum comes with a higher id and loses.
        if best.is_none_or(|(highest, _)| sum > highest) {
            best = Some((sum, *our));
        }
    }
    best.map(|(_, choice)| choice)
}

fn choices(layer: Option<&Layer>) -> &[Choice] {
    layer.map_or(&[], |layer| layer.choices.as_slice())
}

fn find(layers: &[Layer], id: LayerId) -> Option<&Layer> {
    let at = layers.binary_search_by_key(&id, |layer| layer.id).ok()?;
    layers.get(at)
}

/// The ids of both lists in rising order, each once.
fn merged(ours: &[Layer], theirs: &[Layer]) -> Vec<LayerId> {
    let mut ids: Vec<LayerId> = ours.iter().chain(theirs).map(|layer| layer.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn listed(layer: LayerId, offer: Option<&Layer>) -> String {
    let names: Vec<String> = choices(offer)
        .iter()
        .map(|choice| choice_name(layer, choice.id))
        .collect();
    names.join(", ")
}

pub(crate) fn layer_name(layer: LayerId) -> String {
    match layer {
        CHANNEL => "channel".to_owned(),
        COMPRESSION => "compression".to_owned(),
        other => format!("{}", other.0),
    }
}

pub(crate) fn choice_name(layer: LayerId, choice: u32) -> String {
    match (layer, choice) {
        (CHANNEL, 1) => "control".to_owned(),
        (CHANNEL, 2) => "bulk".to_owned(),
        (COMPRESSION, 1) => "none".to_owned(),
        (COMPRESSION, 2) => "lz4".to_owned(),
        (_, other) => format!("{other}"),
    }
}
