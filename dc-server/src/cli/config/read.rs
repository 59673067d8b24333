//! `config read`: shows an entry.

use serde_json::Value;

use super::{KIND, NAME, needed};
use crate::cli::{Api, Call, Command, Run, watch::pretty};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "config read",
    about: "Shows a configuration entry",
    usage: "-kind KIND -name NAME [options]",
    help: "Shows an entry in JSON. What is shown can be written again.\n\n    \
           $ % config read -kind service-resolver -name web",
    flags: || vec![KIND, NAME],
    api: Api::Datacenter,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let (kind, name) = (needed(call, "kind")?.to_owned(), needed(call, "name")?.to_owned());
    let entry: Value = call
        .client()?
        .get(&format!("/v1/config/{kind}/{name}"), &[])
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error reading config entry {kind}/{name}: {error:#}"))?;
    call.say(pretty(&entry)?)?;
    Ok(0)
}
