//! Which certificate a node shows on its links.
//!
//! The one that the configuration names; or, when it names none and nobody but this machine can
//! reach the node, one from the user's own development CA. A node that others could reach does not start
//! without certificates: every link is authenticated both ways, and there is no way to turn
//! that off.

use std::path::Path;

use anyhow::{Context, bail};
use certs::{
    ca::Validity,
    identity::{Domains, Identity},
    local,
    store::{Clock, Keys},
};
use time::OffsetDateTime;
use tracing::{info, warn};

use super::reload::files;
use crate::config;

/// Finds the certificate for a node's links; `development` is the directory of the user's CA.
pub fn for_links(
    config: &config::Agent,
    me: &Identity,
    development: &Path,
) -> anyhow::Result<Keys> {
    let clock = Clock::System;
    let keys = match &config.tls.link {
        Some(pem) => {
            let domains = Domains::new(Some(&config.domain));
            Keys::files(files(pem), domains, clock)
                .context("the certificate for links can't be used")?
        }
        None if config.is_only_here() => {
            if !config.dev {
                warn!(
                    directory = %development.display(),
                    "no certificates are configured: using this user's development CA, which works on this machine only"
                );
            }
            local::keys(development, me, clock).context("the development CA can't be used")?
        }
        None => bail!(
            "no certificates are configured, and others can reach {}: make some with 'causeway tls ca create' \
             and 'causeway tls cert create -{} -dc {}', and name them in tls {{ defaults {{ ca_file, cert_file, key_file }} }}",
            config.addresses.lan.advertise.ip(),
            config.role,
            config.datacenter,
        ),
    };
    check(&keys, me, clock.now())?;
    info!(identity = %keys.identity(), until = %keys.validity().not_after, "certificate for links");
    Ok(keys)
}

/// A certificate that is over, or says something else than the configuration, would be refused by
/// everyone: better now than later.
fn check(keys: &Keys, me: &Identity, now: OffsetDateTime) -> anyhow::Result<()> {
    let Validity { not_before, not_after, .. } = keys.validity();
    if now > not_after {
        bail!("the certificate for links expired on {not_after}: replace it");
    }
    if now < not_before {
        bail!(
            "the certificate for links is valid from {not_before} on only: is this machine's clock right?"
        );
    }
    let holder = keys.identity();
    let other_node = holder.node.is_some() && holder.node != me.node;
    if holder.dc != me.dc || holder.role != me.role || other_node {
        bail!("the certificate for links is that of {holder}, but this node is {me}");
    }
    Ok(())
}
