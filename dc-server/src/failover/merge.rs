//! Puts the instances of several datacenters into one answer.

use bytes::{BufMut, Bytes, BytesMut};
use lan_agent::{
    ask::AskError,
    catalog::{Form, Instance},
};

/// Puts lists into one, in order.
pub fn lists(form: Form, mut bodies: Vec<Bytes>) -> Result<Bytes, AskError> {
    if bodies.len() == 1 {
        return Ok(bodies.remove(0));
    }
    match form {
        Form::Json => Ok(json(&bodies)),
        Form::Records => records(&bodies),
    }
}

/// JSON lists that this server wrote: the brackets are their first and last bytes.
fn json(bodies: &[Bytes]) -> Bytes {
    let mut list = BytesMut::with_capacity(2 + bodies.iter().map(Bytes::len).sum::<usize>());
    list.put_u8(b'[');
    for body in bodies {
        let rows = body.strip_prefix(b"[").and_then(|rows| rows.strip_suffix(b"]"));
        let rows = rows.unwrap_or_default();
        if !rows.is_empty() {
            if list.len() > 1 {
                list.put_u8(b',');
            }
            list.put_slice(rows);
        }
    }
    list.put_u8(b']');
    list.freeze()
}

fn records(bodies: &[Bytes]) -> Result<Bytes, AskError> {
    let failed =
        |error: String| AskError::Failed(format!("the records can't be put together: {error}"));
    let mut all: Vec<Instance> = Vec::new();
    for body in bodies {
        let rows: Vec<Instance> =
            rmp_serde::from_slice(body).map_err(|error| failed(error.to_string()))?;
        all.extend(rows);
    }
    let written = rmp_serde::to_vec_named(&all).map_err(|error| failed(error.to_string()))?;
    Ok(written.into())
}

#[cfg(test)]
mod tests {
    use lan_agent::catalog::{Node, Service};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn lists_of_json_become_one() {
        let merged = |bodies: &[&'static str]| {
            let bodies = bodies.iter().map(|body| Bytes::from_static(body.as_bytes())).collect();
            lists(Form::Json, bodies).unwrap()
        };
        assert_eq!(merged(&[]), "[]");
        assert_eq!(merged(&["[1]"]), "[1]");
        assert_eq!(merged(&["[]", "[]"]), "[]");
        assert_eq!(merged(&["[]", "[1,[2]]", "[]", "[3]"]), "[1,[2],3]");
    }

    #[test]
    fn lists_of_records_become_one() {
        let instance = |name: &str| Instance {
            node: Arc::new(Node { name: name.into(), ..Node::default() }),
            service: Arc::new(Service::default()),
            checks: Vec::new(),
            dc: None,
        };
        let body = |names: &[&str]| {
            let rows: Vec<Instance> = names.iter().map(|name| instance(name)).collect();
            Bytes::from(rmp_serde::to_vec_named(&rows).unwrap())
        };
        let merged = lists(Form::Records, vec![body(&["a"]), body(&[]), body(&["b", "c"])]);
        assert_eq!(merged.unwrap(), body(&["a", "b", "c"]));
        let nonsense = lists(Form::Records, vec![Bytes::from_static(b"x"), body(&[])]);
        assert!(matches!(nonsense, Err(AskError::Failed(_))));
    }
}
