//! Finds the prices of a costs file anew, and shows how often each piece of work is done for an answer in the model:
//! what to look at when `holm rehearse --validate` misses. Where a load was measured that prices come from, what threads
//! spent really stands beside what they spend in the model.
//!
//! `cargo run --example prices -- FILE [keep]`; with `keep` the prices stay as they are.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program has arguments, reads a file and prints"
)]

use holm_rehearse::{Costs, Load, Measured, SITES, Share, Work, misses, model, solve};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let file = words.next().ok_or("name a costs file")?;
    let mut costs = Costs::parse(&std::fs::read_to_string(&file)?, &file)
        .map_err(|refusal| refusal.to_string())?;
    if words.next().is_none() {
        for remark in solve(&mut costs)? {
            println!("{remark}");
        }
    }
    for (name, work) in Work::ALL {
        let nanos = costs.of(work);
        println!("{name:20} {nanos:>7} ns");
    }
    for load in [Load::Put, Load::Range] {
        for clients in [1, 2, 10, 100, 256, 1_000] {
            let said = model(&costs, load, clients, 2)?;
            println!("{} of {clients}: {:?}", load.name(), said.cell);
            for miss in misses(&costs.real, &[said.cell]) {
                println!("    {} {:+.0} %", miss.figure, miss.error * 100.0);
            }
            println!("    leader   {:.3?}", said.counts.leader);
            println!("    follower {:.3?}", said.counts.follower);
            let spent = |it: &Share| [it.worker_nanos, it.engine_nanos, it.log_nanos];
            let (leader, follower) = (spent(&said.counts.leader), spent(&said.counts.follower));
            println!("    threads: leader {leader:.0?} follower {follower:.0?} ns");
            let is_same =
                |it: &&Measured| (it.load, it.clients, it.sites) == (Some(load), clients, SITES);
            for real in costs.measured.iter().filter(is_same) {
                println!("    real:    {:?}", real.leader);
                println!("             {:?}", real.follower);
            }
            let (polls, wakes) = (said.counts.generator_polls, said.counts.generator_wakes);
            println!("    generator polls {polls:.3}, wakes {wakes:.3}");
            let (busy, beside) = (said.counts.busy, said.counts.beside);
            println!("    cores in use {busy:.2}, one waited for while another slept {beside:.2}");
        }
    }
    Ok(())
}
