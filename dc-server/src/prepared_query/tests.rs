//! What a prepared query may say, what it looks up, what a template makes of a name.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(value: &Value) -> Result<Definition, String> {
    Definition::read(&value.to_string(), true).map_err(|error| error.to_string())
}

/// Returns why a query with these parts of its service is refused.
fn refused(query: Value) -> String {
    read(&query).unwrap_err()
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    let web = json!({ "Service": "web" });
    let with = |more: Value| {
        let mut query = json!({ "Name": "q", "Service": web });
        query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(query)
    };
    let failover =
        |failover: Value| with(json!({ "Service": { "Service": "web", "Failover": failover } }));
    let template = |regexp: &str, service: &str| {
        let template = json!({ "Type": "name_prefix_match", "Regexp": regexp });
        with(json!({ "Template": template, "Service": { "Service": service } }))
    };
    let table = [
        (
            refused(json!({ "Service": web })),
            "Invalid prepared query: Must have a Name or be a Template",
        ),
        (
            refused(json!({ "Name": "q" })),
            "Invalid prepared query: Must provide a Service name to query",
        ),
        (with(json!({ "ID": "x" })), "ID must be empty when creating a new prepared query"),
        (
            with(json!({ "Session": "s" })),
            "Invalid prepared query: sessions are not supported, leave Session empty",
        ),
        (
            with(json!({ "DNS": { "TTL": "-1s" } })),
            "Invalid prepared query: DNS TTL '-1s', must be >=0",
        ),
        (
            failover(json!({ "NearestN": -1 })),
            "Invalid prepared query: Bad NearestN '-1', must be >= 0",
        ),
        (
            failover(json!({ "NearestN": 1, "Targets": [{ "Datacenter": "dc2" }] })),
            "Invalid prepared query: Targets cannot be populated with NearestN or Datacenters",
        ),
        (
            with(json!({ "Template": { "Type": "other" } })),
            "failed compiling template: Bad Template.Type 'other'",
        ),
        (template("", "${name"), "failed compiling template: Bad format '${name': a ${ has no }"),
        (
            template("", "${1 + 1}"),
            "failed compiling template: Bad evaluation for '${1 + 1}': \"1 + 1\" is none of name.full, \
             name.prefix, name.suffix, match(N), agent.segment",
        ),
    ];
    for (found, wanted) in table {
        assert!(found.ends_with(wanted), "{found}\n{wanted}");
    }
    for (found, part) in [
        (with(json!({ "DNS": { "TTL": "x" } })), "Bad DNS TTL 'x'"),
        (failover(json!({ "Datacenters": ["a b"] })), "Failover: "),
        (failover(json!({ "Targets": [{ "Peer": "east" }] })), "peering is not supported"),
        (template("(", "web"), "Bad Regexp: "),
        (refused(json!({ "Name": 7 })), "Request decode failed: "),
        (refused(json!([])), "Request decode failed: a prepared query is an object"),
        (with(json!({ "Service": ["web"] })), "Request decode failed: Service is an object"),
        (failover(json!({ "Targets": {} })), "Request decode failed: Targets is a list of objects"),
    ] {
        assert!(found.contains(part), "{found}\n{part}");
    }
}

#[test]
fn capitals_of_fields_and_unknown_ones_do_not_matter() {
    let said = json!({
        "name": "Q", "dns": { "ttl": "10s" }, "Color": "red", "token": null,
        "service": {
            "SERVICE": "web", "onlypassing": true, "tags": ["a", "!b"], "ignorecheckids": ["c"],
            "nodemeta": { "Rack": "1" }, "servicemeta": { "v": "2" }, "near": "_agent",
            "failover": { "nearestn": 2, "datacenters": ["dc2"] },
        },
    });
    let definition = read(&said).unwrap();
    let wanted = definition.wanted();
    let texts = |text: &str| -> Vec<Text> { vec![text.into()] };
    assert_eq!((&*wanted.service, wanted.nearest), ("web", 2));
    assert_eq!(wanted.datacenters, ["dc2".parse().unwrap()]);
    assert_eq!(wanted.dns_ttl, Some(Duration::from_secs(10)));
    let selection = &wanted.selection;
    assert_eq!((&selection.tags, &selection.without_tags), (&texts("a"), &texts("b")));
    assert_eq!(selection.ignored_checks, texts("c"));
    assert_eq!(selection.worst, Some(Health::Passing));
    assert_eq!(selection.node_meta, Texts::from([("Rack".into(), "1".into())]));
    assert_eq!(selection.service_meta, Texts::from([("v".into(), "2".into())]));
    assert_eq!(&*selection.near, "_agent");
    // What is kept is all that was said.
    let kept = Definition::kept(definition.body()).unwrap();
    assert_eq!((kept.wanted(), kept.body()), (wanted, definition.body()));
}

#[test]
fn a_query_is_shown_as_consul_shows_it() {
    let definition = read(&json!({ "Name": "q", "Service": { "Service": "web" } })).unwrap();
    let shown: Value = serde_json::from_str(&definition.shown("id", 3, 4).unwrap()).unwrap();
    let wanted = json!({
        "ID": "id", "Name": "q", "Session": "", "Token": "",
        "Template": { "Type": "", "Regexp": "", "RemoveEmptyTags": false },
        "Service": {
            "Service": "web", "Failover": { "NearestN": 0, "Datacenters": null },
            "OnlyPassing": false, "IgnoreCheckIDs": null, "Near": "", "Tags": null,
            "NodeMeta": null, "ServiceMeta": null, "Connect": false,
        },
        "DNS": { "TTL": "" }, "CreateIndex": 3, "ModifyIndex": 4,
    });
    assert_eq!(shown, wanted);
    let targets = json!({ "Targets": [{ "Datacenter": "dc2" }] });
    let service = json!({ "Service": "web", "Failover": targets });
    let definition = read(&json!({ "Name": "q", "Service": service })).unwrap();
    assert!(definition.shown("id", 3, 4).unwrap().contains(r#""Targets":[{"Datacenter":"dc2"}]"#));
    assert_eq!(definition.wanted().datacenters, ["dc2".parse().unwrap()]);
}

/// Makes a template called `geo-` whose service has these texts.
fn template(regexp: &str, remove_empty_tags: bool, texts: &[&str]) -> Definition {
    let kind = "name_prefix_match";
    let template = json!({ "Type": kind, "Regexp": regexp, "RemoveEmptyTags": remove_empty_tags });
    let failover = json!({ "Datacenters": ["${match(2)}"] });
    let service = json!({ "Service": "${name.suffix}", "Tags": texts, "Failover": failover });
    read(&json!({ "Name": "geo-", "Template": template, "Service": service })).unwrap()
}

#[test]
fn a_template_is_filled_in_from_the_name() {
    let texts = [
        "${name.full}",
        "${ name.prefix }x",
        "a${match(1)}b${match(9)}",
        "$${name.full}",
        "${agent.segment}",
    ];
    let made =
        template("^geo-(.*)-([^-]+)$", true, &texts).filled_in("Geo-web-dc2").unwrap().wanted();
    let tags: Vec<&str> = made.selection.tags.iter().map(|tag| &**tag).collect();
    // The expression minds capitals, as it was not told otherwise.
    assert_eq!(
        (&*made.service, tags),
        ("web-dc2", vec!["Geo-web-dc2", "geo-x", "ab", "${name.full}"])
    );
    assert_eq!(made.datacenters, []);
    let made =
        template("^geo-(.*)-([^-]+)$", false, &texts).filled_in("geo-web-dc2").unwrap().wanted();
    assert_eq!((&*made.selection.tags[2], &*made.selection.tags[4]), ("awebb", ""));
    assert_eq!(made.datacenters, ["dc2".parse().unwrap()]);
}

proptest! {
    #[test]
    fn any_text_is_filled_in_or_refused(regexp in ".{0,20}", text in "[${}a-z().0-9 ]{0,30}", name in ".{0,20}") {
        let template = json!({ "Type": "name_prefix_match", "Regexp": regexp });
        let service = json!({ "Service": "web", "Near": text, "Tags": [text], "NodeMeta": { "a": text } });
        let read = read(&json!({ "Name": "", "Template": template, "Service": service }));
        if let Ok(definition) = read {
            let kept = Definition::kept(definition.body()).unwrap();
            prop_assert_eq!(kept.filled_in(&name).unwrap().wanted(), definition.filled_in(&name).unwrap().wanted());
        }
    }
}
