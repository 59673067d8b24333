//! `kv delete`: removes a key, or all with a prefix.

use anyhow::bail;

use super::{CAS, MODIFY_INDEX, cas, without_slash};
use crate::cli::{Api, Call, Command, Run, flags::Flag};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "kv delete",
    about: "Removes keys",
    usage: "[options] KEY_OR_PREFIX",
    help: "Removes a key; one that does not exist is no error.\n\n    $ % kv delete config/limit\n\n\
           Or all that begin with a prefix:\n\n    $ % kv delete -recurse config/",
    flags: || {
        vec![
            CAS,
            MODIFY_INDEX,
            Flag::bool("recurse", "Remove all keys that begin with the prefix."),
        ]
    },
    api: Api::Datacenter,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let recurse = call.line.is_set("recurse");
    let key = if recurse && call.line.args.is_empty() { "" } else { call.only_argument("KEY")? };
    let key = without_slash(key).to_owned();
    if key.is_empty() && !recurse {
        bail!("Error! Missing KEY argument");
    }
    if call.line.value("modify-index").is_some() && !call.line.is_set("cas") {
        bail!("Cannot specify -modify-index without -cas!");
    }
    let cas = cas(&call.line)?.map(|index| index.to_string());
    if recurse && cas.is_some() {
        bail!("Cannot specify both -cas and -recurse!");
    }
    let mut query = Vec::new();
    if recurse {
        query.push(("recurse", ""));
    }
    if let Some(index) = &cas {
        query.push(("cas", index.as_str()));
    }
    let failed = match recurse {
        true => "Error! Did not delete prefix",
        false => "Error deleting key",
    };
    let deleted = call
        .client()?
        .delete(&format!("/v1/kv/{key}"), &query)
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("{failed} {key}: {error:#}"))?;
    if cas.is_some() && deleted.trim_ascii() != b"true" {
        bail!("Error! Did not delete key {key}: CAS failed");
    }
    call.say(match recurse {
        true => format!("Success! Deleted keys with prefix: {key}"),
        false => format!("Success! Deleted key: {key}"),
    })?;
    Ok(0)
}
