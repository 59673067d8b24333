//! `info`: numbers of an agent, by part.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Api, Call, Command, FORMAT, Run};

pub(super) const COMMAND: Command = Command {
    name: "info",
    about: "Shows numbers of an agent",
    usage: "[options]",
    help: "Shows what an agent counts, part by part: what runs on its node and when the servers\n\
           last heard of it, its build, Raft, its pools.\n\n    \
           $ % info\n    $ % info -format=json | jq -r .raft.state",
    flags: || vec![FORMAT],
    api: Api::Agent,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let own: Value = call
        .client()?
        .get("/v1/agent/self", &[])
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error querying agent: {error:#}"))?;
    let Some(Value::Object(stats)) = own.get("Stats") else {
        anyhow::bail!("Agent provided invalid stats");
    };
    if call.wants_json()? {
        call.say_json(&Value::Object(stats.clone()))?;
        return Ok(0);
    }
    let parts: BTreeMap<&String, &Value> = stats.iter().collect();
    for (part, values) in parts {
        call.say(format!("{part}:"))?;
        let values: BTreeMap<&String, &Value> = values.as_object().into_iter().flatten().collect();
        for (name, value) in values {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            call.say(format!("\t{name} = {value}"))?;
        }
    }
    Ok(0)
}
