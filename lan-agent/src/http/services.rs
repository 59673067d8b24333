//! `/v1/agent/service*`, `/v1/agent/health/service/*`, `/v1/agent/maintenance`: the services of
//! this node, by the word of this agent alone.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::{
    checks::check_json, context::Context, error::Failure, lookup::filter, reply::Reply,
    wait::parse_wait,
};
use crate::{
    catalog::{Health, NODE_MAINTENANCE, SERVICE_MAINTENANCE, Service, Text},
    definition::{self, CheckDefinition},
    filter::Schema,
    local::{
        Local, LocalError,
        state::{Source, State},
    },
};

const SERVICE: &str = "/v1/agent/service/";
const HEALTH_BY_ID: &str = "/v1/agent/health/service/id/";
const HEALTH_BY_NAME: &str = "/v1/agent/health/service/name/";
const DEREGISTER: &str = "/v1/agent/service/deregister/";
const MAINTENANCE: &str = "/v1/agent/service/maintenance/";

/// Says whether a service is still as the one who asks knows it.
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-consul-contenthash");

/// What 413 says of the bound of a definition.
const SETTING: &str = "The bound of a definition is that of a value (limits.kv_max_value_size).";

/// What is said of programs that nobody allowed.
const NO_SCRIPTS: &str = "Scripts are disabled on this agent from remote calls; to enable, \
                          configure 'enable_script_checks' to true";

/// `GET /v1/agent/services`, with `?filter`.
pub(super) async fn list(cx: Context) -> Result<Reply, Failure> {
    let filter = filter(&cx, Schema::Services)?;
    let services: Map<String, Value> = cx.agent.local.look(|state| {
        let wanted = state.services().filter(|it| filter.admits(&it.service));
        wanted.map(|it| (it.service.id.to_string(), service_json(&it.service))).collect()
    });
    Ok(Reply::value(&Value::Object(services)))
}

/// `GET /v1/agent/service/:id`, with `?hash` only when it is not as known, or after `?wait`.
pub(super) async fn one(cx: Context) -> Result<Reply, Failure> {
    let id = cx.path_after(SERVICE)?;
    let known = cx.query().get("hash").map(|hash| hash.into_owned());
    let wait = match cx.query().get("wait") {
        Some(text) => parse_wait(&text).ok_or_else(|| Failure::bad("Invalid wait time"))?,
        None => std::time::Duration::ZERO,
    };
    let until = Instant::now() + cx.bounds.wait(wait);
    let mut changes = cx.agent.local.changes();
    loop {
        changes.mark_unchanged();
        let found = cx.agent.local.look(|state| state.service(&id).map(|it| it.service.clone()));
        let Some(service) = found else {
            let text = format!("unknown service ID: {id}");
            return Err(Failure::new(StatusCode::NOT_FOUND, text));
        };
        let hash = content_hash(&service);
        let waits = known.as_ref() == Some(&hash) && !cx.agent.stopping().is_cancelled();
        if waits && matches!(timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
            continue;
        }
        let mut body = service_json(&service);
        body["ContentHash"] = Value::from(hash.as_str());
        let value = HeaderValue::from_str(&hash).unwrap_or(HeaderValue::from_static(""));
        return Ok(Reply::value(&body).with_header(CONTENT_HASH, value));
    }
}

/// `PUT /v1/agent/service/register`, with `?replace-existing-checks`.
pub(super) async fn register(mut cx: Context) -> Result<Reply, Failure> {
    let replace = cx.query().get("replace-existing-checks").is_some_and(|it| truthy(&it));
    let value = read_json(&mut cx).await?;
    let definition =
        definition::service(&value).map_err(|error| Failure::bad(error.to_string()))?;
    definition.checks.iter().try_for_each(|check| allowed(&cx, check))?;
    change(cx.agent.local.clone(), move |local| local.register(definition, Source::Api, replace))
        .await
}

/// `PUT /v1/agent/service/deregister/:id`.
pub(super) async fn deregister(cx: Context) -> Result<Reply, Failure> {
    let id: Text = cx.path_after(DEREGISTER)?.into();
    change(cx.agent.local.clone(), move |local| gone(local.deregister(&id))).await
}

/// `PUT /v1/agent/service/maintenance/:id?enable=true|false&reason=`.
pub(super) async fn maintain(cx: Context) -> Result<Reply, Failure> {
    let id: Text = cx.path_after(MAINTENANCE)?.into();
    if id.is_empty() {
        return Err(Failure::bad("Missing service ID"));
    }
    let (enable, reason) = maintenance(&cx)?;
    if cx.agent.local.look(|state| state.service(&id).is_none()) {
        let text = format!("No service registered with ID {id:?}");
        return Err(Failure::new(StatusCode::NOT_FOUND, text));
    }
    change(cx.agent.local.clone(), move |local| local.maintain(Some(&id), enable, &reason)).await
}

/// `PUT /v1/agent/maintenance?enable=true|false&reason=`.
pub(super) async fn maintain_node(cx: Context) -> Result<Reply, Failure> {
    let (enable, reason) = maintenance(&cx)?;
    change(cx.agent.local.clone(), move |local| local.maintain(None, enable, &reason)).await
}

/// `GET /v1/agent/health/service/id/:id`: 200, 429 or 503 by how it is; `?format=text` says it in
/// a word.
pub(super) async fn health_by_id(cx: Context) -> Result<Reply, Failure> {
    let id = cx.path_after(HEALTH_BY_ID)?;
    let found = cx.agent.local.look(|state| {
        let entry = state.service(&id)?;
        let health = aggregated(state, &entry.service.id);
        Some((health, health_json(state, &entry.service, health)))
    });
    let unknown = || json!({ "AggregatedStatus": "critical", "Service": null, "Checks": null });
    Ok(match found {
        Some((health, body)) => told(&cx, health, &body),
        None => told(&cx, Aggregated::Critical, &unknown()).with_status(StatusCode::NOT_FOUND),
    })
}

/// `GET /v1/agent/health/service/name/:name`: the same for all of that name, the worst counts.
pub(super) async fn health_by_name(cx: Context) -> Result<Reply, Failure> {
    let name = cx.path_after(HEALTH_BY_NAME)?;
    let found: Vec<(Aggregated, Value)> = cx.agent.local.look(|state| {
        let named = state.services().filter(|it| *it.service.name == *name);
        named
            .map(|it| {
                let health = aggregated(state, &it.service.id);
                (health, health_json(state, &it.service, health))
            })
            .collect()
    });
    let Some(worst) = found.iter().map(|(health, _)| *health).max() else {
        let none = told(&cx, Aggregated::Critical, &json!([]));
        return Ok(none.with_status(StatusCode::NOT_FOUND));
    };
    let bodies: Vec<Value> = found.into_iter().map(|(_, body)| body).collect();
    Ok(told(&cx, worst, &Value::from(bodies)))
}

/// How a service is, all checks taken together, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Aggregated {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

impl Aggregated {
    fn as_str(self) -> &'static str {
        match self {
            Aggregated::Passing => "passing",
            Aggregated::Warning => "warning",
            Aggregated::Critical => "critical",
            Aggregated::Maintenance => "maintenance",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Aggregated::Passing => StatusCode::OK,
            Aggregated::Warning => StatusCode::TOO_MANY_REQUESTS,
            Aggregated::Critical | Aggregated::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn aggregated(state: &State, service: &str) -> Aggregated {
    let maintained = state.check(NODE_MAINTENANCE).is_some()
        || state.check(&format!("{SERVICE_MAINTENANCE}{service}")).is_some();
    match state.health_of(service) {
        _ if maintained => Aggregated::Maintenance,
        Health::Passing => Aggregated::Passing,
        Health::Warning => Aggregated::Warning,
        Health::Critical => Aggregated::Critical,
    }
}

fn told(cx: &Context, health: Aggregated, body: &Value) -> Reply {
    let reply = match cx.query().get("format").as_deref() {
        Some("text") => Reply::text("text/plain; charset=utf-8", health.as_str().to_owned()),
        _ => Reply::value(body),
    };
    reply.with_status(health.status())
}

fn health_json(state: &State, service: &Service, health: Aggregated) -> Value {
    let checks: Vec<Value> =
        state.checks_for(&service.id).map(|entry| check_json(state, entry)).collect();
    json!({
        "AggregatedStatus": health.as_str(),
        "Service": service_json(service),
        "Checks": checks,
    })
}

/// A service as its agent shows it.
fn service_json(service: &Service) -> Value {
    let mut body = Map::new();
    if !service.kind.is_empty() {
        body.insert("Kind".into(), json!(service.kind));
    }
    body.insert("ID".into(), json!(service.id));
    body.insert("Service".into(), json!(service.name));
    body.insert("Tags".into(), json!(service.tags));
    body.insert("Meta".into(), json!(service.meta));
    body.insert("Port".into(), json!(service.port));
    body.insert("Address".into(), json!(service.address));
    if !service.tagged_addresses.is_empty() {
        let shown = |(tag, it): (&Text, &crate::catalog::ServiceAddress)| {
            (tag.to_string(), json!({ "Address": it.address, "Port": it.port }))
        };
        let addresses: Map<String, Value> = service.tagged_addresses.iter().map(shown).collect();
        body.insert("TaggedAddresses".into(), Value::Object(addresses));
    }
    let weights = json!({ "Passing": service.weights.passing, "Warning": service.weights.warning });
    body.insert("Weights".into(), weights);
    body.insert("EnableTagOverride".into(), json!(service.enable_tag_override));
    Value::Object(body)
}

/// A number that changes with a service, in Consul's form: 16 hexadecimal digits.
fn content_hash(service: &Service) -> String {
    let mut hasher = DefaultHasher::new();
    service_json(service).to_string().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Reads the body as JSON.
pub(super) async fn read_json(cx: &mut Context) -> Result<Value, Failure> {
    let body = cx.take_body(cx.bounds.value_len_max, SETTING).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::bad(format!("Request decode failed: {error}")))
}

/// Refuses checks that run programs, where the operator has not allowed them to callers.
pub(super) fn allowed(cx: &Context, check: &CheckDefinition) -> Result<(), Failure> {
    match check.probe.runs_programs() && !cx.agent.config.remote_scripts {
        true => Err(Failure::internal(NO_SCRIPTS)),
        false => Ok(()),
    }
}

/// Changes what runs on this node. It waits for the disk, so not on a thread that others wait for.
pub(super) async fn change(
    local: Local,
    change: impl FnOnce(&Local) -> Result<(), LocalError> + Send + 'static,
) -> Result<Reply, Failure> {
    let changed = tokio::task::spawn_blocking(move || change(&local)).await;
    match changed.map_err(|error| Failure::internal(error.to_string()))? {
        Ok(()) => Ok(Reply::empty()),
        Err(error) => Err(Failure::internal(error.to_string())),
    }
}

/// What is to go and is not there has gone already.
pub(super) fn gone(removed: Result<(), LocalError>) -> Result<(), LocalError> {
    match removed {
        Err(LocalError::Unknown(_)) => Ok(()),
        removed => removed,
    }
}

fn maintenance(cx: &Context) -> Result<(bool, String), Failure> {
    let query = cx.query();
    let enable = match query.get("enable").as_deref() {
        None | Some("") => return Err(Failure::bad("Missing value for enable")),
        Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
        Some(other) => return Err(Failure::bad(format!("Invalid value for enable: {other:?}"))),
    };
    Ok((enable, query.get("reason").unwrap_or_default().into_owned()))
}

/// A bare parameter says yes, and so does anything but a no.
fn truthy(value: &str) -> bool {
    !matches!(value, "false" | "0" | "f" | "F" | "FALSE" | "False")
}
