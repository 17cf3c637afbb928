//! Several keyspaces in one world: one run each, with clients, judges and figures of its own.
//!
//! They have sites, links, power, clocks and cores in common, and a fault that names a site or a
//! link strikes all. A node is a keyspace's process with a log of its own, which is more than the
//! real one has, where all keyspaces of a site share one process and one log: so what a hunt's
//! chance strikes is one keyspace's part of a site.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use holm_base::NodeId;
use holm_virtual::{Halted, Moment, Noted, Order, Reply, Report, Tape};

use super::realm::Realm;
use super::{Ending, Heard, Run, Token};
use crate::scenario::{Purpose, Scenario};
use crate::stage::Stage;

/// A run of several keyspaces.
struct Fleet<'a> {
    sides: Vec<Run<'a>>,
    /// How many nodes stand before those of each.
    before: Vec<u64>,
    /// Who has the world.
    at: usize,
    heard: Heard,
}

pub(super) fn play(
    scenario: &Scenario,
    stage: &Stage,
    (order, report): (Order, Report),
    tape: Tape,
    is_observed: bool,
) -> Ending {
    let mut world = Some(stage.world(scenario, order, report, tape));
    let mut fleet = Fleet {
        sides: Vec::new(),
        before: Vec::new(),
        at: 0,
        heard: Heard::default(),
    };
    for ((part, (own, before)), side) in scenario.parts().zip(stage.parts()).zip(0..) {
        let world = world.take().unwrap_or_else(|| stage.nowhere());
        let mut realm = Realm::new(world, (side, before));
        if let Some(last) = fleet.sides.last_mut() {
            last.world.hand_to(&mut realm);
        }
        fleet.sides.push(Run::in_realm(part, own, realm));
        fleet.before.push(before);
    }
    fleet.at = fleet.sides.len() - 1;
    if is_observed {
        fleet.side(0).world.watch_orders();
    }
    fleet.finish()
}

impl<'a> Fleet<'a> {
    /// The run of a keyspace, with the world in its hands.
    fn side(&mut self, side: usize) -> &mut Run<'a> {
        let (low, high) = (self.at.min(side), self.at.max(side));
        if low != high {
            let (before, behind) = self.sides.split_at_mut(high);
            before[low].world.hand_to(&mut behind[0].world);
            self.at = side;
        }
        &mut self.sides[side]
    }

    fn count(&self) -> usize {
        self.sides.len()
    }

    /// The keyspace that a node of the world belongs to.
    fn owner(&self, node: NodeId) -> usize {
        let behind = self.before.partition_point(|before| *before < node.value());
        behind.saturating_sub(1)
    }

    fn finish(mut self) -> Ending {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.proceed()));
        let mut halted = None;
        match outcome {
            Ok(Ok(())) => (0..self.count()).for_each(|at| self.side(at).judge_all()),
            Ok(Err(why)) => halted = Some(why),
            Err(panic) => {
                let at = self.at;
                self.sides[at].panicked(&*panic);
            }
        }
        self.ending(halted)
    }

    /// What came of all of them, as one: what each was asked and found, with its name.
    fn ending(mut self, halted: Option<Halted>) -> Ending {
        let (mut violations, mut nodes) = (Vec::new(), Vec::new());
        let (mut least, mut elections) = (u64::MAX, u64::MAX);
        for at in 0..self.count() {
            let side = self.side(at);
            let prefix = side.scenario.prefix();
            let named = |text: String| format!("{prefix}{text}");
            for mut one in std::mem::take(&mut side.ledger.violations) {
                one.place = named(one.place);
                violations.push(one);
            }
            // A node that failed an assertion may stand anyhow.
            let own = catch_unwind(AssertUnwindSafe(|| side.nodes())).unwrap_or_default();
            nodes.extend(own.into_iter().map(named));
            least = least.min(side.askers.acknowledged());
            elections = elections.min(side.elections());
        }
        self.side(0);
        let now = self.sides[0].world.now();
        let mut sides = self.sides.into_iter();
        let first = sides.next().expect("there are several");
        let beside = sides.map(|mut side| {
            side.figures.close(now);
            side.figures
        });
        let beside = beside.collect();
        Ending {
            violations,
            nodes,
            beside,
            // A run says as much as the keyspace that was asked least.
            acknowledged: least,
            elections,
            ..first.ending(halted)
        }
    }

    fn proceed(&mut self) -> Result<(), Halted> {
        while !self.is_over() {
            self.moment()?;
        }
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        let is_found = |side: &Run<'_>| !side.ledger.violations.is_empty();
        self.sides.iter().any(is_found) || (0..self.count()).all(|at| self.side(at).is_over())
    }

    fn is_healed(&self) -> bool {
        self.sides[0].healed.is_some()
    }

    /// Lets one thing happen.
    fn moment(&mut self) -> Result<(), Halted> {
        if !self.is_healed() && self.sides[0].scenario.purpose == Purpose::Hunt {
            self.hunt();
        }
        match self.side(0).world.advance()? {
            Moment::Happened | Moment::Idle => {}
            Moment::Alarm(token) => self.alarm(token),
            Moment::Ended(node) => self.ended(node),
        }
        (0..self.count()).for_each(|at| self.side(at).look_after_islands());
        self.hear();
        if self.is_healed() {
            (0..self.count()).for_each(|at| self.side(at).see_rest());
        }
        Ok(())
    }

    fn hunt(&mut self) {
        let first = self.side(0);
        first.world.inject(&mut first.faults);
        let is_late = first.is_late();
        if is_late || self.sides.iter().all(|side| side.askers.is_idle()) {
            self.heal();
        }
    }

    /// All faults end, and everybody asks a little more.
    fn heal(&mut self) {
        self.side(0).world.heal();
        (0..self.count()).for_each(|at| self.side(at).ask_once_more());
    }

    fn alarm(&mut self, token: u64) {
        let (side, token) = Realm::of_token(token);
        let token = Token::unpack(token);
        match token {
            Token::Begin(fault) => {
                (0..self.count()).for_each(|at| self.side(at).begin_fault(fault));
            }
            Token::End(fault) => (0..self.count()).for_each(|at| self.side(at).end_fault(fault)),
            Token::Over => {
                if !self.is_healed() {
                    self.heal();
                }
            }
            Token::Arrive(_)
            | Token::Rest(..)
            | Token::Patience
            | Token::Look
            | Token::Restart(_)
            | Token::Attend
            | Token::Line(_)
            | Token::Generator
            | Token::GeneratorAwake
            | Token::LineBegins(_)
            | Token::GeneratorBegins => {
                let side = usize::try_from(side).expect("keyspaces are few");
                self.side(side).alarm(token);
            }
        }
    }

    fn ended(&mut self, node: NodeId) {
        let owner = self.owner(node);
        let side = self.side(owner);
        let now = side.world.now();
        side.leases.disturb(now);
        if side.must_restart() {
            let own = side.world.own(node);
            let token = Token::Restart(own.value()).pack();
            side.world.alarm(now + Duration::from_secs(1), token);
        }
    }

    /// Takes what nodes told and answered, each to its own.
    fn hear(&mut self) {
        let (mut notes, mut replies) = std::mem::take(&mut self.heard);
        let at = self.at;
        self.sides[at].world.hear(&mut notes, &mut replies);
        for Noted { node, event, .. } in notes.drain(..) {
            let owner = self.owner(node);
            let side = self.side(owner);
            let own = side.world.own(node);
            side.note(own, event);
        }
        for Reply {
            node,
            request,
            answer,
            ..
        } in replies.drain(..)
        {
            let owner = self.owner(node);
            let side = self.side(owner);
            let own = side.world.own(node);
            side.reply(own, request, answer);
        }
        self.heard = (notes, replies);
    }
}
