//! Which path and method goes to which handler.

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header},
    middleware::map_response,
    routing::{MethodFilter, MethodRouter, any},
};
use tokio::time::Instant;
use tracing::{Instrument, debug, warn};

use super::{
    catalog, checks, config,
    context::{Context, Interface},
    coordinate,
    error::Failure,
    federation, health, kv, local, monitor, query,
    reply::{Reply, Wish},
    services, status, txn,
};
/// Headers that every response carries.
pub(super) type Headers = Arc<[(HeaderName, HeaderValue)]>;

type Routes = MethodRouter<Arc<Interface>>;

/// Makes the table of all endpoints. `headers` are added to every response.
pub(super) fn table(interface: Interface, headers: Headers) -> Router {
    let table = endpoints(Arc::new(interface));
    if headers.is_empty() {
        return table;
    }
    table.layer(map_response(move |mut response: Response<Body>| {
        for (name, value) in headers.iter() {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        std::future::ready(response)
    }))
}

fn endpoints(interface: Arc<Interface>) -> Router {
    let kv = || {
        let methods = on(MethodFilter::GET, kv::get);
        let methods = methods.merge(on(MethodFilter::PUT, kv::put));
        only("OPTIONS,GET,PUT,DELETE", methods.merge(on(MethodFilter::DELETE, kv::delete)))
    };
    Router::new()
        .route("/v1/kv", any(moved))
        .route("/v1/kv/", kv())
        .route("/v1/kv/{*key}", kv())
        .route("/v1/txn", put(txn::put))
        .route("/v1/status/leader", get(status::leader))
        .route("/v1/status/peers", get(status::peers))
        .merge(catalog_endpoints())
        .merge(config_endpoints())
        .merge(coordinate_endpoints())
        .merge(query_endpoints())
        .route("/v1/operator/raft/configuration", get(status::raft_configuration))
        .route("/v1/agent/self", get(local::own))
        .route("/v1/agent/version", get(local::version))
        .route("/v1/agent/host", get(local::host))
        .route("/v1/agent/metrics", get(local::metrics))
        .route("/v1/agent/members", get(local::members))
        .route("/v1/agent/join/", put(local::join))
        .route("/v1/agent/join/{*addr}", put(local::join))
        .route("/v1/agent/leave", put(local::leave))
        .route("/v1/agent/reload", put(local::reload))
        .route("/v1/agent/monitor", get(monitor::monitor))
        .route("/v1/agent/force-leave/", put(local::force_leave))
        .route("/v1/agent/force-leave/{*node}", put(local::force_leave))
        .route("/v1/federation/status", get(federation::status))
        .route("/v1/federation/timeline", get(federation::timeline))
        .route("/v1/federation/failover", get(federation::failover))
        .route("/v1/federation/remove/{*dc}", put(federation::remove))
        .merge(own_services())
        .fallback(|| async { nothing_here() })
        .with_state(interface)
}

fn catalog_endpoints() -> Router<Arc<Interface>> {
    let table = Router::new()
        .route("/v1/catalog/register", put(catalog::register))
        .route("/v1/catalog/deregister", put(catalog::deregister))
        .route("/v1/catalog/datacenters", get(status::datacenters))
        .route("/v1/catalog/nodes", get(catalog::nodes))
        .route("/v1/catalog/services", get(catalog::services));
    let named = [
        ("/v1/catalog/node", get(catalog::node)),
        ("/v1/catalog/node-services", get(catalog::node_services)),
        ("/v1/catalog/service", get(catalog::service)),
        ("/v1/catalog/connect", get(catalog::connect)),
        ("/v1/health/node", get(health::node)),
        ("/v1/health/checks", get(health::checks)),
        ("/v1/health/state", get(health::state)),
        ("/v1/health/service", get(health::service)),
        ("/v1/health/connect", get(health::connect)),
    ];
    named.into_iter().fold(table, |table, (path, methods)| {
        table
            .route(path, any(moved))
            .route(&format!("{path}/"), methods.clone())
            .route(&format!("{path}/{{*name}}"), methods)
    })
}

/// Configuration entries.
fn config_endpoints() -> Router<Arc<Interface>> {
    let named = on(MethodFilter::GET, config::get).merge(on(MethodFilter::DELETE, config::delete));
    Router::new()
        .route("/v1/config", put(config::put))
        .route("/v1/config/{*entry}", only("OPTIONS,GET,DELETE", named))
}

/// Where nodes are.
fn coordinate_endpoints() -> Router<Arc<Interface>> {
    Router::new()
        .route("/v1/coordinate/datacenters", get(coordinate::datacenters))
        .route("/v1/coordinate/nodes", get(coordinate::nodes))
        .route("/v1/coordinate/node", any(moved))
        .route("/v1/coordinate/node/", get(coordinate::node))
        .route("/v1/coordinate/node/{*name}", get(coordinate::node))
        .route("/v1/coordinate/update", put(coordinate::update))
}

/// Prepared queries.
fn query_endpoints() -> Router<Arc<Interface>> {
    let all = on(MethodFilter::GET, query::list).merge(on(MethodFilter::POST, query::create));
    let one = on(MethodFilter::GET, query::get).merge(on(MethodFilter::PUT, query::put));
    let one = one.merge(on(MethodFilter::DELETE, query::delete));
    Router::new()
        .route("/v1/query", only("OPTIONS,GET,POST", all))
        .route("/v1/query/{*query}", only("OPTIONS,GET,PUT,DELETE", one))
}

/// What runs on this node.
fn own_services() -> Router<Arc<Interface>> {
    Router::new()
        .route("/v1/agent/services", get(services::list))
        .route("/v1/agent/service/{*id}", get(services::one))
        .route("/v1/agent/service/register", put(services::register))
        .route("/v1/agent/service/deregister/{*id}", put(services::deregister))
        .route("/v1/agent/service/maintenance/{*id}", put(services::maintain))
        .route("/v1/agent/maintenance", put(services::maintain_node))
        .route("/v1/agent/health/service/id/{*id}", get(services::health_by_id))
        .route("/v1/agent/health/service/name/{*name}", get(services::health_by_name))
        .route("/v1/agent/checks", get(checks::list))
        .route("/v1/agent/check/register", put(checks::register))
        .route("/v1/agent/check/deregister/{*id}", put(checks::deregister))
        .route("/v1/agent/check/pass/{*id}", put(checks::pass))
        .route("/v1/agent/check/warn/{*id}", put(checks::warn))
        .route("/v1/agent/check/fail/{*id}", put(checks::fail))
        .route("/v1/agent/check/update/{*id}", put(checks::update))
}

fn get<F, R>(handler: F) -> Routes
where
    F: Fn(Context) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    only("OPTIONS,GET", on(MethodFilter::GET, handler))
}

fn put<F, R>(handler: F) -> Routes
where
    F: Fn(Context) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    only("OPTIONS,PUT", on(MethodFilter::PUT, handler))
}

fn on<F, R>(method: MethodFilter, handler: F) -> Routes
where
    F: Fn(Context) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    axum::routing::on(method, move |State(interface): State<Arc<Interface>>, request: Request| {
        answer(interface, request, handler)
    })
}

/// Answers `OPTIONS` with the methods, and refuses all others. `HEAD` is one of the others.
fn only(allow: &'static str, methods: Routes) -> Routes {
    let refuse = move |State(interface): State<Arc<Interface>>, request: Request| {
        answer(interface, request, move |cx| std::future::ready(refused(&cx.parts.method, allow)))
    };
    methods.on(MethodFilter::HEAD, refuse).fallback(refuse)
}

fn refused(method: &Method, allow: &'static str) -> Result<Reply, Failure> {
    if method == Method::OPTIONS {
        let allow = HeaderValue::from_static(allow);
        return Ok(Reply::empty().with_header(header::ALLOW, allow));
    }
    let text = format!("method {method} not allowed");
    Err(Failure { allow: Some(allow), ..Failure::new(StatusCode::METHOD_NOT_ALLOWED, text) })
}

/// Carries a request through its handler, within the span of its trace.
async fn answer<F, R>(interface: Arc<Interface>, request: Request, handler: F) -> Response<Body>
where
    F: Fn(Context) -> R,
    R: Future<Output = Result<Reply, Failure>>,
{
    let cx = Context::new(&interface, request);
    let span = cx.trace.span();
    handle(interface, cx, handler).instrument(span).await
}

/// Handles a request, unless the rules forbid it, and counts it.
async fn handle<F, R>(interface: Arc<Interface>, cx: Context, handler: F) -> Response<Body>
where
    F: Fn(Context) -> R,
    R: Future<Output = Result<Reply, Failure>>,
{
    let began = Instant::now();
    let agent = &interface.agent;
    // The path only: parameters may hold tokens.
    let (method, path) = (&cx.parts.method, cx.parts.uri.path());
    debug!(%method, path, from = cx.peer().map(display), "HTTP request");
    let allowed = interface.rules.check(method, path, cx.peer());
    let wish = Wish::of(&cx);
    let blocking = cx.query().has("index");
    let trace = cx.trace;
    let outcome = match allowed {
        Ok(()) => handler(cx).await,
        Err(failure) => Err(failure),
    };
    let reply = outcome.unwrap_or_else(|failure| {
        if failure.status.is_server_error() {
            warn!(%trace, error = %failure.text, "request failed");
        }
        Reply::from(failure)
    });
    let response = wish.respond(reply).await;
    debug!(status = response.status().as_u16(), took = ?began.elapsed(), "HTTP answer");
    match response.status().as_u16() {
        500.. => agent.metrics.http_failed.increment(1),
        400.. => agent.metrics.http_refused.increment(1),
        _ => agent.metrics.http_ok.increment(1),
    }
    if !blocking {
        agent.metrics.http_seconds.record(began.elapsed().as_secs_f64());
    }
    response
}

fn nothing_here() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Sends a path that lacks the slash at its end to where it is.
async fn moved(uri: Uri) -> Response<Body> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = nothing_here();
    if let Ok(to) = HeaderValue::try_from(format!("{}/{query}", uri.path())) {
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}
