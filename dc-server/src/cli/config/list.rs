//! `config list`: names the entries of a kind.

use serde_json::Value;

use super::{KIND, named, needed};
use crate::cli::{Api, Call, Command, Run};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "config list",
    about: "Names the configuration entries of a kind",
    usage: "-kind KIND [options]",
    help: "Names the entries of a kind, one on each line.\n\n    \
           $ % config list -kind service-resolver",
    flags: || vec![KIND],
    api: Api::Datacenter,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let kind = needed(call, "kind")?.to_owned();
    let entries: Vec<Value> = call
        .client()?
        .get(&format!("/v1/config/{kind}"), &[])
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error listing config entries of {kind}: {error:#}"))?;
    for entry in entries {
        call.say(named(&entry, "name"))?;
    }
    Ok(0)
}
