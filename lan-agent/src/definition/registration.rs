//! What is said to the catalog directly, without the agent of the node: nodes, services and checks
//! as they are to be shown.
//!
//! Names, ids and the address are demanded in Consul's words. Unlike Consul, fields that nobody
//! knows are passed over in a registration, so that clients of later versions can speak to this
//! one; in a removal they are refused, because one that is misspelled would leave the whole node
//! to be removed.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{DefinitionError, fields::Fields};
use crate::{
    catalog::{
        Check, Deregistration, Health, Node, Registration, Removed, Service, ServiceAddress, Text,
        Weights,
    },
    duration,
};

/// Fields of Consul's that mean nothing in a removal.
const MEANINGLESS: &[&str] = &["address", "namespace", "partition", "peername", "token"];

/// Reads a registration with the datacenter that it names.
pub(super) fn read(mut fields: Fields<'_>) -> Result<(Text, Registration), DefinitionError> {
    let dc = fields.text("datacenter")?;
    let node = node(&mut fields, "nodemeta")?;
    let skip_node_update = fields.flag("skipnodeupdate")?;
    check_node(&node)?;
    if node.address.is_empty() && !skip_node_update {
        return Err(invalid("Must provide address if SkipNodeUpdate is not set"));
    }
    let service = fields.object("service")?.map(|mut fields| service(&mut fields)).transpose()?;
    service.iter().try_for_each(check_service)?;
    let mut list = fields.objects("checks")?;
    list.extend(fields.object("check")?);
    let checks = list.into_iter().map(|mut fields| {
        let (named, check) = check(&mut fields)?;
        if !named.is_empty() && named != node.name {
            let (named, name) = (&*named, &*node.name);
            return Err(invalid(format!("check node {named:?} does not match node {name:?}")));
        }
        Ok(check)
    });
    let checks = checks.collect::<Result<_, _>>()?;
    Ok((dc, Registration { node, skip_node_update, service, checks }))
}

/// Reads what is to be removed: a service rather than a check, the node when neither is named.
pub(super) fn read_removal(
    mut fields: Fields<'_>,
) -> Result<(Text, Deregistration), DefinitionError> {
    let dc = fields.text("datacenter")?;
    let node = fields.text("node")?;
    let (service, check) = (fields.text("serviceid")?, fields.text("checkid")?);
    fields.finish(MEANINGLESS)?;
    if node.is_empty() {
        return Err(invalid("Must provide node"));
    }
    let what = match (service.is_empty(), check.is_empty()) {
        (false, _) => Removed::Service(service),
        (true, false) => Removed::Check(check),
        (true, true) => Removed::Node,
    };
    Ok((dc, Deregistration { node, what }))
}

/// Reads a node; `meta` is what its metadata is called.
pub(super) fn node(fields: &mut Fields<'_>, meta: &str) -> Result<Node, DefinitionError> {
    Ok(Node {
        name: fields.text("node")?,
        id: fields.text("id")?,
        address: fields.text("address")?,
        tagged_addresses: fields.texts("taggedaddresses")?,
        meta: fields.texts(meta)?,
    })
}

/// Refuses a node that can't be registered.
pub(super) fn check_node(node: &Node) -> Result<(), DefinitionError> {
    if node.name.is_empty() {
        return Err(invalid("Must provide node"));
    }
    if !node.id.is_empty() && (node.id.len() != 36 || Uuid::try_parse(&node.id).is_err()) {
        return Err(invalid(format!("Bad node ID: {:?} is no UUID", node.id)));
    }
    Ok(())
}

/// Reads a service.
pub(super) fn service(fields: &mut Fields<'_>) -> Result<Service, DefinitionError> {
    let (id, name) = (fields.text("id")?, fields.text("service")?);
    Ok(Service {
        id: if id.is_empty() { name.clone() } else { id },
        name,
        kind: fields.text("kind")?,
        address: fields.text("address")?,
        tagged_addresses: tagged_addresses(fields)?,
        port: fields.small("port")?.unwrap_or(0),
        tags: fields.list("tags")?,
        meta: fields.texts("meta")?,
        weights: weights(fields)?,
        enable_tag_override: fields.flag("enabletagoverride")?,
    })
}

/// Refuses a service that can't be registered.
pub(super) fn check_service(service: &Service) -> Result<(), DefinitionError> {
    if service.name.is_empty() {
        return Err(invalid("Must provide service name with ID"));
    }
    if service.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(invalid("Invalid service address"));
    }
    Ok(())
}

fn tagged_addresses(
    fields: &mut Fields<'_>,
) -> Result<BTreeMap<Text, ServiceAddress>, DefinitionError> {
    let read = |(tag, mut inner): (Text, Fields<'_>)| {
        let address = inner.text("address")?;
        Ok((tag, ServiceAddress { address, port: inner.small("port")?.unwrap_or(0) }))
    };
    fields.objects_by_name("taggedaddresses")?.into_iter().map(read).collect()
}

/// Weights that can't be are as good as none, as in Consul.
fn weights(fields: &mut Fields<'_>) -> Result<Weights, DefinitionError> {
    let Some(mut inner) = fields.object("weights")? else { return Ok(Weights::default()) };
    Ok(match (inner.small("passing"), inner.small("warning")) {
        (Ok(Some(passing @ 1..)), Ok(warning)) => {
            Weights { passing, warning: warning.unwrap_or(0) }
        }
        _ => Weights::default(),
    })
}

/// Reads a check, with the node that it names.
pub(super) fn check(fields: &mut Fields<'_>) -> Result<(Text, Check), DefinitionError> {
    let node = fields.text("node")?;
    let (id, name) = (fields.text("checkid")?, fields.text("name")?);
    let id = if id.is_empty() { name.clone() } else { id };
    if id.is_empty() {
        return Err(DefinitionError::Malformed("a check needs a CheckID or a Name".to_owned()));
    }
    let status = fields.text("status")?;
    let status = match Health::from_name(&status) {
        Some(status) => status,
        None if status.is_empty() => Health::default(),
        None => {
            let why = format!("Status: {status:?} is none of passing, warning and critical");
            return Err(DefinitionError::Malformed(why));
        }
    };
    let (kind, definition) = match fields.object("definition")? {
        Some(inner) => definition(inner)?,
        None => Default::default(),
    };
    let said = fields.text("type")?;
    let check = Check {
        id,
        name,
        status,
        notes: fields.text("notes")?,
        output: fields.text("output")?,
        service_id: fields.text("serviceid")?,
        service_name: Text::default(),
        kind: if said.is_empty() { kind.into() } else { said },
        definition,
    };
    Ok((node, check))
}

/// Reads a definition that is only to be shown. Returns the kind of check that it makes, and itself
/// as it is shown: without what it does not say.
fn definition(mut fields: Fields<'_>) -> Result<(&'static str, Text), DefinitionError> {
    let mut shown = Map::new();
    let interval = time(&mut shown, "Interval", fields.duration("interval")?);
    if let Some(len_max) = fields.small("outputmaxsize")?.filter(|len_max| *len_max > 0) {
        shown.insert("OutputMaxSize".to_owned(), len_max.into());
    }
    time(&mut shown, "Timeout", fields.duration("timeout")?);
    let deregister = fields.duration("deregistercriticalserviceafter")?;
    time(&mut shown, "DeregisterCriticalServiceAfter", deregister);
    let http = text(&mut shown, "HTTP", fields.text("http")?);
    flag(&mut shown, "TLSSkipVerify", fields.flag("tlsskipverify")?);
    let header = fields.lists("header")?;
    if !header.is_empty() {
        let values = |values: Vec<Text>| values.iter().map(|value| Value::from(&**value)).collect();
        let header = header.into_iter().map(|(name, list)| (name.to_string(), values(list)));
        shown.insert("Header".to_owned(), Value::Object(header.collect()));
    }
    text(&mut shown, "Method", fields.text("method")?);
    text(&mut shown, "Body", fields.text("body")?);
    let tcp = text(&mut shown, "TCP", fields.text("tcp")?);
    let args = fields.list("scriptargs")?;
    let script = !args.is_empty();
    if script {
        let args: Vec<_> = args.iter().map(|arg| Value::from(&**arg)).collect();
        shown.insert("ScriptArgs".to_owned(), args.into());
    }
    let container = text(&mut shown, "DockerContainerID", fields.text("dockercontainerid")?);
    text(&mut shown, "Shell", fields.text("shell")?);
    let grpc = text(&mut shown, "GRPC", fields.text("grpc")?);
    flag(&mut shown, "GRPCUseTLS", fields.flag("grpcusetls")?);
    let alias_node = text(&mut shown, "AliasNode", fields.text("aliasnode")?);
    let alias_service = text(&mut shown, "AliasService", fields.text("aliasservice")?);
    let ttl = fields.duration("ttl")?;
    if !ttl.is_zero() {
        let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        shown.insert("TTL".to_owned(), nanos.into());
    }
    let kind = match () {
        () if grpc && interval => "grpc",
        () if http && interval => "http",
        () if !ttl.is_zero() => "ttl",
        () if tcp && interval => "tcp",
        () if alias_node || alias_service => "alias",
        () if container && script && interval => "docker",
        () if script => "script",
        () => "",
    };
    let shown = if shown.is_empty() { Text::default() } else { escaped(&Value::Object(shown)) };
    Ok((kind, shown))
}

/// Writes JSON as Go does, which spares browsers some characters.
fn escaped(value: &Value) -> Text {
    let text = value.to_string();
    let plain = |c: char| !matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    if text.chars().all(plain) {
        return text.into();
    }
    // None of these characters is outside of a string.
    let escape = |c: char| match plain(c) {
        true => c.to_string(),
        false => format!("\\u{:04x}", u32::from(c)),
    };
    text.chars().map(escape).collect::<String>().into()
}

/// Shows a duration, if there is one, and tells whether there is.
fn time(shown: &mut Map<String, Value>, name: &str, time: Duration) -> bool {
    if !time.is_zero() {
        shown.insert(name.to_owned(), duration::format(time).into());
    }
    !time.is_zero()
}

/// Shows a text, if there is one, and tells whether there is.
fn text(shown: &mut Map<String, Value>, name: &str, text: Text) -> bool {
    if !text.is_empty() {
        shown.insert(name.to_owned(), Value::from(&*text));
    }
    !text.is_empty()
}

fn flag(shown: &mut Map<String, Value>, name: &str, flag: bool) {
    if flag {
        shown.insert(name.to_owned(), flag.into());
    }
}

fn invalid(sentence: impl Into<String>) -> DefinitionError {
    DefinitionError::Invalid(sentence.into())
}
