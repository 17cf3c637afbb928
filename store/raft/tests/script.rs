//! Scenarios: commands on a stage where nothing moves by itself, and beneath each what
//! happened. One file a trap; its first line says which.
//!
//! `nodes VOTERS [SPARES] [lease]`, `elect N`, `request N BODY`, `read N`, `durable N [COUNT]`,
//! `deliver A->B [KIND] [twice] [keep]`, `drop [A->B]`, `settle [without N...]`,
//! `pass MS [without N...]`, `wake N`, `crash N`, `restart N`, `lose N COUNT [silently]`,
//! `save N`, `change N learner|voter|promote|demote|remove|replace ...`, `move N TO`,
//! `suspect N LEADER`, `mail`, `state`.

mod support;

use std::fmt::Write;

use support::stage::Stage;

#[test]
fn scenarios_happen_as_recorded() {
    datadriven::walk("tests/script", |file| {
        let mut stage = Stage::new();
        file.run(|case| {
            let mut out = String::new();
            for line in case.input.lines() {
                let said = stage.run(line);
                write!(out, "{line}\n{}", said.trim_end_matches('\n')).expect("a string takes all");
                if !said.is_empty() {
                    out.push('\n');
                }
            }
            out
        });
    });
}
