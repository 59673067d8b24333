//! `members`: who is in a pool.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, Call, Command, FORMAT, Run,
    flags::Flag,
    table::{columns, row},
};

/// The exit code when no member is in the answer, as Consul's.
const NOBODY: u8 = 2;

pub(super) const COMMAND: Command = Command {
    name: "members",
    about: "Lists the members of a pool",
    usage: "[options]",
    help: "Lists the members of the agent's datacenter, or of the WAN pool.\n\n\
           All that failed:\n\n    $ % members -status=failed",
    flags: || {
        vec![
            Flag::bool("detailed", "Show everything that members say of themselves."),
            Flag::value("status", "regex", "Show members whose status matches only."),
            Flag::bool("wan", "Show the servers of all datacenters instead."),
            Flag::value(
                "segment",
                "name",
                "Accepted and ignored: segments belong to Consul Enterprise.",
            ),
            FORMAT,
        ]
    },
    api: Api::Agent,
    run: Run::Call(run),
};

/// A member as `/v1/agent/members` shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    addr: String,
    port: u16,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    status: u8,
}

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let pattern = format!("^(?:{})$", call.line.value("status").unwrap_or(".*"));
    let status = Regex::new(&pattern)
        .map_err(|error| anyhow::anyhow!("Failed to compile status regexp: {error}"))?;
    let query: &[(&str, &str)] = if call.line.is_set("wan") { &[("wan", "1")] } else { &[] };
    let mut members: Vec<Member> = call
        .client()?
        .get("/v1/agent/members", query)
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error retrieving members: {error:#}"))?;
    members.retain(|member| status.is_match(status_name(member.status)));
    members.sort_by(|a, b| a.name.cmp(&b.name));
    if call.wants_json()? {
        call.say_json(&Value::Array(members.iter().map(as_json).collect()))?;
    } else if !members.is_empty() {
        let table =
            if call.line.is_set("detailed") { detailed(&members) } else { standard(&members) };
        call.say(table)?;
    }
    Ok(if members.is_empty() { NOBODY } else { 0 })
}

/// Names a status number of Serf's.
fn status_name(status: u8) -> &'static str {
    match status {
        1 => "alive",
        2 => "leaving",
        3 => "left",
        4 => "failed",
        _ => "none",
    }
}

impl Member {
    fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    fn address(&self) -> String {
        match self.addr.contains(':') {
            true => format!("[{}]:{}", self.addr, self.port),
            false => format!("{}:{}", self.addr, self.port),
        }
    }

    fn kind(&self) -> &'static str {
        match self.tag("role") {
            "consul" => "server",
            "node" => "client",
            _ => "unknown",
        }
    }

    /// The segment as Consul shows it: a server is in all, and a client in the default one.
    fn segment(&self) -> &str {
        match (self.tag("segment"), self.kind()) {
            ("", "server") => "<all>",
            ("", _) => "<default>",
            (segment, _) => segment,
        }
    }

    /// The version, without the revision behind a colon.
    fn build(&self) -> &str {
        self.tag("build").split(':').next().unwrap_or_default()
    }
}

fn standard(members: &[Member]) -> String {
    let mut rows =
        vec![row(["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"])];
    for member in members {
        rows.push(row([
            &member.name,
            &member.address(),
            status_name(member.status),
            member.kind(),
            member.build(),
            member.tag("vsn"),
            member.tag("dc"),
            member.segment(),
        ]));
    }
    columns(&rows)
}

fn detailed(members: &[Member]) -> String {
    let mut rows = vec![row(["Node", "Address", "Status", "Tags"])];
    for member in members {
        let value = |name: &str, value| if name == "segment" { member.segment() } else { value };
        let tags: Vec<String> =
            member.tags.iter().map(|(k, v)| format!("{k}={}", value(k, v))).collect();
        rows.push(row([
            &member.name,
            &member.address(),
            status_name(member.status),
            &tags.join(","),
        ]));
    }
    columns(&rows)
}

fn as_json(member: &Member) -> Value {
    json!({
        "Node": member.name,
        "Address": member.address(),
        "Status": status_name(member.status),
        "Type": member.kind(),
        "Build": member.build(),
        "DC": member.tag("dc"),
        "Tags": member.tags,
    })
}
