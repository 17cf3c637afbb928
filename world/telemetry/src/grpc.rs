//! The counters of one gRPC method, found once and then updated without a lookup.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// The names of gRPC's status codes, by number, as the label `grpc_code` has them.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Which sides of a method stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcKind {
    /// Neither.
    Unary,
    /// The client's requests.
    ClientStream,
    /// The answers.
    ServerStream,
    /// Both.
    BidiStream,
}

impl GrpcKind {
    /// The label's text.
    const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// What names a method.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MethodLabels {
    grpc_method: &'static str,
    grpc_service: &'static str,
    grpc_type: &'static str,
}

/// What names a method's end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HandledLabels {
    grpc_code: &'static str,
    grpc_method: &'static str,
    grpc_service: &'static str,
    grpc_type: &'static str,
}

/// How long calls took, by method.
#[derive(Clone, Debug)]
pub(crate) struct HandlingTimes(pub(crate) Family<MethodLabels, Histogram, fn() -> Histogram>);

impl Default for HandlingTimes {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| {
            Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ])
        }))
    }
}

/// All methods' counters.
#[derive(Debug, Default)]
pub(crate) struct GrpcFamilies {
    pub(crate) started: Family<MethodLabels, Counter>,
    pub(crate) handled: Family<HandledLabels, Counter>,
    pub(crate) received: Family<MethodLabels, Counter>,
    pub(crate) sent: Family<MethodLabels, Counter>,
    pub(crate) handling: HandlingTimes,
}

impl GrpcFamilies {
    pub(crate) fn method(
        &self,
        grpc_service: &'static str,
        grpc_method: &'static str,
        kind: GrpcKind,
    ) -> GrpcMethod {
        let grpc_type = kind.name();
        let labels = MethodLabels {
            grpc_method,
            grpc_service,
            grpc_type,
        };
        let handled = GRPC_CODES.map(|grpc_code| {
            let labels = HandledLabels {
                grpc_code,
                grpc_method,
                grpc_service,
                grpc_type,
            };
            self.handled.get_or_create_owned(&labels)
        });
        GrpcMethod {
            started: self.started.get_or_create_owned(&labels),
            received: self.received.get_or_create_owned(&labels),
            sent: self.sent.get_or_create_owned(&labels),
            handling: self.handling.0.get_or_create_owned(&labels),
            handled,
        }
    }
}

/// One method's counters.
#[derive(Clone, Debug)]
pub struct GrpcMethod {
    started: Counter,
    received: Counter,
    sent: Counter,
    handling: Histogram,
    handled: [Counter; 17],
}

impl GrpcMethod {
    /// A call began; hand what this gives to [`GrpcMethod::finish`].
    pub fn start(&self) -> Instant {
        self.started.inc();
        Instant::now()
    }

    /// A message of a stream came.
    pub fn receive(&self) {
        self.received.inc();
    }

    /// A message of a stream left.
    pub fn send(&self) {
        self.sent.inc();
    }

    /// A call ended with this status code; a number that is no code counts as `Unknown`. Takes
    /// a short lock.
    pub fn finish(&self, code: usize, begun: Instant) {
        self.handling.observe(begun.elapsed().as_secs_f64());
        self.handled.get(code).unwrap_or(&self.handled[2]).inc();
    }
}
