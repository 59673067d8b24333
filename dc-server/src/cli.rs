//! The command line: which commands there are, their help, their exit codes.
//!
//! A command is a module with a constant [`Command`]: name, one line about it, help, flags and
//! what runs it. Clients of an agent's HTTP interface run to their end on the caller's thread
//! and write to an [`Io`], so that tests see all that a person would; commands that are
//! programs of their own (`agent`, `gateway`, `topology`, `drill`) take their words and are awaited.
//!
//! Exit codes are Consul's: 0, 1 for errors, 2 where a command found nothing to say, 127 for a
//! command that does not exist.

pub mod agent;
pub mod client;
pub mod drill;
pub mod flags;
pub mod topology;

mod catalog;
mod config;
mod failover;
mod federation;
mod gateway;
mod info;
mod join;
mod keygen;
mod kv;
mod leave;
mod maint;
mod members;
mod monitor;
mod operator;
mod reload;
mod rtt;
mod run;
mod services;
mod table;
mod tls;
mod validate;
mod version;
mod watch;

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
};

use serde_json::Value;

use self::{
    client::Client,
    flags::{Flag, Line},
};

/// Every command, in the order of the help.
const COMMANDS: &[&Command] = &[
    &agent::COMMAND,
    &catalog::DATACENTERS,
    &catalog::NODES,
    &catalog::SERVICES,
    &config::DELETE,
    &config::LIST,
    &config::READ,
    &config::WRITE,
    &failover::EXPLAIN,
    &federation::remove::COMMAND,
    &federation::status::COMMAND,
    &federation::timeline::COMMAND,
    &leave::FORCE_LEAVE,
    &gateway::COMMAND,
    &info::COMMAND,
    &join::COMMAND,
    &keygen::COMMAND,
    &kv::DELETE,
    &kv::EXPORT,
    &kv::GET,
    &kv::IMPORT,
    &kv::PUT,
    &leave::LEAVE,
    &drill::COMMAND,
    &maint::COMMAND,
    &members::COMMAND,
    &monitor::COMMAND,
    &operator::RAFT_LIST_PEERS,
    &reload::COMMAND,
    &rtt::COMMAND,
    &services::DEREGISTER,
    &services::REGISTER,
    &tls::CA_CREATE,
    &tls::CERT_CREATE,
    &topology::COMMAND,
    &validate::COMMAND,
    &version::COMMAND,
    &watch::COMMAND,
];

/// Every group of commands: name, one line about it.
const GROUPS: &[(&str, &str)] = &[
    ("catalog", "Look at what the servers know"),
    ("config", "Look after what operators want of services"),
    ("failover", "Look at where lookups go when a datacenter is lost"),
    ("federation", "Look after the federation of datacenters"),
    ("kv", "Interact with the key-value store"),
    ("operator", "Tools for operators of a cluster"),
    ("operator raft", "Look at Raft"),
    ("services", "Register services with the local agent"),
    ("tls", "Create CAs and certificates"),
    ("tls ca", "Certificate authorities"),
    ("tls cert", "Certificates"),
];

/// The exit code for a command that does not exist, as shells have it.
const NO_COMMAND: u8 = 127;

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its name, such as `kv get`.
    pub name: &'static str,
    /// A few words for lists.
    pub about: &'static str,
    /// What follows the name: `[options] KEY`.
    pub usage: &'static str,
    /// What it does, with examples; lines without indent. `%` stands for the program's name.
    pub help: &'static str,
    /// Its own flags.
    pub flags: fn() -> Vec<Flag>,
    /// The flags that it shares with others.
    pub api: Api,
    /// What runs it.
    pub run: Run,
}

impl Command {
    /// Makes a command that is a program of its own.
    pub const fn program(
        name: &'static str,
        about: &'static str,
        run: fn(Vec<String>, PathBuf) -> Outcome,
    ) -> Self {
        let (flags, run) = (Vec::new as fn() -> Vec<Flag>, Run::Program(run));
        Self { name, about, usage: "", help: "", flags, api: Api::None, run }
    }

    /// Makes a command that is a program of its own on one thread.
    pub const fn relay(
        name: &'static str,
        about: &'static str,
        run: fn(Vec<String>, PathBuf) -> Outcome,
    ) -> Self {
        Self { run: Run::Relay(run), ..Self::program(name, about, run) }
    }
}

/// Whether a command speaks to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// It does not.
    None,
    /// To an agent, about that agent.
    Agent,
    /// To an agent, about the state of a datacenter.
    Datacenter,
}

/// What an awaited command comes to: its exit code.
pub type Outcome = Pin<Box<dyn Future<Output = anyhow::Result<ExitCode>>>>;

/// What runs a command.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// Runs to its end; gets its flags taken apart.
    Call(fn(&mut Call<'_>) -> anyhow::Result<u8>),
    /// A program of its own on a runtime with all cores: gets its words and the path of the
    /// running program, and prints its own help.
    Program(fn(Vec<String>, PathBuf) -> Outcome),
    /// The same on one thread, which does at once what it was woken for.
    Relay(fn(Vec<String>, PathBuf) -> Outcome),
}

/// Where a command reads and writes.
pub struct Io<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
}

/// What the program was started with.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The name that it was called by, such as `causeway` or `consul`.
    pub program: String,
    /// The words behind it.
    pub words: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The path of the running program.
    pub itself: PathBuf,
    /// The directory that files are made in; empty: the current one.
    pub dir: PathBuf,
}

/// A command line that runs.
pub struct Call<'a> {
    /// The name that the program was called by.
    pub program: &'a str,
    /// Flags and arguments.
    pub line: Line,
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
    /// The directory that files are made in; empty: the current one.
    pub dir: &'a Path,
    /// Where to read and write.
    pub io: Io<'a>,
}

/// A command line that a command can't make sense of: its help follows the message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

impl Call<'_> {
    /// Makes a client of the agent that flags and environment name.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.line, self.env)
    }

    /// Writes a line to the standard output.
    pub fn say(&mut self, line: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.out.write_all(line.as_ref())?;
        self.io.out.write_all(b"\n")
    }

    /// Tells whether JSON is wanted.
    pub fn wants_json(&self) -> anyhow::Result<bool> {
        match self.line.value("format") {
            None | Some("pretty") => Ok(false),
            Some("json") => Ok(true),
            Some(other) => {
                anyhow::bail!("Invalid format {other:?}: valid formats are pretty and json")
            }
        }
    }

    /// Writes JSON, indented.
    pub fn say_json(&mut self, value: &Value) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        Ok(self.say(text)?)
    }

    /// Returns the only argument.
    fn only_argument(&self, what: &str) -> anyhow::Result<&str> {
        match self.line.args.as_slice() {
            [] => anyhow::bail!("Error! Missing {what} argument"),
            [only] => Ok(only),
            many => anyhow::bail!("Too many arguments (expected 1, got {})", many.len()),
        }
    }

    /// Reads what an argument stands for: `@file`, `-` (standard input) or itself.
    fn data(&mut self, argument: &str) -> anyhow::Result<Vec<u8>> {
        if argument == "-" {
            let mut data = Vec::new();
            self.io
                .input
                .read_to_end(&mut data)
                .map_err(|error| anyhow::anyhow!("Failed to read stdin: {error}"))?;
            return Ok(data);
        }
        match argument.strip_prefix('@') {
            Some(path) => std::fs::read(path).map_err(|error| {
                anyhow::anyhow!("Failed to read file: open {path}: {}", client::plain(&error))
            }),
            None => Ok(argument.as_bytes().to_vec()),
        }
    }
}

/// Runs a command line and returns the program's exit code.
pub fn execute(start: &Start, mut io: Io<'_>) -> ExitCode {
    match dispatch(start, &mut io) {
        Ok(code) => code,
        // Nobody listens any more: `kv get -keys | head` is no error of ours.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io.err, "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn dispatch(start: &Start, io: &mut Io<'_>) -> anyhow::Result<ExitCode> {
    let first = start.words.first().map(String::as_str);
    match first {
        Some("-h" | "-help" | "--help" | "help") => {
            io.out.write_all(overview(&start.program).as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some("-v" | "-version" | "--version") => {
            let words = vec!["version".to_owned()];
            return dispatch(&Start { words, ..start.clone() }, io);
        }
        _ => {}
    }
    let Some((command, len)) = find(&start.words) else {
        return no_command(start, io).map(ExitCode::from);
    };
    let words = &start.words[len..];
    match command.run {
        Run::Program(run) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run(words.to_vec(), start.itself.clone()))
        }
        Run::Relay(run) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(words.to_vec(), start.itself.clone()))
        }
        Run::Call(run) => call(command, run, words, start, io).map(ExitCode::from),
    }
}

fn call(
    command: &Command,
    run: fn(&mut Call<'_>) -> anyhow::Result<u8>,
    words: &[String],
    start: &Start,
    io: &mut Io<'_>,
) -> anyhow::Result<u8> {
    let mut flags = (command.flags)();
    flags.extend(client::flags(command.api));
    let line = match flags::parse(&flags, words) {
        Ok(line) => line,
        Err(error) => {
            let help = help_of(command, &start.program);
            write!(io.err, "{error}\n\n{help}")?;
            return Ok(1);
        }
    };
    if line.help {
        io.out.write_all(help_of(command, &start.program).as_bytes())?;
        return Ok(0);
    }
    let io_of_call = Io { input: &mut *io.input, out: &mut *io.out, err: &mut *io.err };
    let mut call =
        Call { program: &start.program, line, env: &start.env, dir: &start.dir, io: io_of_call };
    let outcome = run(&mut call);
    call.io.out.flush()?;
    match outcome {
        Err(error) if error.is::<Misuse>() => {
            let help = help_of(command, &start.program);
            write!(io.err, "{error}\n\n{help}")?;
            Ok(1)
        }
        outcome => outcome,
    }
}

/// Finds the command that the words begin with, and how many words its name has.
fn find(words: &[String]) -> Option<(&'static Command, usize)> {
    COMMANDS.iter().find_map(|command| {
        let name: Vec<&str> = command.name.split(' ').collect();
        let begins = words.len() >= name.len() && words.iter().zip(&name).all(|(w, n)| w == n);
        begins.then_some((*command, name.len()))
    })
}

fn no_command(start: &Start, io: &mut Io<'_>) -> anyhow::Result<u8> {
    let words = &start.words;
    let group = (1..=words.len())
        .rev()
        .map(|len| words[..len].join(" "))
        .find(|name| GROUPS.iter().any(|(group, _)| group == name));
    if let Some(group) = group {
        let help = group_help(&group, &start.program);
        let rest = words.get(group.split(' ').count()).map(String::as_str);
        if matches!(rest, Some("-h" | "-help" | "--help")) {
            io.out.write_all(help.as_bytes())?;
            return Ok(0);
        }
        io.err.write_all(help.as_bytes())?;
        return Ok(1);
    }
    if let Some(word) = words.first() {
        let near = nearest(word).map_or(String::new(), |name| format!(", did you mean {name}?"));
        writeln!(io.err, "{} has no command {word:?}{near}\n", start.program)?;
    }
    io.err.write_all(overview(&start.program).as_bytes())?;
    Ok(NO_COMMAND)
}

fn nearest(word: &str) -> Option<&'static str> {
    let alike = |name: &&'static str| strsim::jaro_winkler(name, word);
    first_words()
        .into_keys()
        .filter(|name| alike(name) >= 0.8)
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
}

/// Returns the commands and groups that a first word can name, with a few words about each.
fn first_words() -> BTreeMap<&'static str, &'static str> {
    let commands = COMMANDS.iter().map(|command| (command.name, command.about));
    commands.chain(GROUPS.iter().copied()).filter(|(name, _)| !name.contains(' ')).collect()
}

fn overview(program: &str) -> String {
    let mut text = format!(
        "Usage: {program} [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n"
    );
    for (name, about) in first_words() {
        text.push_str(&format!("    {name:<14} {about}\n"));
    }
    text
}

fn group_help(group: &str, program: &str) -> String {
    let about = GROUPS.iter().find(|(name, _)| *name == group).map_or("", |(_, about)| about);
    let mut text = format!(
        "Usage: {program} {group} <subcommand> [options] [args]\n\n  {about}.\n\nSubcommands:\n"
    );
    let prefix = format!("{group} ");
    let commands = COMMANDS.iter().map(|command| (command.name, command.about));
    let mut all: Vec<_> = commands
        .chain(GROUPS.iter().copied())
        .filter_map(|(name, about)| Some((name.strip_prefix(&prefix)?, about)))
        .filter(|(rest, _)| !rest.contains(' '))
        .collect();
    all.sort_unstable();
    for (name, about) in all {
        text.push_str(&format!("    {name:<12} {about}\n"));
    }
    text
}

fn help_of(command: &Command, program: &str) -> String {
    let usage = format!("Usage: {program} {} {}", command.name, command.usage);
    let mut text = format!("{}\n", usage.trim_end());
    for line in command.help.lines() {
        let line = line.replace('%', program);
        text.push_str(format!("\n  {line}").trim_end_matches(' '));
    }
    let api = client::flags(command.api);
    if !api.is_empty() {
        text.push_str(&format!("\n\nHTTP API Options\n{}", flags::help(&api).trim_end()));
    }
    let own = (command.flags)();
    if !own.is_empty() {
        text.push_str(&format!("\n\nCommand Options\n{}", flags::help(&own).trim_end()));
    }
    text + "\n"
}

/// The flag of reading commands that chooses between tables and JSON.
const FORMAT: Flag =
    Flag::value("format", "format", "Output format: pretty or json. The default is pretty.");

#[cfg(test)]
mod tests;
