//! `tls cert create`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use certs::{
    ca::{Authority, San, Subject},
    identity::Identity,
};
use time::OffsetDateTime;
use topology::{Datacenter, NodeName, Role};

use super::{DAYS, DOMAIN, authority_files, days};
use crate::cli::{
    Api, Call, Command, Run,
    flags::{Flag, Line},
};

/// A year, as Consul's.
const DAYS_DEFAULT: u32 = 365;

/// Most certificates of a kind in one directory, so that looking for a free name ends.
const NUMBER_MAX: u32 = 10_000;

pub(in crate::cli) const COMMAND: Command = Command {
    name: "tls cert create",
    about: "Makes a certificate",
    usage: "[options]",
    help: "Makes a certificate with a key of its own, signed by the authority in this directory.\n\n    \
           $ % tls cert create -server -dc=dc1 -node=server-1\n    \
           ==> Using consul-agent-ca.pem and consul-agent-ca-key.pem\n    \
           ==> Saved dc1-server-consul-0.pem\n    ==> Saved dc1-server-consul-0-key.pem\n\n\
           It is good for the role and the datacenter that it names, and with -node for that\n\
           node only.",
    flags: || {
        vec![
            Flag::bool("server", "Make a certificate for a server."),
            Flag::bool("client", "Make a certificate for a client agent."),
            Flag::bool("cli", "Make a certificate for tools that call the HTTPS interface."),
            Flag::value("dc", "name", "Datacenter. The default is dc1."),
            Flag::value("node", "name", "The one node that may use it."),
            Flag::value(
                "additional-dnsname",
                "name",
                "A further DNS name. Can be given several times.",
            ),
            Flag::value(
                "additional-ipaddress",
                "address",
                "A further address. Can be given several times.",
            ),
            Flag::value(
                "ca",
                "path",
                "The authority's certificate. The default is #DOMAIN#-agent-ca.pem.",
            ),
            Flag::value(
                "key",
                "path",
                "The authority's key. The default is #DOMAIN#-agent-ca-key.pem.",
            ),
            Flag::value(DAYS, "count", "How long it is valid. The default is a year."),
            DOMAIN,
        ]
    },
    api: Api::None,
    run: Run::Call(run),
};

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Agent(Role),
    Tool,
}

impl Holder {
    fn as_str(self) -> &'static str {
        match self {
            Holder::Agent(role) => role.as_str(),
            Holder::Tool => "cli",
        }
    }
}

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let line = &call.line;
    let holder = match ["server", "client", "cli"].map(|flag| line.is_set(flag)) {
        [true, false, false] => Holder::Agent(Role::Server),
        [false, true, false] => Holder::Agent(Role::Client),
        [false, false, true] => Holder::Tool,
        _ => bail!("Please provide either -server, -client, or -cli"),
    };
    let dc = Datacenter::new(line.value("dc").unwrap_or("dc1"))?;
    let domain = line.value("domain").unwrap_or("consul").to_owned();
    let node = line.value("node").map(NodeName::new).transpose()?;
    let sans = sans(line, holder)?;
    let days = days(line, DAYS_DEFAULT)?;
    let (ca, ca_key) = authority_files(&domain);
    let ca = line.value("ca").map_or(ca, PathBuf::from);
    let ca_key = line.value("key").map_or(ca_key, PathBuf::from);
    for file in [&ca, &ca_key] {
        // Read here for the sentence that scripts of Consul's users know.
        std::fs::metadata(call.dir.join(file)).map_err(|error| {
            let reason = crate::cli::client::plain(&error);
            anyhow::anyhow!("Error reading CA: open {}: {reason}", file.display())
        })?;
    }
    let authority = Authority::read(&call.dir.join(&ca), &call.dir.join(&ca_key))
        .context("Error reading CA")?;
    let (certificate, key) = free_files(call.dir, &format!("{dc}-{}-{domain}", holder.as_str()))?;
    let now = OffsetDateTime::now_utc();
    let issued = match holder {
        Holder::Agent(role) => {
            let identity = Identity::new(dc, role, node);
            authority.issue(&Subject { identity, domain, sans }, now, days)?
        }
        Holder::Tool => {
            authority.issue_for_tool(&format!("cli.{dc}.{domain}"), &sans, now, days)?
        }
    };
    issued.write(&call.dir.join(&certificate), &call.dir.join(&key))?;
    if holder == Holder::Agent(Role::Server) {
        call.say(
            "==> WARNING: whoever holds a server certificate can act as a server of its datacenter",
        )?;
        call.say("    and read and change all that it stores. Keep it on servers, as safe as the CA's key.")?;
    }
    call.say(format!("==> Using {} and {}", ca.display(), ca_key.display()))?;
    call.say(format!("==> Saved {}", certificate.display()))?;
    call.say(format!("==> Saved {}", key.display()))?;
    Ok(0)
}

/// Collects the further names; every agent is also reached on its own machine.
fn sans(line: &Line, holder: Holder) -> anyhow::Result<Vec<San>> {
    let mut sans = vec![San::Dns("localhost".to_owned())];
    if holder != Holder::Tool {
        sans.push(San::Ip(std::net::Ipv4Addr::LOCALHOST.into()));
    }
    sans.extend(line.values("additional-dnsname").map(|name| San::Dns(name.to_owned())));
    for address in line.values("additional-ipaddress") {
        let parsed = address.trim().parse();
        let ip = parsed.map_err(|_| anyhow::anyhow!("Invalid IP address: {address:?}"))?;
        sans.push(San::Ip(ip));
    }
    Ok(sans)
}

/// Finds the first number whose two files do not exist.
fn free_files(dir: &Path, stem: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    (0..NUMBER_MAX)
        .map(|n| (format!("{stem}-{n}.pem"), format!("{stem}-{n}-key.pem")))
        .find(|(certificate, key)| ![certificate, key].iter().any(|file| dir.join(file).exists()))
        .map(|(certificate, key)| (certificate.into(), key.into()))
        .with_context(|| format!("there are {NUMBER_MAX} certificates {stem}-* here already"))
}
