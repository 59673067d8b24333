//! `federation`: tables of what the agent answers.

use expect_test::expect;

use super::{says, shows};

const STATUS: &str = r#"{"Datacenter":"dc1","Server":"a1","Datacenters":[
    {"Name":"dc1","Own":true,"Health":"healthy","Evidence":"a1 leads","RTTMillis":null,"Leader":"a1","Servers":[
        {"Name":"a1","Address":"10.0.0.1:8302","Status":"alive","Path":"up","RTTMillis":null,"LossPercent":null,
         "Leader":true,"Term":3,"Applied":20,"Load":null,"WatchedBy":[]}]},
    {"Name":"dc2","MirrorAgeSeconds":84.2,"Own":false,"Health":"lost","HeldSeconds":83.5,"Evidence":"1 of 1 servers down","RTTMillis":50.25,
     "Leader":null,"Servers":[
        {"Name":"b1","Address":"10.0.1.1:8302","Status":"failed","Path":"down","RTTMillis":50.25,"LossPercent":7.5,
         "Leader":false,"Term":null,"Applied":null,"Load":null,
         "WatchedBy":[{"Server":"a1","Path":"down","ForSeconds":1.5,"Reason":"no packet"}]},
        {"Name":"b2","Address":"10.0.1.2:8302","Status":"left","Path":"unknown","WatchedBy":[]}],
     "Requests":{"Direct":{"Breaker":"open","UnderWay":4},"Detours":{"Breaker":"closed","UnderWay":1},
                 "Relays":{"Breaker":"closed","UnderWay":0}}},
    {"Name":"dc3","Own":false,"Health":"healthy","HeldSeconds":9000,"Evidence":"fine","RTTMillis":20,"Leader":"c1",
     "Servers":[],"Requests":{"Direct":{"Breaker":"closed","UnderWay":0}}}],
    "Matrix":[
    {"From":"dc1","Current":true,"To":[{"Datacenter":"dc2","Health":"lost","RTTMillis":50.0},
                                       {"Datacenter":"dc3","Health":"healthy","RTTMillis":20.0}]},
    {"From":"dc2","Current":false,"To":[{"Datacenter":"dc1","Health":"healthy","RTTMillis":50.0}]}],
    "Removed":[{"Name":"dc8","TimeMs":7,"By":"a1.dc1"}]}"#;

const TIMELINE: &str = r#"{"Events":[
    {"TimeMs":1700000000123,"Datacenter":"dc1","Server":"a1","Sequence":1,"About":"dc2","Kind":"observation",
     "Text":"b1 can't be reached: no packet for 1.9s"},
    {"TimeMs":1700000001000,"Datacenter":"dc3","Server":"c10","Sequence":1,"About":"dc2","Kind":"verdict",
     "Text":"healthy -> lost: 1 of 1 servers down"}],
    "Servers":[],"Unreachable":[{"Datacenter":"dc2","Server":null,"Reason":"it is lost"},
                                {"Datacenter":"dc1","Server":"a2","Reason":"no answer in time"}]}"#;

#[test]
fn the_status_is_a_table_of_datacenters_and_a_matrix() {
    shows(
        &["federation", "status"],
        &[(200, STATUS)],
        "",
        expect![[r#"
            > GET /v1/federation/status
            As a1 of dc1 sees it:

            Datacenter  Health   For    RTT     Leader  Up   Mirror  Breaker        Requests  Evidence
            dc1         healthy  -      -       a1      1/1  -       -              -         a1 leads
            dc2         lost     1m23s  50.2ms  -       0/1  1m24s   open (direct)  5         1 of 1 servers down
            dc3         healthy  2h30m  20.0ms  c1      0/0  -       closed         0         fine

            From \ To  dc1               dc2   dc3
            dc1        -                 lost  healthy 20.0ms
            dc2        (healthy 50.0ms)  -     ?
            dc3        ?                 ?     -

            Removed from the federation: dc8
            = 0"#]],
    );
}

#[test]
fn the_status_shows_servers_as_another_datacenter_sees_them() {
    let words = ["federation", "status", "-servers", "-datacenter=dc1"];
    shows(
        &words,
        &[(200, STATUS)],
        "",
        expect![[r#"
            > GET /v1/federation/status?dc=dc1
            As a1 of dc1 sees it:

            Datacenter  Health   For    RTT     Leader  Up   Mirror  Breaker        Requests  Evidence
            dc1         healthy  -      -       a1      1/1  -       -              -         a1 leads
            dc2         lost     1m23s  50.2ms  -       0/1  1m24s   open (direct)  5         1 of 1 servers down
            dc3         healthy  2h30m  20.0ms  c1      0/0  -       closed         0         fine

            Server  Address        Status  Path     RTT     Loss  Leader  Term  Applied  Watched by
            a1.dc1  10.0.0.1:8302  alive   up       -       -     yes     3     20
            b1.dc2  10.0.1.1:8302  failed  down     50.2ms  7.5%  no      -     -        a1
            b2.dc2  10.0.1.2:8302  left    unknown  -       -     no      -     -

            From \ To  dc1               dc2   dc3
            dc1        -                 lost  healthy 20.0ms
            dc2        (healthy 50.0ms)  -     ?
            dc3        ?                 ?     -

            Removed from the federation: dc8
            = 0"#]],
    );
}

#[test]
fn the_timeline_is_a_line_for_each_event_and_names_who_is_missing() {
    shows(
        &["federation", "timeline", "-dc=dc2"],
        &[(200, TIMELINE)],
        "",
        expect![[r#"
        > GET /v1/federation/timeline?dc=dc2
        2023-11-14T22:13:20.123Z  a1.dc1   dc2  observation  b1 can't be reached: no packet for 1.9s
        2023-11-14T22:13:21.000Z  c10.dc3  dc2  verdict      healthy -> lost: 1 of 1 servers down
        ! No answer from dc2: it is lost
        ! No answer from a2.dc1: no answer in time
        = 0"#]],
    );
}

#[test]
fn both_are_shown_as_json_and_fail_with_the_reason_of_the_agent() {
    let one = r#"{"Events":[]}"#;
    let words = ["federation", "timeline", "-format=json"];
    shows(
        &words,
        &[(200, one)],
        "",
        expect![[r#"
        > GET /v1/federation/timeline
        {
          "Events": []
        }
        = 0"#]],
    );
    shows(
        &["federation", "status"],
        &[(500, "No cluster leader")],
        "",
        expect![[r#"
        > GET /v1/federation/status
        ! Error retrieving the status: Unexpected response code: 500 (No cluster leader)
        = 1"#]],
    );
}

#[test]
fn the_group_lists_its_commands() {
    says(
        &["federation"],
        expect![[r#"
        ! Usage: causeway federation <subcommand> [options] [args]
        ! 
        !   Look after the federation of datacenters.
        ! 
        ! Subcommands:
        !     remove       Removes a datacenter, or lets it in again
        !     status       Shows how the datacenters are
        !     timeline     Shows what happened between the datacenters
        = 1"#]],
    );
}

#[test]
fn a_datacenter_is_removed_and_let_in_again() {
    shows(
        &["federation", "remove", "-force", "dc2"],
        &[(200, "true")],
        "",
        expect![[r#"
        > PUT /v1/federation/remove/dc2?force=1
        dc2 is removed
        = 0"#]],
    );
    shows(
        &["federation", "remove", "-undo", "dc2"],
        &[(200, "true")],
        "",
        expect![[r#"
        > PUT /v1/federation/remove/dc2?undo=1
        dc2 may come back
        = 0"#]],
    );
    let refused = "dc2 is healthy: only a datacenter that is lost or left is removed without force";
    shows(
        &["federation", "remove", "dc2"],
        &[(400, refused)],
        "",
        expect![[r#"
        > PUT /v1/federation/remove/dc2
        ! Error removing the datacenter: Unexpected response code: 400 (dc2 is healthy: only a datacenter that is lost or left is removed without force)
        = 1"#]],
    );
}
