//! `federation remove`: a datacenter that is gone for good, or back after all.

use crate::cli::{Api, Call, Command, Misuse, Run, flags::Flag};

pub(in crate::cli) const COMMAND: Command = Command {
    name: "federation remove",
    about: "Removes a datacenter, or lets it in again",
    usage: "[options] DATACENTER",
    help: "Removes a datacenter that is lost or left from the federation: the servers of all\n\
           others forget its servers and do not let them in, until that is undone. They tell\n\
           each other, and remember it over restarts.\n\n    \
           $ % federation remove dc2\n\nIt may come back:\n\n    \
           $ % federation remove -undo dc2",
    flags: || {
        vec![
            Flag::bool("force", "Remove it although it can be reached, or is not known."),
            Flag::bool("undo", "Let it in again."),
        ]
    },
    api: Api::Agent,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let [dc] = call.line.args.as_slice() else {
        return Err(Misuse("A single datacenter must be specified.".to_owned()).into());
    };
    let (dc, undo) = (dc.clone(), call.line.is_set("undo"));
    let wishes = ["force", "undo"].into_iter().filter(|flag| call.line.is_set(flag));
    let query: Vec<(&str, &str)> = wishes.map(|wish| (wish, "1")).collect();
    call.client()?
        .put(&format!("/v1/federation/remove/{dc}"), &query, "")
        .and_then(|answer| answer.ok())
        .map_err(|error| anyhow::anyhow!("Error removing the datacenter: {error:#}"))?;
    call.say(match undo {
        true => format!("{dc} may come back"),
        false => format!("{dc} is removed"),
    })?;
    Ok(0)
}
