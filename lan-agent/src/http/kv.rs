//! `/v1/kv/`: keys, values and trees.

use super::{
    context::{Context, Query},
    error::Failure,
    reply::{Indexed, Reply},
};
use crate::ask::Question;

/// Where keys begin.
pub(super) const PREFIX: &str = "/v1/kv/";

/// What 413 says of the bound of a value.
const VALUE_SETTING: &str = "It is set by limits.kv_max_value_size.";

/// `GET`: one key, or those below it with `?recurse`, or their names with `?keys`.
pub(super) async fn get(cx: Context) -> Result<Reply, Failure> {
    let key = cx.path_after(PREFIX)?;
    let query = cx.query();
    let question = if query.has("keys") {
        let separator = query.get("separator").unwrap_or_default().into_owned();
        Question::KvKeys { prefix: key, separator }
    } else if query.has("recurse") {
        Question::KvList { prefix: key }
    } else {
        Question::KvGet { key: named(key)?, raw: query.has("raw") }
    };
    let raw = matches!(question, Question::KvGet { raw: true, .. });
    let answer = cx.read(question).await?;
    Ok(if raw { Reply::raw(answer) } else { Reply::answer(answer, Indexed::Yes) })
}

/// `PUT`: sets a key, with `?cas` only if its index is as given.
pub(super) async fn put(mut cx: Context) -> Result<Reply, Failure> {
    let key = named(cx.path_after(PREFIX)?)?;
    let query = cx.query();
    conflicts(query, &["cas", "acquire", "release"])?;
    for verb in ["acquire", "release"] {
        match query.get(verb) {
            None => {}
            Some(session) if session.is_empty() => return Err(Failure::bad("missing session")),
            Some(session) => {
                let text = format!("invalid session {session:?}: there are no sessions here");
                return Err(Failure::bad(text));
            }
        }
    }
    let flags = number(query, "flags")?.unwrap_or(0);
    let cas = number(query, "cas")?;
    let value = cx.take_body(cx.bounds.value_len_max, VALUE_SETTING).await?;
    let answer = cx.ask_now(Question::KvPut { key, value, flags, cas }).await?;
    Ok(Reply::answer(answer, Indexed::No))
}

/// `DELETE`: deletes a key, with `?cas` only if its index is as given, or a tree with `?recurse`.
pub(super) async fn delete(cx: Context) -> Result<Reply, Failure> {
    let key = cx.path_after(PREFIX)?;
    let query = cx.query();
    conflicts(query, &["recurse", "cas"])?;
    let question = if query.has("recurse") {
        Question::KvDeleteTree { prefix: key }
    } else {
        Question::KvDelete { key: named(key)?, cas: number(query, "cas")? }
    };
    let answer = cx.ask_now(question).await?;
    Ok(Reply::answer(answer, Indexed::No))
}

fn named(key: String) -> Result<String, Failure> {
    if key.is_empty() { Err(Failure::bad("Missing key name")) } else { Ok(key) }
}

/// Reads a number among the parameters.
pub(super) fn number(query: Query<'_>, name: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let number = text.parse().map_err(|_| {
        Failure::bad(format!("Invalid {name}: {text:?} is not a number from 0 to {}", u64::MAX))
    })?;
    Ok(Some(number))
}

/// Refuses parameters that exclude each other.
fn conflicts(query: Query<'_>, exclusive: &[&str]) -> Result<(), Failure> {
    if exclusive.iter().filter(|name| query.has(name)).count() < 2 {
        return Ok(());
    }
    let mut pairs: Vec<String> =
        query.pairs().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.sort();
    Err(Failure::bad(format!("Conflicting flags: {}", pairs.join("&"))))
}
