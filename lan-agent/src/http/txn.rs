//! `/v1/txn`: several operations on keys and on the catalog, all or none.

use axum::http::StatusCode;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{
    context::Context,
    error::Failure,
    reply::{Indexed, Reply},
};
use crate::{
    ask::{KvOp, KvVerb, Question, TxnOp, question::TXN_OPS_MAX},
    definition::{self, DefinitionError},
};

/// What 413 says of the bound of a body.
const BODY_SETTING: &str = "It is set by limits.txn_max_req_len.";

/// `PUT`: carries out all operations of the JSON list, or none.
pub(super) async fn put(mut cx: Context) -> Result<Reply, Failure> {
    let body = cx.take_body(cx.bounds.txn_len_max, BODY_SETTING).await?;
    let ops = match parse(&body)? {
        Parsed::Ops(ops) => ops,
        Parsed::Refused(errors) => {
            let body = json!({ "Results": null, "Errors": errors });
            return Ok(Reply::value(&body).with_status(StatusCode::CONFLICT));
        }
    };
    if ops.is_empty() {
        return Ok(Reply::value(&json!({ "Results": [], "Errors": null })));
    }
    let answer = cx.ask_now(Question::Txn { ops }).await?;
    Ok(Reply::answer(answer, Indexed::No))
}

/// What a body holds.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Ops(Vec<TxnOp>),
    /// Operations that can't be carried out whatever the state is, as a rolled back transaction
    /// says it.
    Refused(Vec<Value>),
}

fn parse(body: &[u8]) -> Result<Parsed, Failure> {
    let failed = |why: String| Failure::bad(format!("Failed to parse body: {why}"));
    if body.is_empty() {
        return Err(failed("EOF".to_owned()));
    }
    let list: Vec<Value> =
        serde_json::from_slice(body).map_err(|error| failed(error.to_string()))?;
    if list.len() > TXN_OPS_MAX {
        let text =
            format!("Transaction contains too many operations ({} > {TXN_OPS_MAX})", list.len());
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let mut ops = Vec::with_capacity(list.len());
    let mut errors = Vec::new();
    for (at, entry) in list.iter().enumerate() {
        match operation(entry) {
            Ok(op) => ops.extend(op),
            Err(Wrong::Text(why)) => return Err(failed(why)),
            Err(Wrong::Operation(what)) => errors.push(json!({ "OpIndex": at, "What": what })),
        }
    }
    Ok(if errors.is_empty() { Parsed::Ops(ops) } else { Parsed::Refused(errors) })
}

/// What is wrong with an operation.
enum Wrong {
    /// It can't be read.
    Text(String),
    /// It can't be carried out.
    Operation(String),
}

impl From<DefinitionError> for Wrong {
    fn from(error: DefinitionError) -> Self {
        match error {
            DefinitionError::Malformed(why) => Wrong::Text(why),
            DefinitionError::Invalid(what) => Wrong::Operation(what),
        }
    }
}

/// Reads an operation; an empty one is none.
fn operation(entry: &Value) -> Result<Option<TxnOp>, Wrong> {
    let Some(object) = entry.as_object() else {
        return Err(Wrong::Text(format!("{entry} is no operation")));
    };
    match field(object, "KV") {
        Some(Value::Object(kv)) => {
            let entry = Entry::read(kv).map_err(Wrong::Text)?;
            entry.checked().map(|op| Some(TxnOp::Kv(op))).map_err(Wrong::Operation)
        }
        None | Some(Value::Null) => match definition::operation(entry)? {
            Some(op) => Ok(Some(TxnOp::Catalog(Box::new(op)))),
            None if object.values().all(Value::is_null) => Ok(None),
            None => {
                let names: Vec<&String> = object.keys().collect();
                Err(Wrong::Text(format!("none of {names:?} is KV, Node, Service or Check")))
            }
        },
        Some(_) => Err(Wrong::Text("KV is no object".to_owned())),
    }
}

/// An operation on a key as it is written.
struct Entry {
    verb: String,
    key: String,
    value: Vec<u8>,
    flags: u64,
    index: u64,
    session: String,
}

impl Entry {
    fn read(kv: &Map<String, Value>) -> Result<Self, String> {
        let value = BASE64_STANDARD
            .decode(text(kv, "Value")?)
            .map_err(|error| format!("illegal base64 data: {error}"))?;
        Ok(Self {
            verb: text(kv, "Verb")?,
            key: text(kv, "Key")?,
            value,
            flags: number(kv, "Flags")?,
            index: number(kv, "Index")?,
            session: text(kv, "Session")?,
        })
    }

    fn checked(self) -> Result<KvOp, String> {
        let verb = match self.verb.as_str() {
            "set" => KvVerb::Set,
            "cas" => KvVerb::Cas,
            "get" => KvVerb::Get,
            "get-or-empty" => KvVerb::GetOrEmpty,
            "get-tree" => KvVerb::GetTree,
            "check-index" => KvVerb::CheckIndex,
            "check-not-exists" => KvVerb::CheckNotExists,
            "delete" => KvVerb::Delete,
            "delete-tree" => KvVerb::DeleteTree,
            "delete-cas" => KvVerb::DeleteCas,
            "lock" | "unlock" | "check-session" if self.session.is_empty() => {
                return Err("missing session".to_owned());
            }
            "lock" | "unlock" | "check-session" => {
                return Err(format!("invalid session {:?}", self.session));
            }
            unknown => return Err(format!("unknown KV verb {unknown:?}")),
        };
        if self.key.is_empty() && !verb.reads() && verb != KvVerb::DeleteTree {
            return Err("Must provide key".to_owned());
        }
        let (flags, index) = (self.flags, self.index);
        Ok(KvOp { verb, key: self.key, value: self.value.into(), flags, index })
    }
}

/// Finds a field as Go does: the case of its name does not matter.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })
}

fn text(object: &Map<String, Value>, name: &str) -> Result<String, String> {
    match field(object, name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("{name} is no string")),
    }
}

fn number(object: &Map<String, Value>, name: &str) -> Result<u64, String> {
    match field(object, name) {
        None | Some(Value::Null) => Ok(0),
        Some(number) => number.as_u64().ok_or_else(|| format!("{name} is no whole number")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ask::{CatalogOp, CatalogRecord, CatalogVerb},
        catalog::{Check, Node, Service},
    };

    fn ops(body: &str) -> Vec<TxnOp> {
        match parse(body.as_bytes()).unwrap() {
            Parsed::Ops(ops) => ops,
            Parsed::Refused(errors) => panic!("{errors:?}"),
        }
    }

    fn refusals(body: &str) -> Value {
        match parse(body.as_bytes()).unwrap() {
            Parsed::Ops(ops) => panic!("{ops:?}"),
            Parsed::Refused(errors) => Value::from(errors),
        }
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        let body = r#"[{"kv":{"VERB":"set","key":"a","Value":"aGk=","flags":3,"Index":9}}]"#;
        let value = b"hi".as_slice().into();
        let op = KvOp { verb: KvVerb::Set, key: "a".to_owned(), value, flags: 3, index: 9 };
        assert_eq!(ops(body), [TxnOp::Kv(op)]);
    }

    #[test]
    fn an_empty_operation_is_nothing() {
        assert_eq!(ops("[{}, {\"KV\": null}]"), []);
    }

    #[test]
    fn what_can_never_succeed_is_refused_with_its_place() {
        let body = r#"[
            {"KV":{"Verb":"get","Key":"a"}}, {"KV":{"Verb":"frob","Key":"a"}},
            {"KV":{"Verb":"set"}}, {"KV":{"Verb":"lock","Key":"a"}}
        ]"#;
        let expected = json!([
            { "OpIndex": 1, "What": "unknown KV verb \"frob\"" },
            { "OpIndex": 2, "What": "Must provide key" },
            { "OpIndex": 3, "What": "missing session" },
        ]);
        assert_eq!(refusals(body), expected);
    }

    #[test]
    fn operations_on_the_catalog_are_read() {
        let body = r#"[
            {"Node":{"Verb":"cas","Node":{"Node":"n1","Address":"a","Meta":{"k":"v"},"ModifyIndex":7}}},
            {"Service":{"Verb":"delete","Node":"n1","Service":{"ID":"web"}}},
            {"check":{"verb":"get","check":{"node":"n1","check_id":"k","Bogus":1}}},
            {"KV":{"Verb":"get","Key":"a"}}
        ]"#;
        let read = ops(body);
        let node = Node {
            name: "n1".into(),
            address: "a".into(),
            meta: [("k".into(), "v".into())].into(),
            ..Node::default()
        };
        let service = Service { id: "web".into(), ..Service::default() };
        let check = Check { id: "k".into(), ..Check::default() };
        let expected = [
            (CatalogVerb::Cas, CatalogRecord::Node(node), 7),
            (CatalogVerb::Delete, CatalogRecord::Service("n1".into(), service), 0),
            (CatalogVerb::Get, CatalogRecord::Check("n1".into(), check), 0),
        ]
        .map(|(verb, record, index)| TxnOp::Catalog(Box::new(CatalogOp { verb, record, index })));
        assert_eq!(read[..3], expected);
        assert!(matches!(&read[3], TxnOp::Kv(_)));
    }

    #[test]
    fn operations_on_the_catalog_that_can_never_succeed_are_refused_with_their_place() {
        let body = r#"[
            {"Node":{"Verb":"set","Node":{}}}, {"Node":{"Verb":"frob"}},
            {"Service":{"Verb":"set","Node":"n1","Service":{"ID":"web"}}}
        ]"#;
        let expected = json!([
            { "OpIndex": 0, "What": "Must provide node" },
            { "OpIndex": 1, "What": "unknown Node verb \"frob\"" },
            { "OpIndex": 2, "What": "Must provide service name with ID" },
        ]);
        assert_eq!(refusals(body), expected);
    }

    #[test]
    fn too_many_operations_are_too_large() {
        let body = serde_json::to_vec(&vec![json!({}); TXN_OPS_MAX + 1]).unwrap();
        let failure = parse(&body).unwrap_err();
        assert_eq!(failure.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(failure.text, "Transaction contains too many operations (129 > 128)");
    }

    #[test]
    fn what_is_no_transaction_is_refused() {
        for body in [
            "",
            "{",
            "{}",
            "[1]",
            r#"[{"KV":1}]"#,
            r#"[{"Session":{}}]"#,
            r#"[{"Node":1}]"#,
            r#"[{"KV":{"Verb":"set","Key":"a","Value":"***"}}]"#,
            r#"[{"KV":{"Verb":"set","Key":"a","Flags":-1}}]"#,
        ] {
            let failure = parse(body.as_bytes()).unwrap_err();
            assert_eq!(failure.status, StatusCode::BAD_REQUEST, "{body}");
        }
    }

    proptest! {
        #[test]
        fn takes_any_text(body: String) {
            let _parsed = parse(body.as_bytes());
        }
    }
}
