//! `kv put`: writes a value.

use anyhow::bail;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{CAS, MODIFY_INDEX, cas, number};
use crate::cli::{Api, Call, Command, Run, flags::Flag};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "kv put",
    about: "Writes a value",
    usage: "[options] KEY [DATA]",
    help: "Writes a value; an empty one when DATA is left out.\n\n    $ % kv put config/limit 5\n\n\
           DATA is read from a file behind \"@\", or from the standard input for \"-\":\n\n    \
           $ % kv put license @license.txt\n    $ date | % kv put started -\n\n\
           Only if nobody else changed the key:\n\n    \
           $ % kv put -cas -modify-index=844 config/limit 6",
    flags: || {
        vec![
            Flag::bool("acquire", "Take the lock of the key for -session."),
            Flag::bool("base64", "DATA is base64: write what it stands for."),
            CAS,
            Flag::value("flags", "number", "A number to keep with the value. The default is 0."),
            MODIFY_INDEX,
            Flag::bool("release", "Give the lock of the key back."),
            Flag::value("session", "id", "The session of -acquire and -release."),
        ]
    },
    api: Api::Datacenter,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let (key, data) = match call.line.args.as_slice() {
        [] => bail!("Error! Missing KEY argument"),
        [key] => (key.clone(), None),
        [key, data] => (key.clone(), Some(data.clone())),
        many => bail!("Error! Too many arguments (expected 1 or 2, got {})", many.len()),
    };
    if key.starts_with('/') {
        bail!("Error! Failed writing data: Invalid key. Key must not begin with a '/': {key}");
    }
    let mut data = match data {
        Some(data) => call.data(&data).map_err(|error| anyhow::anyhow!("Error! {error:#}"))?,
        None => Vec::new(),
    };
    if call.line.is_set("base64") {
        let text = data.trim_ascii();
        data = STANDARD
            .decode(text)
            .map_err(|error| anyhow::anyhow!("Error! Cannot base 64 decode data: {error}"))?;
    }
    let query = query(call)?;
    let query: Vec<(&str, &str)> = query.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let written = call
        .client()?
        .put(&format!("/v1/kv/{key}"), &query, data)
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("Error! Failed writing data: {error:#}"))?;
    if written.trim_ascii() != b"true" {
        bail!("Error! Did not write to {key}: {}", refusal(call));
    }
    let what = match () {
        () if call.line.is_set("acquire") => "Lock acquired on",
        () if call.line.is_set("release") => "Lock released on",
        () => "Data written to",
    };
    call.say(format!("Success! {what}: {key}"))?;
    Ok(0)
}

fn refusal(call: &Call<'_>) -> &'static str {
    match () {
        () if call.line.is_set("cas") => "CAS failed",
        () if call.line.is_set("acquire") => "Lock not acquired",
        () if call.line.is_set("release") => "Lock not released",
        () => "the agent refused",
    }
}

fn query(call: &Call<'_>) -> anyhow::Result<Vec<(&'static str, String)>> {
    let line = &call.line;
    let mut query = Vec::new();
    if let Some(flags) = line.value("flags") {
        query.push(("flags", number("flags", flags)?.to_string()));
    }
    if let Some(index) = cas(line)? {
        query.push(("cas", index.to_string()));
    }
    let session = line.value("session").unwrap_or_default();
    for lock in ["acquire", "release"] {
        if line.is_set(lock) {
            if session.is_empty() {
                bail!("Error! Missing -session (required with -acquire and -release)");
            }
            query.push((lock, session.to_owned()));
        }
    }
    Ok(query)
}
