//! `kv get|put|delete|export|import`: the key-value store.

mod delete;
mod get;
mod put;
mod transfer;

pub(super) use self::{
    delete::COMMAND as DELETE,
    get::COMMAND as GET,
    put::COMMAND as PUT,
    transfer::{EXPORT, IMPORT},
};

use anyhow::bail;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::flags::{Flag, Line};

/// An entry as `/v1/kv/` shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    flags: u64,
    value: Option<String>,
    lock_index: u64,
    #[serde(default)]
    session: Option<String>,
    create_index: u64,
    modify_index: u64,
}

impl Pair {
    /// Returns the value as it was written.
    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        Ok(STANDARD.decode(self.value.as_deref().unwrap_or_default())?)
    }

    /// Returns the value in base64.
    fn base64(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

pub(super) const CAS: Flag =
    Flag::bool("cas", "Only if the key was not changed since -modify-index.");
pub(super) const MODIFY_INDEX: Flag =
    Flag::value("modify-index", "index", "The ModifyIndex that -cas compares with.");

/// Reads `-cas` with its `-modify-index`.
pub(super) fn cas(line: &Line) -> anyhow::Result<Option<u64>> {
    match (line.is_set("cas"), line.value("modify-index")) {
        (true, Some(index)) => Ok(Some(number("modify-index", index)?)),
        (true, None) => bail!("Must specify -modify-index with -cas!"),
        (false, _) => Ok(None),
    }
}

fn number(flag: &str, value: &str) -> anyhow::Result<u64> {
    value
        .parse()
        .map_err(|_| anyhow::anyhow!("invalid value {value:?} for flag -{flag}: parse error"))
}

/// Takes one slash off a key's beginning: people write paths.
fn without_slash(key: &str) -> &str {
    key.strip_prefix('/').unwrap_or(key)
}
