//! `services`, `catalog` and `maint`.

use super::*;

#[test]
fn services_are_registered_by_flags() {
    let words = [
        "services",
        "register",
        "-name=web",
        "-id=web1",
        "-port=80",
        "-tag=a",
        "-tag=b",
        "-meta=v=1",
        "-tagged-address=lan=10.0.0.1:5",
    ];
    shows(
        &words,
        &[(200, "")],
        "",
        expect![[r#"
        > PUT /v1/agent/service/register {"name":"web","id":"web1","port":80,"tags":["a","b"],"meta":{"v":"1"},"tagged_addresses":{"lan":{"address":"10.0.0.1","port":5}}}
        Registered service: web
        = 0"#]],
    );
}

#[test]
fn services_are_deregistered_by_id() {
    shows(
        &["services", "deregister", "-id", "web 1"],
        &[(200, "")],
        "",
        expect![[r#"
        > PUT /v1/agent/service/deregister/web%201
        Deregistered service: web 1
        = 0"#]],
    );
}

#[test]
fn services_of_files_are_registered_as_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.hcl");
    std::fs::write(&file, r#"service { name = "web" check { ttl = "1m" } }"#).unwrap();
    let file = file.to_str().unwrap();
    shows(
        &["services", "register", file],
        &[(200, "")],
        "",
        expect![[r#"
        > PUT /v1/agent/service/register {"name":"web","check":{"ttl":"1m"}}
        Registered service: web
        = 0"#]],
    );
    shows(
        &["services", "deregister", file],
        &[(200, "")],
        "",
        expect![[r#"
        > PUT /v1/agent/service/deregister/web
        Deregistered service: web
        = 0"#]],
    );
}

#[test]
fn what_is_wrong_with_a_registration_is_said_before_anybody_is_asked() {
    for (words, sentence) in [
        (&["services", "register"][..], "requires at least one argument or flags"),
        (&["services", "register", "-name=a", "-port=x"], "\"x\" is no port number"),
        (&["services", "register", "-name=a", "-meta=x"], "not of the form key=value"),
        (&["services", "register", "-name=a", "file.json"], "flags or files, not both"),
        (&["services", "deregister"], "requires at least one argument or -id"),
        (&["maint", "-enable", "-disable"], "Only one of -enable or -disable"),
        (&["maint", "-service=web"], "-service needs -enable or -disable"),
    ] {
        let ran = ran(words, &[], "");
        assert_eq!(ran.code, 1, "{words:?}");
        assert!(ran.err.contains(sentence), "{words:?}: {}", ran.err);
    }
}

#[test]
fn maintenance_is_shown_begun_and_ended() {
    let checks = r#"{"_node_maintenance":{"Node":"n1","ServiceID":"","Notes":"kernel","Type":"maintenance"},
        "_service_maintenance:web":{"Node":"n1","ServiceID":"web","Notes":"why","Type":"maintenance"},
        "c":{"Node":"n1","ServiceID":"web","Notes":"","Type":"ttl"}}"#;
    shows(
        &["maint"],
        &[(200, checks)],
        "",
        expect![[r#"
        > GET /v1/agent/checks
        Node:
          Name:   n1
          Reason: kernel

        Service:
          ID:     web
          Reason: why

        = 0"#]],
    );
    shows(
        &["maint", "-enable", "-reason=a b"],
        &[(200, "")],
        "",
        expect![[r#"
            > PUT /v1/agent/maintenance?enable=true&reason=a%20b
            Node maintenance is now enabled
            = 0"#]],
    );
    shows(
        &["maint", "-disable", "-service=web"],
        &[(200, "")],
        "",
        expect![[r#"
        > PUT /v1/agent/service/maintenance/web?enable=false
        Service maintenance is now disabled for "web"
        = 0"#]],
    );
}

const NODES: &str = r#"[{"ID":"bb762f0d-1659","Node":"n2","Address":"10.0.0.2","Datacenter":"dc1",
    "TaggedAddresses":{"lan":"10.0.0.2"},"Meta":{"rack":"7"}},
    {"ID":"","Node":"ext","Address":"a.example","Datacenter":"dc1","TaggedAddresses":null,"Meta":null}]"#;

#[test]
fn nodes_are_listed_short_and_whole() {
    shows(
        &["catalog", "nodes"],
        &[(200, NODES)],
        "",
        expect![[r#"
        > GET /v1/catalog/nodes
        Node  ID        Address    DC
        ext             a.example  dc1
        n2    bb762f0d  10.0.0.2   dc1
        = 0"#]],
    );
    shows(
        &["catalog", "nodes", "-detailed", "-datacenter=dc2"],
        &[(200, NODES)],
        "",
        expect![[r#"
        > GET /v1/catalog/nodes?dc=dc2
        Node  ID             Address    DC   TaggedAddresses  Meta
        ext                  a.example  dc1
        n2    bb762f0d-1659  10.0.0.2   dc1  lan=10.0.0.2     rack=7
        = 0"#]],
    );
    shows(
        &["catalog", "nodes", "-service=web"],
        &[(200, "[]")],
        "",
        expect![[r#"
        > GET /v1/catalog/service/web
        ! No nodes match the given query - try expanding your search.
        = 0"#]],
    );
}

#[test]
fn services_and_datacenters_are_listed() {
    let services = r#"{"web":["b","a"],"db":[]}"#;
    shows(
        &["catalog", "services"],
        &[(200, services)],
        "",
        expect![[r#"
        > GET /v1/catalog/services
        db
        web
        = 0"#]],
    );
    shows(
        &["catalog", "services", "-tags"],
        &[(200, services)],
        "",
        expect![[r#"
        > GET /v1/catalog/services
        db
        web  a,b
        = 0"#]],
    );
    let node = r#"{"Services":{"w1":{"Service":"web","Tags":["a"]},"w2":{"Service":"web","Tags":["a","b"]}}}"#;
    shows(
        &["catalog", "services", "-node=n1", "-tags"],
        &[(200, node)],
        "",
        expect![[r#"
        > GET /v1/catalog/node/n1
        web  a,b
        = 0"#]],
    );
    shows(
        &["catalog", "datacenters"],
        &[(200, r#"["dc1","dc2"]"#)],
        "",
        expect![[r#"
        > GET /v1/catalog/datacenters
        dc1
        dc2
        = 0"#]],
    );
}
