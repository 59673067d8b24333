//! `/v1/config`: configuration entries. What they say is read by the servers.

use super::{
    context::Context,
    error::Failure,
    kv::number,
    reply::{Indexed, Reply},
};
use crate::{
    ask::{Answer, Outcome, Question, question::CONFIG_ENTRY_LEN_MAX},
    catalog::Text,
};

/// Where entries are.
const PREFIX: &str = "/v1/config/";

/// What 413 says of the bound of an entry.
const BODY_SETTING: &str = "The bound of a config entry is fixed.";

/// `PUT`: sets an entry, with `?cas` only if its index is as given.
pub(super) async fn put(mut cx: Context) -> Result<Reply, Failure> {
    let cas = number(cx.query(), "cas")?;
    let body = cx.take_body(CONFIG_ENTRY_LEN_MAX, BODY_SETTING).await?;
    let entry = match std::str::from_utf8(&body) {
        Ok("") => return Err(Failure::bad("Request decode failed: EOF")),
        Ok(text) => text.into(),
        Err(error) => return Err(Failure::bad(format!("Request decode failed: {error}"))),
    };
    let answer = cx.ask_now(Question::ConfigSet { entry, cas }).await?;
    Ok(Reply::answer(answer, Indexed::No))
}

/// `GET`: one entry, or all of a kind.
pub(super) async fn get(cx: Context) -> Result<Reply, Failure> {
    let (kind, name) = place(&cx)?;
    let question = Question::ConfigRead { kind: Some(kind.clone()), name: name.clone() };
    let answer = cx.read(question).await?;
    let absent = answer.outcome == Outcome::Absent;
    let reply = Reply::answer(answer, Indexed::Yes);
    Ok(match name {
        Some(name) if absent => {
            reply.with_sentence(format!("Config entry not found for {kind:?} / {name:?}"))
        }
        _ => reply,
    })
}

/// `DELETE`: deletes an entry, with `?cas` only if its index is as given, and then says whether it is gone.
pub(super) async fn delete(cx: Context) -> Result<Reply, Failure> {
    let (kind, Some(name)) = place(&cx)? else {
        return Err(Failure::bad("Must specify a kind and a name of a config entry"));
    };
    let cas = number(cx.query(), "cas")?;
    let answer = cx.ask_now(Question::ConfigDelete { kind, name, cas }).await?;
    Ok(match cas {
        Some(_) => Reply::answer(answer, Indexed::No),
        None => Reply::answer(Answer { body: "{}".into(), ..answer }, Indexed::No),
    })
}

/// Returns the kind and the name at the end of the path.
fn place(cx: &Context) -> Result<(Text, Option<Text>), Failure> {
    let path = cx.path_after(PREFIX)?;
    let (kind, name) = path.split_once('/').unwrap_or((&path, ""));
    if kind.is_empty() {
        return Err(Failure::bad("Missing kind of config entry"));
    }
    Ok((kind.into(), Some(name).filter(|name| !name.is_empty()).map(Text::from)))
}
