//! Which certificate a node shows on its links.
//!
//! The one that the configuration names; or, when it names none and nobody but this machine can
//! reach the node, one from the user's own development CA. A node that others could reach does not start
//! without certificates: every link is authenticated both ways, and there is no way to turn
//! that off.

use std::path::Path;

use anyhow::{Context, bail};
use certs::{
    identity::{Domains, Identity},
    local,
    store::{Clock, Files, Keys},
};
use tracing::{info, warn};

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
            let files = Files {
                certificate: pem.cert_file.clone(),
                key: pem.key_file.clone(),
                authorities: pem.ca.clone(),
            };
            let domains = Domains::new(Some(&config.domain));
            Keys::files(files, domains, clock).context("the certificate for links can't be used")?
        }
        None if only_here(config) => {
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
    check(&keys, me)?;
    info!(identity = %keys.identity(), until = %keys.validity().not_after, "certificate for links");
    Ok(keys)
}

/// Tells whether nobody but this machine can reach the node's links and pools.
fn only_here(config: &config::Agent) -> bool {
    let addresses = &config.addresses;
    let endpoints = [Some(addresses.lan), Some(addresses.link), addresses.wan];
    endpoints
        .iter()
        .flatten()
        .all(|endpoint| endpoint.bind.ip().is_loopback() && endpoint.advertise.ip().is_loopback())
}

/// A certificate that says something else than the configuration would be refused by everyone:
/// better now than later.
fn check(keys: &Keys, me: &Identity) -> anyhow::Result<()> {
    let holder = keys.identity();
    let other_node = holder.node.is_some() && holder.node != me.node;
    if holder.dc != me.dc || holder.role != me.role || other_node {
        bail!("the certificate for links is that of {holder}, but this node is {me}");
    }
    Ok(())
}
