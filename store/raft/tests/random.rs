//! A hostile network, then a calm one: nothing acknowledged is lost or applied twice, reads see
//! what was told, and all heals.

mod support;

use holm_raft::ReadMode;
use support::world::{Plan, Seen, World};

fn runs(plan: Plan, seeds: std::ops::Range<u64>) -> Vec<Seen> {
    seeds
        .map(|seed| {
            let caught = std::panic::catch_unwind(|| World::new(plan, seed).run());
            caught.unwrap_or_else(|_| panic!("seed {seed} of {plan:?}"))
        })
        .collect()
}

fn sum(seen: &[Seen], of: impl Fn(&Seen) -> usize) -> usize {
    seen.iter().map(of).sum()
}

#[test]
fn a_calm_group_elects_once_and_answers_all() {
    for seen in runs(Plan::CALM, 0..10) {
        assert_eq!(seen.elections, 1, "{seen:?}");
        assert!(seen.acknowledged > 300 && seen.reads > 200, "{seen:?}");
        assert!(seen.origin_counted > 50, "{seen:?}");
    }
}

#[test]
fn three_nodes_survive_a_hostile_network() {
    let seen = runs(Plan::HOSTILE, 0..25);
    assert!(sum(&seen, |run| run.acknowledged) > 2_500);
    assert!(sum(&seen, |run| run.reads) > 2_500);
    assert!(sum(&seen, |run| run.snapshots) > 5);
    assert!(sum(&seen, |run| run.truncated) > 5);
}

#[test]
fn five_nodes_survive_a_hostile_network() {
    let plan = Plan {
        voters: 5,
        ..Plan::HOSTILE
    };
    let seen = runs(plan, 1000..1010);
    assert!(sum(&seen, |run| run.origin_counted) > 200);
}

#[test]
fn members_come_and_go_under_faults() {
    let plan = Plan {
        spares: 2,
        has_changes: true,
        ..Plan::HOSTILE
    };
    let seen = runs(plan, 2000..2025);
    assert!(
        sum(&seen, |run| run.changes) > 80,
        "{}",
        sum(&seen, |run| run.changes)
    );
}

#[test]
fn leased_reads_are_fresh_under_faults_and_transfers() {
    let plan = Plan {
        mode: ReadMode::Lease,
        ..Plan::HOSTILE
    };
    let seen = runs(plan, 3000..3015);
    assert!(sum(&seen, |run| run.reads) > 1_500);
}

#[test]
fn hints_that_leaders_have_ended_shake_no_lease_and_lose_nothing() {
    let plan = Plan {
        mode: ReadMode::Lease,
        has_hints: true,
        ..Plan::HOSTILE
    };
    let seen = runs(plan, 6000..6020);
    assert!(sum(&seen, |run| run.reads) > 1_500);
    assert!(sum(&seen, |run| run.suspected) > 200);
    let calm = Plan {
        has_hints: true,
        ..Plan::CALM
    };
    for seen in runs(calm, 0..10) {
        assert_eq!(seen.elections, 1, "a leader that is heard stays: {seen:?}");
    }
}

#[test]
fn one_damaged_log_loses_nothing() {
    let plan = Plan {
        has_damage: true,
        ..Plan::HOSTILE
    };
    let seen = runs(plan, 4000..4020);
    assert!(sum(&seen, |run| run.recovered) > 20);
}

#[test]
fn far_sites_are_kept_busy_through_long_delays() {
    let plan = Plan {
        delay: 80,
        has_crashes: false,
        ..Plan::HOSTILE
    };
    let seen = runs(plan, 5000..5008);
    assert!(sum(&seen, |run| run.acknowledged) > 2_000);
}
