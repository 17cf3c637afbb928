//! What a session between two islands costs that have nearly the same keys: bytes, round trips
//! and time, and what its index costs each put.
//!
//! `cargo run --release -p holm-kv --example sessions -- 1000000`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it measures the machine it runs on, and says so"
)]

#[path = "../tests/sessions/pair.rs"]
mod pair;

use std::time::Instant;

fn main() {
    let keys = std::env::args().nth(1).and_then(|it| it.parse().ok());
    let keys = keys.unwrap_or(1_000_000);
    let begun = Instant::now();
    let found = pair::measure(&|| begun.elapsed(), keys, 9);
    let [without, with, followed] = found.each;
    let (took, longest) = found.index;
    println!("{keys} keys: the index took {took:.2?}, its longest slice {longest:.2?}");
    println!(
        "a put is applied within {without:.2?} without an index, within {with:.2?} with one; \
         another's update within {followed:.2?}"
    );
    for (name, cost) in found.sessions {
        println!("{name}: {cost:.2?}");
    }
}
