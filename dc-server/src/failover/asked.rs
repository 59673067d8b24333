//! What a lookup asks for, as far as other datacenters may answer it: a service, or a run of a prepared query.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use lan_agent::{
    ask::AskError,
    catalog::{Form, Lookup, Run, Subject, Text},
};
use serde_json::Value;
use topology::Datacenter;

use crate::{
    config_entry::SERVICE_RESOLVER,
    prepared_query::Wanted,
    state::{State, catalog::fold, watch::Topic},
};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// The health of a service, by its name.
    Service(&'a Text),
    /// What a prepared query finds.
    Query(&'a Run),
}

/// The name of what is asked for. A service and a query may have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// The name of a service, in lower case.
    Service(Text),
    /// The name or id of a query, or what a template takes for one.
    Query(Text),
}

impl<'a> Asked<'a> {
    /// Reads a lookup; `None` for what nobody else answers.
    pub fn of(lookup: &'a Lookup) -> Option<Self> {
        match &lookup.subject {
            Subject::Health { service, .. } => Some(Asked::Service(service)),
            Subject::Query(run) => Some(Asked::Query(run)),
            _ => None,
        }
    }

    /// Returns what choices are kept by.
    pub fn name(self) -> Name {
        match self {
            Asked::Service(service) => Name::Service(fold(service)),
            Asked::Query(run) => Name::Query(run.name.clone()),
        }
    }

    /// Returns the index of the last change of the rules: of resolvers, or of queries.
    pub fn rules(self, state: &State) -> u64 {
        match self {
            Asked::Service(_) => state.config_entries().index_of_kind(SERVICE_RESOLVER),
            Asked::Query(_) => state.queries().index(),
        }
    }

    /// Returns what rings when they change.
    pub fn topic(self) -> Topic {
        match self {
            Asked::Service(_) => Topic::ConfigKind(SERVICE_RESOLVER.into()),
            Asked::Query(_) => Topic::Queries,
        }
    }
}

/// Puts what a query found into the body of its answer. `failovers` is how many other datacenters were tried.
pub fn ran(
    form: Form,
    wanted: &Wanted,
    dc: &Datacenter,
    failovers: usize,
    nodes: &Bytes,
) -> Result<Bytes, AskError> {
    let failed = |error: String| AskError::Failed(format!("the answer can't be written: {error}"));
    if form == Form::Json {
        let (service, ttl) = (Value::from(&*wanted.service), Value::from(&*wanted.dns_ttl_said));
        let before = format!("{{\"Service\":{service},\"Nodes\":");
        let after = format!(
            ",\"DNS\":{{\"TTL\":{ttl}}},\"Datacenter\":\"{dc}\",\"Failovers\":{failovers}}}"
        );
        return Ok([before.as_bytes(), nodes, after.as_bytes()].concat().into());
    }
    // A map of three names ([`lan_agent::catalog::Ran`]), of which the last one's value is written already.
    let seconds = wanted.dns_ttl.as_ref().map(Duration::as_secs);
    let ttl = seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    let service = rmp_serde::to_vec(&wanted.service).map_err(|error| failed(error.to_string()))?;
    let ttl = rmp_serde::to_vec(&ttl).map_err(|error| failed(error.to_string()))?;
    let parts: [Cow<'_, [u8]>; 6] = [
        b"\x83\xa1s"[..].into(),
        service.into(),
        b"\xa1t"[..].into(),
        ttl.into(),
        b"\xa1i"[..].into(),
        nodes[..].into(),
    ];
    Ok(parts.concat().into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lan_agent::catalog::{Instance, Node, Ran, Service};

    use super::*;
    use crate::prepared_query::Definition;

    fn wanted(ttl: &str) -> Wanted {
        let query =
            format!(r#"{{"Name":"q","Service":{{"Service":"a\"b"}},"DNS":{{"TTL":"{ttl}"}}}}"#);
        Definition::read(&query, true).unwrap().wanted()
    }

    #[test]
    fn a_query_is_never_taken_for_the_service_of_its_name() {
        let run = Run { name: "Web".into(), limit: 0, agent: "n1".into() };
        let service = Text::from("Web");
        assert_ne!(Asked::Query(&run).name(), Asked::Service(&service).name());
        assert_eq!(Asked::Service(&service).name(), Asked::Service(&"wEB".into()).name());
    }

    #[test]
    fn what_was_found_is_read_as_it_was_written() {
        let node = Node { name: "n".into(), ..Node::default() };
        let (node, service) = (Arc::new(node), Arc::new(Service::default()));
        let instances = vec![Instance { node, service, checks: Vec::new(), dc: None }];
        let list = Bytes::from(rmp_serde::to_vec_named(&instances).unwrap());
        let dc = "dc2".parse().unwrap();
        for (said, ttl) in [("", None), ("90s", Some(90))] {
            let body = ran(Form::Records, &wanted(said), &dc, 1, &list).unwrap();
            let found: Ran = rmp_serde::from_slice(&body).unwrap();
            assert_eq!(found, Ran { service: "a\"b".into(), ttl, instances: instances.clone() });
        }
        let body = ran(Form::Json, &wanted("90s"), &dc, 1, &Bytes::from_static(b"[]")).unwrap();
        assert_eq!(
            body,
            r#"{"Service":"a\"b","Nodes":[],"DNS":{"TTL":"90s"},"Datacenter":"dc2","Failovers":1}"#
        );
    }
}
