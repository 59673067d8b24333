//! What all reads of the catalog have in common: what they are about, which records they want, and
//! whether the agent's cache may answer.

use axum::http::{HeaderName, HeaderValue, header::AGE};

use super::{
    context::{Context, Query},
    error::Failure,
    reply::{Indexed, Reply},
    union::{self, Many},
};
use crate::{
    agent::Agent,
    ask::{AskError, Outcome},
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
    if cx.query().get("dc").is_some_and(|dc| Many::is_meant(&dc)) {
        union::check(&lookup)?;
        return Ok(missed(union::reply(cx.unite(lookup).await?), cx.query()));
    }
    let (reply, _) = serve(&cx, lookup, cache).await?;
    Ok(reply)
}

/// Answers a lookup from the servers or the cache, and says which.
pub(super) fn serve(
    cx: &Context,
    lookup: Lookup,
    cache: Cache,
) -> impl Future<Output = Result<(Reply, Outcome), Failure>> + Send + use<> {
    let wished = cx.query().has("cached") && cache == Cache::IfAsked;
    let looking_up = cx.look_up(lookup, cache);
    async move {
        let Served { answer, age } = looking_up.await?;
        let outcome = answer.outcome;
        let reply = Reply::answer(answer, Indexed::Yes);
        let reply = match age {
            Some(age) => reply.with_header(X_CACHE, HIT).with_header(AGE, age.as_secs().into()),
            None if wished => reply.with_header(X_CACHE, MISS),
            None => reply,
        };
        Ok((reply, outcome))
    }
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

/// Returns the node to be near to; empty for no order.
pub(super) fn near(agent: &Agent, query: Query<'_>) -> Text {
    match query.get("near").as_deref() {
        None => Text::default(),
        Some(THIS_AGENT) => agent.config.me.name.to_string().into(),
        Some(node) => node.into(),
    }
}

fn selection(agent: &Agent, query: Query<'_>) -> Selection {
    let mut selection = Selection { near: near(agent, query), ..Selection::default() };
    for (name, value) in query.pairs() {
        match name.as_ref() {
            "node-meta" => {
                let (key, value) = value.split_once(':').unwrap_or((&value, ""));
                selection.node_meta.insert(key.into(), value.into());
            }
            "tag" => selection.tags.push(value.into()),
            // As in Consul, the first one counts.
            "filter" if selection.filter.is_empty() => selection.filter = value.into(),
            _ => {}
        }
    }
    selection
}
