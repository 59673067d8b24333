//! `services register` and `services deregister`: services of the agent's node, by flags or files.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Api, Call, Command, Misuse, Run, flags::Flag};
use crate::config;

pub(super) const REGISTER: Command = Command {
    name: "services register",
    about: "Registers services with the local agent",
    usage: "[options] [FILE...]",
    help: "Registers a service with the agent, as flags or definition files describe it.\n\
           Checks that files define for it come along.\n\n    \
           $ % services register web.json\n    \
           $ % services register -name=web -port=8080 -tag=v1",
    flags: || {
        vec![
            Flag::value("name", "name", "The service's name."),
            Flag::value("id", "id", "Its id; its name when left out."),
            Flag::value("address", "address", "Where it serves; the node's address when left out."),
            Flag::value("port", "port", "Where it serves."),
            Flag::value("tag", "tag", "A tag. May be given several times."),
            Flag::value("meta", "key=value", "Metadata. May be given several times."),
            Flag::value("kind", "kind", "Its kind; empty for an ordinary service."),
            Flag::value(
                "tagged-address",
                "tag=address:port",
                "An address by how one comes to it. May be given several times.",
            ),
        ]
    },
    api: Api::Agent,
    run: Run::Call(register),
};

pub(super) const DEREGISTER: Command = Command {
    name: "services deregister",
    about: "Deregisters services with the local agent",
    usage: "[options] [FILE...]",
    help: "Deregisters a service of the agent, named by its id or by a definition file.\n\n    \
           $ % services deregister web.json\n    $ % services deregister -id=web",
    flags: || vec![Flag::value("id", "id", "The service's id.")],
    api: Api::Agent,
    run: Run::Call(deregister),
};

fn register(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let by_flags = REGISTER_FLAGS.iter().any(|flag| call.line.value(flag).is_some());
    let services = match (by_flags, call.line.args.is_empty()) {
        (true, false) => {
            let message = "Service registration takes flags or files, not both.".to_owned();
            return Err(Misuse(message).into());
        }
        (true, true) => vec![from_flags(call)?],
        (false, false) => from_files(call)?,
        (false, true) => {
            let message = "Service registration requires at least one argument or flags.";
            return Err(Misuse(message.to_owned()).into());
        }
    };
    let mut client = call.client()?;
    for service in services {
        let name = service["name"].as_str().unwrap_or_default().to_owned();
        client
            .put("/v1/agent/service/register", &[], service.to_string())
            .and_then(|answer| answer.ok())
            .map_err(|error| anyhow::anyhow!("Error registering service {name:?}: {error:#}"))?;
        call.say(format!("Registered service: {name}"))?;
    }
    Ok(0)
}

fn deregister(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let ids = match (call.line.value("id"), call.line.args.is_empty()) {
        (Some(_), false) => {
            let message = "Service deregistration takes -id or files, not both.".to_owned();
            return Err(Misuse(message).into());
        }
        (Some(id), true) => vec![id.to_owned()],
        (None, false) => from_files(call)?.iter().map(id_of).collect(),
        (None, true) => {
            let message = "Service deregistration requires at least one argument or -id.";
            return Err(Misuse(message.to_owned()).into());
        }
    };
    let mut client = call.client()?;
    for id in ids {
        client
            .put(&format!("/v1/agent/service/deregister/{id}"), &[], "")
            .and_then(|answer| answer.ok())
            .map_err(|error| anyhow::anyhow!("Error deregistering service {id:?}: {error:#}"))?;
        call.say(format!("Deregistered service: {id}"))?;
    }
    Ok(0)
}

/// The flags that describe a service.
const REGISTER_FLAGS: [&str; 8] =
    ["name", "id", "address", "port", "tag", "meta", "kind", "tagged-address"];

fn id_of(service: &Value) -> String {
    let text = |name: &str| service[name].as_str().filter(|text| !text.is_empty());
    text("id").or(text("name")).unwrap_or_default().to_owned()
}

fn from_flags(call: &Call<'_>) -> anyhow::Result<Value> {
    let line = &call.line;
    let mut service = Map::new();
    for name in ["name", "id", "address", "kind"] {
        if let Some(value) = line.value(name) {
            service.insert(name.into(), json!(value));
        }
    }
    if let Some(port) = line.value("port") {
        let port: u16 =
            port.parse().map_err(|_| anyhow::anyhow!("-port: {port:?} is no port number"))?;
        service.insert("port".into(), json!(port));
    }
    service.insert("tags".into(), line.values("tag").collect());
    let mut meta = Map::new();
    for pair in line.values("meta") {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| anyhow::anyhow!("-meta: {pair:?} is not of the form key=value"))?;
        meta.insert(key.into(), json!(value));
    }
    service.insert("meta".into(), Value::Object(meta));
    let mut addresses = Map::new();
    for pair in line.values("tagged-address") {
        let wrong =
            || anyhow::anyhow!("-tagged-address: {pair:?} is not of the form tag=address:port");
        let (tag, place) = pair.split_once('=').ok_or_else(wrong)?;
        let (address, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        addresses.insert(tag.into(), json!({ "address": address, "port": port }));
    }
    service.insert("tagged_addresses".into(), Value::Object(addresses));
    Ok(Value::Object(service))
}

/// Reads the services that files define, as they are written.
fn from_files(call: &Call<'_>) -> anyhow::Result<Vec<Value>> {
    let paths: Vec<PathBuf> = call.line.args.iter().map(PathBuf::from).collect();
    let services = config::services_in(&paths)?;
    anyhow::ensure!(!services.is_empty(), "The files define no service.");
    Ok(services)
}
