//! `version`.

use serde_json::json;

use super::{Api, Call, Command, FORMAT, Run};
use crate::release::{BUILD_DATE, REVISION, VERSION};

pub(super) const COMMAND: Command = Command {
    name: "version",
    about: "Shows the version",
    usage: "[options]",
    help: "Shows the version of this program and, of a release, the commit that it was built from.",
    flags: || vec![FORMAT],
    api: Api::None,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    if call.wants_json()? {
        let mut shown = json!({ "Version": VERSION, "Revision": REVISION, "Prerelease": "" });
        if let Some(date) = BUILD_DATE {
            shown["BuildDate"] = date.into();
        }
        call.say_json(&shown)?;
        return Ok(0);
    }
    call.say(format!("Causeway v{VERSION}"))?;
    if let Some(date) = BUILD_DATE {
        call.say(format!("Revision {REVISION}"))?;
        call.say(format!("Build Date {date}"))?;
    }
    Ok(0)
}
