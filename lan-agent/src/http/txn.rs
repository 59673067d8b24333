//! `/v1/txn`: several operations on keys, all or none.

use axum::http::StatusCode;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{
    context::Context,
    error::Failure,
    reply::{Indexed, Reply},
};
use crate::ask::{KvVerb, Question, TxnOp, question::TXN_OPS_MAX};

/// Longest body, as Consul has it.
const BODY_LEN_MAX: usize = 512 * 1024;

/// What 413 says of that bound.
const BODY_SETTING: &str = "The bound of a transaction is fixed.";

/// `PUT`: carries out all operations of the JSON list, or none.
pub(super) async fn put(mut cx: Context) -> Result<Reply, Failure> {
    let body = cx.take_body(BODY_LEN_MAX, BODY_SETTING).await?;
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
    let list: Vec<Map<String, Value>> =
        serde_json::from_slice(body).map_err(|error| failed(error.to_string()))?;
    if list.len() > TXN_OPS_MAX {
        let text =
            format!("Transaction contains too many operations ({} > {TXN_OPS_MAX})", list.len());
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let mut ops = Vec::with_capacity(list.len());
    let mut errors = Vec::new();
    for (at, entry) in list.iter().enumerate() {
        let kv = match field(entry, "KV") {
            Some(Value::Object(kv)) => kv,
            None | Some(Value::Null) if entry.values().all(Value::is_null) => continue,
            None | Some(Value::Null) => {
                let text = "Only operations on keys (\"KV\") are known in a transaction";
                return Err(Failure::bad(text));
            }
            Some(_) => return Err(failed(format!("KV of operation {at} is no object"))),
        };
        let op = Entry::read(kv).map_err(failed)?;
        match op.checked() {
            Ok(op) => ops.push(op),
            Err(what) => errors.push(json!({ "OpIndex": at, "What": what })),
        }
    }
    Ok(if errors.is_empty() { Parsed::Ops(ops) } else { Parsed::Refused(errors) })
}

/// An operation as it is written.
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

    fn checked(self) -> Result<TxnOp, String> {
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
        Ok(TxnOp { verb, key: self.key, value: self.value.into(), flags, index })
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
        let op = TxnOp { verb: KvVerb::Set, key: "a".to_owned(), value, flags: 3, index: 9 };
        assert_eq!(ops(body), [op]);
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
            r#"[{"Node":{}}]"#,
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
