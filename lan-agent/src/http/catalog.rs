//! `/v1/catalog`: nodes and services, and what is said to the catalog directly.

use axum::http::StatusCode;
use serde_json::Value;
use topology::Datacenter;

use super::{
    context::Context,
    error::Failure,
    lookup::{Cache, NO_SERVICE, answer, name_after},
    reply::{Indexed, Reply},
};
use crate::{
    ask::{Question, question::VALUE_LEN_MAX},
    catalog::{Subject, Text},
    definition::{self, DefinitionError},
};

/// Longest body of a registration: that of a transaction, unless configured.
const BODY_LEN_MAX: usize = VALUE_LEN_MAX;

/// What 413 says of that bound.
const BODY_SETTING: &str = "The bound of a registration is fixed.";

/// `register`: takes in a node, a service and checks, all of it or nothing.
pub(super) async fn register(mut cx: Context) -> Result<Reply, Failure> {
    let body = body(&mut cx).await?;
    let (dc, registration) = definition::registration(&body).map_err(refused)?;
    write(cx, dc, Question::Register(registration.into())).await
}

/// `deregister`: removes a node, a service or a check.
pub(super) async fn deregister(mut cx: Context) -> Result<Reply, Failure> {
    let body = body(&mut cx).await?;
    let (dc, what) = definition::deregistration(&body).map_err(refused)?;
    write(cx, dc, Question::Deregister(what)).await
}

/// `nodes`.
pub(super) async fn nodes(cx: Context) -> Result<Reply, Failure> {
    answer(cx, Subject::Nodes, Cache::Never).await
}

/// `node/:node`.
pub(super) async fn node(cx: Context) -> Result<Reply, Failure> {
    let name = name_after(&cx, "/v1/catalog/node/", "Missing node name")?;
    answer(cx, Subject::Node(name), Cache::Never).await
}

/// `node-services/:node`.
pub(super) async fn node_services(cx: Context) -> Result<Reply, Failure> {
    let name = name_after(&cx, "/v1/catalog/node-services/", "Missing node name")?;
    answer(cx, Subject::NodeServices(name), Cache::Never).await
}

/// `services`.
pub(super) async fn services(cx: Context) -> Result<Reply, Failure> {
    answer(cx, Subject::Services, Cache::IfAsked).await
}

/// `service/:service`.
pub(super) async fn service(cx: Context) -> Result<Reply, Failure> {
    let name = name_after(&cx, "/v1/catalog/service/", "Missing service name")?;
    answer(cx, Subject::Service(name), Cache::IfAsked).await
}

/// `connect/:service`: there is no mesh, and nobody takes part in it.
pub(super) async fn connect(cx: Context) -> Result<Reply, Failure> {
    name_after(&cx, "/v1/catalog/connect/", "Missing service name")?;
    answer(cx, Subject::Service(NO_SERVICE.into()), Cache::IfAsked).await
}

async fn body(cx: &mut Context) -> Result<Value, Failure> {
    let body = cx.take_body(BODY_LEN_MAX, BODY_SETTING).await?;
    let failed = |why: String| Failure::bad(format!("Request decode failed: {why}"));
    if body.is_empty() {
        return Err(failed("EOF".to_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
}

/// Asks the datacenter that the body names, or else the one that the parameters name.
async fn write(cx: Context, dc: Text, question: Question) -> Result<Reply, Failure> {
    let dc = match dc.is_empty() {
        true => None,
        false => Some(Datacenter::new(&*dc).map_err(|error| Failure::bad(error.to_string()))?),
    };
    let answer = cx.ask_in(dc, question).await?;
    Ok(Reply::answer(answer, Indexed::No))
}

/// What can be read and makes no sense is a failure of the server, in Consul.
fn refused(error: DefinitionError) -> Failure {
    let status = match error {
        DefinitionError::Malformed(_) => StatusCode::BAD_REQUEST,
        DefinitionError::Invalid(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Failure::new(status, error.to_string())
}
