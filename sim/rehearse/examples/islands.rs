//! What islands cost each other: puts of each, the more of them there are.
//!
//! `cargo run --release -p holm-rehearse --example islands -- bench/costs/two-core.toml`. Behind it a
//! rate, such as 4000, and a number of islands for these alone; with `more`, whole reports.
//!
//! Each island has a host of its own and clients that put 256 bytes, each as soon as the last was
//! answered, or at a rate. Every island applies what all others wrote.
#![expect(clippy::disallowed_methods, reason = "it reads a file and arguments")]
#![expect(clippy::print_stdout, reason = "it is a program")]

use holm_rehearse::{Costs, Options, Silent, parse, run};
use serde_json::Value;

const COUNTS: [usize; 4] = [1, 3, 7, 15];

/// Islands of one keyspace, on hosts of two cores and disks that take 40 microseconds to sync.
fn scenario(count: usize, load: &str, costs: bool) -> String {
    let names: Vec<String> = (1..=count).map(|at| format!("\"i{at}\"")).collect();
    let names = names.join(", ");
    let costs = if costs { "costs = \"named\"" } else { "" };
    let mut text = format!(
        "format = 1\nname = \"islands\"\nwhy = \"Islands put, and apply what others put.\"\n\
         [run]\nlength = \"2s\"\nwarmup = \"500ms\"\ninformative = 1\n\
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

/// The numbers under a name in a list of a report, of the islands' own rows.
fn numbers<'a>(
    list: &'a Value,
    is_it: &'a dyn Fn(&Value) -> bool,
    name: &'a str,
) -> impl Iterator<Item = f64> + 'a {
    let all = list.as_array().into_iter().flatten();
    let all = all.filter(|it| is_it(it));
    all.filter_map(move |it| it[name].as_f64())
}

/// The mean of what there is.
fn mean(all: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = all.fold((0.0, 0.0), |(sum, count), it| (sum + it, count + 1.0));
    sum / count
}

/// A line of the table, and what an island put a second.
fn line(json: &str, (load, count): (&str, usize), alone: Option<f64>) -> (String, f64) {
    let report: Value = serde_json::from_str(json).expect("a report is JSON");
    let means = |measure: &str| -> Vec<f64> {
        let is_it = |it: &Value| {
            it["measure"] == measure && it["site"].as_str().is_some_and(|at| at.starts_with('i'))
        };
        numbers(&report["figures"], &is_it, "mean").collect()
    };
    let rates = means("put.rate");
    let rate = mean(rates.iter().copied());
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let share = rate / alone.unwrap_or(rate);
    let micros = |measure| mean(means(measure).into_iter()) / 1e3;
    let busy = numbers(&report["costs"]["hosts"], &|_| true, "cores_busy");
    let line = format!(
        "{load:14} | {count:7} | {rate:9.0} | {least:9.0} | {share:8.3} | {:7.0} | {:7.0} | {:10.2}",
        micros("put.p50"),
        micros("put.p99"),
        mean(busy),
    );
    (line, rate)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let costs = words.first().map(|file| {
        let text = std::fs::read_to_string(file).expect("the costs can be read");
        Costs::parse(&text, file).expect("they are costs")
    });
    let has_more = words.iter().any(|word| word == "more");
    let mut named = words.iter().skip(1).filter_map(|word| word.parse().ok());
    let (rate, only): (Option<usize>, Option<usize>) = (named.next(), named.next());
    let rate = rate.map(|rate| format!("rate = \"{rate}/s\""));
    let loads = rate.as_ref().map_or_else(
        || vec!["rate = \"1000/s\"", "rate = \"4000/s\"", "count = 4"],
        |rate| vec![rate.as_str()],
    );
    println!(
        "each           | islands | puts/s of | the least | of alone | p50, us | p99, us | cores busy"
    );
    for load in loads {
        let mut alone = None;
        for count in only.map_or_else(|| COUNTS.to_vec(), |only| vec![only]) {
            let text = scenario(count, load, costs.is_some());
            let mut scenario = parse(&text, "islands", &[]).expect("it is a scenario");
            if let Some(costs) = &costs {
                scenario.charge(costs.clone()).expect("all has a price");
            }
            let options = Options {
                runs: Some(2),
                ..Options::default()
            };
            let report = run(&scenario, &options, &mut Silent);
            let (line, rate) = line(&report.to_json(), (load, count), alone);
            alone = alone.or(Some(rate));
            println!("{line}");
            if has_more || report.exit_code() != 0 {
                println!("{}", report.to_text());
            }
        }
    }
}
