//! How the group stands, whoever is who: the sorted list of all nodes' role, term and log, each
//! against the lowest.

use holm_base::NodeId;
use holm_virtual::{Marks, mix};

use super::Run;
use crate::site::{Site, label};

/// The shapes of a run so far.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    marks: Marks,
    /// What each node was last, to be sorted without a list of its own.
    parts: Vec<(usize, u64, u32)>,
}

impl Shapes {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            marks: Marks::default(),
            parts: Vec::with_capacity(nodes),
        }
    }

    pub(super) fn marks(&self) -> Vec<u64> {
        self.marks.sorted()
    }
}

impl Run<'_> {
    /// Notes how the group stands now.
    pub(super) fn see_shape(&mut self) {
        let Some(shapes) = &mut self.shapes else {
            return;
        };
        let count = self.stage.site_of.len();
        let stand = |at: u64| self.world.node(NodeId::new(at)).map(Site::stand);
        let all = || (1..).take(count).map(stand);
        let term = all().flatten().map(|it| it.term.value()).min().unwrap_or(0);
        let last = all().flatten().map(|it| it.last.value()).min().unwrap_or(0);
        shapes.parts.clear();
        shapes.parts.extend(all().map(|stand| match stand {
            None => (0, 0, 0),
            Some(it) => {
                let lead = it.last.value() - last;
                // 0, 1, 2 to 3, 4 to 7, and so on.
                let bucket = u64::BITS - lead.leading_zeros();
                let is_behind = u32::from(it.applied < it.commit);
                let role = label::role_number(it.role);
                (
                    role,
                    (it.term.value() - term).min(3),
                    bucket * 2 + is_behind,
                )
            }
        }));
        shapes.parts.sort_unstable();
        let mark = shapes.parts.iter().fold(7, |mark, &(role, term, log)| {
            let role = u64::try_from(role).expect("roles are few");
            mix(mark, mix(mix(role, term), u64::from(log)))
        });
        shapes.marks.add(mark);
    }
}
