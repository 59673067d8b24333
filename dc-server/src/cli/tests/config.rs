//! `config write|read|list|delete`.

use super::*;

const HCL: &str = r#"
    Kind = "service-resolver"
    Name = "web"
    Failover = { "*" = { Datacenters = ["dc2"], MinHealthy = "50%" } }
"#;

#[test]
fn an_entry_in_hcl_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.hcl");
    std::fs::write(&file, HCL).unwrap();
    shows(
        &["config", "write", "-cas", "-modify-index=7", file.to_str().unwrap()],
        &[(200, "true")],
        "",
        expect![[r#"
            > PUT /v1/config?cas=7 {"Kind":"service-resolver","Name":"web","Failover":{"*":{"Datacenters":["dc2"],"MinHealthy":"50%"}}}
            Config entry written: service-resolver/web
            = 0"#]],
    );
}

#[test]
fn an_entry_in_json_is_written_from_the_standard_input() {
    shows(
        &["config", "write", "-"],
        &[(200, "true")],
        r#"{"kind":"proxy-defaults","name":"global"}"#,
        expect![[r#"
            > PUT /v1/config {"kind":"proxy-defaults","name":"global"}
            Config entry written: proxy-defaults/global
            = 0"#]],
    );
}

#[test]
fn what_an_agent_refuses_is_said_with_its_sentence() {
    shows(
        &["config", "write", "-"],
        &[(400, "service-resolver/web: Redirect: it is empty")],
        r#"Kind = "service-resolver" Name = "web" Redirect {}"#,
        expect![[r#"
            > PUT /v1/config {"Kind":"service-resolver","Name":"web","Redirect":{}}
            ! Error writing config entry service-resolver/web: Unexpected response code: 400 (service-resolver/web: Redirect: it is empty)
            = 1"#]],
    );
    shows(
        &["config", "write", "-cas", "-modify-index=7", "-"],
        &[(200, "false")],
        HCL,
        expect![[r#"
            > PUT /v1/config?cas=7 {"Kind":"service-resolver","Name":"web","Failover":{"*":{"Datacenters":["dc2"],"MinHealthy":"50%"}}}
            ! Error! Config entry service-resolver/web was not written: it was changed since -modify-index
            = 1"#]],
    );
}

#[test]
fn an_entry_is_shown_as_json() {
    shows(
        &["config", "read", "-kind=service-resolver", "-name", "web", "-datacenter=dc2"],
        &[(200, r#"{"Kind":"service-resolver","Name":"web","CreateIndex":5,"ModifyIndex":7}"#)],
        "",
        expect![[r#"
            > GET /v1/config/service-resolver/web?dc=dc2
            {
                "Kind": "service-resolver",
                "Name": "web",
                "CreateIndex": 5,
                "ModifyIndex": 7
            }
            = 0"#]],
    );
    shows(
        &["config", "read", "-kind=service-resolver", "-name=no"],
        &[(404, r#"Config entry not found for "service-resolver" / "no""#)],
        "",
        expect![[r#"
            > GET /v1/config/service-resolver/no
            ! Error reading config entry service-resolver/no: Unexpected response code: 404 (Config entry not found for "service-resolver" / "no")
            = 1"#]],
    );
}

#[test]
fn entries_are_listed_by_their_names() {
    shows(
        &["config", "list", "-kind=service-resolver"],
        &[(
            200,
            r#"[{"Kind":"service-resolver","Name":"a"},{"Kind":"service-resolver","Name":"web"}]"#,
        )],
        "",
        expect![[r#"
            > GET /v1/config/service-resolver
            a
            web
            = 0"#]],
    );
}

#[test]
fn an_entry_is_deleted_by_its_name_or_its_file() {
    shows(
        &["config", "delete", "-kind=service-resolver", "-name=web"],
        &[(200, "{}")],
        "",
        expect![[r#"
            > DELETE /v1/config/service-resolver/web
            Config entry deleted: service-resolver/web
            = 0"#]],
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.hcl");
    std::fs::write(&file, HCL).unwrap();
    shows(
        &["config", "delete", "-cas", "-modify-index=3", "-filename", file.to_str().unwrap()],
        &[(200, "false")],
        "",
        expect![[r#"
            > DELETE /v1/config/service-resolver/web?cas=3
            ! Error! Config entry service-resolver/web was not deleted: it was changed since -modify-index
            = 1"#]],
    );
}

#[test]
fn what_is_wrong_with_a_command_is_said_before_anybody_is_asked() {
    for (words, input, sentence) in [
        (&["config", "write"][..], "", "Missing FILE argument"),
        (&["config", "write", "/nowhere/x.hcl"], "", "Failed to load /nowhere/x.hcl: "),
        (&["config", "write", "-"], "Kind = ", "stdin:1:"),
        (&["config", "write", "-"], "[1]", "stdin:1:1: "),
        (&["config", "write", "-cas", "-"], HCL, "Must specify -modify-index with -cas!"),
        (
            &["config", "write", "-modify-index=3", "-"],
            HCL,
            "Cannot specify -modify-index without -cas!",
        ),
        (&["config", "read", "-kind=x"], "", "Must specify the -name parameter"),
        (&["config", "list"], "", "Must specify the -kind parameter"),
        (&["config", "delete", "-name=x"], "", "Must specify the -kind parameter"),
        (&["config", "delete", "-name=x", "-filename=f"], "", "by -filename, not both"),
    ] {
        let ran = ran(words, &[], input);
        assert_eq!(ran.code, 1, "{words:?}");
        assert!(ran.err.contains(sentence), "{words:?}: {}", ran.err);
    }
}
