//! `federation timeline`: what happened between the datacenters, line by line.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use time::{OffsetDateTime, macros::format_description};

use super::{list, text};
use crate::cli::{
    Api, Call, Command, FORMAT, Run,
    client::{Client, End},
    flags::Flag,
    table::columns,
};

/// How long to wait after an agent did not answer, while following.
const PAUSE: Duration = Duration::from_secs(2);

pub(in crate::cli) const COMMAND: Command = Command {
    name: "federation timeline",
    about: "Shows what happened between the datacenters",
    usage: "[options]",
    help: "Shows what the servers of all datacenters that can be reached saw, decided and\n\
           did, in one order: paths and verdicts with their evidence, when requests were\n\
           sent elsewhere, and when it was over. Times are those of the servers' clocks,\n\
           in UTC.\n\n    \
           $ % federation timeline\n    \
           $ % federation timeline -dc=dc2\n\nAs it goes on:\n\n    \
           $ % federation timeline -follow",
    flags: || {
        vec![
            Flag::value("dc", "name", "Show what is about this datacenter only."),
            Flag::bool("follow", "Go on with what happens from now on, until interrupted."),
            FORMAT,
        ]
    },
    api: Api::Agent,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let mut client = call.client()?;
    let answer = ask(call, &mut client, None)?;
    let Some((mut index, timeline)) = answer else { return Ok(0) };
    let json = call.wants_json()?;
    if json && !call.line.is_set("follow") {
        call.say_json(&timeline)?;
        return Ok(0);
    }
    let mut shown = BTreeMap::new();
    show(call, &timeline, &mut shown, json)?;
    for silent in list(&timeline, "Unreachable") {
        let who = match silent["Server"].as_str() {
            Some(server) => format!("{server}.{}", text(silent, "Datacenter")),
            None => text(silent, "Datacenter").to_owned(),
        };
        writeln!(call.io.err, "No answer from {who}: {}", text(silent, "Reason"))?;
    }
    while call.line.is_set("follow") {
        call.io.out.flush()?;
        match ask(call, &mut client, Some(index)) {
            Ok(None) => return Ok(0),
            Ok(Some((next, timeline))) => {
                index = next;
                show(call, &timeline, &mut shown, json)?;
            }
            Err(error) => {
                writeln!(call.io.err, "{error:#}; again in {PAUSE:?}")?;
                if client.pause(PAUSE) == End::Interrupted {
                    return Ok(0);
                }
            }
        }
    }
    Ok(0)
}

/// Asks for the timeline once it is another than that of an index; `None` when somebody interrupts.
fn ask(
    call: &Call<'_>,
    client: &mut Client,
    index: Option<u64>,
) -> anyhow::Result<Option<(u64, Value)>> {
    let index = index.map(|index| index.to_string());
    let about = call.line.value("dc");
    let query = [("dc", about), ("index", index.as_deref())];
    let query: Vec<_> = query.into_iter().filter_map(|(name, it)| Some((name, it?))).collect();
    let answer = client
        .get_unless_interrupted("/v1/federation/timeline", &query)
        .map_err(|error| anyhow::anyhow!("Error retrieving the timeline: {error:#}"))?;
    let Some(answer) = answer else { return Ok(None) };
    let index = answer.headers.get("x-consul-index").and_then(|it| it.to_str().ok()?.parse().ok());
    let timeline = answer
        .json()
        .map_err(|error| anyhow::anyhow!("Error retrieving the timeline: {error:#}"))?;
    Ok(Some((index.unwrap_or(1), timeline)))
}

/// Writes the events that were not written before: `shown` has the last number of each server.
fn show(
    call: &mut Call<'_>,
    timeline: &Value,
    shown: &mut BTreeMap<(String, String), u64>,
    json: bool,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for event in list(timeline, "Events") {
        let server = (text(event, "Datacenter").to_owned(), text(event, "Server").to_owned());
        let sequence = event["Sequence"].as_u64().unwrap_or_default();
        if shown.get(&server).is_some_and(|last| *last >= sequence) {
            continue;
        }
        rows.push(match json {
            true => vec![event.to_string()],
            false => line(event, &server),
        });
        shown.insert(server, sequence);
    }
    if !rows.is_empty() {
        call.say(columns(&rows))?;
    }
    Ok(())
}

fn line(event: &Value, (dc, server): &(String, String)) -> Vec<String> {
    let who = format!("{server}.{dc}");
    let (about, kind) = (text(event, "About").to_owned(), text(event, "Kind").to_owned());
    vec![moment(event["TimeMs"].as_i64()), who, about, kind, text(event, "Text").to_owned()]
}

/// Shows a time of day to the millisecond.
fn moment(millis: Option<i64>) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let nanos = i128::from(millis.unwrap_or_default()) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos);
    moment.ok().and_then(|moment| moment.format(format).ok()).unwrap_or_else(|| "?".to_owned())
}
