//! `kv get`: reads a value, a tree of them, or the names of keys.

use hyper::StatusCode;
use serde_json::Value;

use super::{Pair, without_slash};
use crate::cli::{Api, Call, Command, FORMAT, Run, flags::Flag};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "kv get",
    about: "Reads values, or lists keys",
    usage: "[options] [KEY_OR_PREFIX]",
    help: "Writes the value of a key to the standard output.\n\n    $ % kv get config/limit\n\n\
           Or what is known of it besides:\n\n    $ % kv get -detailed config/limit\n\n\
           Or everything below a prefix, or only the names:\n\n    \
           $ % kv get -recurse config/\n    $ % kv get -keys config/",
    flags: || {
        vec![
            Flag::bool("base64", "Show values in base64."),
            Flag::bool("detailed", "Show flags, session and indexes as well."),
            Flag::bool("keys", "List the names of the keys that begin with the prefix."),
            Flag::bool("recurse", "Show all keys that begin with the prefix."),
            Flag::value("separator", "text", "Where -keys cuts names off. The default is \"/\"."),
            FORMAT,
        ]
    },
    api: Api::Datacenter,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let all = call.line.is_set("keys") || call.line.is_set("recurse");
    let key = if all && call.line.args.is_empty() { "" } else { call.only_argument("KEY")? };
    let key = without_slash(key).to_owned();
    if key.is_empty() && !all {
        anyhow::bail!("Error! Missing KEY argument");
    }
    if call.line.is_set("keys") {
        return keys(call, &key);
    }
    let query: &[(&str, &str)] = if all { &[("recurse", "")] } else { &[] };
    let failed = |error| anyhow::anyhow!("Error querying Consul agent: {error:#}");
    let answer = call.client()?.get(&format!("/v1/kv/{key}"), query).map_err(failed)?;
    let found: Value = match answer.status {
        StatusCode::NOT_FOUND => Value::Array(Vec::new()),
        _ => answer.json().map_err(failed)?,
    };
    let pairs: Vec<Pair> = serde_json::from_value(found.clone())?;
    if pairs.is_empty() && !all {
        anyhow::bail!("Error! No key exists at: {key}");
    }
    if call.wants_json()? {
        call.say_json(&found)?;
    } else if call.line.is_set("detailed") {
        for (i, pair) in pairs.iter().enumerate() {
            if i > 0 {
                call.say("")?;
            }
            detailed(call, pair)?;
        }
    } else {
        for pair in &pairs {
            let mut line = if all { format!("{}:", pair.key).into_bytes() } else { Vec::new() };
            line.extend(value(call, pair)?);
            call.say(line)?;
        }
    }
    Ok(0)
}

fn keys(call: &mut Call<'_>, prefix: &str) -> anyhow::Result<u8> {
    let separator = call.line.value("separator").unwrap_or("/").to_owned();
    let failed = |error| anyhow::anyhow!("Error querying Consul agent: {error:#}");
    let query = [("keys", ""), ("separator", separator.as_str())];
    let answer = call.client()?.get(&format!("/v1/kv/{prefix}"), &query).map_err(failed)?;
    let keys: Vec<String> = match answer.status {
        StatusCode::NOT_FOUND => Vec::new(),
        _ => answer.json().map_err(failed)?,
    };
    if call.wants_json()? {
        call.say_json(&keys.into())?;
        return Ok(0);
    }
    for key in keys {
        call.say(key)?;
    }
    Ok(0)
}

fn value(call: &Call<'_>, pair: &Pair) -> anyhow::Result<Vec<u8>> {
    match call.line.is_set("base64") {
        true => Ok(pair.base64().as_bytes().to_vec()),
        false => pair.bytes(),
    }
}

fn detailed(call: &mut Call<'_>, pair: &Pair) -> anyhow::Result<()> {
    let session = pair.session.as_deref().filter(|session| !session.is_empty()).unwrap_or("-");
    for (name, text) in [
        ("CreateIndex", pair.create_index.to_string()),
        ("Flags", pair.flags.to_string()),
        ("Key", pair.key.clone()),
        ("LockIndex", pair.lock_index.to_string()),
        ("ModifyIndex", pair.modify_index.to_string()),
        ("Session", session.to_owned()),
    ] {
        call.say(format!("{name:<17}{text}"))?;
    }
    let value = value(call, pair)?;
    let name = if value.is_empty() { "Value".to_owned() } else { format!("{:<17}", "Value") };
    Ok(call.say([name.as_bytes(), &value].concat())?)
}
