//! `/v1/agent/check*`: the checks of this node, by the word of this agent alone.

use serde_json::{Map, Value, json};

use super::{
    context::Context,
    error::Failure,
    lookup::filter,
    reply::Reply,
    services::{allowed, change, gone, read_json},
};
use crate::{
    catalog::{Health, Text},
    checks::beginning,
    definition::{self, Probe},
    filter::{Schema, ShownCheck},
    local::state::{CheckEntry, Source, State},
};

const DEREGISTER: &str = "/v1/agent/check/deregister/";
const PASS: &str = "/v1/agent/check/pass/";
const WARN: &str = "/v1/agent/check/warn/";
const FAIL: &str = "/v1/agent/check/fail/";
const UPDATE: &str = "/v1/agent/check/update/";

/// `GET /v1/agent/checks`, with `?filter`.
pub(super) async fn list(cx: Context) -> Result<Reply, Failure> {
    let filter = filter(&cx, Schema::Checks)?;
    let checks: Map<String, Value> = cx.agent.local.look(|state| {
        let wanted = state.checks().filter(|it| filter.admits(&shown(state, it)));
        wanted.map(|it| (it.check.id.to_string(), check_json(state, it))).collect()
    });
    Ok(Reply::value(&Value::Object(checks)))
}

/// `PUT /v1/agent/check/register`.
pub(super) async fn register(mut cx: Context) -> Result<Reply, Failure> {
    let value = read_json(&mut cx).await?;
    let check = definition::check(&value).map_err(|error| Failure::bad(error.to_string()))?;
    allowed(&cx, &check)?;
    change(cx.agent.local.clone(), move |local| local.register_check(check, Source::Api)).await
}

/// `PUT /v1/agent/check/deregister/:id`.
pub(super) async fn deregister(cx: Context) -> Result<Reply, Failure> {
    let id: Text = cx.path_after(DEREGISTER)?.into();
    change(cx.agent.local.clone(), move |local| gone(local.deregister_check(&id))).await
}

/// `PUT /v1/agent/check/pass/:id?note=`.
pub(super) async fn pass(cx: Context) -> Result<Reply, Failure> {
    report_note(cx, PASS, Health::Passing).await
}

/// `PUT /v1/agent/check/warn/:id?note=`.
pub(super) async fn warn(cx: Context) -> Result<Reply, Failure> {
    report_note(cx, WARN, Health::Warning).await
}

/// `PUT /v1/agent/check/fail/:id?note=`.
pub(super) async fn fail(cx: Context) -> Result<Reply, Failure> {
    report_note(cx, FAIL, Health::Critical).await
}

/// `PUT /v1/agent/check/update/:id` with `{"Status": "passing", "Output": ""}`.
pub(super) async fn update(mut cx: Context) -> Result<Reply, Failure> {
    let id = cx.path_after(UPDATE)?;
    let value = read_json(&mut cx).await?;
    let text = |name: &str| {
        let object = value.as_object();
        let found = object.and_then(|it| it.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.and_then(|(_, value)| value.as_str()).unwrap_or_default().to_owned()
    };
    let status = text("Status");
    let Some(health) = Health::from_name(&status) else {
        return Err(Failure::bad(format!("Invalid check status: '{status}'")));
    };
    report(cx, id, health, text("Output")).await
}

async fn report_note(cx: Context, prefix: &str, health: Health) -> Result<Reply, Failure> {
    let id = cx.path_after(prefix)?;
    let note = cx.query().get("note").unwrap_or_default().into_owned();
    report(cx, id, health, note).await
}

/// Takes a report of a check that waits for reports; others find out by themselves.
async fn report(cx: Context, id: String, health: Health, output: String) -> Result<Reply, Failure> {
    let id: Text = id.into();
    let ttl = cx.agent.local.look(|state| {
        let definition = state.check(&id)?.definition.as_ref()?;
        let len_max = cx.agent.local.kept_output(definition);
        matches!(definition.probe, Probe::Ttl(_)).then_some(len_max)
    });
    let Some(len_max) = ttl else {
        let text = format!("CheckID {id:?} does not have associated TTL");
        return Err(Failure::internal(text));
    };
    let output = beginning(output, len_max);
    change(cx.agent.local.clone(), move |local| local.report(&id, health, &output)).await
}

fn shown<'a>(state: &'a State, entry: &'a CheckEntry) -> ShownCheck<'a> {
    let owner = state.service(&entry.check.service_id);
    let tags = owner.map(|it| it.service.tags.as_slice()).unwrap_or_default();
    ShownCheck { node: &state.node().name, check: &entry.check, tags }
}

/// A check as its agent shows it.
pub(super) fn check_json(state: &State, entry: &CheckEntry) -> Value {
    let ShownCheck { node, check, tags } = shown(state, entry);
    json!({
        "Node": node,
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status.as_str(),
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service_id,
        "ServiceName": check.service_name,
        "ServiceTags": tags,
        "Type": check.kind,
        "Definition": {},
        "CreateIndex": 0,
        "ModifyIndex": 0,
    })
}
