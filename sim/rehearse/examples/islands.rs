//! What islands cost each other: puts of each, the more of them there are.
//!
//! `cargo run --release -p holm-rehearse --example islands -- bench/costs/two-core.toml`
//!
//! Each island has a host of its own and clients that put 256 bytes, each as soon as the last was
//! answered, or at a rate. Every island applies what all others wrote.
#![expect(clippy::disallowed_methods, reason = "it reads a file and arguments")]
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::fmt::Write;

use holm_rehearse::{Costs, Options, Silent, parse, run};

const COUNTS: [usize; 4] = [1, 3, 7, 15];

/// Islands of one keyspace, on hosts of two cores and disks that take 40 microseconds to sync.
fn scenario(count: usize, load: &str, costs: bool) -> String {
    let names: Vec<String> = (1..=count).map(|at| format!("\"i{at}\"")).collect();
    let names = names.join(", ");
    let costs = if costs { "costs = \"named\"" } else { "" };
    let mut text = format!(
        "format = 1\nname = \"islands\"\nwhy = \"Islands put, and apply what others put.\"\n\
         [run]\nlength = \"4s\"\nwarmup = \"1s\"\ninformative = 1\n\
         [[site]]\nnames = [{names}]\n{costs}\n"
    );
    if count > 1 {
        let link = format!(
            "[[link]]\nname = \"wan\"\namong = [{names}]\none_way = \"5ms\"\n\
             rate = \"10Gbit/s\"\nqueue = \"64ms\"\n"
        );
        text.push_str(&link);
    }
    let rest = format!(
        "[[keyspace]]\nname = \"k\"\nguarantee = \"local-first\"\ntype = \"lww\"\nsites = [{names}]\n\
         [[clients]]\nat = [{names}]\nkeyspace = \"k\"\n{load}\nmix = {{ put = 1 }}\n\
         keys = \"uniform(10000)\"\nvalue = \"256B\"\n\
         [[promise]]\ncheck = [\"convergence\", \"available\", \"heals\"]\n"
    );
    text.push_str(&rest);
    for at in 1..=count {
        let promise =
            format!("[[promise]]\nmeasure = \"put.rate\"\nat = \"i{at}\"\nat_least = \"1/s\"\n");
        text.push_str(&promise);
    }
    text
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let costs = words.first().map(|file| {
        let text = std::fs::read_to_string(file).expect("the costs can be read");
        Costs::parse(&text, file).expect("they are costs")
    });
    let mut table = String::new();
    for load in ["rate = \"1000/s\"", "rate = \"4000/s\"", "count = 4"] {
        for count in COUNTS {
            let text = scenario(count, load, costs.is_some());
            let mut scenario = parse(&text, "islands", &[]).expect("it is a scenario");
            if let Some(costs) = &costs {
                scenario.charge(costs.clone()).expect("all has a price");
            }
            let options = Options {
                runs: Some(1),
                ..Options::default()
            };
            let report = run(&scenario, &options, &mut Silent);
            writeln!(table, "{load}, {count} islands\n{}", report.to_text()).expect("it fits");
            println!("{load}, {count} islands\n{}", report.to_text());
        }
    }
}
