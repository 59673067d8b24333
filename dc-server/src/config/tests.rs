//! Precedence, defaults, rules, and what is said when something is wrong.

use std::{net::SocketAddr, time::Duration};

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{source::Format, *};
use crate::cli::flags as line;

fn host() -> Host {
    Host { name: Some("host-1".into()), addresses: vec!["10.9.8.7".parse().unwrap()] }
}

fn request(flags: &[&str]) -> Request {
    let words: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Request::from_line(&line::parse(&flags::all(), &words).unwrap()).unwrap()
}

fn text(name: &str, body: &str) -> Text {
    let format = if name.ends_with(".json") { Format::Json } else { Format::Hcl };
    Text { name: name.into(), format, body: body.into() }
}

fn built(flags: &[&str], texts: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let texts: Vec<_> = texts.iter().map(|(name, body)| text(name, body)).collect();
    build(&request(flags), &texts, &host())
}

fn agent(flags: &[&str], body: &str) -> Agent {
    built(flags, &[("a.hcl", body)]).unwrap().agent
}

fn fails(flags: &[&str], body: &str, expected: Expect) {
    expected.assert_eq(&built(flags, &[("a.hcl", body)]).unwrap_err().to_string());
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_development_mode_needs_nothing() {
    let loaded = built(&["-dev"], &[]).unwrap();
    let agent = loaded.agent;
    assert!(agent.is_server() && agent.dev);
    assert_eq!(agent.bootstrap_expect, 1);
    assert_eq!(agent.data_dir, None);
    assert_eq!(agent.node_name.as_str(), "host-1");
    assert_eq!(agent.addresses.link.bind, addr("127.0.0.1:8300"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn a_client_has_consuls_defaults() {
    let agent = agent(&["-data-dir", "/d"], "");
    assert_eq!(agent.datacenter.as_str(), "dc1");
    assert!(!agent.is_server());
    assert_eq!(agent.addresses.lan.bind, addr("0.0.0.0:8301"));
    assert_eq!(agent.addresses.lan.advertise, addr("10.9.8.7:8301"));
    assert_eq!(agent.addresses.wan, None);
    assert_eq!(agent.addresses.http, [agent::Listen::Tcp(addr("127.0.0.1:8500"))]);
    assert_eq!(agent.addresses.dns, [addr("127.0.0.1:8600")]);
    assert!(agent.leave.on_terminate && agent.leave.on_interrupt);
    assert_eq!(agent.join.interval.as_secs(), 30);
}

#[test]
fn a_server_stays_on_signals_unless_told_otherwise() {
    let leave = agent(&["-data-dir=/d", "-server"], "").leave;
    assert!(!leave.on_terminate && !leave.on_interrupt);
    let told = "leave_on_terminate = true skip_leave_on_interrupt = false";
    let leave = agent(&["-data-dir=/d", "-server"], told).leave;
    assert!(leave.on_terminate && leave.on_interrupt);
}

#[test]
fn flags_override_files_and_later_files_earlier_ones() {
    let loaded = built(
        &["-data-dir=/d", "-node", "flag"],
        &[
            ("a.hcl", "node_name = \"a\" datacenter = \"a\" ports { http = 1 dns = 2 }"),
            ("b.json", r#"{"datacenter": "b", "ports": {"http": 3}}"#),
        ],
    );
    let agent = loaded.unwrap().agent;
    assert_eq!(agent.node_name.as_str(), "flag");
    assert_eq!(agent.datacenter.as_str(), "b");
    assert_eq!(agent.addresses.http, [agent::Listen::Tcp(addr("127.0.0.1:3"))]);
    assert_eq!(agent.addresses.dns, [addr("127.0.0.1:2")]);
}

#[test]
fn fragments_come_after_files() {
    let agent = built(&["-dev", "-hcl", "datacenter = \"c\""], &[("a.hcl", "datacenter = \"a\"")]);
    assert_eq!(agent.unwrap().agent.datacenter.as_str(), "c");
}

#[test]
fn lists_add_up_with_those_of_flags_first() {
    let loaded = built(
        &["-dev", "-retry-join=f1", "-retry-join=f2"],
        &[("a.hcl", "retry_join = [\"a\"]"), ("b.hcl", "retry_join = [\"b\"]")],
    );
    assert_eq!(loaded.unwrap().agent.join.retry, ["f1", "f2", "a", "b"]);
}

#[test]
fn node_metadata_of_all_layers_is_merged() {
    let agent = agent(
        &["-dev", "-node-meta", "a:3", "-node-meta=c:x:y"],
        "node_meta { a = \"1\" b = \"2\" }",
    );
    let meta: Vec<_> = agent.node_meta.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(meta, ["a=3", "b=2", "c=x:y"]);
}

#[test]
fn null_is_as_if_it_were_not_there() {
    let loaded = built(
        &["-dev"],
        &[("a.json", r#"{"datacenter": null, "ports": {"http": null}, "ports": null}"#)],
    );
    assert_eq!(loaded.unwrap().agent.datacenter.as_str(), "dc1");
}

#[test]
fn keys_without_use_warn_once_each_even_when_null() {
    let body = r#"{"connect": {"enabled": true}, "log_rotate_bytes": null, "acl_datacenter": "dc9", "ui": true, "telemetry": {"statsd_address": "x"}}"#;
    let loaded = built(&["-dev"], &[("a.json", body)]).unwrap();
    assert_eq!(loaded.agent.primary_datacenter.unwrap().as_str(), "dc9");
    expect![[r#"
        a.json: connect.enabled is ignored: Causeway has no service mesh
        a.json: log_rotate_bytes is ignored: this version of Causeway does not use it yet
        a.json: acl_datacenter is deprecated: use primary_datacenter
        a.json: ui is deprecated: use ui_config.enabled; it is ignored: this version of Causeway does not use it yet
        a.json: telemetry.statsd_address is ignored: Causeway offers its metrics to Prometheus at /v1/agent/metrics"#]]
    .assert_eq(&loaded.warnings.join("\n"));
}

#[test]
fn config_entries_are_checked_when_they_are_read() {
    let body = r#"config_entries { bootstrap { kind = "service-resolver" name = "web" redirect { service = "a" } } }"#;
    let loaded = built(&["-dev"], &[("a.hcl", body)]).unwrap();
    let [entry] = loaded.agent.config_entries.as_slice() else { panic!("one entry") };
    let expected = r#"{"Kind":"service-resolver","Name":"web","Redirect":{"Service":"a"}}"#;
    assert_eq!(&*entry.body, expected);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    fails(
        &["-dev"],
        "config_entries {\n  bootstrap = [{ Kind = \"proxy-defaults\", Name = \"a\" }, { Kind = \"x\" }]\n}",
        expect![[r#"
            a.hcl:2:3: config_entries.bootstrap 1 (""): proxy-defaults/a: Name: there is one entry of this kind, and its name is "global"
            a.hcl:2:3: config_entries.bootstrap 2 (""): config entry kind "x" is not supported here: service-resolver, service-defaults and proxy-defaults are"#]],
    );
}

#[test]
fn unknown_keys_are_errors_that_name_the_nearest() {
    fails(
        &["-dev"],
        "ports {\n  htpp = 1\n}\nretryjoin = []\nqqq = 1",
        expect![[r#"
            a.hcl:2:3: invalid config key ports.htpp, did you mean ports.http?
            a.hcl:4:1: invalid config key retryjoin, did you mean retry_join?
            a.hcl:5:1: invalid config key qqq"#]],
    );
}

#[test]
fn bad_values_are_errors_that_say_what_was_expected() {
    fails(
        &["-dev", "-serf-lan-port=x", "-log-level", "loud"],
        r#"server = "true" ports { http = "8500" dns = 70000 } retry_join = "a" retry_interval = "5"
           reconnect_timeout = 5 node_meta { a = 1 } tls = 3 encrypt = 1 performance { raft_multiplier = "1" }"#,
        expect![[r#"
            a.hcl:1:1: server: expected true or false, found the text "true"
            a.hcl:1:25: ports.http: expected a port number (1 to 65535, or -1 to disable it), found the text "8500"
            a.hcl:1:39: ports.dns: expected a port number (1 to 65535, or -1 to disable it), found 70000
            a.hcl:1:53: retry_join: expected a list of texts, such as ["a", "b"], found the text "a"
            a.hcl:1:70: retry_interval: expected a duration in quotes, such as "10s" or "1h30m" (time: missing unit in duration "5"), found the text "5"
            a.hcl:2:12: reconnect_timeout: expected a duration in quotes, such as "10s" or "1h30m", found 5
            a.hcl:2:34: node_meta: expected a block of texts, such as { name = "value" }, found a block
            a.hcl:2:54: tls: expected a block, such as { key = value }, found 3
            a.hcl:2:62: encrypt: expected a text, found something else
            a.hcl:2:88: performance.raft_multiplier: expected a whole number, found the text "1"
            -serf-lan-port: ports.serf_lan: expected a port number (1 to 65535, or -1 to disable it), found the text "x""#]],
    );
}

#[test]
fn syntax_errors_name_file_line_and_column() {
    fails(
        &["-dev"],
        "a = ",
        expect![[r#"a.hcl:1:5: expected a value, found the end of the text"#]],
    );
    let error = built(&["-dev"], &[("a.json", "{\"a\": }")]).unwrap_err();
    expect![[r#"a.json:1:7: expected value"#]].assert_eq(&error.to_string());
    let error = built(&["-dev"], &[("a.json", "[]")]).unwrap_err();
    expect![[r#"a.json: expected an object of keys"#]].assert_eq(&error.to_string());
}

#[test]
fn rules_between_keys_are_checked() {
    fails(
        &[],
        "",
        expect!["data_dir cannot be empty: set it with -data-dir or in a file, or use -dev"],
    );
    fails(
        &["-data-dir=/d"],
        "bootstrap_expect = 3",
        expect!["'bootstrap_expect > 0' requires 'server = true'"],
    );
    fails(
        &["-data-dir=/d"],
        "bootstrap = true",
        expect!["'bootstrap = true' requires 'server = true'"],
    );
    fails(
        &["-data-dir=/d", "-server", "-bootstrap", "-bootstrap-expect=3"],
        "",
        expect!["'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive"],
    );
    fails(
        &["-dev"],
        "bootstrap_expect = 3",
        expect!["'bootstrap_expect > 1' not allowed in dev mode"],
    );
    fails(
        &["-dev"],
        "advertise_addr = \"0.0.0.0\"",
        expect!["Advertise address cannot be 0.0.0.0, :: or [::]"],
    );
}

#[test]
fn addresses_and_names_are_checked() {
    fails(&["-dev"], "bind_addr = \"\"", expect!["bind_addr cannot be empty"]);
    fails(
        &["-dev"],
        "bind_addr = \"{{ GetPrivateIP }}\"",
        expect![[
            r#"a.hcl:1:1: bind_addr: expected an IP address (go-sockaddr templates are not evaluated), found "{{ GetPrivateIP }}""#
        ]],
    );
    fails(
        &["-dev"],
        "client_addr = \"127.0.0.1 foo\"",
        expect![[r#"
            a.hcl:1:1: client_addr: expected an IP address, found "foo"
            a.hcl:1:1: client_addr: expected an IP address, found "foo""#]],
    );
    fails(
        &["-dev", "-datacenter", "a b"],
        "",
        expect![[
            r#"-datacenter: datacenter: expected a name (datacenter name "a b" can't hold ' ': use letters, digits, dashes and underscores), found "a b""#
        ]],
    );
}

#[test]
fn numbers_and_ports_are_checked() {
    fails(
        &["-dev"],
        "performance { raft_multiplier = 11 }",
        expect![
            "a.hcl:1:15: performance.raft_multiplier: expected a whole number between 1 and 10, found 11"
        ],
    );
    fails(
        &["-dev"],
        "autopilot { min_quorum = -1 }",
        expect!["autopilot.min_quorum cannot be -1. Must be greater than or equal to zero"],
    );
    fails(
        &["-dev"],
        "ports { server = -1 }",
        expect!["ports.server must be a valid port from 1 to 65535"],
    );
    fails(
        &["-dev"],
        "ports { serf_wan = 8301 }",
        expect!["ports.serf_wan: address 127.0.0.1:8301 already configured for ports.serf_lan"],
    );
    fails(
        &["-dev"],
        "cert_file = \"c\"",
        expect![[r#"
            tls.internal_rpc: cert_file needs key_file beside it
            tls.https: cert_file needs key_file beside it"#]],
    );
}

#[test]
fn https_needs_a_certificate_where_others_can_reach_the_agent() {
    fails(
        &["-data-dir=/d"],
        "ports { https = 8501 }",
        expect![
            "ports.https needs tls.https.cert_file and key_file (or tls.defaults): others can reach this agent, so that no development certificate will do"
        ],
    );
    let addresses = agent(&["-dev", "-https-port=8501"], "").addresses;
    assert_eq!(addresses.https, [agent::Listen::Tcp(addr("127.0.0.1:8501"))]);
    let files = "tls { https { cert_file = \"c\" key_file = \"k\" } }";
    assert!(agent(&["-data-dir=/d", "-https-port=8501"], files).tls.https.is_some());
}

#[test]
fn callers_are_checked_by_the_defaults_unless_https_says_otherwise_and_by_an_authority() {
    let files = "cert_file = \"c\" key_file = \"k\"";
    let verify = |body: &str| agent(&["-dev"], body).tls.https_verify_incoming;
    assert!(!verify(""));
    assert!(verify("verify_incoming = true"));
    assert!(verify("verify_incoming_https = true"));
    assert!(!verify(
        "tls { defaults { verify_incoming = true } https { verify_incoming = false } }"
    ));
    fails(
        &["-dev", "-https-port=8501"],
        &format!("tls {{ https {{ {files} verify_incoming = true }} }}"),
        expect![
            "tls.https.verify_incoming needs tls.https.ca_file or ca_path (or tls.defaults): without an authority nobody's certificate can be checked"
        ],
    );
}

#[test]
fn sizes_are_held_to_what_a_write_can_carry() {
    let loaded = built(
        &["-dev"],
        &[(
            "a.hcl",
            "limits { kv_max_value_size = 99999999 txn_max_req_len = 1 } http_config { max_header_bytes = 1 }",
        )],
    );
    let loaded = loaded.unwrap();
    let limits = loaded.agent.limits;
    assert_eq!((limits.kv_max_value_size, limits.txn_max_req_len), (4 << 20, 4 << 20));
    assert_eq!(loaded.agent.http.max_header_bytes, 8 << 10);
    expect![[r#"
        limits.kv_max_value_size is 99999999, but one write holds 4194304 bytes: that is used instead
        http_config.max_header_bytes is 1: 8192 is used instead"#]]
    .assert_eq(&loaded.warnings.join("\n"));
    let limits = agent(&["-dev"], "limits { kv_max_value_size = 7 txn_max_req_len = 9 }").limits;
    assert_eq!((limits.kv_max_value_size, limits.txn_max_req_len), (7, 9));
}

#[test]
fn times_of_requests_are_held_to_what_links_wait_for() {
    let limits = agent(&["-dev", "-max-query-time=1h", "-default-query-time=20s"], "").limits;
    assert_eq!((limits.max_query_time.as_secs(), limits.default_query_time.as_secs()), (800, 20));
    let limits = agent(&["-dev"], "limits { rpc_client_timeout = \"2s\" }").limits;
    assert_eq!(limits.rpc_client_timeout.as_secs(), 2);
}

#[test]
fn response_headers_are_headers() {
    let headers = "http_config { response_headers { X-Frame-Options = \"DENY\" } }";
    assert_eq!(agent(&["-dev"], headers).http.response_headers["X-Frame-Options"], "DENY");
    fails(
        &["-dev"],
        "http_config { response_headers { \"a b\" = \"c\" } }",
        expect![[
            r#"a.hcl:1:15: http_config.response_headers: expected headers of HTTP, found "a b" = "c""#
        ]],
    );
}

#[test]
fn socket_files_have_a_mode_and_an_owner() {
    let unix = "unix_sockets { mode = \"0660\" user = \"web\" group = \"33\" }";
    let unix = agent(&["-dev"], unix).addresses.unix;
    assert_eq!(unix.mode, Some(0o660));
    assert_eq!((unix.user.as_deref(), unix.group.as_deref()), (Some("web"), Some("33")));
    fails(
        &["-dev"],
        "unix_sockets { mode = \"rw\" }",
        expect![[
            r#"a.hcl:1:16: unix_sockets.mode: expected an octal mode such as "0660", found "rw""#
        ]],
    );
}

#[test]
fn keys_ids_and_levels_are_checked() {
    fails(
        &["-dev"],
        "retry_join = [\"provider=aws tag_key=x\"]",
        expect![
            "retry_join: Causeway has no cloud auto-join: list addresses instead of provider=..."
        ],
    );
    fails(
        &["-dev"],
        "node_meta { consul-x = \"y\" }",
        expect![[
            r#"a.hcl:1:1: node_meta: expected pairs (the prefix consul- is reserved), found "consul-x" = "y""#
        ]],
    );
    fails(
        &["-dev"],
        "encrypt = \"abc\"",
        expect![
            "a.hcl:1:1: encrypt: expected a key in base64 (keygen makes one), found something else"
        ],
    );
    fails(
        &["-dev"],
        "encrypt = \"cg8StVXbQJ0gPvMd9o7y\"",
        expect![
            "a.hcl:1:1: encrypt: expected a key of 32 or 16 bytes (keygen makes one), found 15 bytes"
        ],
    );
    fails(
        &["-dev"],
        "log_level = \"BLAH\"",
        expect![[
            r#"a.hcl:1:1: log_level: expected one of TRACE, DEBUG, INFO, WARN and ERR, found "BLAH""#
        ]],
    );
    fails(
        &["-dev"],
        "node_id = \"abc\"",
        expect![
            "a.hcl:1:1: node_id: expected a UUID such as 40e4a748-2192-161a-0510-9bf59fe950b5, found abc"
        ],
    );
}

#[test]
fn gateways_are_a_few_hosts() {
    let gateways = |body: &str| agent(&["-dev"], body).federation.gateways;
    assert!(gateways("").is_empty());
    let body = "federation { gateways = [\"gw1.example.com\", \"10.0.0.1:8302\"] }";
    assert_eq!(gateways(body), ["gw1.example.com", "10.0.0.1:8302"]);
    fails(
        &["-dev"],
        "federation { gateways = [\"a b\"] }",
        expect![[
            r#"a.hcl:1:14: federation.gateways: expected hosts, or hosts with ports, found "a b""#
        ]],
    );
    let many = ["\"a\""; 9].join(", ");
    fails(
        &["-dev"],
        &format!("federation {{ gateways = [{many}] }}"),
        expect!["a.hcl:1:14: federation.gateways: expected at most 8 gateways, found 9 of them"],
    );
    let long = format!("\"{}\"", "a".repeat(130));
    fails(
        &["-dev"],
        &format!("federation {{ gateways = [{long}] }}"),
        expect![
            "a.hcl:1:14: federation.gateways: expected at most 128 characters in all: give one name to several, found 130"
        ],
    );
}

#[test]
fn client_addresses_may_be_several_and_sockets() {
    let body = "client_addr = \"127.0.0.1 [::1]\" addresses { http = \"unix:///run/c.sock 10.0.0.1\" dns = \"127.0.0.2\" }";
    let addresses = agent(&["-dev"], body).addresses;
    let http: Vec<_> = addresses.http.iter().map(ToString::to_string).collect();
    assert_eq!(http, ["unix:///run/c.sock", "10.0.0.1:8500"]);
    assert_eq!(addresses.dns, [addr("127.0.0.2:8600")]);
}

#[test]
fn ports_below_one_disable() {
    let addresses = agent(&["-dev"], "ports { http = -1 dns = 0 serf_wan = -1 }").addresses;
    assert_eq!((addresses.http.len(), addresses.dns.len(), addresses.wan), (0, 0, None));
}

#[test]
fn detours_are_taken_unless_turned_off() {
    assert!(agent(&["-dev"], "").federation.detours);
    assert!(!agent(&["-dev"], "federation { detours = false }").federation.detours);
    assert!(agent(&["-dev"], "federation = { detours = true }").federation.detours);
}

#[test]
fn mirrors_are_kept_unless_turned_off_and_of_the_keys_that_are_named() {
    let federation = agent(&["-dev"], "").federation;
    assert!(federation.mirrors && federation.mirror_kv.is_empty());
    let body = "federation { mirrors = false mirror_kv = [\"b\", \"a/b\", \"a/\", \"b\"] max_stale = \"1h\" }";
    let federation = agent(&["-dev"], body).federation;
    assert!(!federation.mirrors);
    assert_eq!(federation.mirror_kv, ["a/", "b"]);
    assert_eq!(federation.max_stale.as_secs(), 3600);
    let body = "federation { mirror_kv = [\"/a\"] }";
    let refused = built(&["-dev"], &[("a.hcl", body)]).unwrap_err().to_string();
    assert!(refused.contains("do not start with a slash"), "{refused}");
}

#[test]
fn a_policy_of_failover_is_what_is_given_of_it() {
    use crate::failover::policy::{MinHealthy, Policy, Preference};
    let policy = |body: &str| agent(&["-dev"], &format!("failover {{ {body} }}")).failover;
    assert_eq!(agent(&["-dev"], "").failover, None);
    assert_eq!(policy("nearest = 2").unwrap().to, Preference::Nearest(2));
    assert_eq!(policy("min_healthy = 3").unwrap().min_healthy, MinHealthy::Instances(3));
    let whole = policy(
        "min_healthy = \"50%\" datacenters = [\"dc3\", \"dc2\", \"dc3\"] spill = true hold_down = \"5s\"",
    );
    let dcs = ["dc3", "dc2"].map(|dc| dc.parse().unwrap()).to_vec();
    let expected = Policy {
        min_healthy: MinHealthy::Percent(50),
        to: Preference::These(dcs),
        spill: true,
        hold_down: Duration::from_secs(5),
    };
    assert_eq!(whole, Some(expected));
    for (body, why) in [
        ("min_healthy = 0", "a number from 1 on"),
        ("min_healthy = \"120%\"", "a share such as"),
        ("nearest = 0", "a number from 1 on"),
        ("nearest = 1 datacenters = [\"dc2\"]", "not both"),
        ("datacenters = [\"dc 2\"]", "names of datacenters"),
    ] {
        let refused = built(&["-dev"], &[("a.hcl", &format!("failover {{ {body} }}"))]);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why), "{body}: {refused}");
    }
}

#[test]
fn the_wan_has_its_own_addresses() {
    let body = "bind_addr = \"0.0.0.0\" serf_wan = \"10.0.0.2\" advertise_addr_wan = \"1.2.3.4\"";
    let wan = agent(&["-dev"], body).addresses.wan.unwrap();
    assert_eq!((wan.bind, wan.advertise), (addr("10.0.0.2:8302"), addr("1.2.3.4:8302")));
}

#[test]
fn several_private_addresses_warn_and_none_is_an_error() {
    let several = Host {
        addresses: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
        ..host()
    };
    let loaded = build(&request(&["-data-dir=/d"]), &[], &several).unwrap();
    assert_eq!(loaded.agent.addresses.lan.advertise, addr("10.0.0.1:8301"));
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    let none = Host { addresses: vec![], ..host() };
    let error = build(&request(&["-data-dir=/d"]), &[], &none).unwrap_err();
    assert!(error.to_string().starts_with("No private IPv4 address found"), "{error}");
}

#[test]
fn certificates_of_an_interface_override_the_defaults() {
    let body = "ca_file = \"ca\" tls { defaults { cert_file = \"c\" key_file = \"k\" } internal_rpc { cert_file = \"c2\" } }";
    let tls = agent(&["-dev"], body).tls;
    let link = tls.link.unwrap();
    assert_eq!(link.cert_file.to_str(), Some("c2"));
    assert_eq!(link.key_file.to_str(), Some("k"));
    assert_eq!(link.ca.len(), 1);
    assert_eq!(tls.https.unwrap().cert_file.to_str(), Some("c"));
}

#[test]
fn secrets_are_never_shown() {
    let key = "cg8StVXbQJ0gPvMd9o7yrg==";
    let agent = agent(&["-dev", "-encrypt", key], "acl { tokens { agent = \"tokentoken\" } }");
    assert_eq!(agent.encrypt.as_ref().unwrap().bytes().len(), 16);
    let shown = agent.shown().to_string() + &format!("{agent:?}");
    assert!(!shown.contains(key) && !shown.contains("tokentoken") && shown.contains("hidden"));
}

#[test]
fn definitions_of_all_files_come_together() {
    let loaded = built(
        &["-dev"],
        &[
            (
                "a.hcl",
                r#"service { name = "a" check { ttl = "1s" } } service { name = "b" }
                   checks = [{ id = "c" name = "c" tcp = "x:1" interval = "5s" service_id = "d" }]"#,
            ),
            (
                "b.json",
                r#"{"service": {"name": "c"}, "services": [{"name": "d"}],
                    "check": {"name": "e", "ttl": "1m"}, "check_update_interval": "0s"}"#,
            ),
        ],
    );
    let agent = loaded.unwrap().agent;
    let names: Vec<_> = agent.definitions.services.iter().map(|it| &*it.service.name).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(agent.definitions.services[0].checks.len(), 1);
    assert_eq!(agent.definitions.checks.len(), 2);
    assert!(agent.checks.update_interval.is_zero());
}

#[test]
fn what_is_kept_of_outputs_and_whom_checks_believe_is_configured() {
    let checks = |text: &str| built(&["-dev"], &[("a.hcl", text)]).map(|it| it.agent.checks);
    let default = checks("").unwrap();
    assert_eq!((default.output_len_max, default.agent_tls), (4096, false));
    let set = checks("check_output_max_size = 100 enable_agent_tls_for_checks = true").unwrap();
    assert_eq!((set.output_len_max, set.agent_tls), (100, true));
    for wrong in [-1, 0, 1 << 20] {
        let error = checks(&format!("check_output_max_size = {wrong}")).unwrap_err().to_string();
        assert!(error.contains("check_output_max_size must be from 1 to 65536"), "{error}");
    }
}

#[test]
fn wrong_definitions_are_refused_with_file_and_name() {
    let error = |text: &str| built(&["-dev"], &[("a.hcl", text)]).unwrap_err().to_string();
    for (text, sentence) in [
        (r#"service { port = 1 }"#, "Missing service name"),
        (r#"service { name = "web" prot = 1 }"#, r#"json: unknown field "prot""#),
        (r#"check { name = "c" ttl = "1s" service_id = "x" }"#, r#"no service "x" is defined"#),
        (
            r#"check { name = "c" args = ["a"] interval = "1s" }"#,
            "to enable, configure enable_script_checks or enable_local_script_checks to true",
        ),
    ] {
        let found = error(text);
        assert!(found.contains(sentence), "{text}: {found}");
    }
    assert!(error(r#"service { name = "web" prot = 1 }"#).contains("a.hcl"));
    let allowed = r#"enable_local_script_checks = true
                     check { name = "c" args = ["a"] interval = "1s" }"#;
    assert!(built(&["-dev"], &[("a.hcl", allowed)]).is_ok());
}

#[test]
fn every_used_key_is_read() {
    let mut warnings = Vec::new();
    let settings = Settings::default();
    build::agent(&settings, &host(), false, &mut warnings).unwrap_err();
    let asked = settings.asked();
    for key in keys::all() {
        if key.fate == keys::Fate::Used && key.kind != keys::Kind::Block {
            assert!(asked.contains(key.path), "{} is used by nothing", key.path);
        }
    }
}

#[test]
fn every_key_takes_a_value_of_its_kind() {
    use serde_json::json;
    for key in keys::all() {
        let value = match key.kind {
            keys::Kind::Bool => json!(true),
            keys::Kind::Integer | keys::Kind::Port => json!(1),
            keys::Kind::Float => json!(1.5),
            keys::Kind::Text | keys::Kind::Secret => json!("x"),
            keys::Kind::Duration => json!("1s"),
            keys::Kind::Texts => json!(["x"]),
            keys::Kind::TextMap => json!({"x": "y"}),
            keys::Kind::Block => continue,
            keys::Kind::Raw => json!({}),
        };
        let checked = check::value(key, &value, "here");
        assert_eq!(checked.problems, [], "{}", key.path);
        assert_eq!(checked.settings.len(), 1, "{}", key.path);
        assert_eq!(
            checked.warnings.len(),
            usize::from(key.fate != keys::Fate::Used),
            "{}",
            key.path
        );
    }
}

#[test]
fn a_production_server_of_consul_starts() {
    let body = r#"
        # /etc/consul.d/consul.hcl
        datacenter = "east-aws"
        data_dir = "/opt/consul"
        log_level = "INFO"
        node_name = "foobar"
        server = true
        bootstrap_expect = 3
        encrypt = "qDOPBEr+/oUVeOFQOnVypxwDaHzLrD+lvjo5vCEBbZ0="
        bind_addr = "10.0.0.5"
        client_addr = "0.0.0.0"
        retry_join = ["10.0.0.6", "10.0.0.7:8301"]
        retry_join_wan = ["dc2.example.com"]
        tls {
          defaults {
            ca_file = "/etc/consul.d/ca.pem"
            cert_file = "/etc/consul.d/dc1-server-consul-0.pem"
            key_file = "/etc/consul.d/dc1-server-consul-0-key.pem"
            verify_incoming = true
            verify_outgoing = true
          }
          internal_rpc { verify_server_hostname = true }
        }
        performance { raft_multiplier = 1 }
        autopilot { cleanup_dead_servers = true last_contact_threshold = "200ms" }
        telemetry { prometheus_retention_time = "60s" disable_hostname = true }
        limits { http_max_conns_per_client = 500 }
        acl = { enabled = true, default_policy = "allow", tokens = { agent = "x" } }
        ui_config { enabled = true }
        connect { enabled = true }
        ports { grpc = 8502 https = 8501 }
    "#;
    let loaded = built(&[], &[("consul.hcl", body)]).unwrap();
    assert_eq!(loaded.agent.bootstrap_expect, 3);
    assert_eq!(loaded.agent.addresses.link.advertise, addr("10.0.0.5:8300"));
    assert_eq!(loaded.warnings.len(), 11, "{:#?}", loaded.warnings);
}

proptest! {
    #[test]
    fn building_never_panics(body in r#"[a-z_]{1,12} ?[={] ?("[a-z0-9]{0,5}"|[0-9]{1,5}|true|\[\]) ?\}?"#) {
        let _ = built(&["-dev"], &[("a.hcl", &body)]);
    }

    #[test]
    fn any_json_under_any_key_is_answered(index in 0..400usize, which in 0..7usize) {
        use serde_json::json;
        let value = [json!(null), json!(true), json!(-7), json!("x"), json!(["a", 1]), json!({"a": [{}]}), json!([{}])][which].clone();
        if let Some(key) = keys::all().nth(index) {
            let value = key.path.rsplit('.').fold(value, |inner, name| json!({ name: inner }));
            let _ = built(&["-dev"], &[("a.json", &value.to_string())]);
        }
    }
}
