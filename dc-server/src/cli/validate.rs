//! `validate`: checks a configuration without starting an agent.

use std::path::PathBuf;

use super::{Api, Call, Command, Run, flags::Flag};
use crate::config::{self, Host, flags::Request};

pub(super) const COMMAND: Command = Command {
    name: "validate",
    about: "Checks configuration files",
    usage: "[options] FILE_OR_DIRECTORY...",
    help: "Reads the files and directories as the agent would, all together, and says what is\n\
           wrong with them, and which keys have no effect.\n\n    $ % validate /etc/consul.d",
    flags: || {
        vec![
            config::flags::CONFIG_FORMAT,
            Flag::bool("quiet", "Say nothing when the configuration is valid."),
        ]
    },
    api: Api::None,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    if call.line.args.is_empty() {
        anyhow::bail!("Must specify at least one config file or directory");
    }
    let mut request =
        Request { paths: call.line.args.iter().map(PathBuf::from).collect(), ..Request::default() };
    if let Some(name) = call.line.value("config-format") {
        request.format = Some(config::flags::format_named(name)?);
    }
    let loaded = config::load(&request, &Host::detect())
        .map_err(|problems| anyhow::anyhow!("Config validation failed: {problems}"))?;
    if !call.line.is_set("quiet") {
        for warning in loaded.warnings {
            call.say(warning)?;
        }
        call.say("Configuration is valid!")?;
    }
    Ok(0)
}
