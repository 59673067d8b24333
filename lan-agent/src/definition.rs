//! Definitions: what an application or an operator says of a service and of its checks.
//!
//! ```text
//! API        {"Name": "web", "Check": {"HTTP": ..., "Interval": "10s"}}   ─┐
//! file       service { name = "web" check { http = ... interval = "10s" } } ─┴─▶ ServiceDefinition
//! ```
//!
//! Both ways to write a name are read everywhere, whatever its capitals: `EnableTagOverride`,
//! `enable_tag_override`. What is left out gets Consul's defaults here, so that nobody after this
//! has to know them. A field that nobody knows and a value that can't be are refused with a
//! sentence ([`DefinitionError`]); fields of Consul's that mean nothing here are passed over.

mod check;
mod fields;
mod operation;
mod registration;
mod service;

use serde_json::Value;

use crate::{
    ask::CatalogOp,
    catalog::{Deregistration, Registration, Text},
};

pub use check::{
    CheckDefinition, DEREGISTER_AFTER_MIN, INTERVAL_MIN, OUTPUT_LEN_MAX, Probe, Thresholds, Tls,
};
pub use fields::{DefinitionError, block};
pub use service::ServiceDefinition;

use fields::Fields;

/// Reads the definition of a service with its checks.
pub fn service(value: &Value) -> Result<ServiceDefinition, DefinitionError> {
    service::read(Fields::of(value)?)
}

/// Reads the definition of a check that is not part of a service's.
pub fn check(value: &Value) -> Result<CheckDefinition, DefinitionError> {
    check::read_alone(Fields::of(value)?)
}

/// Reads what is to be taken into the catalog, with the datacenter that it names; that is empty when
/// it names none.
pub fn registration(value: &Value) -> Result<(Text, Registration), DefinitionError> {
    registration::read(Fields::of(value)?)
}

/// Reads what is to be removed from the catalog, with the datacenter that it names; that is empty
/// when it names none.
pub fn deregistration(value: &Value) -> Result<(Text, Deregistration), DefinitionError> {
    registration::read_removal(Fields::of(value)?)
}

/// Reads an operation of a transaction on the catalog; `None` for one on nothing of it.
pub fn operation(value: &Value) -> Result<Option<CatalogOp>, DefinitionError> {
    operation::read(Fields::of(value)?)
}

#[cfg(test)]
mod tests;
