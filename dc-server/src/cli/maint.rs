//! `maint`: takes a service or the whole node out of answers, and back.

use serde_json::Value;

use super::{Api, Call, Command, Misuse, Run, flags::Flag};

pub(super) const COMMAND: Command = Command {
    name: "maint",
    about: "Controls node or service maintenance mode",
    usage: "[options]",
    help: "Puts the agent's node, or one of its services, into maintenance, so that nobody is sent\n\
           there, or ends that. Without flags it shows what is in maintenance.\n\n    \
           $ % maint -enable -reason='new kernel'\n    $ % maint -disable\n    \
           $ % maint -enable -service=web",
    flags: || {
        vec![
            Flag::bool("enable", "Enable maintenance."),
            Flag::bool("disable", "End maintenance."),
            Flag::value("reason", "text", "Why, for people."),
            Flag::value("service", "id", "The service; the whole node when left out."),
        ]
    },
    api: Api::Agent,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let (enable, disable) = (call.line.is_set("enable"), call.line.is_set("disable"));
    let service = call.line.value("service").map(str::to_owned);
    let reason = call.line.value("reason").map(str::to_owned);
    if enable && disable {
        return Err(Misuse("Only one of -enable or -disable may be given.".to_owned()).into());
    }
    if !enable && reason.is_some() {
        return Err(Misuse("A reason is for -enable only.".to_owned()).into());
    }
    if !enable && !disable {
        if service.is_some() {
            return Err(Misuse("-service needs -enable or -disable.".to_owned()).into());
        }
        return show(call);
    }
    let path = match &service {
        Some(id) => format!("/v1/agent/service/maintenance/{id}"),
        None => "/v1/agent/maintenance".to_owned(),
    };
    let mut query = vec![("enable", if enable { "true" } else { "false" })];
    query.extend(reason.as_deref().map(|reason| ("reason", reason)));
    let done = if enable { "enabled" } else { "disabled" };
    call.client()?
        .put(&path, &query, "")
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("Error: maintenance could not be {done}: {error:#}"))?;
    match service {
        Some(id) => call.say(format!("Service maintenance is now {done} for {id:?}"))?,
        None => call.say(format!("Node maintenance is now {done}"))?,
    }
    Ok(0)
}

/// Shows what is in maintenance.
fn show(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let checks: Value = call
        .client()?
        .get("/v1/agent/checks", &[])
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error getting checks: {error:#}"))?;
    let maintained = checks.as_object().into_iter().flatten();
    for (_, check) in maintained.filter(|(_, check)| check["Type"] == "maintenance") {
        let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
        let (what, label, id) = match text("ServiceID") {
            id if id.is_empty() => ("Node", "Name", text("Node")),
            id => ("Service", "ID", id),
        };
        call.say(format!(
            "{what}:\n  {:<7} {id}\n  Reason: {}\n",
            format!("{label}:"),
            text("Notes")
        ))?;
    }
    Ok(0)
}
