//! `reload`: has an agent read its configuration again.

use super::{Api, Call, Command, Run};

pub(super) const COMMAND: Command = Command {
    name: "reload",
    about: "Has an agent read its configuration again",
    usage: "[options]",
    help: "Has the agent read its files again, as SIGHUP does: services, checks,\n\
           watches, the log level, certificates and metadata of the node follow them at once,\n\
           without a lost request. What needs a restart is named. When something is wrong\n\
           everything stays as it was, and the exit code is 1.\n\n    \
           $ % validate /etc/consul.d && % reload",
    flags: Vec::new,
    api: Api::Agent,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let warning = call
        .client()?
        .put("/v1/agent/reload", &[], "")
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("Error reloading: {error:#}"))?;
    call.say("Configuration reload triggered")?;
    if !warning.is_empty() {
        writeln!(call.io.err, "{}", String::from_utf8_lossy(&warning))?;
    }
    Ok(0)
}
