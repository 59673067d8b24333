//! `tls ca create`.

use certs::ca::{Algorithm, Authority};
use time::OffsetDateTime;

use super::{DAYS, DOMAIN, authority_files, days};
use crate::cli::{
    Api, Call, Command, Run,
    flags::{Flag, Line},
};

/// Five years, as Consul's.
const DAYS_DEFAULT: u32 = 5 * 365;

const CONSTRAINED: &str = "name-constraint";
const FURTHER: &str = "additional-name-constraint";

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
            Flag::bool(
                CONSTRAINED,
                "The authority can issue certificates only for DNS names below -domain and for \
                 localhost. That can't be changed later.",
            ),
            Flag::value(
                FURTHER,
                "name",
                "A further DNS name that -name-constraint permits, such as that of the HTTPS \
                 interface. Can be given several times.",
            ),
        ]
    },
    api: Api::None,
    run: Run::Call(run),
};

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let line = &call.line;
    let domain = line.value("domain").unwrap_or("consul");
    let (certificate, key) = authority_files(domain);
    for file in [&certificate, &key] {
        anyhow::ensure!(!call.dir.join(file).exists(), "{} already exists.", file.display());
    }
    let name = line.value("common-name").unwrap_or("Causeway Agent CA");
    let days = days(line, DAYS_DEFAULT)?;
    let permitted = permitted(line, domain)?;
    let now = OffsetDateTime::now_utc();
    Authority::constrained(name, Algorithm::EcdsaP256, now, days, &permitted)?
        .write(&call.dir.join(&certificate), &call.dir.join(&key))?;
    call.say(format!("==> Saved {}", certificate.display()))?;
    call.say(format!("==> Saved {}", key.display()))?;
    Ok(0)
}

/// Collects the names that the authority is constrained to; none if it is not.
fn permitted(line: &Line, domain: &str) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<_> = line.values(FURTHER).map(str::to_owned).collect();
    if line.is_set(CONSTRAINED) {
        names.extend([domain.to_owned(), "localhost".to_owned()]);
    } else if !names.is_empty() {
        // Leaving them out silently would make a stronger authority than was asked for.
        anyhow::bail!("-{FURTHER} has no effect without -{CONSTRAINED}");
    }
    Ok(names)
}
