//! The control API over HTTP: the same handle that tests use in process. `README.md` describes it for users.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::faults::Fault;
use crate::model::{Groups, Hub, now_ms};
use crate::namespace::{Namespace, NamespaceError};

type Shared = State<Arc<Namespace>>;

/// Serves until `stop`.
pub(crate) async fn run(listener: TcpListener, namespace: Arc<Namespace>, stop: CancellationToken) {
    let serve = axum::serve(listener, router(namespace)).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serve.await {
        tracing::error!(%error, "the control API has ended");
    }
}

/// The routes, for those who serve them beside their own.
pub fn router(namespace: Arc<Namespace>) -> Router {
    Router::new()
        .route("/hubs", get(hubs))
        .route("/hubs/{hub}", get(hub).put(create_hub))
        .route("/hubs/{hub}/partitions", post(add_partitions))
        .route("/connections", get(connections))
        .route("/faults", get(faults).post(inject).delete(lift_all))
        .route("/faults/{id}", delete(lift))
        .with_state(namespace)
}

/// A hub with its positions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct HubView {
    name: String,
    created_ms: i64,
    partitions: Vec<PartitionView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PartitionView {
    id: String,
    begin_sequence_number: i64,
    last_enqueued_sequence_number: i64,
    last_enqueued_offset: String,
    last_enqueued_ms: Option<i64>,
    events: i64,
    bytes: u64,
}

impl HubView {
    fn of(hub: &Hub) -> Self {
        let now = now_ms();
        let partitions = hub.partitions().into_iter().map(|partition| {
            let state = partition.state(now);
            PartitionView {
                id: partition.id.to_string(),
                begin_sequence_number: state.begin,
                last_enqueued_sequence_number: state.last,
                last_enqueued_offset: state.last_offset.to_string(),
                last_enqueued_ms: state.last_enqueued_ms,
                events: state.last + 1 - state.begin,
                bytes: state.bytes,
            }
        });
        Self { name: hub.name.to_string(), created_ms: hub.created_ms, partitions: partitions.collect() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NewHub {
    partitions: u32,
    #[serde(default)]
    groups: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct MorePartitions {
    add: u32,
}

/// An answer that says what is wrong, as `{"error": "…"}`.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

impl From<NamespaceError> for Refusal {
    fn from(error: NamespaceError) -> Self {
        let status = match error {
            NamespaceError::NoHub { .. } => StatusCode::NOT_FOUND,
            NamespaceError::Exists(_) => StatusCode::CONFLICT,
            NamespaceError::BadName(_) | NamespaceError::BadPartitionCount(_) => StatusCode::BAD_REQUEST,
            NamespaceError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

async fn hubs(State(namespace): Shared) -> Json<Vec<HubView>> {
    Json(namespace.hubs().iter().map(|hub| HubView::of(hub)).collect())
}

async fn hub(State(namespace): Shared, Path(name): Path<String>) -> Result<Json<HubView>, Refusal> {
    Ok(Json(HubView::of(&*namespace.hub(&name)?)))
}

async fn create_hub(
    State(namespace): Shared,
    Path(name): Path<String>,
    body: Result<Json<NewHub>, JsonRejection>,
) -> Result<(StatusCode, Json<HubView>), Refusal> {
    let Json(NewHub { partitions, groups }) = body?;
    let groups = groups.map_or(Groups::Any, Groups::Listed);
    let hub = namespace.create_hub(&name, partitions, groups)?;
    Ok((StatusCode::CREATED, Json(HubView::of(&hub))))
}

async fn add_partitions(
    State(namespace): Shared,
    Path(name): Path<String>,
    body: Result<Json<MorePartitions>, JsonRejection>,
) -> Result<Json<HubView>, Refusal> {
    let Json(MorePartitions { add }) = body?;
    namespace.add_partitions(&name, add)?;
    Ok(Json(HubView::of(&*namespace.hub(&name)?)))
}

async fn connections(State(namespace): Shared) -> impl IntoResponse {
    Json(namespace.connections())
}

async fn faults(State(namespace): Shared) -> impl IntoResponse {
    Json(namespace.standing_faults())
}

async fn inject(
    State(namespace): Shared,
    body: Result<Json<Fault>, JsonRejection>,
) -> Result<(StatusCode, impl IntoResponse), Refusal> {
    let Json(fault) = body?;
    Ok((StatusCode::CREATED, Json(namespace.inject(&fault))))
}

async fn lift(State(namespace): Shared, Path(id): Path<u64>) -> StatusCode {
    namespace.lift(id);
    StatusCode::NO_CONTENT
}

async fn lift_all(State(namespace): Shared) -> StatusCode {
    namespace.lift_all();
    StatusCode::NO_CONTENT
}
