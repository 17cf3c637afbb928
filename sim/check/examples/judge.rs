//! How fast the witness judges: a history of a store that numbers its writes, judged again and again.
//!
//! `cargo run --release -p holm-check --example judge -- [OPERATIONS CLIENTS KEYS ROUNDS [FILE]]`
//!
//! Half of the operations read. A FILE gets the history for other judges, a line for an event:
//! `call OPERATION CLIENT KEY VALUE` with the value 0 for a read, and `return OPERATION VALUE`.
#![expect(clippy::disallowed_types, reason = "it measures real time")]
#![expect(clippy::disallowed_methods, reason = "it reads arguments")]
#![expect(clippy::print_stdout, reason = "it is a program")]
#![expect(clippy::cast_possible_truncation, reason = "clients and keys are few")]

use std::fmt::Write as _;
use std::time::Instant;

use holm_base::Prng;
use holm_check::{History, Model, Numbered, Published, witness};

/// Cells of one store, and the revision of all.
#[derive(Debug)]
struct Cells {
    keys: usize,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    key: usize,
    /// What is put, unlike any other; 0 for a read.
    value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reply {
    revision: u64,
    value: u64,
}

impl Model for Cells {
    type Call = Call;
    type Reply = Reply;
    type State = (u64, Vec<u64>);

    fn start(&self) -> (u64, Vec<u64>) {
        (1, vec![0; self.keys])
    }

    fn apply(&self, (revision, values): &mut (u64, Vec<u64>), call: &Call) -> Reply {
        if call.value != 0 {
            *revision += 1;
            values[call.key] = call.value;
        }
        Reply {
            revision: *revision,
            value: values[call.key],
        }
    }

    fn peek(&self, (revision, values): &(u64, Vec<u64>), call: &Call) -> Reply {
        Reply {
            revision: *revision,
            value: values[call.key],
        }
    }
}

impl Numbered for Cells {
    const FIRST: u64 = 1;

    fn mark(&self, call: &Call) -> Option<u64> {
        (call.value != 0).then_some(call.value)
    }

    fn revision(&self, reply: &Reply) -> Option<u64> {
        Some(reply.revision)
    }

    fn wrote(&self, call: &Call, _: &Reply) -> bool {
        call.value != 0
    }
}

/// Clients that ask, are answered at one moment in between, and hear of it, in any order.
fn run(
    model: &Cells,
    operations: usize,
    clients: u64,
) -> (History<Call, Reply>, Published, String) {
    let (mut prng, mut history) = (Prng::new(1), History::new());
    let (mut published, mut lines) = (Published::new(), String::new());
    let mut state = model.start();
    let mut open: Vec<Option<(usize, Call, Option<Reply>)>> = vec![None; clients as usize];
    let (mut asked, mut told) = (0, 0);
    while told < operations {
        let client = prng.below(clients);
        let seat = &mut open[client as usize];
        *seat = match *seat {
            None if asked < operations => {
                asked += 1;
                let key = prng.below(model.keys as u64) as usize;
                let value = if prng.below(2) == 0 { asked as u64 } else { 0 };
                let call = Call { key, value };
                let operation = history.invoke(client, call);
                _ = writeln!(lines, "call {operation} {client} {key} {value}");
                Some((operation, call, None))
            }
            None => None,
            Some((operation, call, None)) => {
                let reply = model.apply(&mut state, &call);
                if call.value != 0 {
                    published.insert(reply.revision, call.value);
                }
                Some((operation, call, Some(reply)))
            }
            Some((operation, _, Some(reply))) => {
                history.returned(operation, reply);
                _ = writeln!(lines, "return {operation} {}", reply.value);
                told += 1;
                None
            }
        };
    }
    (history, published, lines)
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |otherwise: usize| {
        let word = words.next();
        word.map_or(otherwise, |word| word.parse().expect("a number"))
    };
    let (operations, clients) = (number(1_000_000), number(16));
    let (keys, rounds) = (number(100), number(5));
    let model = Cells { keys };
    let (history, published, lines) = run(&model, operations, clients as u64);
    if let Some(file) = words.next() {
        std::fs::write(&file, lines).expect("the file is written");
    }
    for _ in 0..rounds {
        let begun = Instant::now();
        witness(&model, &history, &published).expect("the history is one of a correct store");
        let took = begun.elapsed();
        let rate = operations as f64 / took.as_secs_f64() / 1e6;
        println!("{operations} operations in {took:.1?}, {rate:.2} M/s");
    }
}
