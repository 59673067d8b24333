//! What is done with a running agent: `reload`, `monitor`, `watch`.

use super::*;

#[test]
fn reload_says_what_needs_a_restart_and_why_nothing_changed() {
    shows(
        &["reload"],
        &[(200, "")],
        "",
        expect![[r#"
            > PUT /v1/agent/reload
            Configuration reload triggered
            = 0"#]],
    );
    shows(
        &["reload"],
        &[(200, "needs a restart: ports.http")],
        "",
        expect![[r#"
            > PUT /v1/agent/reload
            Configuration reload triggered
            ! needs a restart: ports.http
            = 0"#]],
    );
    shows(
        &["reload"],
        &[(500, "a.hcl:1:1: unknown key servic")],
        "",
        expect![[r#"
            > PUT /v1/agent/reload
            ! Error reloading: Unexpected response code: 500 (a.hcl:1:1: unknown key servic)
            = 1"#]],
    );
}

#[test]
fn monitor_writes_what_comes_until_the_agent_ends_it() {
    shows(
        &["monitor", "-log-level=debug", "-log-json"],
        &[(200, "one\ntwo\n")],
        "",
        expect![[r#"
            > GET /v1/agent/monitor?loglevel=debug&logjson
            one
            two
            ! the agent ended the stream: it has stopped, or cannot be reached any more
            = 1"#]],
    );
    shows(
        &["monitor", "-log-level=bogus"],
        &[(400, "Bad request: Unknown log level: bogus")],
        "",
        expect![[r#"
            > GET /v1/agent/monitor?loglevel=bogus
            ! Error starting monitor: Unexpected response code: 400 (Bad request: Unknown log level: bogus)
            = 1"#]],
    );
}

const WATCHED: &str =
    r#"[{"LockIndex":0,"Key":"a","Flags":0,"Value":"eA==","CreateIndex":3,"ModifyIndex":4}]"#;

#[test]
fn watch_without_a_program_shows_what_there_is() {
    shows(
        &["watch", "-type=key", "-key=a", "-datacenter=dc2"],
        &[(200, "{}"), (200, WATCHED)],
        "",
        expect![[r#"
            > GET /v1/agent/self?dc=dc2
            > GET /v1/kv/a?dc=dc2
            {
                "Key": "a",
                "CreateIndex": 3,
                "ModifyIndex": 4,
                "LockIndex": 0,
                "Flags": 0,
                "Value": "eA==",
                "Session": ""
            }
            = 0"#]],
    );
    shows(
        &["watch", "-type=keyprefix", "-prefix=a/"],
        &[(200, "{}"), (404, "")],
        "",
        expect![[r#"
            > GET /v1/agent/self
            > GET /v1/kv/a/?recurse
            null
            = 0"#]],
    );
    shows(
        &["watch", "-type=service", "-service=web", "-tag=a", "-tag=b", "-passingonly=true"],
        &[(200, "{}"), (200, "[]")],
        "",
        expect![[r#"
            > GET /v1/agent/self
            > GET /v1/health/service/web?tag=a&tag=b&passing=1
            []
            = 0"#]],
    );
}

#[test]
fn watch_ends_when_its_program_fails() {
    shows(
        &["watch", "-type=key", "-key=a", "cat >/dev/null;", "exit", "3"],
        &[(200, "{}"), (200, WATCHED)],
        "",
        expect![[r#"
            > GET /v1/agent/self
            > GET /v1/kv/a
            ! Error executing handler: exit status: 3
            = 1"#]],
    );
}

#[test]
fn what_can_not_be_watched_is_refused() {
    for (words, sentence) in [
        (&["-type=key"][..], "Must specify a single key to watch"),
        (&["-type=bogus"], "Unsupported watch type: bogus"),
        (&["-type=event"], "Unsupported watch type: event (Causeway has no user events)"),
        (&["-type=key", "-key=a", "-prefix=b"], "Invalid parameters: [prefix]"),
        (&["-type=checks", "-state=any", "-service=a"], "Cannot specify service and state"),
        (
            &["-type=service", "-service=a", "-passingonly=bad"],
            "Failed to parse passingonly flag: \"bad\" is no boolean",
        ),
    ] {
        let ran = ran(&[&["watch"], words].concat(), &[], "");
        assert_eq!((ran.code, ran.err.trim()), (1, sentence), "{words:?}");
    }
    let ran = ran(&["watch"], &[], "");
    assert!(ran.code == 1 && ran.err.starts_with("Watch type must be specified\n\nUsage: "));
}
