//! `config write|read|list|delete`: configuration entries.

mod delete;
mod list;
mod read;
mod write;

pub(super) use self::{
    delete::COMMAND as DELETE, list::COMMAND as LIST, read::COMMAND as READ,
    write::COMMAND as WRITE,
};

use std::fs;

use anyhow::Context;
use serde_json::Value;

use super::{Call, Misuse, client::plain, flags::Flag};
use crate::config;

const KIND: Flag =
    Flag::value("kind", "kind", "The kind: service-resolver, service-defaults or proxy-defaults.");
const NAME: Flag = Flag::value("name", "name", "The name of the entry.");
const CAS: Flag = Flag::bool("cas", "Only if the entry was not changed since -modify-index.");

/// Reads an entry from a file, or from the standard input for `-`, in HCL or JSON.
fn entry(call: &mut Call<'_>, path: &str) -> anyhow::Result<Value> {
    let text = if path == "-" {
        let data = call.data(path)?;
        String::from_utf8(data).context("the entry is no text")?
    } else {
        fs::read_to_string(path)
            .map_err(|error| anyhow::anyhow!("Failed to load {path}: {}", plain(&error)))?
    };
    let name = if path == "-" { "stdin" } else { path };
    Ok(config::value_in(name, text)?)
}

/// Returns what an entry calls itself, in either spelling.
fn named(entry: &Value, field: &str) -> String {
    let fields = entry.as_object().into_iter().flatten();
    let found =
        fields.filter(|(name, _)| name.eq_ignore_ascii_case(field)).find_map(|(_, it)| it.as_str());
    found.unwrap_or_default().to_owned()
}

/// Returns a flag that has to be given.
fn needed<'a>(call: &'a Call<'_>, flag: &str) -> anyhow::Result<&'a str> {
    let given = call.line.value(flag).filter(|value| !value.is_empty());
    given.ok_or_else(|| Misuse(format!("Must specify the -{flag} parameter")).into())
}
