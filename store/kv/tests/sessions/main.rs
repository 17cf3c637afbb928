//! What a session between two islands costs that have nearly the same keys: bytes and round trips.
//! What it takes of a processor is said by `cargo run --release -p holm-kv --example sessions`.

mod pair;

use std::time::Duration;

#[test]
fn a_session_costs_what_differs() {
    let found = pair::measure(&|| Duration::ZERO, 20_000, 1);
    assert_eq!(found.sessions.len(), 4, "{found:?}");
    let untimed = (found.each, found.index);
    assert_eq!(untimed, Default::default(), "nothing tells the time here");
}
