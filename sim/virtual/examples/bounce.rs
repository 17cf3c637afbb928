//! How many messages a second one core delivers to nodes that do next to nothing: what the
//! simulator itself costs. Balls go round a ring of nodes, 1 ms a hop; each node counts them.
//!
//! `cargo run --release -p holm-virtual --example bounce -- [NODES BALLS SECONDS]`
#![expect(clippy::disallowed_types, reason = "it measures real time")]
#![expect(clippy::disallowed_methods, reason = "it reads arguments")]
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::time::{Duration, Instant};

use holm_base::{NodeId, RequestId, Time, WriteId};
use holm_machine::{Class, Driven, Effects, Label, Machine, Observe, Order};
use holm_virtual::{Node, Records, Tape, Want, World, WorldSpec};

/// How many nodes, and how many balls the first of them throws at the start.
#[derive(Clone, Copy, Debug)]
struct Setup {
    nodes: u64,
    balls: u64,
}

/// A player of the ring.
#[derive(Clone, Debug)]
struct Player {
    setup: Setup,
    id: NodeId,
    caught: u64,
}

#[derive(Clone, Debug, Hash)]
enum Input {
    Start,
    Wake,
    Durable(WriteId),
    Ball { from: NodeId, hops: u64 },
    Request(RequestId),
}

#[derive(Clone, Debug, Hash)]
enum Effect {
    Throw { to: NodeId, hops: u64 },
}

impl Player {
    fn throw(&self, hops: u64, effects: &mut Effects<Effect>) {
        let to = NodeId::new(self.id.value() % self.setup.nodes + 1);
        effects.push(Effect::Throw { to, hops });
    }
}

impl Machine for Player {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, _: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Start => {
                let own = self.setup.balls / self.setup.nodes;
                let rest = self.setup.balls % self.setup.nodes;
                let extra = u64::from(self.id.value() <= rest);
                (0..own + extra).for_each(|_| self.throw(0, effects));
            }
            Input::Ball { hops, .. } => {
                self.caught += 1;
                self.throw(hops + 1, effects);
            }
            Input::Wake | Input::Durable(_) | Input::Request(_) => {}
        }
    }

    fn wake_at(&self) -> Option<Time> {
        None
    }
}

impl Driven for Player {
    fn order(_: &Effect) -> Order {
        Order::Leave { after: None }
    }

    fn class(input: &Input) -> Class {
        match input {
            Input::Start | Input::Wake | Input::Durable(_) => Class::Own,
            Input::Ball { .. } => Class::Peer,
            Input::Request(_) => Class::Request,
        }
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn durable(through: WriteId) -> Input {
        Input::Durable(through)
    }

    fn start() -> Option<Input> {
        Some(Input::Start)
    }
}

impl Observe for Player {
    fn label(&self, _: &Input) -> Label {
        Label::plain("ball", "player")
    }
}

impl Node for Player {
    type Setup = Setup;
    type Message = u64;
    type Request = ();
    type Answer = ();
    type Event = ();
    type Record = ();
    type Shelf = Records<()>;

    fn boot(setup: &Setup, id: NodeId, _: u64, _: &Records<()>) -> Self {
        let (setup, caught) = (*setup, 0);
        Self { setup, id, caught }
    }

    fn message(from: NodeId, hops: u64) -> Input {
        Input::Ball { from, hops }
    }

    fn request(request: RequestId, (): ()) -> Input {
        Input::Request(request)
    }

    fn want(effect: Effect) -> Want<Self> {
        let Effect::Throw { to, hops } = effect;
        Want::Send { to, message: hops }
    }

    fn unavailable() {}
}

fn main() {
    let words: Vec<u64> = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("arguments are numbers"))
        .collect();
    let word = |at: usize, usual: u64| words.get(at).copied().unwrap_or(usual);
    let (nodes, balls, seconds) = (word(0, 8), word(1, 64), word(2, 5));
    let setup = Setup { nodes, balls };
    let count = usize::try_from(nodes).expect("nodes are few");
    let mut world: World<Player> = World::new(WorldSpec::plain(&setup, count), Tape::fresh(1));
    let (begun, budget) = (Instant::now(), Duration::from_secs(seconds));
    while begun.elapsed() < budget {
        for _ in 0..1_024 {
            world.advance().expect("the world is small");
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let delivered = world.counts().delivered;
    let caught: u64 = world
        .nodes()
        .filter_map(|id| world.node(id))
        .map(|node| node.caught)
        .sum();
    assert_eq!(delivered, caught, "each delivery is a step");
    let rate = f64::from(u32::try_from(delivered).expect("a few seconds")) / elapsed;
    println!(
        "{nodes} nodes, {balls} balls: {delivered} deliveries, {rate:.0}/s, {:.1} s virtual",
        world.now().since(Time::ZERO).as_secs_f64()
    );
}
