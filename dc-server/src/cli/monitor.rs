//! `monitor`: the log of a running agent.

use super::{Api, Call, Command, Run, client::End, flags::Flag};

pub(super) const COMMAND: Command = Command {
    name: "monitor",
    about: "Streams the log of an agent",
    usage: "[options]",
    help: "Shows the log of an agent as it is written, until Ctrl-C or until the agent ends. The\n\
           level is the command's own: an agent that logs at info can be listened to at debug.\n\
           Lines that come faster than they are read are left out and counted.\n\n    \
           $ % monitor -log-level=debug\n    $ % monitor -log-json | jq .fields.message",
    flags: || {
        vec![
            Flag::value(
                "log-level",
                "level",
                "One of trace, debug, info, warn and err. The default is info.",
            ),
            Flag::bool("log-json", "JSON lines rather than text."),
        ]
    },
    api: Api::Agent,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let level = call.line.value("log-level").unwrap_or("INFO").to_owned();
    let mut query = vec![("loglevel", level.as_str())];
    if call.line.is_set("log-json") {
        query.push(("logjson", ""));
    }
    let mut client = call.client()?;
    let stream = client
        .open("/v1/agent/monitor", &query)
        .map_err(|error| anyhow::anyhow!("Error starting monitor: {error:#}"))?;
    match client.follow(stream, call.io.out)? {
        End::Interrupted => Ok(0),
        End::Far => {
            anyhow::bail!(
                "the agent ended the stream: it has stopped, or cannot be reached any more"
            )
        }
    }
}
