//! How the datacenters are and what happened between them: `/v1/federation`, which Consul does not have.

use topology::Datacenter;

use super::{
    context::Context,
    error::Failure,
    reply::{Indexed, Reply},
};
use crate::ask::{
    FailoverExplain, Question,
    question::{OVERLOAD_PERCENT, Removing, Scope},
};

const REMOVE: &str = "/v1/federation/remove/";

/// `/v1/federation/status`, as the datacenter that `dc` names sees it; with blocking.
pub(super) async fn status(cx: Context) -> Result<Reply, Failure> {
    let answer = cx.read(Question::FederationStatus).await?;
    Ok(Reply::answer(answer, Indexed::Yes))
}

/// `/v1/federation/timeline`, of all datacenters that can be reached, about the one that `dc`
/// names or all; with blocking.
pub(super) async fn timeline(cx: Context) -> Result<Reply, Failure> {
    let about = cx.query().get("dc").filter(|name| !name.is_empty());
    let about = about.map(|name| Datacenter::new(name.as_ref())).transpose();
    let about = about.map_err(|error| Failure::bad(error.to_string()))?;
    let question = Question::FederationTimeline { about, scope: Scope::Federation };
    Ok(Reply::answer(cx.read_here(question).await?, Indexed::Yes))
}

/// `/v1/federation/failover`: where lookups of a `service`, or of all, go, and would go without the datacenters that
/// `lose` names; `overload` says from how many times the load of now on it is too much for an instance.
pub(super) async fn failover(cx: Context) -> Result<Reply, Failure> {
    let query = cx.query();
    let mut lost = Vec::new();
    for (_, names) in query.pairs().filter(|(name, _)| name == "lose") {
        for name in names.split(',').filter(|name| !name.is_empty()) {
            lost.push(Datacenter::new(name).map_err(|error| Failure::bad(error.to_string()))?);
        }
    }
    let service = query.get("service").filter(|name| !name.is_empty());
    let overload_percent = match query.get("overload") {
        None => OVERLOAD_PERCENT,
        Some(times) => percent(&times).ok_or_else(|| {
            Failure::bad(format!(
                "Invalid overload {times:?}: a number such as 2 or 1.5, at least 1"
            ))
        })?,
    };
    let service = service.map(|name| name.as_ref().into());
    let explain = FailoverExplain { service, lost, overload_percent, scope: Scope::Federation };
    let answer = cx.read_here(Question::FailoverExplain(explain)).await?;
    Ok(Reply::answer(answer, Indexed::No))
}

/// Reads how many times as much is too much.
fn percent(times: &str) -> Option<u32> {
    let times: f64 = times.parse().ok()?;
    // The bounds are far within those of the number.
    (1.0..=1e6).contains(&times).then(|| (times * 100.0).round() as u32)
}

/// `/v1/federation/remove/:datacenter`, with `force` or `undo`.
pub(super) async fn remove(cx: Context) -> Result<Reply, Failure> {
    let dc = Datacenter::new(cx.path_after(REMOVE)?);
    let dc = dc.map_err(|error| Failure::bad(error.to_string()))?;
    let removing = match (cx.query().has("force"), cx.query().has("undo")) {
        (true, true) => return Err(Failure::bad("Cannot specify ?force with ?undo")),
        (true, false) => Removing::Anyway,
        (false, true) => Removing::Undo,
        (false, false) => Removing::IfGone,
    };
    let answer = cx.read_here(Question::FederationRemove { dc, removing }).await?;
    Ok(Reply::answer(answer, Indexed::No))
}
