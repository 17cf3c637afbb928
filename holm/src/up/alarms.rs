//! Alarms in the log: whoever looks there finds why writes are refused, and since when they are not.

use std::time::Duration;

use holm_kv::command::AlarmKind;
use holm_kv::outcome::Alarm;
use holm_runtime::Handle;

/// How often it is looked which alarms are raised.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Says which alarms of a keyspace are raised and cleared, for as long as it is polled.
pub(super) async fn tell(handle: Handle) {
    let mut known: Vec<Alarm> = Vec::new();
    loop {
        let raised = handle.view().alarms.to_vec();
        for alarm in raised.iter().filter(|it| !known.contains(it)) {
            let (keyspace, member) = (handle.keyspace(), format!("{:x}", alarm.member));
            let (alarm, means) = words(alarm.kind);
            tracing::warn!(keyspace, member, alarm, means, "an alarm is raised");
        }
        for alarm in known.iter().filter(|it| !raised.contains(it)) {
            let (keyspace, member) = (handle.keyspace(), format!("{:x}", alarm.member));
            let (alarm, _means) = words(alarm.kind);
            tracing::info!(keyspace, member, alarm, "an alarm is cleared");
        }
        known = raised;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What it is called, and what it means.
const fn words(kind: AlarmKind) -> (&'static str, &'static str) {
    match kind {
        AlarmKind::NoSpace => (
            "NOSPACE",
            "that member's disk or quota is nearly full, so writes are refused",
        ),
        AlarmKind::Corrupt => ("CORRUPT", "that member's data differ from the others'"),
    }
}
