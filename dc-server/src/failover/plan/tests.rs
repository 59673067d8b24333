//! What a lookup looks at by what resolvers and the server's own policy say.

use serde_json::{Value, json};

use super::*;
use crate::{
    config_entry::{Definition, MinHealthy},
    state::{Touched, config_entries::Table},
};

fn entries(all: &[Value]) -> Table {
    let mut table = Table::default();
    for (index, entry) in (1..).zip(all) {
        let definition = Definition::of(entry).unwrap();
        table.set(index, &definition, None, &mut Touched::default());
    }
    table
}

/// Returns the targets of a lookup of `web` in dc1, as `dc/service/filter`.
fn targets(all: &[Value], default: Option<&Policy>) -> Vec<String> {
    let home = "dc1".parse().unwrap();
    let nearest = |most| ["dc3", "dc2"].into_iter().take(most).map(|it| it.parse().unwrap());
    let nearest = |most| nearest(most).collect();
    let Plan { targets, .. } = plan(&entries(all), default, &home, &"web".into(), nearest);
    let shown = |it: &Target| {
        let dc = it.dc.as_ref().map_or("", Datacenter::as_str);
        format!("{dc}/{}/{}", it.service, it.selection.filter)
    };
    targets.iter().map(shown).collect()
}

fn resolver(rest: Value) -> Value {
    let mut entry = json!({ "Kind": "service-resolver", "Name": "web" });
    entry.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    entry
}

#[test]
fn without_a_resolver_the_policy_of_the_server_counts() {
    assert_eq!(targets(&[], None), ["/web/"]);
    let nearest = Policy { to: Preference::Nearest(1), ..Policy::default() };
    assert_eq!(targets(&[], Some(&nearest)), ["/web/", "dc3/web/"]);
    let these = ["dc1", "dc2"].map(|dc| dc.parse().unwrap()).to_vec();
    let these = Policy { to: Preference::These(these), ..Policy::default() };
    assert_eq!(targets(&[], Some(&these)), ["/web/", "dc2/web/"]);
    let bare = resolver(json!({ "ConnectTimeout": "5s" }));
    assert_eq!(targets(&[bare], Some(&these)), ["/web/", "dc2/web/"]);
}

#[test]
fn a_resolver_says_where_to_go_and_how_soon() {
    let failover =
        json!({ "*": { "Datacenters": ["dc2", "dc1", "dc3"], "MinHealthy": 2, "HoldDown": "5s" } });
    let entry = resolver(json!({ "Failover": failover }));
    let (all, default, home) = ([entry], Policy::default(), "dc1".parse().unwrap());
    // The own datacenter is where it failed.
    assert_eq!(targets(&all, Some(&default)), ["/web/", "dc2/web/", "dc3/web/"]);
    let planned = plan(&entries(&all), None, &home, &"web".into(), |_| Vec::new());
    assert_eq!(planned.policy.min_healthy, MinHealthy::Instances(2));
    assert_eq!(planned.policy.hold_down.as_secs(), 5);
}

#[test]
fn targets_name_services_subsets_and_datacenters() {
    let entry = resolver(json!({
        "DefaultSubset": "v1",
        "Subsets": {
            "v1": { "Filter": "Service.Meta.version == v1" },
            "v2": { "Filter": "Service.Meta.version == v2", "OnlyPassing": true },
        },
        "Failover": { "v1": { "Targets": [
            { "ServiceSubset": "v2" },
            { "Service": "old-web" },
            { "Datacenter": "dc2" },
        ] } },
    }));
    let (v1, v2) = ("Service.Meta.version == v1", "Service.Meta.version == v2");
    let expected = [
        format!("/web/{v1}"),
        format!("/web/{v2}"),
        "/old-web/".to_owned(),
        format!("dc2/web/{v1}"),
    ];
    assert_eq!(targets(&[entry], None), expected);
}

#[test]
fn redirects_are_followed_to_where_they_end() {
    let to = |name: &str, redirect: Value| json!({ "Kind": "service-resolver", "Name": name, "Redirect": redirect });
    let elsewhere = to("web", json!({ "Datacenter": "dc2" }));
    assert_eq!(targets(&[elsewhere], Some(&Policy::default())), ["dc2/web/"]);
    let chain = [
        to("web", json!({ "Service": "a" })),
        to("a", json!({ "Service": "b", "Datacenter": "dc3" })),
    ];
    assert_eq!(targets(&chain, None), ["dc3/b/"]);
    let circle = [to("web", json!({ "Service": "a" })), to("a", json!({ "Service": "web" }))];
    assert_eq!(targets(&circle, None).len(), 1);
}

#[test]
fn a_lookup_becomes_one_of_the_target() {
    let selection = Selection { filter: "Service.Port == 1".into(), ..Selection::default() };
    let (dc, service) = (Some("dc2".parse().unwrap()), Text::from("b"));
    let target = Target { dc, service, selection, only_passing: false };
    let mut asked = target.census();
    asked.selection.filter = "Node.Node == n".into();
    let lookup = target.lookup(&asked, true, true);
    assert_eq!(lookup.subject, Subject::Health { service: "b".into(), passing: true });
    assert_eq!(&*lookup.selection.filter, "(Node.Node == n) and (Service.Port == 1)");
    assert!(lookup.selection.wan);
    let own = Target { dc: None, selection: Selection::default(), ..target };
    assert_eq!(own.lookup(&asked, false, true).selection, asked.selection);
}

#[test]
fn a_query_goes_to_the_nearest_and_then_to_those_that_it_names() {
    let failover = json!({ "NearestN": 2, "Datacenters": ["dc4", "dc2", "dc1"] });
    let service =
        json!({ "Service": "web", "Tags": ["a"], "Near": "_agent", "Failover": failover });
    let query = json!({ "Name": "q", "Service": service }).to_string();
    let wanted = crate::prepared_query::Definition::read(&query, true).unwrap().wanted();
    let known = ["dc3", "dc2", "dc5"].map(|dc| dc.parse().unwrap());
    let nearest = |most| known.into_iter().take(most).collect();
    let Plan { policy, targets } = plan_query(&wanted, &"dc1".parse().unwrap(), nearest);
    assert_eq!((policy.hold_down, policy.spill), (Duration::ZERO, false));
    let dcs: Vec<_> =
        targets.iter().map(|it| it.dc.as_ref().map_or("", Datacenter::as_str)).collect();
    assert_eq!(dcs, ["", "dc3", "dc2", "dc4"]);
    let run = Run { name: "q".into(), limit: 0, agent: "n1".into() };
    let near = |near: &str| Selection { near: near.into(), ..Selection::default() };
    let asked =
        |selection| Lookup { subject: Subject::Query(run.clone()), selection, form: Form::Json };
    let own = targets[0].lookup(&asked(Selection::default()), false, true).into_owned().selection;
    assert_eq!((&*own.near, own.wan, own.tags.len()), ("n1", false, 1));
    assert_eq!(&*targets[0].lookup(&asked(near("n7")), false, true).selection.near, "n7");
    assert_eq!(&*targets[0].lookup(&asked(near("_ip")), false, true).selection.near, "");
    let away = targets[1].lookup(&asked(near("n7")), true, true).into_owned().selection;
    assert_eq!((&*away.near, away.wan), ("", true));
}
