//! Scenarios: two ends of one connection, and beneath each command what they asked for. One
//! file a rule; its first line says which.
//!
//! `set END ...` before they meet: `node|boot|cluster|expects N`, `certificate URI`, `exporter
//! N`, `seen NODE BOOT`, `unnamed NODE`, `plane ID LOW HIGH`, `layer NAME [required] CHOICE=RANK...`, `floor
//! NAME RANK`. Then `meet`, or `open END`, `deliver END`, `settle`, `lose END`, `say END KIND
//! PLANE VERSION`, `fence END BOOT`, `drain END`, `renew END`, `heard END`, `pass MS`,
//! `wake END`. A line `again` begins with fresh ends.

mod stage;

use std::fmt::Write;

use stage::Stage;

#[test]
fn scenarios_happen_as_recorded() {
    datadriven::walk("tests/script", |file| {
        let mut stage = Stage::new();
        file.run(|case| {
            let mut out = String::new();
            for line in case.input.lines() {
                let said = if line == "again" {
                    stage = Stage::new();
                    String::new()
                } else {
                    stage.run(line)
                };
                write!(out, "{line}\n{said}").expect("a string takes all");
            }
            out
        });
    });
}
