//! The whole command line, against a fake agent that answers what it is told to.

mod config;
mod failover;
mod federation;
mod rtt;
mod running;
mod services;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use expect_test::{Expect, expect};

use super::*;

/// What a command line came to.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn start(program: &str, words: &[&str], env: &[(&str, &str)]) -> Start {
    let pairs = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Start {
        program: program.to_owned(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        env: pairs.collect(),
        ..Start::default()
    }
}

/// Returns the number of an exit code, which only its `Debug` form shows.
fn number(code: ExitCode) -> u8 {
    (0..=u8::MAX).find(|n| format!("{:?}", ExitCode::from(*n)) == format!("{code:?}")).unwrap()
}

fn ran(words: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let io = Io { input: &mut input.as_bytes(), out: &mut out, err: &mut err };
    let code = number(execute(&start("causeway", words, env), io));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code, out: text(out), err: text(err) }
}

/// An agent that gives these answers, one after the other, and keeps what it was asked.
fn agent(answers: &[(u16, &str)]) -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answers: Vec<(u16, String)> = answers.iter().map(|(c, b)| (*c, (*b).to_owned())).collect();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        answers.iter().map(|answer| serve(&mut stream, answer)).collect()
    });
    (addr, served)
}

/// Reads one request, answers it, and returns its first line, its token and its body.
fn serve(stream: &mut std::net::TcpStream, (status, body): &(u16, String)) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix(name).map(|v| v.trim().to_owned())
        })
    };
    let len = header("content-length:").map_or(0, |len| len.parse().unwrap());
    let mut content = vec![0; len];
    stream.read_exact(&mut content).unwrap();
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let token = header("x-consul-token:").map_or(String::new(), |token| format!(" [{token}]"));
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
    format!("{line}{token} {}", String::from_utf8(content).unwrap()).trim_end().to_owned()
}

/// Runs a command against an agent and shows requests, output and exit code.
fn shows(words: &[&str], answers: &[(u16, &str)], input: &str, expected: Expect) {
    let (addr, served) = agent(answers);
    let ran = ran(words, &[("CONSUL_HTTP_ADDR", &addr.to_string())], input);
    let mut text = served.join().unwrap().iter().map(|r| format!("> {r}\n")).collect::<String>();
    text.push_str(&ran.out);
    text.push_str(&ran.err.lines().map(|line| format!("! {line}\n")).collect::<String>());
    text.push_str(&format!("= {}", ran.code));
    expected.assert_eq(&text.replace(&addr.to_string(), "ADDR"));
}

/// Runs a command that speaks to nobody.
fn says(words: &[&str], expected: Expect) {
    let ran = ran(words, &[], "");
    let err: String = ran.err.lines().map(|line| format!("! {line}\n")).collect();
    expected.assert_eq(&format!("{}{err}= {}", ran.out, ran.code));
}

const PAIR: &str = r#"[{"LockIndex":0,"Key":"a/b","Flags":7,"Value":"aGVsbG8=","CreateIndex":13,"ModifyIndex":14}]"#;
const TWO: &str = r#"[{"LockIndex":0,"Key":"a","Flags":0,"Value":null,"CreateIndex":1,"ModifyIndex":2},
    {"LockIndex":1,"Key":"b","Flags":0,"Value":"eA==","Session":"s","CreateIndex":3,"ModifyIndex":4}]"#;
const MEMBERS: &str = r#"[
    {"Name":"n2","Addr":"10.0.0.2","Port":8301,"Status":4,"Tags":{"role":"node","dc":"dc1","build":"1.8.7:abc","vsn":"2"}},
    {"Name":"n1","Addr":"fd00::1","Port":8301,"Status":1,"Tags":{"role":"consul","dc":"dc1","build":"0.1.0:","vsn":"2"}}]"#;

#[test]
fn kv_get_writes_the_value() {
    shows(
        &["kv", "get", "a/b"],
        &[(200, PAIR)],
        "",
        expect![[r#"
        > GET /v1/kv/a/b
        hello
        = 0"#]],
    );
    shows(
        &["kv", "get", "-base64", "/a/b"],
        &[(200, PAIR)],
        "",
        expect![[r#"
        > GET /v1/kv/a/b
        aGVsbG8=
        = 0"#]],
    );
}

#[test]
fn kv_get_shows_details() {
    shows(
        &["kv", "get", "-recurse", "-detailed"],
        &[(200, TWO)],
        "",
        expect![[r#"
        > GET /v1/kv/?recurse
        CreateIndex      1
        Flags            0
        Key              a
        LockIndex        0
        ModifyIndex      2
        Session          -
        Value

        CreateIndex      3
        Flags            0
        Key              b
        LockIndex        1
        ModifyIndex      4
        Session          s
        Value            x
        = 0"#]],
    );
}

#[test]
fn kv_get_walks_a_tree() {
    shows(
        &["kv", "get", "-recurse", "-stale", "-datacenter=dc2", "x y"],
        &[(200, TWO)],
        "",
        expect![[r#"
        > GET /v1/kv/x%20y?dc=dc2&stale&recurse
        a:
        b:x
        = 0"#]],
    );
    shows(
        &["kv", "get", "-recurse", "none"],
        &[(404, "")],
        "",
        expect![[r#"
        > GET /v1/kv/none?recurse
        = 0"#]],
    );
    shows(
        &["kv", "get", "-keys"],
        &[(200, r#"["a/","b"]"#)],
        "",
        expect![[r#"
        > GET /v1/kv/?keys&separator=%2F
        a/
        b
        = 0"#]],
    );
}

#[test]
fn kv_get_says_what_is_missing() {
    shows(
        &["kv", "get", "none"],
        &[(404, "")],
        "",
        expect![[r#"
        > GET /v1/kv/none
        ! Error! No key exists at: none
        = 1"#]],
    );
    shows(
        &["kv", "get", "-datacenter", "dc9", "a"],
        &[(500, "No path to datacenter\n")],
        "",
        expect![[r#"
        > GET /v1/kv/a?dc=dc9
        ! Error querying Consul agent: Unexpected response code: 500 (No path to datacenter)
        = 1"#]],
    );
    says(
        &["kv", "get"],
        expect![[r#"
        ! Error! Missing KEY argument
        = 1"#]],
    );
    says(
        &["kv", "get", "a", "b"],
        expect![[r#"
        ! Too many arguments (expected 1, got 2)
        = 1"#]],
    );
}

#[test]
fn kv_get_gives_scripts_json() {
    shows(
        &["kv", "get", "-format=json", "a/b"],
        &[(
            200,
            r#"[{"LockIndex":0,"Key":"a","Flags":0,"Value":null,"CreateIndex":1,"ModifyIndex":1}]"#,
        )],
        "",
        expect![[r#"
        > GET /v1/kv/a/b
        [
          {
            "LockIndex": 0,
            "Key": "a",
            "Flags": 0,
            "Value": null,
            "CreateIndex": 1,
            "ModifyIndex": 1
          }
        ]
        = 0"#]],
    );
}

#[test]
fn kv_put_writes_what_it_is_given() {
    shows(
        &["kv", "put", "-token=t", "-flags=7", "a/b", "5"],
        &[(200, "true")],
        "",
        expect![[r#"
        > PUT /v1/kv/a/b?flags=7 [t] 5
        Success! Data written to: a/b
        = 0"#]],
    );
    shows(
        &["kv", "put", "a", "-"],
        &[(200, "true\n")],
        "stdin",
        expect![[r#"
        > PUT /v1/kv/a stdin
        Success! Data written to: a
        = 0"#]],
    );
    shows(
        &["kv", "put", "-base64", "a", "aGVsbG8="],
        &[(200, "true")],
        "",
        expect![[r#"
        > PUT /v1/kv/a hello
        Success! Data written to: a
        = 0"#]],
    );
    shows(
        &["kv", "put", "a"],
        &[(200, "true")],
        "",
        expect![[r#"
        > PUT /v1/kv/a
        Success! Data written to: a
        = 0"#]],
    );
}

#[test]
fn kv_put_says_when_it_did_not_write() {
    shows(
        &["kv", "put", "-cas", "-modify-index=3", "a", "z"],
        &[(200, "false")],
        "",
        expect![[r#"
        > PUT /v1/kv/a?cas=3 z
        ! Error! Did not write to a: CAS failed
        = 1"#]],
    );
    shows(
        &["kv", "put", "", "z"],
        &[(400, "Missing key name")],
        "",
        expect![[r#"
        > PUT /v1/kv/ z
        ! Error! Failed writing data: Unexpected response code: 400 (Missing key name)
        = 1"#]],
    );
    for (words, error) in [
        (vec!["kv", "put"], "Error! Missing KEY argument"),
        (vec!["kv", "put", "a", "b", "c"], "Error! Too many arguments (expected 1 or 2, got 3)"),
        (
            vec!["kv", "put", "/a", "b"],
            "Error! Failed writing data: Invalid key. Key must not begin with a '/': /a",
        ),
        (vec!["kv", "put", "-cas", "a"], "Must specify -modify-index with -cas!"),
        (
            vec!["kv", "put", "-acquire", "a"],
            "Error! Missing -session (required with -acquire and -release)",
        ),
        (vec!["kv", "put", "-flags=-1", "a"], "invalid value \"-1\" for flag -flags: parse error"),
        (
            vec!["kv", "put", "a", "@/nowhere"],
            "Error! Failed to read file: open /nowhere: no such file or directory",
        ),
    ] {
        let ran = ran(&words, &[], "");
        assert_eq!((ran.code, ran.err.trim_end()), (1, error));
    }
}

#[test]
fn kv_delete_removes_keys_and_trees() {
    shows(
        &["kv", "delete", "/a"],
        &[(200, "true")],
        "",
        expect![[r#"
        > DELETE /v1/kv/a
        Success! Deleted key: a
        = 0"#]],
    );
    shows(
        &["kv", "delete", "-recurse"],
        &[(200, "true")],
        "",
        expect![[r#"
        > DELETE /v1/kv/?recurse
        Success! Deleted keys with prefix: 
        = 0"#]],
    );
    shows(
        &["kv", "delete", "-cas", "-modify-index", "1", "a"],
        &[(200, "false")],
        "",
        expect![[r#"
        > DELETE /v1/kv/a?cas=1
        ! Error! Did not delete key a: CAS failed
        = 1"#]],
    );
}

#[test]
fn an_exported_tree_can_be_imported() {
    shows(
        &["kv", "export", "a"],
        &[(200, TWO)],
        "",
        expect![[r#"
        > GET /v1/kv/a?recurse
        [
        	{
        		"key": "a",
        		"flags": 0,
        		"value": ""
        	},
        	{
        		"key": "b",
        		"flags": 0,
        		"value": "eA=="
        	}
        ]
        = 0"#]],
    );
    shows(
        &["kv", "export", "none"],
        &[(404, "")],
        "",
        expect![[r#"
        > GET /v1/kv/none?recurse
        []
        = 0"#]],
    );
    let tree = r#"[{"key":"a","flags":0,"value":""},{"key":"b c","flags":5,"value":"eA=="}]"#;
    shows(
        &["kv", "import", "-"],
        &[(200, "true"), (200, "true")],
        tree,
        expect![[r#"
        > PUT /v1/kv/a
        > PUT /v1/kv/b%20c?flags=5 x
        Imported: a
        Imported: b c
        = 0"#]],
    );
}

#[test]
fn members_are_a_table() {
    shows(
        &["members"],
        &[(200, MEMBERS)],
        "",
        expect![[r#"
        > GET /v1/agent/members
        Node  Address         Status  Type    Build  Protocol  DC   Segment
        n1    [fd00::1]:8301  alive   server  0.1.0  2         dc1  <all>
        n2    10.0.0.2:8301   failed  client  1.8.7  2         dc1  <default>
        = 0"#]],
    );
    shows(
        &["members", "-wan", "-detailed", "-status=fail.*"],
        &[(200, MEMBERS)],
        "",
        expect![[r#"
        > GET /v1/agent/members?wan=1
        Node  Address        Status  Tags
        n2    10.0.0.2:8301  failed  build=1.8.7:abc,dc=dc1,role=node,vsn=2
        = 0"#]],
    );
}

#[test]
fn members_without_any_are_exit_code_two() {
    shows(
        &["members", "-status=left"],
        &[(200, MEMBERS)],
        "",
        expect![[r#"
        > GET /v1/agent/members
        = 2"#]],
    );
}

#[test]
fn joining_needs_one_success() {
    shows(
        &["join", "a:1", "b"],
        &[(500, "refused"), (200, "")],
        "",
        expect![[r#"
        > PUT /v1/agent/join/a:1
        > PUT /v1/agent/join/b
        Successfully joined cluster by contacting 1 nodes.
        ! Error joining address 'a:1': Unexpected response code: 500 (refused)
        = 0"#]],
    );
    shows(
        &["join", "-wan", "a"],
        &[(500, "refused")],
        "",
        expect![[r#"
        > PUT /v1/agent/join/a?wan=1
        ! Error joining address 'a': Unexpected response code: 500 (refused)
        ! Failed to join any nodes.
        = 1"#]],
    );
}

#[test]
fn leaving_is_short() {
    shows(
        &["leave"],
        &[(200, "")],
        "",
        expect![[r#"
        > PUT /v1/agent/leave
        Graceful leave complete
        = 0"#]],
    );
    shows(
        &["force-leave", "-prune", "n1"],
        &[(200, "")],
        "",
        expect![[r#"
        > PUT /v1/agent/force-leave/n1?prune=1
        = 0"#]],
    );
    let ran = ran(&["force-leave"], &[], "");
    assert!(ran.err.starts_with("A single node name must be specified to force leave.\n\nUsage: "));
    assert_eq!(ran.code, 1);
}

#[test]
fn info_is_sorted_by_part() {
    let own = r#"{"Stats":{"raft":{"term":"2","state":"Leader"},"agent":{"checks":0}}}"#;
    shows(
        &["info"],
        &[(200, own)],
        "",
        expect![[r#"
        > GET /v1/agent/self
        agent:
        	checks = 0
        raft:
        	state = Leader
        	term = 2
        = 0"#]],
    );
}

#[test]
fn peers_are_a_table() {
    let peers = r#"{"Servers":[{"ID":"9cfe","Node":"n1","Address":"127.0.0.1:8300","Leader":true,"Voter":true,"ProtocolVersion":"3"},
        {"ID":"a","Node":"n2","Address":"127.0.0.2:8300","Leader":false,"Voter":false,"ProtocolVersion":""}],"Index":0}"#;
    shows(
        &["operator", "raft", "list-peers"],
        &[(200, peers)],
        "",
        expect![[r#"
        > GET /v1/operator/raft/configuration
        Node  ID    Address         State     Voter  RaftProtocol
        n1    9cfe  127.0.0.1:8300  leader    true   3
        n2    a     127.0.0.2:8300  follower  false  <=1
        = 0"#]],
    );
}

#[test]
fn nobody_there_is_an_error_that_says_who_was_asked() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = ran(&["members", "-http-addr", &free.to_string()], &[], "");
    let expected = format!(
        "Error retrieving members: Get \"http://{free}/v1/agent/members\": dial tcp {free}: connect: connection refused\n"
    );
    assert_eq!((ran.code, ran.err), (1, expected));
}

#[test]
fn keys_are_random_and_of_32_bytes() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let key = || STANDARD.decode(ran(&["keygen"], &[], "").out.trim_end()).unwrap();
    assert_eq!(key().len(), 32);
    assert_ne!(key(), key());
}

fn made_in(dir: &Path, words: &[&str]) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let io = Io { input: &mut "".as_bytes(), out: &mut out, err: &mut err };
    let start = Start { dir: dir.to_owned(), ..start("causeway", words, &[]) };
    let code = number(execute(&start, io));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code, out: text(out), err: text(err) }
}

#[test]
fn certificates_are_made_numbered_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let made = made_in(dir.path(), &["tls", "ca", "create"]);
    assert_eq!(made.out, "==> Saved consul-agent-ca.pem\n==> Saved consul-agent-ca-key.pem\n");
    let again = made_in(dir.path(), &["tls", "ca", "create"]);
    assert_eq!((again.code, again.err.as_str()), (1, "consul-agent-ca.pem already exists.\n"));
    for number in 0..2 {
        let made =
            made_in(dir.path(), &["tls", "cert", "create", "-server", "-dc=dc2", "-node=n1"]);
        let last = format!("==> Saved dc2-server-consul-{number}-key.pem\n");
        assert!(made.out.starts_with("==> WARNING: ") && made.out.ends_with(&last), "{}", made.out);
    }
    for (kind, name) in [("-client", "dc1-client-consul-0"), ("-cli", "dc1-cli-consul-0")] {
        let made = made_in(dir.path(), &["tls", "cert", "create", kind]);
        let expected = format!(
            "==> Using consul-agent-ca.pem and consul-agent-ca-key.pem\n==> Saved {name}.pem\n==> Saved {name}-key.pem\n"
        );
        assert_eq!((made.code, made.out), (0, expected));
    }
}

#[test]
fn certificates_say_whom_they_are_for() {
    use certs::identity::{Domains, Identity};
    let dir = tempfile::tempdir().unwrap();
    made_in(dir.path(), &["tls", "ca", "create"]);
    made_in(dir.path(), &["tls", "cert", "create", "-server", "-dc=dc2", "-node=n1"]);
    made_in(dir.path(), &["tls", "cert", "create", "-cli"]);
    let holder = |file: &str| {
        let pem = std::fs::read_to_string(dir.path().join(file)).unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64);
        Identity::from_certificate(&der.unwrap(), &Domains::new(None))
    };
    let server = holder("dc2-server-consul-0.pem").unwrap();
    assert_eq!(server.dns("consul"), "server.dc2.consul");
    assert_eq!(server.node.unwrap().as_str(), "n1");
    assert!(holder("dc1-cli-consul-0.pem").is_err());
}

#[test]
fn a_constrained_authority_makes_certificates_below_its_names_only() {
    let dir = tempfile::tempdir().unwrap();
    let constrained = ["tls", "ca", "create", "-name-constraint", "-domain=corp"];
    let further = ["-additional-name-constraint=example.com"];
    let made = made_in(dir.path(), &[&constrained[..], &further].concat());
    assert_eq!(made.out, "==> Saved corp-agent-ca.pem\n==> Saved corp-agent-ca-key.pem\n");
    let issue = |name: &str| {
        let name = format!("-additional-dnsname={name}");
        made_in(dir.path(), &["tls", "cert", "create", "-client", "-domain=corp", &name])
    };
    assert_eq!(issue("ui.example.com").code, 0);
    let refused = issue("ui.example.org");
    let error = "the authority may not issue certificates for \"ui.example.org\", only for example.com, corp, localhost and what is below\n";
    assert_eq!((refused.code, refused.err.as_str()), (1, error));
}

#[test]
fn certificates_need_a_kind_and_an_authority() {
    let dir = tempfile::tempdir().unwrap();
    for (words, error) in [
        (vec!["tls", "cert", "create"], "Please provide either -server, -client, or -cli"),
        (
            vec!["tls", "cert", "create", "-server", "-cli"],
            "Please provide either -server, -client, or -cli",
        ),
        (
            vec!["tls", "cert", "create", "-server"],
            "Error reading CA: open consul-agent-ca.pem: no such file or directory",
        ),
        (
            vec!["tls", "ca", "create", "-additional-name-constraint=x"],
            "-additional-name-constraint has no effect without -name-constraint",
        ),
        (
            vec!["tls", "ca", "create", "-name-constraint", "-additional-name-constraint=*"],
            "can't constrain an authority to \"*\": it is not a DNS name",
        ),
        (
            vec!["tls", "cert", "create", "-client", "-additional-ipaddress=x"],
            "Invalid IP address: \"x\"",
        ),
    ] {
        let ran = made_in(dir.path(), &words);
        assert_eq!((ran.code, ran.err.trim_end()), (1, error));
    }
}

#[test]
fn validate_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.hcl");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "data_dir = \"/d\" bind_addr = \"127.0.0.1\"").unwrap();
    says(
        &["validate", path],
        expect![[r#"
        Configuration is valid!
        = 0"#]],
    );
    says(&["validate", "-quiet", path], expect!["= 0"]);
    std::fs::write(&file, "data_dri = \"/d\"").unwrap();
    let ran = ran(&["validate", path], &[], "");
    let expected = format!(
        "Config validation failed: {path}:1:1: invalid config key data_dri, did you mean data_dir?\n"
    );
    assert_eq!((ran.code, ran.err), (1, expected));
    says(
        &["validate"],
        expect![[r#"
        ! Must specify at least one config file or directory
        = 1"#]],
    );
}

#[test]
fn help_goes_out_when_asked_for_and_to_errors_when_not() {
    let asked = ran(&["kv", "put", "-h"], &[], "");
    assert_eq!((asked.code, asked.err.as_str()), (0, ""));
    assert!(
        asked.out.starts_with("Usage: causeway kv put [options] KEY [DATA]\n\n  Writes a value"),
        "{}",
        asked.out
    );
    let wrong = ran(&["kv", "put", "-sepa"], &[], "");
    assert_eq!((wrong.code, wrong.out.as_str()), (1, ""));
    assert!(wrong.err.starts_with("flag provided but not defined: -sepa"), "{}", wrong.err);
    let group = ran(&["kv"], &[], "");
    assert_eq!(group.code, 1);
    assert!(group.err.contains("\n    put          Writes a value\n"), "{}", group.err);
    assert_eq!(ran(&["kv", "-h"], &[], "").code, 0);
}

#[test]
fn commands_that_do_not_exist_are_exit_code_127() {
    let ran = ran(&["memebrs"], &[], "");
    assert_eq!(ran.code, 127);
    assert!(
        ran.err.starts_with("causeway has no command \"memebrs\", did you mean members?\n"),
        "{}",
        ran.err
    );
    let nothing = start("causeway", &[], &[]);
    let io = Io { input: &mut "".as_bytes(), out: &mut Vec::new(), err: &mut Vec::new() };
    assert_eq!(number(execute(&nothing, io)), 127);
}

#[test]
fn the_program_goes_by_the_name_it_was_called_by() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let io = Io { input: &mut "".as_bytes(), out: &mut out, err: &mut err };
    assert_eq!(number(execute(&start("consul", &["keygen", "-h"], &[]), io)), 0);
    assert!(String::from_utf8(out).unwrap().starts_with("Usage: consul keygen"));
}

#[test]
fn every_help_fits_a_terminal() {
    for command in COMMANDS.iter().filter(|command| matches!(command.run, Run::Call(_))) {
        for line in help_of(command, "causeway").lines() {
            assert!(line.chars().count() <= 90, "{}: {line}", command.name);
            assert_eq!(line, line.trim_end(), "{}", command.name);
        }
    }
}
