//! `rtt`.

use super::*;

const N1: &str = r#"[{"Node":"n1","Segment":"","Coord":{"Vec":[0.0001,0,0,0,0,0,0,0],"Error":0.2,"Adjustment":0,"Height":1e-05}}]"#;
const N2: &str = r#"[{"Node":"n2","Segment":"","Coord":{"Vec":[0.0006,0,0,0,0,0,0,0],"Error":0.2,"Adjustment":0.00001,"Height":0.00008}}]"#;
const SELF: &str = r#"{"Config":{"NodeName":"n2","Datacenter":"dc1"}}"#;
const AREAS: &str = r#"[
    {"Datacenter":"dc1","AreaID":"wan","Coordinates":[{"Node":"n2","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":1,"Adjustment":0,"Height":0.001}}]},
    {"Datacenter":"dc2","AreaID":"wan","Coordinates":[{"Node":"s1.dc2","Coord":{"Vec":[0.04,0,0,0,0,0,0,0],"Error":1,"Adjustment":0,"Height":0.001}}]}]"#;

#[test]
fn rtt_estimates_between_two_nodes() {
    shows(
        &["rtt", "-datacenter=dc2", "n1", "n2"],
        &[(200, N1), (200, N2)],
        "",
        expect![[r#"
        > GET /v1/coordinate/node/n1?dc=dc2
        > GET /v1/coordinate/node/n2?dc=dc2
        Estimated n1 <-> n2 rtt: 0.600 ms (using LAN coordinates)
        = 0"#]],
    );
    shows(
        &["rtt", "-format=json", "n1"],
        &[(200, SELF), (200, N1), (200, N2)],
        "",
        expect![[r#"
        > GET /v1/agent/self
        > GET /v1/coordinate/node/n1
        > GET /v1/coordinate/node/n2
        {
          "Nodes": [
            "n1",
            "n2"
          ],
          "Milliseconds": 0.6,
          "Coordinates": "LAN"
        }
        = 0"#]],
    );
}

#[test]
fn rtt_estimates_between_servers_of_two_datacenters() {
    shows(
        &["rtt", "-wan", "s1.dc2"],
        &[(200, SELF), (200, AREAS)],
        "",
        expect![[r#"
        > GET /v1/agent/self
        > GET /v1/coordinate/datacenters
        Estimated s1.dc2 <-> n2.dc1 rtt: 42.000 ms (using WAN coordinates)
        = 0"#]],
    );
    shows(
        &["rtt", "-wan", "s1.dc2", "s9.dc1"],
        &[(200, AREAS)],
        "",
        expect![[r#"
        > GET /v1/coordinate/datacenters
        ! Could not find a coordinate for node "s9.dc1"
        = 1"#]],
    );
    shows(
        &["rtt", "-wan", "s1.dc9", "n2.dc1"],
        &[(200, AREAS)],
        "",
        expect![[r#"
        > GET /v1/coordinate/datacenters
        ! Could not find a coordinate for node "s1.dc9"
        = 1"#]],
    );
}

#[test]
fn rtt_says_what_is_missing() {
    shows(
        &["rtt", "n1", "n9"],
        &[(200, N1), (404, "")],
        "",
        expect![[r#"
        > GET /v1/coordinate/node/n1
        > GET /v1/coordinate/node/n9
        ! Could not find a coordinate for node "n9"
        = 1"#]],
    );
    shows(
        &["rtt", "n1", "n2"],
        &[(500, "No cluster leader")],
        "",
        expect![[r#"
        > GET /v1/coordinate/node/n1
        ! Error getting coordinates: Unexpected response code: 500 (No cluster leader)
        = 1"#]],
    );
}

#[test]
fn rtt_shows_its_help_when_it_is_misused() {
    let ran = ran(&["rtt", "a", "b", "c"], &[], "");
    assert!(ran.err.contains("rtt [options] NODE1 [NODE2]"), "{}", ran.err);
    assert!(ran.err.starts_with("One or two node names must be specified"), "{}", ran.err);
    assert_eq!(ran.code, 1);
    let dotless = super::ran(&["rtt", "-wan", "a", "b"], &[], "");
    assert!(dotless.err.starts_with("Node names must be specified as <node name>.<datacenter>"));
}
