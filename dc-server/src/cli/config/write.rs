//! `config write`: sets an entry.

use anyhow::bail;

use super::{CAS, entry, named};
use crate::cli::{
    Api, Call, Command, Run,
    kv::{MODIFY_INDEX, cas},
};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "config write",
    about: "Creates or changes a configuration entry",
    usage: "[options] FILE",
    help: "Writes an entry that a file describes, in HCL or JSON, or the standard input for \"-\".\n\
           It is written in the primary datacenter, whichever agent is asked, and\n\
           comes to all others from there.\n\n    \
           $ % config write web-resolver.hcl\n\n\
           The file, for a service that goes on in dc2 when less than half of it is well:\n\n    \
           Kind = \"service-resolver\"\n    Name = \"web\"\n    \
           Failover = {\n      \"*\" = { Datacenters = [\"dc2\"], MinHealthy = \"50%\" }\n    }\n\n\
           Only if nobody else changed it since it was read:\n\n    \
           $ % config write -cas -modify-index=844 web-resolver.hcl",
    flags: || vec![CAS, MODIFY_INDEX],
    api: Api::Datacenter,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let path = call.only_argument("FILE")?.to_owned();
    if call.line.value("modify-index").is_some() && !call.line.is_set("cas") {
        bail!("Cannot specify -modify-index without -cas!");
    }
    let cas = cas(&call.line)?.map(|index| index.to_string());
    let entry = entry(call, &path)?;
    let (kind, name) = (named(&entry, "kind"), named(&entry, "name"));
    let query: Vec<_> = cas.iter().map(|index| ("cas", index.as_str())).collect();
    let written = call
        .client()?
        .put("/v1/config", &query, entry.to_string())
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("Error writing config entry {kind}/{name}: {error:#}"))?;
    if written.trim_ascii() != b"true" {
        bail!(
            "Error! Config entry {kind}/{name} was not written: it was changed since -modify-index"
        );
    }
    call.say(format!("Config entry written: {kind}/{name}"))?;
    Ok(0)
}
