//! `/v1/health`: checks, and services with their checks.

use super::{
    context::{Context, Query},
    error::Failure,
    lookup::{Cache, NO_SERVICE, answer, name_after},
    reply::Reply,
};
use crate::catalog::{Health, Subject};

/// `node/:node`.
pub(super) async fn node(cx: Context) -> Result<Reply, Failure> {
    let name = name_after(&cx, "/v1/health/node/", "Missing node name")?;
    answer(cx, Subject::NodeChecks(name), Cache::Never).await
}

/// `checks/:service`.
pub(super) async fn checks(cx: Context) -> Result<Reply, Failure> {
    let name = name_after(&cx, "/v1/health/checks/", "Missing service name")?;
    answer(cx, Subject::ServiceChecks(name), Cache::Never).await
}

/// `state/:state`: those of a state that no check can have are none.
pub(super) async fn state(cx: Context) -> Result<Reply, Failure> {
    let state = name_after(&cx, "/v1/health/state/", "Missing check state")?;
    let subject = match (Health::from_name(&state), &*state) {
        (Some(state), _) => Subject::State(Some(state)),
        (None, "any") => Subject::State(None),
        (None, _) => Subject::ServiceChecks(NO_SERVICE.into()),
    };
    answer(cx, subject, Cache::Never).await
}

/// `service/:service`.
pub(super) async fn service(cx: Context) -> Result<Reply, Failure> {
    let service = name_after(&cx, "/v1/health/service/", "Missing service name")?;
    let passing = passing(cx.query())?;
    answer(cx, Subject::Health { service, passing }, Cache::IfAsked).await
}

/// `connect/:service`: there is no mesh, and nobody takes part in it.
pub(super) async fn connect(cx: Context) -> Result<Reply, Failure> {
    name_after(&cx, "/v1/health/connect/", "Missing service name")?;
    let passing = passing(cx.query())?;
    let subject = Subject::Health { service: NO_SERVICE.into(), passing };
    answer(cx, subject, Cache::IfAsked).await
}

/// Reads `passing`: there without a value it is true; with one, what Go takes for a boolean.
fn passing(query: Query<'_>) -> Result<bool, Failure> {
    match query.get("passing").as_deref() {
        None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some(_) => Err(Failure::bad("Invalid value for ?passing")),
    }
}
