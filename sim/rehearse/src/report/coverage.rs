//! What a hunt's runs came to: events, goals, and orders if they were counted.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::json::quoted;
use crate::run::{Reached, facts};
use crate::scenario::Scenario;
use crate::site::Engine;

/// How many names are listed before the rest is only counted.
const NAMES_MAX: usize = 12;

/// What was reached in how many runs.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    /// Each event that nodes can tell of, and how many runs it was in.
    events: BTreeMap<&'static str, u64>,
    goals: Vec<Goal>,
    /// Marks of orders, shapes and goals, and different timelines, if they were counted.
    pub(crate) seen: Option<([usize; 3], usize)>,
}

#[derive(Clone, Debug)]
struct Goal {
    name: String,
    steps: usize,
    furthest: usize,
    runs: u64,
}

impl Coverage {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let has_store = scenario.keyspace.engine == Engine::Store;
        let told: Vec<&'static str> = if scenario.has_streams() {
            crate::stream::EVENTS.to_vec()
        } else {
            facts::told(has_store).collect()
        };
        let goal = |goal: &crate::scenario::Goal| Goal {
            name: goal.name.clone(),
            steps: goal.steps.len(),
            furthest: 0,
            runs: 0,
        };
        Self {
            events: told.into_iter().map(|name| (name, 0)).collect(),
            goals: scenario.goals.iter().map(goal).collect(),
            seen: None,
        }
    }

    pub(crate) fn add(&mut self, reached: &Reached) {
        for name in reached.events.keys() {
            if let Some(runs) = self.events.get_mut(name) {
                *runs += 1;
            }
        }
        for (goal, &steps) in self.goals.iter_mut().zip(&reached.steps) {
            goal.furthest = goal.furthest.max(steps);
            goal.runs += u64::from(steps == goal.steps);
        }
    }

    /// Lines for a terminal.
    pub(super) fn lines(&self) -> Vec<String> {
        let never: Vec<&str> = self.never().collect();
        let (all, reached) = (self.events.len(), self.events.len() - never.len());
        let mut events = format!("events: {reached} of {all} were seen");
        if !never.is_empty() {
            let names = never.iter().take(NAMES_MAX);
            let names = names.copied().collect::<Vec<_>>().join(", ");
            let rest = never.len().saturating_sub(NAMES_MAX);
            let more = if rest > 0 {
                format!(" and {rest} more")
            } else {
                String::new()
            };
            put(&mut events, format_args!("; never {names}{more}"));
        }
        let mut lines = vec![events];
        for goal in &self.goals {
            let Goal {
                name,
                steps,
                furthest,
                runs,
            } = goal;
            lines.push(if *runs > 0 {
                format!("goal: {name}: in {runs} runs")
            } else {
                format!("goal: {name}: NOT REACHED, {furthest} of {steps} steps at best")
            });
        }
        if let Some(([orders, shapes, _], timelines)) = self.seen {
            lines.push(format!(
                "seen: {timelines} timelines, {orders} orders of labels, {shapes} shapes of the group"
            ));
        }
        lines
    }

    fn never(&self) -> impl Iterator<Item = &'static str> {
        let unseen = self.events.iter().filter(|(_, runs)| **runs == 0);
        unseen.map(|(name, _)| *name)
    }

    /// An object for programs.
    pub(super) fn json(&self) -> String {
        let events = self.events.iter();
        let events: Vec<String> = events
            .map(|(name, runs)| format!("{}:{runs}", quoted(name)))
            .collect();
        let goals = self.goals.iter().map(|goal| {
            format!(
                "{{\"goal\":{},\"runs\":{},\"furthest\":{},\"steps\":{}}}",
                quoted(&goal.name),
                goal.runs,
                goal.furthest,
                goal.steps
            )
        });
        let goals: Vec<String> = goals.collect();
        let mut text = format!(
            "{{\"events\":{{{}}},\"goals\":[{}]",
            events.join(","),
            goals.join(",")
        );
        if let Some(([orders, shapes, _], timelines)) = self.seen {
            put(
                &mut text,
                format_args!(",\"timelines\":{timelines},\"orders\":{orders},\"shapes\":{shapes}"),
            );
        }
        text.push('}');
        text
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what)
        .expect("a string takes all that is written to it");
}
