//! `tls ca create`.

use certs::ca::{Algorithm, Authority};
use time::OffsetDateTime;

use super::{DAYS, DOMAIN, authority_files, days};
use crate::cli::{Api, Call, Command, Run, flags::Flag};

/// Five years, as Consul's.
const DAYS_DEFAULT: u32 = 5 * 365;

pub(in crate::cli) const COMMAND: Command = Command {
    name: "tls ca create",
    about: "Makes a certificate authority",
    usage: "[options]",
    help: "Makes a certificate authority with a key of its own (ECDSA P-256).\n\n    \
           $ % tls ca create\n    ==> Saved consul-agent-ca.pem\n    ==> Saved consul-agent-ca-key.pem\n\n\
           Agents need the first file. Whoever has the second one can make servers.",
    flags: || {
        vec![
            Flag::value(DAYS, "count", "How long it is valid. The default is five years."),
            DOMAIN,
            Flag::value(
                "common-name",
                "name",
                "Name of the authority. The default is Causeway Agent CA.",
            ),
            Flag::bool("name-constraint", "Not supported: makes the command fail."),
            Flag::value(
                "additional-name-constraint",
                "name",
                "Not supported: makes the command fail.",
            ),
        ]
    },
    api: Api::None,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let line = &call.line;
    if line.is_set("name-constraint") || line.value("additional-name-constraint").is_some() {
        // Leaving the constraint out silently would make a stronger authority than was asked for.
        anyhow::bail!("name constraints are not supported");
    }
    let (certificate, key) = authority_files(line.value("domain").unwrap_or("consul"));
    for file in [&certificate, &key] {
        anyhow::ensure!(!call.dir.join(file).exists(), "{} already exists.", file.display());
    }
    let name = line.value("common-name").unwrap_or("Causeway Agent CA");
    let days = days(line, DAYS_DEFAULT)?;
    Authority::create(name, Algorithm::EcdsaP256, OffsetDateTime::now_utc(), days)?
        .write(&call.dir.join(&certificate), &call.dir.join(&key))?;
    call.say(format!("==> Saved {}", certificate.display()))?;
    call.say(format!("==> Saved {}", key.display()))?;
    Ok(0)
}
