//! What all reads of the catalog have in common: what they are about, which records they want, and
//! whether the agent's cache may answer.

use axum::http::{HeaderName, HeaderValue, header::AGE};

use super::{
    context::{Context, Query},
    error::Failure,
    reply::{Indexed, Reply},
};
use crate::{
    agent::Agent,
    ask::AskError,
    catalog::{Form, Lookup, Selection, Subject, Text},
    filter::{Filter, Schema},
    lookup::Served,
};

/// A service that can't be: asked for instead of what there is nothing of, so that the answer is
/// empty and still says how fresh it is.
pub(super) const NO_SERVICE: &str = "";

/// What stands for the agent that is asked, where a node is named.
const THIS_AGENT: &str = "_agent";

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const HIT: HeaderValue = HeaderValue::from_static("HIT");
const MISS: HeaderValue = HeaderValue::from_static("MISS");

/// Whether the agent's cache may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// The client's wish for it is passed over: only when no server does.
    Never,
    /// If the client wishes it (`cached`), and is told what came of it.
    IfAsked,
}

/// Answers with what the catalog holds of a subject.
pub(super) async fn answer(cx: Context, subject: Subject, cache: Cache) -> Result<Reply, Failure> {
    let mut selection = selection(&cx.agent, cx.query());
    if subject == Subject::Services {
        // Consul has no filter here and passes over one.
        selection.filter = Text::default();
    }
    let lookup = Lookup { subject, selection, form: Form::Json };
    if cx.agent.caller.server().is_none() {
        // What makes no sense does not travel. A server is asked right away, and may still know the
        // answer; then nothing has to be compiled.
        Filter::of(&lookup).map_err(AskError::from)?;
    }
    let Served { answer, age } = cx.look_up(lookup, cache).await?;
    let reply = Reply::answer(answer, Indexed::Yes);
    Ok(match age {
        Some(age) => reply.with_header(X_CACHE, HIT).with_header(AGE, age.as_secs().into()),
        None if cache == Cache::IfAsked => missed(reply, cx.query()),
        None => reply,
    })
}

/// Tells a client that wished the cache would answer that it did not.
pub(super) fn missed(reply: Reply, query: Query<'_>) -> Reply {
    if query.has("cached") { reply.with_header(X_CACHE, MISS) } else { reply }
}

/// Compiles the filter of what this agent answers by itself.
pub(super) fn filter(cx: &Context, schema: Schema) -> Result<Filter, Failure> {
    let text = cx.query().get("filter").unwrap_or_default();
    Ok(Filter::compile(&text, schema).map_err(AskError::from)?)
}

/// Returns the name at the end of a path, or refuses a path without one.
pub(super) fn name_after(
    cx: &Context,
    prefix: &str,
    missing: &'static str,
) -> Result<Text, Failure> {
    let name = cx.path_after(prefix)?;
    if name.is_empty() { Err(Failure::bad(missing)) } else { Ok(name.into()) }
}

fn selection(agent: &Agent, query: Query<'_>) -> Selection {
    let mut selection = Selection::default();
    for (name, value) in query.pairs() {
        match name.as_ref() {
            "node-meta" => {
                let (key, value) = value.split_once(':').unwrap_or((&value, ""));
                selection.node_meta.insert(key.into(), value.into());
            }
            "tag" => selection.tags.push(value.into()),
            "near" if value == THIS_AGENT => {
                selection.near = agent.config.me.name.to_string().into();
            }
            "near" => selection.near = value.into(),
            // As in Consul, the first one counts.
            "filter" if selection.filter.is_empty() => selection.filter = value.into(),
            _ => {}
        }
    }
    selection
}
