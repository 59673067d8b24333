//! `/v1/query`: prepared queries. What they say is read by the servers.

use axum::http::StatusCode;
use uuid::Uuid;

use super::{
    context::Context,
    error::Failure,
    lookup::{self, Cache},
    reply::{Indexed, Reply},
};
use crate::{
    ask::{Outcome, Question},
    catalog::{Form, Lookup, Run, Selection, Subject, Text},
};

/// Where queries are.
const PREFIX: &str = "/v1/query/";

/// Longest body of a query: what servers take, and as much again for blanks.
const BODY_LEN_MAX: usize = 128 * 1024;

/// What 413 says of that bound.
const BODY_SETTING: &str = "The bound of a prepared query is fixed.";

/// `GET /v1/query`: all of them.
pub(super) async fn list(cx: Context) -> Result<Reply, Failure> {
    Ok(Reply::answer(cx.ask_now(Question::QueryRead { id: None }).await?, Indexed::Yes))
}

/// `POST /v1/query`: makes one, and says by which id it is known.
pub(super) async fn create(mut cx: Context) -> Result<Reply, Failure> {
    let query = body(&mut cx).await?;
    let id: Text = cx.agent.new_request().0.to_string().into();
    cx.ask_now(Question::QuerySet { id: id.clone(), query, new: true }).await?;
    Ok(Reply::value(&serde_json::json!({ "ID": &*id })))
}

/// `GET /v1/query/:id`, `/v1/query/:name/execute` and `/v1/query/:name/explain`.
pub(super) async fn get(cx: Context) -> Result<Reply, Failure> {
    let path = cx.path_after(PREFIX)?;
    if let Some(name) = path.strip_suffix("/execute") {
        return execute(cx, name.into()).await;
    }
    if let Some(name) = path.strip_suffix("/explain") {
        let answer = cx.ask_now(Question::QueryExplain { name: name.into() }).await?;
        return Ok(found(Reply::answer(answer.clone(), Indexed::Yes), answer.outcome));
    }
    let answer = cx.ask_now(Question::QueryRead { id: Some(id(&path)?) }).await?;
    Ok(found(Reply::answer(answer.clone(), Indexed::Yes), answer.outcome))
}

/// `PUT /v1/query/:id`: changes one.
pub(super) async fn put(mut cx: Context) -> Result<Reply, Failure> {
    let id = id(&cx.path_after(PREFIX)?)?;
    let query = body(&mut cx).await?;
    cx.ask_now(Question::QuerySet { id, query, new: false }).await?;
    Ok(Reply::empty())
}

/// `DELETE /v1/query/:id`.
pub(super) async fn delete(cx: Context) -> Result<Reply, Failure> {
    let id = id(&cx.path_after(PREFIX)?)?;
    cx.ask_now(Question::QueryDelete { id }).await?;
    Ok(Reply::empty())
}

/// Runs a query: with `near` nearest to another node than it says, with `limit` for so many instances.
async fn execute(cx: Context, name: Text) -> Result<Reply, Failure> {
    let limit = match cx.query().get("limit").filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => {
            let limit: i64 = text
                .parse()
                .map_err(|_| Failure::bad(format!("Bad limit: {text:?} is not a number")))?;
            // As in Consul, what is below 1 is no limit.
            u32::try_from(limit.max(0)).unwrap_or(u32::MAX)
        }
    };
    let agent: Text = cx.agent.config.me.name.to_string().into();
    let near = lookup::near(&cx.agent, cx.query());
    let lookup = Lookup {
        subject: Subject::Query(Run { name, limit, agent }),
        selection: Selection { near, ..Selection::default() },
        form: Form::Json,
    };
    let (reply, outcome) = lookup::serve(&cx, lookup, Cache::IfAsked).await?;
    Ok(found(reply, outcome))
}

fn found(reply: Reply, outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Absent => reply.with_sentence("Query not found".to_owned()),
        Outcome::Found | Outcome::Conflict => reply,
    }
}

async fn body(cx: &mut Context) -> Result<Text, Failure> {
    let body = cx.take_body(BODY_LEN_MAX, BODY_SETTING).await?;
    match std::str::from_utf8(&body) {
        Ok("") => Err(Failure::bad("Request decode failed: EOF")),
        Ok(text) => Ok(text.into()),
        Err(error) => Err(Failure::bad(format!("Request decode failed: {error}"))),
    }
}

/// Reads the id of a query, which is not its name.
fn id(text: &str) -> Result<Text, Failure> {
    let failed = || {
        let why = format!(
            "failed prepared query lookup: {text:?} is not the id of a query, a UUID; names run: {PREFIX}{text}/execute"
        );
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    };
    let id = Uuid::try_parse(text).map_err(|_| failed())?;
    Ok(id.to_string().into())
}
