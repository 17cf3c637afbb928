//! A node as ill as a test needs it, and its answers.

#![expect(unreachable_pub, reason = "each test program includes this file")]

use std::pin::Pin;
use std::sync::Arc;

use holm_etcd::web::{ReadFailure, Versions, Vitals, Web};
use holm_kv::command::AlarmKind;
use holm_telemetry::{Metrics, Readings};

/// A node with the illnesses that it is given.
#[derive(Clone, Debug)]
pub struct Patient {
    pub alarms: Vec<AlarmKind>,
    pub has_leader: bool,
    pub here: Result<(), ReadFailure>,
    pub current: Result<(), ReadFailure>,
}

impl Default for Patient {
    fn default() -> Self {
        Self {
            alarms: Vec::new(),
            has_leader: true,
            here: Ok(()),
            current: Ok(()),
        }
    }
}

impl Vitals for Patient {
    fn alarms(&self) -> Vec<AlarmKind> {
        self.alarms.clone()
    }

    fn has_leader(&self) -> bool {
        self.has_leader
    }

    fn read_here(&self) -> Result<(), ReadFailure> {
        self.here.clone()
    }

    fn read_current(&self) -> Pin<Box<dyn Future<Output = Result<(), ReadFailure>> + Send + '_>> {
        Box::pin(std::future::ready(self.current.clone()))
    }

    fn readings(&self) -> Readings {
        Readings {
            has_leader: self.has_leader,
            revision: 7,
            ..Readings::default()
        }
    }
}

pub fn web(patient: Patient) -> Web {
    let versions = Versions {
        server: "3.6.12".to_owned(),
        cluster: "3.6.0".to_owned(),
        storage: "3.6.0".to_owned(),
    };
    Web::new(
        Arc::new(patient),
        Arc::new(Metrics::new("0.1.0", "3.6.12")),
        versions,
    )
}
