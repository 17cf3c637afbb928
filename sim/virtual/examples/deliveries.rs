//! How many messages a second one core delivers to the register, hash and tape included.
//!
//! `cargo run --release -p holm-virtual --example deliveries`
#![expect(clippy::disallowed_types, reason = "it measures real time")]
#![expect(clippy::print_stdout, reason = "it is a program")]

#[path = "../tests/register/machine.rs"]
#[expect(dead_code, reason = "the benchmark plays a part of it only")]
mod machine;

use std::time::{Duration, Instant};

use holm_base::{NodeId, Time};
use holm_virtual::{Distribution, LinkSpec, Order, Quantiles, Scheduler, Tape, World, WorldSpec};
use machine::{Answer, Bug, Register, Request, Setup};

const CLIENTS: u64 = 8;
const BUDGET: Duration = Duration::from_secs(5);

/// A world whose leader always has something to read or to write.
fn busy(order: Order) -> World<Register> {
    let setup = Setup {
        nodes: 3,
        bug: Bug::None,
    };
    let mut spec = WorldSpec::plain(&setup, 3);
    spec.link = LinkSpec {
        delay: Quantiles::of(&Distribution::LogNormal(1_000_000, 0.5)),
        loss_per_million: 500,
        ..LinkSpec::plain(0)
    };
    spec.order = order;
    World::new(spec, Tape::fresh(1))
}

/// Delivers until the budget is used up; says how many a second.
fn rate(order: Order) -> (u64, f64) {
    let mut world = busy(order);
    let begun = Instant::now();
    let (mut value, mut leader) = (0_u64, NodeId::new(1));
    for client in 0..CLIENTS {
        world.alarm(Time::ZERO + Duration::from_secs(1), client);
    }
    let mut rounds = 0_u64;
    while !rounds.is_multiple_of(1_024) || begun.elapsed() < BUDGET {
        rounds += 1;
        let moment = world.advance().expect("the world is small");
        let mut asks = u64::from(matches!(moment, holm_virtual::Moment::Alarm(_)));
        for reply in world.take_replies() {
            asks += 1;
            if let Answer::NotLeader { leader: other } = reply.answer {
                let next = reply.node.value() % 3 + 1;
                leader = other.unwrap_or_else(|| NodeId::new(next));
            }
        }
        world.take_notes();
        for _ in 0..asks {
            value += 1;
            let cell = usize::try_from(value % 4).expect("it is small");
            let call = if value.is_multiple_of(2) {
                Request::Put { cell, value }
            } else {
                Request::Get { cell }
            };
            world.request(leader, call);
        }
    }
    let delivered = world.counts().delivered;
    let steps = world.steps();
    let seconds = begun.elapsed().as_secs_f64();
    let per = |count: u64| f64::from(u32::try_from(count).expect("a few seconds")) / seconds;
    println!(
        "    {delivered} deliveries, {steps} steps, {:.0} steps/s, {:.1} s virtual",
        per(steps),
        world.now().since(Time::ZERO).as_secs_f64()
    );
    (delivered, per(delivered))
}

fn main() {
    let hunt = |scheduler| Order::Hunt {
        scheduler,
        reach_nanos: 10_000_000,
    };
    let races = holm_virtual::Races::default();
    let orders = [
        ("timed", Order::Timed),
        ("random", hunt(Scheduler::Random)),
        ("pos+", hunt(Scheduler::PosPlus { races })),
    ];
    for (name, order) in orders {
        let (_, rate) = rate(order);
        println!("{name:>8}: {rate:.0} deliveries/s");
    }
}
