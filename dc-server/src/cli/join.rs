//! `join`: makes an agent join others, now.

use super::{Api, Call, Command, Misuse, Run, flags::Flag};

pub(super) const COMMAND: Command = Command {
    name: "join",
    about: "Makes an agent join a pool",
    usage: "[options] address ...",
    help: "Makes the agent join the pool of the members at the addresses. One that can be\n\
           reached is enough.\n\n    $ % join 10.0.0.2\n    $ % join -wan 10.1.0.2:8302",
    flags: || vec![Flag::bool("wan", "Join the servers of another datacenter.")],
    api: Api::Agent,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    if call.line.args.is_empty() {
        let message = "At least one address to join must be specified.".to_owned();
        return Err(Misuse(message).into());
    }
    let query: &[(&str, &str)] = if call.line.is_set("wan") { &[("wan", "1")] } else { &[] };
    let mut client = call.client()?;
    let mut joined = 0;
    for address in call.line.args.clone() {
        let answer = client.put(&format!("/v1/agent/join/{address}"), query, "");
        match answer.and_then(|answer| answer.ok()) {
            Ok(_) => joined += 1,
            Err(error) => writeln!(call.io.err, "Error joining address '{address}': {error:#}")?,
        }
    }
    anyhow::ensure!(joined > 0, "Failed to join any nodes.");
    call.say(format!("Successfully joined cluster by contacting {joined} nodes."))?;
    Ok(0)
}
