//! What can be watched: how it is asked for, and what of the answer a handler reads.
//!
//! Handlers read what those of Consul do: a key with all its fields, checks with their whole
//! definition, `null` for keys that are not there.

use serde_json::{Map, Value, json};

use crate::{
    ask::Question,
    catalog::{Form, Health, Lookup, Selection, Subject, Text},
};

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// One key.
    Key(String),
    /// The keys below a prefix.
    KeyPrefix(String),
    /// The names of all services.
    Services,
    /// All nodes.
    Nodes,
    /// The instances of a service with their checks.
    Service {
        /// The service.
        name: String,
        /// The tags that instances must have, all of them.
        tags: Vec<String>,
        /// Whether those with a check that is not passing are left out.
        passing: bool,
    },
    /// The checks of a service.
    ServiceChecks(String),
    /// The checks in a state; `any` for all.
    Checks(String),
}

impl View {
    /// Returns the name of the type, as configurations have it.
    pub fn kind(&self) -> &'static str {
        match self {
            View::Key(_) => "key",
            View::KeyPrefix(_) => "keyprefix",
            View::Services => "services",
            View::Nodes => "nodes",
            View::Service { .. } => "service",
            View::ServiceChecks(_) | View::Checks(_) => "checks",
        }
    }

    /// Returns the path of the HTTP interface where it is, and the parameters that belong to it.
    pub fn path(&self) -> (String, Vec<(&'static str, String)>) {
        match self {
            View::Key(key) => (format!("/v1/kv/{key}"), Vec::new()),
            View::KeyPrefix(prefix) => {
                (format!("/v1/kv/{prefix}"), vec![("recurse", String::new())])
            }
            View::Services => ("/v1/catalog/services".to_owned(), Vec::new()),
            View::Nodes => ("/v1/catalog/nodes".to_owned(), Vec::new()),
            View::Service { name, tags, passing } => {
                let mut query: Vec<_> = tags.iter().map(|tag| ("tag", tag.clone())).collect();
                query.extend(passing.then(|| ("passing", "1".to_owned())));
                (format!("/v1/health/service/{name}"), query)
            }
            View::ServiceChecks(service) => (format!("/v1/health/checks/{service}"), Vec::new()),
            View::Checks(state) => (format!("/v1/health/state/{state}"), Vec::new()),
        }
    }

    /// Returns the question that a server is asked.
    pub fn question(&self) -> Question {
        let mut selection = Selection::default();
        let subject = match self {
            View::Key(key) => return Question::KvGet { key: key.clone(), raw: false },
            View::KeyPrefix(prefix) => return Question::KvList { prefix: prefix.clone() },
            View::Services => Subject::Services,
            View::Nodes => Subject::Nodes,
            View::Service { name, tags, passing } => {
                selection.tags = tags.iter().map(|tag| Text::from(tag.as_str())).collect();
                Subject::Health { service: name.as_str().into(), passing: *passing }
            }
            View::ServiceChecks(service) => Subject::ServiceChecks(service.as_str().into()),
            View::Checks(state) => Subject::State(Health::from_name(state)),
        };
        Question::Lookup(Lookup { subject, selection, form: Form::Json })
    }

    /// Returns what a handler reads of an answer's body; `None` stands for a 404.
    pub fn value(&self, body: Option<&[u8]>) -> Result<Value, serde_json::Error> {
        let Some(body) = body else { return Ok(Value::Null) };
        let mut value: Value = serde_json::from_slice(body)?;
        let items = || value_items(&value);
        Ok(match self {
            View::Key(_) => items().next().map_or(Value::Null, pair),
            View::KeyPrefix(_) => items().map(pair).collect(),
            View::Services | View::Nodes => value,
            View::ServiceChecks(_) | View::Checks(_) => {
                value.as_array_mut().into_iter().flatten().for_each(define);
                value
            }
            View::Service { .. } => {
                for instance in value.as_array_mut().into_iter().flatten() {
                    instance["Checks"].as_array_mut().into_iter().flatten().for_each(define);
                }
                value
            }
        })
    }
}

fn value_items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A key with all the fields that it can have.
fn pair(entry: &Value) -> Value {
    let session = entry.get("Session").cloned().unwrap_or_else(|| "".into());
    json!({
        "Key": entry["Key"],
        "CreateIndex": entry["CreateIndex"],
        "ModifyIndex": entry["ModifyIndex"],
        "LockIndex": entry["LockIndex"],
        "Flags": entry["Flags"],
        "Value": entry["Value"],
        "Session": session,
    })
}

/// Gives a check's definition all the fields that it can have.
fn define(check: &mut Value) {
    let Value::Object(given) = check["Definition"].take() else { return };
    let mut whole = Map::new();
    for (name, default) in [
        ("Interval", json!("0s")),
        ("Timeout", json!("0s")),
        ("DeregisterCriticalServiceAfter", json!("0s")),
        ("HTTP", json!("")),
        ("Header", Value::Null),
        ("Method", json!("")),
        ("Body", json!("")),
        ("TLSSkipVerify", json!(false)),
        ("TCP", json!("")),
    ] {
        whole.insert(name.to_owned(), default);
    }
    whole.extend(given);
    check["Definition"] = Value::Object(whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_all_fields_and_what_is_not_there_is_null() {
        let body = br#"[{"LockIndex":0,"Key":"a/b","Flags":0,"Value":"aGVsbG8=","CreateIndex":97,"ModifyIndex":98}]"#;
        // As Consul 1.8.7 gives it to handlers.
        let one = r#"{"Key":"a/b","CreateIndex":97,"ModifyIndex":98,"LockIndex":0,"Flags":0,"Value":"aGVsbG8=","Session":""}"#;
        let value = |view: View| view.value(Some(body)).unwrap().to_string();
        assert_eq!(value(View::Key("a/b".to_owned())), one);
        assert_eq!(value(View::KeyPrefix("a/".to_owned())), format!("[{one}]"));
        for view in [View::Key("x".to_owned()), View::KeyPrefix("x".to_owned())] {
            assert_eq!(view.value(None).unwrap(), Value::Null);
        }
    }

    #[test]
    fn checks_have_their_whole_definition() {
        let checks = br#"[{"CheckID":"c","Definition":{"Interval":"10s","UDP":"a:1"}}]"#;
        let value = View::Checks("any".to_owned()).value(Some(checks)).unwrap();
        let whole = r#"{"Interval":"10s","Timeout":"0s","DeregisterCriticalServiceAfter":"0s","HTTP":"","Header":null,"Method":"","Body":"","TLSSkipVerify":false,"TCP":"","UDP":"a:1"}"#;
        assert_eq!(value[0]["Definition"].to_string(), whole);
        let view = View::Service { name: "web".to_owned(), tags: Vec::new(), passing: false };
        let instances = br#"[{"Service":{"ID":"w"},"Checks":[{"CheckID":"c","Definition":{}}]}]"#;
        let value = view.value(Some(instances)).unwrap();
        assert_eq!(value[0]["Checks"][0]["Definition"]["Timeout"], "0s");
    }

    #[test]
    fn a_service_is_asked_for_with_its_tags_and_health() {
        let tags = vec!["a".to_owned(), "b c".to_owned()];
        let view = View::Service { name: "web".to_owned(), tags, passing: true };
        let (path, query) = view.path();
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(path, "/v1/health/service/web");
        assert_eq!(query, [("tag", "a"), ("tag", "b c"), ("passing", "1")]);
    }
}
