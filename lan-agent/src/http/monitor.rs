//! `/v1/agent/monitor`: the log of the agent as it is written, at a level of the caller's own.

use std::convert::Infallible;

use axum::{body::Body, http::StatusCode};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::json;

use super::{context::Context, error::Failure, reply::Reply};
use crate::log::{self, Line, Wanted};

/// Streams the log until the caller goes away or the agent stops.
pub(super) async fn monitor(cx: Context) -> Result<Reply, Failure> {
    let name = cx.query().get("loglevel").filter(|name| !name.is_empty());
    let name = name.unwrap_or("INFO".into());
    let Some(level) = log::level(&name) else {
        return Err(Failure::bad(format!("Bad request: Unknown log level: {name}")));
    };
    let json = cx.query().has("logjson");
    let Some(lines) = cx.agent.process.log.listen(Wanted { level, json }) else {
        let text = "Too many clients listen to the log of this agent";
        return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, text));
    };
    let texts = stream::unfold(lines, move |mut lines| async move {
        let text = match lines.next().await? {
            Line::Text(text) => text,
            Line::Lost(lost) => note(lost, json),
        };
        Some((Ok::<Bytes, Infallible>(text), lines))
    });
    let stopping = cx.agent.stopping().clone();
    let texts = texts.take_until(async move { stopping.cancelled().await });
    Ok(Reply::stream(Body::from_stream(texts)))
}

/// What stands in the place of lines that the caller was too slow for.
fn note(lost: u64, json: bool) -> Bytes {
    let text = "log lines were lost: this client reads too slowly";
    match json {
        true => {
            format!("{}\n", json!({ "level": "WARN", "fields": { "message": text, "lost": lost } }))
        }
        false => format!("WARN {lost} {text}\n"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::note;

    #[test]
    fn lost_lines_are_noted_in_the_form_of_the_others() {
        assert!(note(7, false).starts_with(b"WARN 7 log lines were lost"));
        let value: serde_json::Value = serde_json::from_slice(&note(7, true)).unwrap();
        assert_eq!(value["fields"]["lost"], 7);
    }
}
