//! What an onlooker may know of an input: enough to tell kinds of moments apart, and never a
//! raw number or a node's id, so that symmetric histories look alike.

use core::cmp::Ordering;
use core::fmt;

use crate::machine::Machine;

/// A machine that can say, before it takes an input, what kind of moment that will be.
///
/// Search in the simulator learns from labels which orders it has already tried.
pub trait Observe: Machine {
    /// The label that `input` has for this machine as it stands now.
    fn label(&self, input: &Self::Input) -> Label;
}

/// A kind of moment: what arrives, at whom, and how it stands to what the receiver knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The variant of the input or message, as a word of the protocol.
    pub kind: &'static str,
    /// The receiver's role.
    pub role: &'static str,
    /// The term it brings against the receiver's, where it brings one.
    pub term: Option<Ordering>,
    /// The op it brings against the receiver's commit point, where it brings one.
    pub op: Option<Ordering>,
}

impl Label {
    /// A label of an input that brings neither term nor op.
    #[must_use]
    pub const fn plain(kind: &'static str, role: &'static str) -> Self {
        Self {
            kind,
            role,
            term: None,
            op: None,
        }
    }
}

impl fmt::Display for Label {
    /// `append@follower term> op=`: what stands out is what differs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.kind, self.role)?;
        if let Some(term) = self.term {
            write!(f, " term{}", sign(term))?;
        }
        if let Some(op) = self.op {
            write!(f, " op{}", sign(op))?;
        }
        Ok(())
    }
}

const fn sign(order: Ordering) -> char {
    match order {
        Ordering::Less => '<',
        Ordering::Equal => '=',
        Ordering::Greater => '>',
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_label_reads_as_a_moment() {
        let label = Label {
            term: Some(Ordering::Greater),
            op: Some(Ordering::Equal),
            ..Label::plain("append", "follower")
        };
        assert_eq!(label.to_string(), "append@follower term> op=");
        assert_eq!(Label::plain("wake", "leader").to_string(), "wake@leader");
    }
}
