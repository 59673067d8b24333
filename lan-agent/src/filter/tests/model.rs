//! The same question asked twice: of the compiled filter, and of the record's JSON by an evaluation that
//! knows no schema.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::catalog::{Check, Health, Node, Service, ServiceAddress, Text, Texts, Weights};

use super::{
    super::{
        Filter, Schema,
        expression::{Expression, Match, Selector, Test},
        parse,
        schema::{ANY_KEY, Field, Kind},
    },
    Row,
};

/// What texts, keys and patterns are made of: few, so that some are equal.
const TEXTS: [&str; 6] = ["", "a", "A b", "é", "1", "aa"];

fn text() -> impl Strategy<Value = Text> {
    prop::sample::select(TEXTS.to_vec()).prop_map(Text::from)
}

fn texts() -> impl Strategy<Value = Texts> {
    prop::collection::btree_map(text(), text(), 0..3)
}

fn node() -> impl Strategy<Value = Node> {
    let values = (text(), text(), text(), texts(), texts());
    values.prop_map(|(name, id, address, tagged_addresses, meta)| Node {
        name,
        id,
        address,
        tagged_addresses,
        meta,
    })
}

fn service() -> impl Strategy<Value = Service> {
    let address = (text(), 0..3u16).prop_map(|(address, port)| ServiceAddress { address, port });
    let addresses = prop::collection::btree_map(text(), address, 0..3);
    let tags = prop::collection::vec(text(), 0..3);
    let values = (text(), text(), text(), tags, addresses, texts(), 0..3u16, any::<bool>());
    values.prop_map(|(kind, id, name, tags, tagged_addresses, meta, port, flag)| Service {
        kind,
        id,
        name: name.clone(),
        address: name,
        tags,
        tagged_addresses,
        meta,
        port,
        weights: Weights { passing: port, warning: 2 },
        enable_tag_override: flag,
    })
}

fn check() -> impl Strategy<Value = Check> {
    let status = prop::sample::select(vec![Health::Passing, Health::Warning, Health::Critical]);
    (text(), text(), text(), status).prop_map(|(id, name, service_id, status)| Check {
        id,
        status,
        notes: name.clone(),
        output: name.clone(),
        kind: name.clone(),
        service_name: name.clone(),
        name,
        service_id,
        ..Check::default()
    })
}

fn row() -> impl Strategy<Value = Row> {
    let values = (node(), service(), prop::collection::vec(check(), 0..3));
    values.prop_map(|(node, service, checks)| Row { node, service, checks })
}

/// The record as `health/service` shows it.
fn shown(row: &Row) -> Value {
    let Row { node, service, checks } = row;
    let addresses = service
        .tagged_addresses
        .iter()
        .map(|(key, it)| (key.to_string(), json!({ "Address": it.address, "Port": it.port })));
    let checks = checks.iter().map(|check| {
        let tags = if check.service_id == service.id { service.tags.clone() } else { Vec::new() };
        json!({
            "Node": node.name, "CheckID": check.id, "Name": check.name, "Notes": check.notes,
            "Status": check.status.as_str(), "Output": check.output, "Type": check.kind,
            "ServiceID": check.service_id, "ServiceName": check.service_name, "ServiceTags": tags,
        })
    });
    json!({
        "Node": {
            "ID": node.id, "Node": node.name, "Address": node.address, "Datacenter": "dc1",
            "TaggedAddresses": node.tagged_addresses, "Meta": node.meta,
        },
        "Service": {
            "Kind": service.kind, "ID": service.id, "Service": service.name, "Tags": service.tags,
            "Address": service.address, "Meta": service.meta, "Port": service.port,
            "TaggedAddresses": addresses.collect::<serde_json::Map<_, _>>(),
            "Weights": { "Passing": service.weights.passing, "Warning": service.weights.warning },
            "EnableTagOverride": service.enable_tag_override,
        },
        "Checks": checks.collect::<Vec<_>>(),
    })
}

fn holds(expression: &Expression, shown: &Value) -> bool {
    match expression {
        Expression::All(terms) => terms.iter().all(|term| holds(term, shown)),
        Expression::Any(terms) => terms.iter().any(|term| holds(term, shown)),
        Expression::Not(inner) => !holds(inner, shown),
        Expression::Match(test) => holds_at(test, &test.selector.0, shown),
    }
}

fn holds_at(test: &Match, path: &[String], value: &Value) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return passes(&test.test, value) != test.negated;
    };
    match value {
        Value::Array(all) => all.iter().any(|one| holds_at(test, path, one)),
        value => match value.get(first) {
            Some(value) => holds_at(test, rest, value),
            None => test.negated,
        },
    }
}

fn passes(test: &Test, value: &Value) -> bool {
    match (test, value) {
        (Test::Equal(wanted), Value::String(text)) => wanted == text,
        (Test::Equal(wanted), Value::Bool(flag)) => wanted.parse() == Ok(*flag),
        (Test::Equal(wanted), Value::Number(number)) => wanted.parse().ok() == number.as_u64(),
        (Test::Contains(part), Value::String(text)) => text.contains(part),
        (Test::Contains(wanted), Value::Array(all)) => all.contains(&json!(wanted)),
        (Test::Contains(key), value) => value.get(key).is_some(),
        (Test::Matches(pattern), Value::String(text)) => {
            regex::Regex::new(pattern).unwrap().is_match(text)
        }
        (Test::Empty, Value::Array(all)) => all.is_empty(),
        (Test::Empty, Value::Object(all)) => all.is_empty(),
        other => panic!("{other:?} was not generated"),
    }
}

fn one_test() -> impl Strategy<Value = Expression> {
    let known = Schema::Health.selectors();
    let known = known.filter(|(_, field)| !matches!(field, Field::Unset(_) | Field::Nowhere(_)));
    let field = prop::sample::select(known.collect::<Vec<_>>());
    let words = prop::sample::select([&TEXTS[..], &["passing", "critical"]].concat());
    let values = (field, 0..3u8, text(), words, 0..3u8, any::<bool>());
    values.prop_map(|((path, field), which, key, word, number, negated)| {
        let named = |step: &str| if step == ANY_KEY { key.to_string() } else { step.to_owned() };
        let selector = Selector(path.split('.').map(named).collect());
        let word = word.to_owned();
        let test = match (field.kind(), which) {
            (Kind::Text, 0) => Test::Equal(word),
            (Kind::Text, 1) => Test::Contains(word),
            (Kind::Text, _) => Test::Matches(word),
            (Kind::Number, _) => Test::Equal(number.to_string()),
            (Kind::Flag, _) => Test::Equal((number > 0).to_string()),
            (Kind::Texts | Kind::Map, 0) => Test::Contains(word),
            (Kind::Texts | Kind::Map | Kind::Records, _) => Test::Empty,
        };
        Expression::Match(Match { selector, test, negated })
    })
}

fn expression() -> impl Strategy<Value = Expression> {
    one_test().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Any),
            inner.prop_map(|inner| Expression::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_filter_admits_what_the_shown_record_says(row in row(), expression in expression()) {
        let text = expression.to_string();
        let parsed = parse(&text);
        prop_assert_eq!(parsed.as_ref(), Ok(&expression), "{}", text);
        let filter = Filter::compile(&text, Schema::Health).unwrap();
        let shown = shown(&row);
        prop_assert_eq!(filter.admits(&row), holds(&expression, &shown), "{} of {}", text, shown);
    }
}
