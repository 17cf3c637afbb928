//! gRPC's own health protocol.

use tokio::sync::mpsc;

use super::Services;
use crate::context::Context;
use crate::proto::grpc_health_v1::health_check_response::ServingStatus;
use crate::proto::grpc_health_v1::{HealthCheckRequest, HealthCheckResponse};
use crate::status::{Code, Status};

impl Services {
    /// Whether this server serves; the empty name stands for all of it.
    ///
    /// # Errors
    ///
    /// For any other name, as etcd registers none.
    pub async fn health_check(
        &self,
        _cx: &Context,
        request: HealthCheckRequest,
    ) -> Result<HealthCheckResponse, Status> {
        if request.service.is_empty() {
            Ok(answer(ServingStatus::Serving))
        } else {
            Err(Status::new(Code::NotFound, "unknown service"))
        }
    }

    /// Says whether this server serves and stays until the client leaves.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn health_watch(
        &self,
        _cx: &Context,
        request: HealthCheckRequest,
        answers: mpsc::Sender<HealthCheckResponse>,
    ) -> Result<(), Status> {
        let status = if request.service.is_empty() {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        if answers.send(answer(status)).await.is_ok() {
            answers.closed().await;
        }
        Ok(())
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
