//! `tls ca create` and `tls cert create`: an authority and certificates, as files in the current
//! directory. Files that exist are never replaced; keys are readable by their owner only.

mod ca;
mod cert;

pub(super) use self::{ca::COMMAND as CA_CREATE, cert::COMMAND as CERT_CREATE};

use std::path::PathBuf;

use super::flags::{Flag, Line};

const DAYS: &str = "days";

/// Returns where the authority of a domain is: its certificate and its key.
fn authority_files(domain: &str) -> (PathBuf, PathBuf) {
    (format!("{domain}-agent-ca.pem").into(), format!("{domain}-agent-ca-key.pem").into())
}

fn days(line: &Line, default: u32) -> anyhow::Result<u32> {
    let Some(text) = line.value(DAYS) else { return Ok(default) };
    match text.parse() {
        Ok(days) if days > 0 => Ok(days),
        _ => anyhow::bail!(
            "invalid value {text:?} for flag -days: expected a number of days above 0"
        ),
    }
}

/// The flag with the domain of Consul's DNS names.
const DOMAIN: Flag = Flag::value("domain", "name", "Domain of the cluster. The default is consul.");
