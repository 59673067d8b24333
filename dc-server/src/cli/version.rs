//! `version`.

use serde_json::json;

use super::{Api, Call, Command, FORMAT, Run};

pub(super) const COMMAND: Command = Command {
    name: "version",
    about: "Shows the version",
    usage: "[options]",
    help: "Shows the version of this program.",
    flags: || vec![FORMAT],
    api: Api::None,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    if call.wants_json()? {
        call.say_json(&json!({ "Version": version, "Revision": "", "Prerelease": "" }))?;
    } else {
        call.say(format!("Causeway v{version}"))?;
    }
    Ok(0)
}
