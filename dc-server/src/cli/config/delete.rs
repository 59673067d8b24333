//! `config delete`: removes an entry.

use anyhow::bail;

use super::{CAS, KIND, NAME, entry, named, needed};
use crate::cli::{
    Api, Call, Command, Misuse, Run,
    flags::Flag,
    kv::{MODIFY_INDEX, cas},
};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "config delete",
    about: "Removes a configuration entry",
    usage: "-kind KIND -name NAME [options]",
    help: "Removes an entry, in all datacenters; one that does not exist is no error.\n\n    \
           $ % config delete -kind service-resolver -name web\n\n\
           Or the one that a file describes:\n\n    \
           $ % config delete -filename web-resolver.hcl",
    flags: || {
        vec![
            CAS,
            Flag::value("filename", "path", "A file with the entry, in HCL or JSON."),
            KIND,
            MODIFY_INDEX,
            NAME,
        ]
    },
    api: Api::Datacenter,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let (kind, name) = place(call)?;
    if call.line.value("modify-index").is_some() && !call.line.is_set("cas") {
        bail!("Cannot specify -modify-index without -cas!");
    }
    let cas = cas(&call.line)?.map(|index| index.to_string());
    let query: Vec<_> = cas.iter().map(|index| ("cas", index.as_str())).collect();
    let deleted = call
        .client()?
        .delete(&format!("/v1/config/{kind}/{name}"), &query)
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("Error deleting config entry {kind}/{name}: {error:#}"))?;
    if cas.is_some() && deleted.trim_ascii() != b"true" {
        bail!(
            "Error! Config entry {kind}/{name} was not deleted: it was changed since -modify-index"
        );
    }
    call.say(format!("Config entry deleted: {kind}/{name}"))?;
    Ok(0)
}

/// Returns the kind and the name that flags or a file say.
fn place(call: &mut Call<'_>) -> anyhow::Result<(String, String)> {
    let by_flags = ["kind", "name"].iter().any(|flag| call.line.value(flag).is_some());
    let Some(path) = call.line.value("filename").map(str::to_owned) else {
        return Ok((needed(call, "kind")?.to_owned(), needed(call, "name")?.to_owned()));
    };
    if by_flags {
        let text = "An entry is named by -kind and -name or by -filename, not both.";
        return Err(Misuse(text.to_owned()).into());
    }
    let entry = entry(call, &path)?;
    let (kind, name) = (named(&entry, "kind"), named(&entry, "name"));
    if kind.is_empty() || name.is_empty() {
        bail!("{path}: the entry has no kind or no name");
    }
    Ok((kind, name))
}
