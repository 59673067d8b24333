//! What is said of an instance of a service.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    CheckDefinition, DefinitionError,
    check::{self, Owner},
    fields::Fields,
};
use crate::catalog::{Service, ServiceAddress, Text, Texts, Weights};

/// Most pairs of metadata, as Consul has it.
const META_PAIRS_MAX: usize = 64;

/// Longest name in metadata, as Consul has it.
const META_KEY_LEN_MAX: usize = 128;

/// Longest text in metadata, as Consul has it.
const META_VALUE_LEN_MAX: usize = 512;

/// Fields of Consul's that mean nothing here: its mesh, its enterprise version, and what it says of
/// a service itself.
const MEANINGLESS: &[&str] = &[
    "connect",
    "contenthash",
    "createindex",
    "datacenter",
    "enterprisemeta",
    "locality",
    "modifyindex",
    "namespace",
    "partition",
    "peername",
    "ports",
    "proxy",
    "socketpath",
    "token",
];

/// A service with the checks that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// The service.
    pub service: Service,
    /// Its checks.
    #[serde(default)]
    pub checks: Vec<CheckDefinition>,
}

pub(super) fn read(mut fields: Fields<'_>) -> Result<ServiceDefinition, DefinitionError> {
    let name = fields.text("name")?;
    let id = fields.text("id")?;
    let service = Service {
        id: if id.is_empty() { name.clone() } else { id },
        name,
        kind: fields.text("kind")?,
        address: fields.text("address")?,
        tagged_addresses: tagged_addresses(&mut fields)?,
        port: fields.small("port")?.unwrap_or(0),
        tags: fields.list("tags")?,
        meta: fields.texts("meta")?,
        weights: weights(&mut fields)?,
        enable_tag_override: fields.flag("enabletagoverride")?,
    };
    let mut checks: Vec<Fields<'_>> = fields.object("check")?.into_iter().collect();
    checks.extend(fields.objects("checks")?);
    fields.finish(MEANINGLESS)?;
    validate(&service)?;
    let owner = Owner { id: service.id.clone(), name: service.name.clone() };
    Ok(ServiceDefinition { service, checks: check::read_of_service(&owner, checks)? })
}

fn tagged_addresses(
    fields: &mut Fields<'_>,
) -> Result<BTreeMap<Text, ServiceAddress>, DefinitionError> {
    let read = |(tag, mut inner): (Text, Fields<'_>)| {
        let address = inner.text("address")?;
        let port = inner.small("port")?.unwrap_or(0);
        inner.finish(&[])?;
        Ok((tag, ServiceAddress { address, port }))
    };
    fields.objects_by_name("taggedaddresses")?.into_iter().map(read).collect()
}

fn weights(fields: &mut Fields<'_>) -> Result<Weights, DefinitionError> {
    let Some(mut inner) = fields.object("weights")? else { return Ok(Weights::default()) };
    let passing = inner.small("passing")?.unwrap_or(0);
    let warning = inner.small("warning")?.unwrap_or(0);
    inner.finish(&[])?;
    if passing == 0 {
        let sentence = "Invalid Weights: Passing must be greater than 0";
        return Err(DefinitionError::Invalid(sentence.to_owned()));
    }
    Ok(Weights { passing, warning })
}

fn validate(service: &Service) -> Result<(), DefinitionError> {
    let invalid = |sentence: &str| Err(DefinitionError::Invalid(sentence.to_owned()));
    if service.name.is_empty() {
        return invalid("Missing service name");
    }
    let unspecified = |address: &str| {
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    };
    if unspecified(&service.address) {
        return invalid("Invalid service address");
    }
    validate_meta(&service.meta)
        .map_err(|why| DefinitionError::Invalid(format!("Invalid Service Meta: {why}")))
}

/// Says what is wrong with metadata, in Consul's words.
fn validate_meta(meta: &Texts) -> Result<(), String> {
    if meta.len() > META_PAIRS_MAX {
        return Err(format!(
            "Node metadata cannot contain more than {META_PAIRS_MAX} key/value pairs"
        ));
    }
    for (key, value) in meta {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let why = if key.is_empty() {
            "Key cannot be blank".to_owned()
        } else if !key.chars().all(plain) {
            "Key contains invalid characters".to_owned()
        } else if key.len() > META_KEY_LEN_MAX {
            format!("Key is too long (limit: {META_KEY_LEN_MAX} characters)")
        } else if value.len() > META_VALUE_LEN_MAX {
            format!("Value is too long (limit: {META_VALUE_LEN_MAX} characters)")
        } else {
            continue;
        };
        return Err(format!("Couldn't load metadata pair ('{key}', '{value}'): {why}"));
    }
    Ok(())
}
