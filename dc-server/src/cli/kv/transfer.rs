//! `kv export` and `kv import`: a tree as JSON, out of one store and into another.

use anyhow::anyhow;
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Pair, without_slash};
use crate::cli::{Api, Call, Command, Run, flags::Flag};

pub(in crate::cli) const EXPORT: Command = Command {
    name: "kv export",
    about: "Writes a tree as JSON",
    usage: "[options] [PREFIX]",
    help: "Writes all keys that begin with a prefix, with their values, as JSON that kv import\n\
           reads.\n\n    $ % kv export config/ > config.json",
    flags: Vec::new,
    api: Api::Datacenter,
    run: Run::Call(export),
};

pub(in crate::cli) const IMPORT: Command = Command {
    name: "kv import",
    about: "Reads a tree from JSON",
    usage: "[options] DATA",
    help: "Writes the keys of a tree that kv export wrote. DATA is \"@file\", \"-\" for the\n\
           standard input, or the JSON itself.\n\n    $ % kv import @config.json",
    flags: || vec![Flag::value("prefix", "prefix", "Put this before every key.")],
    api: Api::Datacenter,
    run: Run::Call(import),
};

/// A key in an exported tree.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: String,
    flags: u64,
    #[serde(default)]
    value: String,
}

fn export(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let prefix = match call.line.args.is_empty() {
        true => String::new(),
        false => without_slash(call.only_argument("KEY")?).to_owned(),
    };
    let failed = |error| anyhow!("Error querying Consul agent: {error:#}");
    let answer =
        call.client()?.get(&format!("/v1/kv/{prefix}"), &[("recurse", "")]).map_err(failed)?;
    let pairs: Vec<Pair> = match answer.status {
        StatusCode::NOT_FOUND => Vec::new(),
        _ => answer.json().map_err(failed)?,
    };
    let entries: Vec<Entry> = pairs
        .into_iter()
        .map(|pair| Entry { value: pair.base64().to_owned(), key: pair.key, flags: pair.flags })
        .collect();
    let mut json = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    entries.serialize(&mut serde_json::Serializer::with_formatter(&mut json, format))?;
    call.say(json)?;
    Ok(0)
}

fn import(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let argument = call.only_argument("DATA")?.to_owned();
    let data = call.data(&argument).map_err(|error| anyhow!("Error! {error:#}"))?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&data).map_err(|error| anyhow!("Cannot unmarshal data: {error}"))?;
    let prefix = call.line.value("prefix").unwrap_or_default().to_owned();
    let mut client = call.client()?;
    for entry in entries {
        let key = format!("{prefix}{}", without_slash(&entry.key));
        let value = STANDARD
            .decode(entry.value.trim())
            .map_err(|error| anyhow!("Error base 64 decoding value for key {key}: {error}"))?;
        let flags = entry.flags.to_string();
        let query: &[(&str, &str)] = if entry.flags == 0 { &[] } else { &[("flags", &flags)] };
        client
            .put(&format!("/v1/kv/{key}"), query, value)
            .and_then(|answer| answer.ok())
            .map_err(|error| anyhow!("Error! Failed writing data for key {key}: {error:#}"))?;
        call.say(format!("Imported: {key}"))?;
    }
    Ok(0)
}
