//! `watch`: shows something, or runs a program whenever it changes.

use std::{
    io::Write,
    process::{Command as Program, Stdio},
};

use lan_agent::watches::{Progress, View, definition::Parameters};
use serde::Serialize;
use serde_json::{Map, Value, json, ser::PrettyFormatter};

use super::{
    Api, Call, Command, Misuse, Run,
    client::{Answer, Client},
    flags::{Flag, Line},
};

pub(super) const COMMAND: Command = Command {
    name: "watch",
    about: "Shows or follows changes of keys, services, nodes and checks",
    usage: "[options] [program...]",
    help: "Looks at keys, services, nodes or checks. Without a program it writes what there is,\n\
           as JSON, and ends. With one it runs the program now and whenever that changes, with\n\
           the JSON at its standard input and the index in CONSUL_INDEX, until the program\n\
           fails or somebody interrupts. The program is a line for the shell ($SHELL, or\n\
           /bin/sh) unless -shell=false.\n\n    \
           $ % watch -type=service -service=web -passingonly=true\n    \
           $ % watch -type=keyprefix -prefix=app/ './render.sh > /etc/app.conf'\n    \
           $ % watch -type=checks -state=critical -shell=false ./page",
    flags: || {
        vec![
            Flag::value(
                "type",
                "type",
                "One of key, keyprefix, services, nodes, service and checks.",
            ),
            Flag::value("key", "key", "The key. For key."),
            Flag::value("prefix", "prefix", "The prefix of the keys. For keyprefix."),
            Flag::value("service", "name", "The service. For service, and for checks if wanted."),
            Flag::value(
                "tag",
                "tag",
                "A tag that instances must have. For service. Can be given several times.",
            ),
            Flag::value(
                "passingonly",
                "true|false",
                "Leave out instances with a check that is not passing. For service.",
            ),
            Flag::value("state", "state", "Checks in this state, or any. For checks."),
            Flag::value("name", "name", "The name of events, which Causeway does not have."),
            Flag::bool(
                "shell",
                "Whether the program is a line for the shell. The default is true.",
            ),
        ]
    },
    api: Api::Datacenter,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let view = view(&call.line)?;
    let mut client = call.client()?;
    // Who can't be reached at the start is named at once, and not tried again for ever.
    client
        .get("/v1/agent/self", &[])
        .and_then(Answer::ok)
        .map_err(|error| anyhow::anyhow!("Error querying Consul agent: {error:#}"))?;
    let mut progress = Progress::default();
    loop {
        match look(&mut client, &view, progress.index()) {
            Ok(None) => return Ok(0),
            Ok(Some((_, value))) if call.line.args.is_empty() => {
                let text = pretty(&value)?;
                call.say(text)?;
                return Ok(0);
            }
            Ok(Some((index, value))) => {
                if progress.take(index, &value) {
                    tell(call, index, &value)?;
                }
            }
            Err(error) => {
                let pause = progress.fail();
                let kind = view.kind();
                writeln!(call.io.err, "watch of {kind} failed, again in {pause:?}: {error:#}")?;
                if client.pause(pause) == super::client::End::Interrupted {
                    return Ok(0);
                }
            }
        }
    }
}

/// Reads what is watched from the flags.
fn view(line: &Line) -> anyhow::Result<View> {
    let mut parameters = Map::new();
    for name in ["type", "key", "prefix", "service", "state", "name"] {
        if let Some(value) = line.value(name).filter(|value| !value.is_empty()) {
            parameters.insert(name.to_owned(), value.into());
        }
    }
    if !parameters.contains_key("type") {
        return Err(Misuse("Watch type must be specified".to_owned()).into());
    }
    let tags: Vec<Value> =
        line.values("tag").filter(|tag| !tag.is_empty()).map(Value::from).collect();
    if !tags.is_empty() {
        parameters.insert("tag".to_owned(), tags.into());
    }
    match line.value("passingonly") {
        None | Some("") => {}
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => {
            parameters.insert("passingonly".to_owned(), json!(true));
        }
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => {
            parameters.insert("passingonly".to_owned(), json!(false));
        }
        Some(other) => anyhow::bail!("Failed to parse passingonly flag: {other:?} is no boolean"),
    }
    let mut parameters = Parameters::new(parameters);
    let view = parameters.view()?;
    parameters.end()?;
    Ok(view)
}

/// Waits for something beyond an index; `None` when somebody interrupts.
fn look(
    client: &mut Client,
    view: &View,
    index: Option<u64>,
) -> anyhow::Result<Option<(u64, Value)>> {
    let (path, mut query) = view.path();
    query.extend(index.map(|index| ("index", index.to_string())));
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, &**value)).collect();
    let Some(answer) = client.get_unless_interrupted(&path, &query)? else { return Ok(None) };
    let index = answer.headers.get("x-consul-index").and_then(|it| it.to_str().ok()?.parse().ok());
    let index = index.unwrap_or(1);
    let absent = answer.status == hyper::StatusCode::NOT_FOUND;
    let value = match absent {
        true => view.value(None)?,
        false => view.value(Some(&answer.ok()?))?,
    };
    Ok(Some((index, value)))
}

/// Runs the program; it fails when the program does.
fn tell(call: &mut Call<'_>, index: u64, value: &Value) -> anyhow::Result<()> {
    call.io.out.flush()?;
    let args = &call.line.args;
    let mut program = match call.line.value("shell") {
        Some("false") => {
            let (name, rest) = args.split_first().unwrap_or((&args[0], &[]));
            let mut program = Program::new(name);
            program.args(rest);
            program
        }
        _ => {
            let shell = call.env.get("SHELL").filter(|shell| !shell.is_empty());
            let mut program = Program::new(shell.map_or("/bin/sh", String::as_str));
            program.arg("-c").arg(args.join(" "));
            program
        }
    };
    let mut child = program
        .env("CONSUL_INDEX", index.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| anyhow::anyhow!("Error starting handler: {}: {error}", args[0]))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read what it is given need not.
        let _ = writeln!(stdin, "{value}");
    }
    let status = child.wait()?;
    if !status.success() {
        anyhow::bail!("Error executing handler: {status}");
    }
    Ok(())
}

/// Writes JSON with Consul's indent.
pub(super) fn pretty(value: &Value) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut serializer)?;
    Ok(text)
}
