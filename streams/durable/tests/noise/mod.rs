//! How much noise is made.

/// How often: as many times as usual as there are seconds that `cargo xtask fuzz` allows.
pub(crate) fn rounds(usual: u64) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the budget of random tests is set outside"
    )]
    let asked = std::env::var("HOLM_FUZZ_MS").ok();
    let asked: Option<u64> = asked.and_then(|text| text.parse().ok());
    usual * (asked.unwrap_or(0) / 1_000).max(1)
}
