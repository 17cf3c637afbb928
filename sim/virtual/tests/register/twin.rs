//! Without faults the replicated register is an array of four numbers.

use holm_base::{NodeId, Time};
use holm_virtual::{Moment, Tape, World, WorldSpec};
use std::time::Duration;

use crate::machine::{Answer, Bug, CELLS, Register, Request, Setup};

fn answer(world: &mut World<Register>, node: NodeId, call: Request) -> Answer {
    let request = world.request(node, call).expect("all nodes are up");
    loop {
        let replies = world.take_replies();
        if let Some(reply) = replies.iter().find(|reply| reply.request == request) {
            return reply.answer;
        }
        world.advance().expect("the world is small");
        world.take_notes();
    }
}

#[test]
fn it_equals_an_array_of_numbers_on_random_requests() {
    arbtest::arbtest(|choose| {
        let setup = Setup {
            nodes: 3,
            bug: Bug::None,
        };
        let mut world: World<Register> = World::new(WorldSpec::plain(&setup, 3), Tape::fresh(1));
        world.alarm(Time::ZERO + Duration::from_secs(1), 0);
        while world.advance().expect("the world is small") != Moment::Alarm(0) {}
        let leads = |id: &NodeId| world.node(*id).is_some_and(|node| node.role() == "leader");
        let leader = world
            .nodes()
            .find(leads)
            .expect("one was elected within a second");
        let (mut cells, mut revision) = ([0; CELLS], 1);
        for value in 1..=choose.int_in_range(1..=12)? {
            let cell = choose.int_in_range(0..=CELLS - 1)?;
            let (call, expected) = if choose.ratio(1, 2)? {
                cells[cell] = value;
                revision += 1;
                (Request::Put { cell, value }, Answer::Put { revision })
            } else {
                let value = cells[cell];
                (Request::Get { cell }, Answer::Get { revision, value })
            };
            assert_eq!(answer(&mut world, leader, call), expected);
        }
        Ok(())
    })
    .budget_ms(500);
}
