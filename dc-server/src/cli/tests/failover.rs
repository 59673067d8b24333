//! `failover explain`: what the agent answers, as a table, and the exit code.

use expect_test::expect;

use super::shows;

const REPORT: &str = r#"{"Lost":["dc2"],"Services":[
    {"Service":"cache","Outcome":"nowhere","Callers":[]},
    {"Service":"db","Outcome":"overloaded","Load":3.0,"Callers":[
        {"Datacenter":"dc1","Policy":true,"Outcome":"elsewhere",
         "Now":[{"Datacenter":"dc2","Service":"db","Instances":3}],
         "Then":[{"Datacenter":"dc1","Service":"db","Instances":1},{"Datacenter":"dc3","Service":"db","Instances":1}]},
        {"Datacenter":"dc2","Policy":true,"Outcome":"lost",
         "Now":[{"Datacenter":"dc2","Service":"db","Instances":3}],"Then":[]}]}],
    "Nowhere":["cache"],"Overloaded":["db"],"Unknown":[{"Datacenter":"dc3","Reason":"it is lost"}]}"#;

const FINE: &str = r#"{"Lost":["dc1"],"Services":[],"Nowhere":[],"Overloaded":[],"Unknown":[]}"#;

#[test]
fn what_would_become_of_lookups_is_a_table() {
    shows(
        &["failover", "explain", "-lose=dc2", "-overload=2"],
        &[(200, REPORT)],
        "",
        expect![[r#"
            > GET /v1/federation/failover?lose=dc2&overload=2
            Without dc2:

            Service  Callers  Now       Then                Outcome
            cache    -        -         -                   nowhere: only what is lost has it
            db       dc1      3 in dc2  1 in dc1, 1 in dc3  elsewhere, overloaded (3.0 times)
            db       dc2      3 in dc2  -                   lost

            Nowhere to go: cache

            Overloaded: db
            ! No answer from dc3, so that nothing is known of lookups there: it is lost
            = 2"#]],
    );
}

#[test]
fn each_datacenter_in_turn_is_a_list() {
    let answers = [(200, r#"["dc1","dc2"]"#), (200, FINE), (200, REPORT)];
    shows(
        &["failover", "explain", "-lose=*"],
        &answers,
        "",
        expect![[r#"
        > GET /v1/catalog/datacenters
        > GET /v1/federation/failover?lose=dc1
        > GET /v1/federation/failover?lose=dc2
        Without dc1:

        Nobody looks up any service.

        Without dc2:

        Service  Callers  Now       Then                Outcome
        cache    -        -         -                   nowhere: only what is lost has it
        db       dc1      3 in dc2  1 in dc1, 1 in dc3  elsewhere, overloaded (3.0 times)
        db       dc2      3 in dc2  -                   lost

        Nowhere to go: cache

        Overloaded: db
        = 2"#]],
    );
    let answers = [(200, r#"["dc1"]"#), (200, FINE)];
    shows(
        &["failover", "explain", "-lose=*", "-format=json"],
        &answers,
        "",
        expect![[r#"
        > GET /v1/catalog/datacenters
        > GET /v1/federation/failover?lose=dc1
        [
          {
            "Lost": [
              "dc1"
            ],
            "Services": [],
            "Nowhere": [],
            "Overloaded": [],
            "Unknown": []
          }
        ]
        = 0"#]],
    );
}

#[test]
fn what_the_agent_refuses_is_said() {
    shows(
        &["failover", "explain", "-lose=dc9"],
        &[(400, "no such datacenter")],
        "",
        expect![[r#"
            > GET /v1/federation/failover?lose=dc9
            ! Error explaining the failover: Unexpected response code: 400 (no such datacenter)
            = 1"#]],
    );
}
