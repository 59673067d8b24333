//! Which path and method goes to which handler.

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, Response, StatusCode, header},
    middleware::map_response,
    routing::{MethodFilter, MethodRouter, any},
};
use tokio::time::Instant;

use super::{
    context::Context,
    error::Failure,
    kv, local,
    reply::{Reply, Wish},
    status, txn,
};
use crate::agent::Agent;

/// Headers that every response carries.
pub(super) type Headers = Arc<[(HeaderName, HeaderValue)]>;

type Routes = MethodRouter<Arc<Agent>>;

/// Makes the table of all endpoints. `headers` are added to every response.
pub(super) fn table(agent: Arc<Agent>, headers: Headers) -> Router {
    let table = endpoints(agent);
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

fn endpoints(agent: Arc<Agent>) -> Router {
    let kv = || {
        let methods = on(MethodFilter::GET, kv::get);
        let methods = methods.merge(on(MethodFilter::PUT, kv::put));
        only("OPTIONS,GET,PUT,DELETE", methods.merge(on(MethodFilter::DELETE, kv::delete)))
    };
    Router::new()
        .route("/v1/kv", any(|| async { moved("/v1/kv/") }))
        .route("/v1/kv/", kv())
        .route("/v1/kv/{*key}", kv())
        .route("/v1/txn", put(txn::put))
        .route("/v1/status/leader", get(status::leader))
        .route("/v1/status/peers", get(status::peers))
        .route("/v1/catalog/datacenters", get(status::datacenters))
        .route("/v1/operator/raft/configuration", get(status::raft_configuration))
        .route("/v1/agent/self", get(local::own))
        .route("/v1/agent/version", get(local::version))
        .route("/v1/agent/host", get(local::host))
        .route("/v1/agent/metrics", get(local::metrics))
        .route("/v1/agent/members", get(local::members))
        .route("/v1/agent/join/", put(local::join))
        .route("/v1/agent/join/{*addr}", put(local::join))
        .route("/v1/agent/leave", put(local::leave))
        .route("/v1/agent/force-leave/", put(local::force_leave))
        .route("/v1/agent/force-leave/{*node}", put(local::force_leave))
        .fallback(|| async { nothing_here() })
        .with_state(agent)
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
    axum::routing::on(method, move |State(agent): State<Arc<Agent>>, request: Request| {
        answer(agent, request, handler)
    })
}

/// Answers `OPTIONS` with the methods, and refuses all others. `HEAD` is one of the others.
fn only(allow: &'static str, methods: Routes) -> Routes {
    let refuse = move |State(agent): State<Arc<Agent>>, request: Request| {
        answer(agent, request, move |cx| std::future::ready(refused(&cx.parts.method, allow)))
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

/// Carries a request through its handler, and counts it.
async fn answer<F, R>(agent: Arc<Agent>, request: Request, handler: F) -> Response<Body>
where
    F: Fn(Context) -> R,
    R: Future<Output = Result<Reply, Failure>>,
{
    let began = Instant::now();
    let cx = Context::new(agent.clone(), request);
    let wish = Wish::of(&cx);
    let blocking = cx.query().has("index");
    let trace = cx.trace;
    let reply = handler(cx).await.unwrap_or_else(|failure| {
        if failure.status.is_server_error() {
            tracing::warn!(trace = %trace.0, error = %failure.text, "request failed");
        }
        Reply::from(failure)
    });
    let response = wish.respond(reply).await;
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

fn moved(to: &'static str) -> Response<Body> {
    let mut response = nothing_here();
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}
