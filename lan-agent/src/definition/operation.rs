//! Operations of a transaction on the catalog: `{"Node": {"Verb": "set", "Node": {...}}}` and the like.
//!
//! What is set is held to the same as in a registration, but for the address of a node; what is
//! read or removed only has to be named.

use super::{
    DefinitionError,
    fields::Fields,
    registration::{check, check_node, check_service, node, service},
};
use crate::{
    ask::{CatalogOp, CatalogRecord, CatalogVerb},
    catalog::Text,
};

/// Reads an operation; `None` when it is about nothing of the catalog.
pub(super) fn read(mut fields: Fields<'_>) -> Result<Option<CatalogOp>, DefinitionError> {
    let op = if let Some(mut outer) = fields.object("node")? {
        let (verb, mut inner) = (verb("Node", &mut outer)?, outer.object("node")?);
        let node = node(inner.get_or_insert_default(), "meta")?;
        if !verb.reads() {
            check_node(&node)?;
        }
        (verb, CatalogRecord::Node(node), inner)
    } else if let Some(mut outer) = fields.object("service")? {
        let (verb, mut inner) = (verb("Service", &mut outer)?, outer.object("service")?);
        let service = service(inner.get_or_insert_default())?;
        if sets(verb) {
            check_service(&service)?;
        }
        (verb, CatalogRecord::Service(outer.text("node")?, service), inner)
    } else if let Some(mut outer) = fields.object("check")? {
        let (verb, mut inner) = (verb("Check", &mut outer)?, outer.object("check")?);
        let (node, check) = check(inner.get_or_insert_default())?;
        (verb, CatalogRecord::Check(node, check), inner)
    } else {
        return Ok(None);
    };
    let (verb, record, inner) = op;
    let index = inner.unwrap_or_default().number("modifyindex")?.unwrap_or(0);
    Ok(Some(CatalogOp { verb, record, index }))
}

fn verb(of: &str, fields: &mut Fields<'_>) -> Result<CatalogVerb, DefinitionError> {
    let name: Text = fields.text("verb")?;
    let unknown = || DefinitionError::Invalid(format!("unknown {of} verb {name:?}"));
    CatalogVerb::from_name(&name).ok_or_else(unknown)
}

fn sets(verb: CatalogVerb) -> bool {
    matches!(verb, CatalogVerb::Set | CatalogVerb::Cas)
}
