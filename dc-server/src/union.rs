//! Puts the answers of several datacenters into one. Functions of values.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lan_agent::{
    ask::AskError,
    catalog::{Lookup, Subject},
};
use serde::de::IgnoredAny;

use crate::failover::merge;

/// Names of services with their tags.
type Names = BTreeMap<String, BTreeSet<String>>;

/// Puts bodies into one, in order: lists one after the other, names of services with the tags of all.
pub fn put_together(lookup: &Lookup, bodies: Vec<Bytes>) -> Result<Bytes, AskError> {
    if lookup.subject != Subject::Services {
        return merge::lists(lookup.form, bodies);
    }
    let mut all = Names::new();
    for body in &bodies {
        for (name, tags) in serde_json::from_slice::<Names>(body).map_err(unreadable)? {
            all.entry(name).or_default().extend(tags);
        }
    }
    Ok(serde_json::to_vec(&all).map_err(unreadable)?.into())
}

/// Counts the records in a body; 0 when it can't be read.
pub fn rows(lookup: &Lookup, body: &Bytes) -> usize {
    let count = match lookup.subject {
        Subject::Services => {
            serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body).map(|names| names.len())
        }
        _ => serde_json::from_slice::<Vec<IgnoredAny>>(body).map(|rows| rows.len()),
    };
    count.unwrap_or_default()
}

fn unreadable(error: serde_json::Error) -> AskError {
    AskError::Failed(format!("the answers of several datacenters can't be put together: {error}"))
}

#[cfg(test)]
mod tests {
    use lan_agent::catalog::{Form, Selection};

    use super::*;

    fn lookup(subject: Subject) -> Lookup {
        Lookup { subject, selection: Selection::default(), form: Form::Json }
    }

    #[test]
    fn names_of_services_have_the_tags_of_all() {
        let bodies = [r#"{"a":["x"],"b":[]}"#, r#"{"a":["y","x"],"c":["z"]}"#];
        let bodies: Vec<Bytes> = bodies.map(Bytes::from).to_vec();
        let names = lookup(Subject::Services);
        assert_eq!(bodies.iter().map(|body| rows(&names, body)).sum::<usize>(), 4);
        assert_eq!(put_together(&names, bodies).unwrap(), r#"{"a":["x","y"],"b":[],"c":["z"]}"#);
        let nonsense = put_together(&names, vec![Bytes::from_static(b"[]")]);
        assert!(matches!(nonsense, Err(AskError::Failed(_))));
    }

    #[test]
    fn lists_follow_each_other() {
        let bodies: Vec<Bytes> = ["[1,2]", "[]", "[3]"].map(Bytes::from).to_vec();
        let nodes = lookup(Subject::Nodes);
        assert_eq!(bodies.iter().map(|body| rows(&nodes, body)).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(put_together(&nodes, bodies).unwrap(), "[1,2,3]");
    }
}
