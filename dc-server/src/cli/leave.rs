//! `leave` and `force-leave`: an agent goes, or is said to be gone.

use super::{Api, Call, Command, Misuse, Run, flags::Flag};

pub(super) const LEAVE: Command = Command {
    name: "leave",
    about: "Makes an agent leave its pools and end",
    usage: "[options]",
    help: "Makes the agent say that it leaves, hand over what it holds, and end.",
    flags: Vec::new,
    api: Api::Agent,
    run: Run::Call(leave),
};

pub(super) const FORCE_LEAVE: Command = Command {
    name: "force-leave",
    about: "Says that a failed member left",
    usage: "[options] name",
    help: "Makes a failed member one that left, so that nobody waits for its return. A member\n\
           that is alive after all comes back.",
    flags: || {
        vec![
            Flag::bool("prune", "Take it off the list of members as well."),
            Flag::bool("wan", "The member is one of the WAN pool, named node.datacenter."),
        ]
    },
    api: Api::Agent,
    run: Run::Call(force_leave),
};

fn leave(call: &mut Call<'_>) -> anyhow::Result<u8> {
    if !call.line.args.is_empty() {
        let args = call.line.args.join(" ");
        return Err(Misuse(format!("Error found unexpected args: [{args}]")).into());
    }
    call.client()?
        .put("/v1/agent/leave", &[], "")
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("Error leaving: {error:#}"))?;
    call.say("Graceful leave complete")?;
    Ok(0)
}

fn force_leave(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let [name] = call.line.args.as_slice() else {
        let message = "A single node name must be specified to force leave.".to_owned();
        return Err(Misuse(message).into());
    };
    let query: Vec<(&str, &str)> = ["prune", "wan"]
        .into_iter()
        .filter(|flag| call.line.is_set(flag))
        .map(|f| (f, "1"))
        .collect();
    call.client()?
        .put(&format!("/v1/agent/force-leave/{name}"), &query, "")
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("Error force leaving: {error:#}"))?;
    Ok(0)
}
