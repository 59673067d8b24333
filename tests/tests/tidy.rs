//! The invariants of docs/ARCHITECTURE.md that a test can check by reading the repository:
//! who may name which crate, what lies where, how long files and functions are.
//!
//! A failure lists every place with what to do about it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stands")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::source::Source;

/// Longest file, in lines, tests not counted.
const FILE_LINES_MAX: usize = 500;

/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;

/// The crates, each with those of this workspace that it may know.
const CRATES: [(&str, &[&str]); 6] = [
    ("topology", &[]),
    ("certs", &["topology"]),
    ("lan-agent", &["topology", "certs"]),
    ("wan-federation", &["topology", "certs"]),
    ("dc-server", &["topology", "certs", "lan-agent", "wan-federation"]),
    ("tests", &["topology", "certs", "lan-agent", "wan-federation", "dc-server"]),
];

/// External crates that only some may name, with the reason.
const KEEPERS: [(&[&str], &[&str], &str); 4] = [
    (
        &["quinn", "quinn-proto", "rustls", "tokio-rustls", "rcgen"],
        &["certs"],
        "who may speak, and over what, is decided in certs alone: use certs::link, certs::store or certs::ca",
    ),
    (
        &["openraft", "openraft-rt", "openraft-rt-tokio", "raft-log"],
        &["dc-server", "tests"],
        "its versions break each other: only dc-server::raft wraps it",
    ),
    (&["foca"], &["topology"], "membership is topology::gossip's: use its Engine"),
    (
        &["ring", "openssl", "native-tls", "lazy_static", "once_cell"],
        &[],
        "one TLS provider (aws-lc-rs) and no globals: pass it in a Config",
    ),
];

/// What topology must not name: it is a function of values.
const IMPURE: [&str; 12] = [
    "tokio",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "ToSocketAddrs",
    "Instant",
    "SystemTime",
    "File",
    "thread",
    "env",
    "thread_rng",
    "process",
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["utils", "util", "common", "helpers", "helper", "misc", "types", "manager", "mod"];

/// Files that may lie at the top.
const TOP_FILES: [&str; 9] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").into()
}

/// Whether git ignores it: what builds and drills leave behind.
fn is_left_behind(name: &str) -> bool {
    name == ".git" || name == "reports" || name.starts_with("target")
}

/// Lists all files below the root, as paths from there.
fn files() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            match (is_left_behind(&name), path.is_dir()) {
                (true, _) => {}
                (false, true) => open.push(path),
                (false, false) => {
                    let below = path.strip_prefix(&root).expect("it lies below the root");
                    found.push(below.to_string_lossy().into_owned());
                }
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let paths = files().into_iter().filter(|path| path.ends_with(".rs"));
    paths.map(|path| Source::read(&root(), &path).expect("readable source")).collect()
}

fn crate_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n\n  {}\n", complaints.join("\n  "));
}

/// The names in all dependency tables of a crate's Cargo.toml.
fn dependencies(name: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a Cargo.toml");
    let manifest: toml::Table = text.parse().expect("Cargo.toml is TOML");
    let mut tables = vec![&manifest];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(targets.into_iter().flat_map(|t| t.values()).filter_map(toml::Value::as_table));
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = table.get(kind).and_then(toml::Value::as_table);
            found.extend(names.into_iter().flat_map(|names| names.keys().cloned()));
        }
    }
    found
}

/// Places in code that name an external crate: `quinn::`, `use quinn`.
fn names_crate(source: &Source, name: &str) -> Vec<usize> {
    let ident = name.replace('-', "_");
    let places = source.places(&ident).into_iter().filter(|place| {
        let before = source.code[..*place].trim_end();
        let after = source.code[place + ident.len()..].trim_start();
        let local = before.ends_with("::") || before.ends_with('.');
        !local && (after.starts_with("::") || before.ends_with("use"))
    });
    places.map(|place| source.line(place)).collect()
}

#[test]
fn crates_know_only_those_below_them() {
    let mut complaints = Vec::new();
    for (name, may_know) in CRATES {
        let deps = dependencies(name);
        for (other, _) in CRATES {
            if other == name || may_know.contains(&other) {
                continue;
            }
            if deps.iter().any(|dep| dep == other) {
                complaints.push(format!(
                    "{name}/Cargo.toml: {name} can't depend on {other}: move what they share to a crate below both"
                ));
            }
        }
    }
    none(complaints);
}

#[test]
fn external_crates_are_named_only_by_their_keepers() {
    let sources = sources();
    let mut complaints = Vec::new();
    for (names, keepers, reason) in KEEPERS {
        for (home, _) in CRATES.iter().filter(|(home, _)| !keepers.contains(home)) {
            for dep in dependencies(home).iter().filter(|dep| names.contains(&dep.as_str())) {
                complaints.push(format!("{home}/Cargo.toml: remove {dep}: {reason}"));
            }
        }
        for source in sources.iter().filter(|source| !keepers.contains(&crate_of(&source.path))) {
            for name in names {
                for line in names_crate(source, name) {
                    complaints.push(format!("{}:{line}: names {name}: {reason}", source.path));
                }
            }
        }
    }
    none(complaints);
}

#[test]
fn topology_is_pure() {
    let mut complaints = Vec::new();
    for dep in dependencies("topology") {
        if ["tokio", "socket2", "mio", "hyper", "axum", "async-std"].contains(&dep.as_str()) {
            complaints.push(format!("topology/Cargo.toml: remove {dep}: topology drives nothing"));
        }
    }
    for source in sources().iter().filter(|source| source.path.starts_with("topology/src/")) {
        for word in IMPURE {
            let tests = source.test_items();
            for place in source.places(word) {
                if !tests.iter().any(|item| item.contains(&place)) {
                    complaints.push(format!(
                        "{}:{}: names {word}: topology reads no clock, socket, file or environment; take the value as an argument",
                        source.path,
                        source.line(place),
                    ));
                }
            }
        }
    }
    none(complaints);
}

#[test]
fn wan_federation_has_no_means_to_decode_a_payload() {
    let deps = dependencies("wan-federation");
    let decoders = ["serde_json", "lan-agent", "dc-server"];
    let found = deps.iter().filter(|dep| decoders.contains(&dep.as_str()));
    none(
        found
            .map(|dep| format!("wan-federation/Cargo.toml: remove {dep}: payloads stay closed"))
            .collect(),
    );
}

#[test]
fn nothing_new_lies_at_the_top() {
    let dirs: Vec<&str> = CRATES.iter().map(|(name, _)| *name).chain(["docs"]).collect();
    let mut complaints = Vec::new();
    for entry in fs::read_dir(root()).expect("a readable root") {
        let entry = entry.expect("a readable entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_left_behind(&name) || name.starts_with('.') {
            continue;
        }
        let known = match entry.path().is_dir() {
            true => dirs.contains(&name.as_str()),
            false => TOP_FILES.contains(&name.as_str()),
        };
        if !known {
            complaints.push(format!(
                "{name}: the top stays small: put it in a crate, in docs/ or in a dotfile, or add it to tests/tests/tidy.rs and docs/ARCHITECTURE.md"
            ));
        }
    }
    none(complaints);
}

#[test]
fn names_of_files_say_what_is_inside() {
    let mut complaints = Vec::new();
    for path in files().iter().filter(|path| path.ends_with(".rs")) {
        let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
        if parts.last() == Some(&"mod") {
            complaints.push(format!("{path}: write it as a file beside the directory, not mod.rs"));
        } else if let Some(part) = parts.iter().find(|part| EMPTY_NAMES.contains(part)) {
            complaints.push(format!("{path}: {part:?} says nothing: name it for what is inside"));
        }
        if let [.., parent, name] = parts.as_slice()
            && parent == name
            && *name != "tests"
        {
            complaints.push(format!("{path}: put it into {parent}.rs beside the directory"));
        }
    }
    none(complaints);
}

#[test]
fn files_and_functions_are_short() {
    let mut complaints = Vec::new();
    for source in sources() {
        let lines = source.lines_without_tests();
        if lines > FILE_LINES_MAX && !source.path.ends_with("/tests.rs") {
            complaints.push(format!(
                "{}: {lines} lines without tests, {FILE_LINES_MAX} is the wall: split it by ideas",
                source.path
            ));
        }
        for function in source.functions() {
            if function.lines.len() > FUNCTION_LINES_MAX {
                complaints.push(format!(
                    "{}:{}: fn {} has {} lines, {FUNCTION_LINES_MAX} is the wall: ifs go up, fors go down",
                    source.path,
                    function.lines.start,
                    function.name,
                    function.lines.len(),
                ));
            }
        }
    }
    none(complaints);
}

#[test]
fn every_file_opens_with_what_it_is() {
    let bare = sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    none(
        bare.map(|source| format!("{}: open it with `//!`: the model in 3-15 lines", source.path))
            .collect(),
    );
}

#[test]
fn nothing_is_left_undone() {
    let mut complaints = Vec::new();
    for source in sources() {
        let mut complain = |place: usize, what: String| {
            complaints.push(format!("{}:{}: {what}", source.path, source.line(place)));
        };
        for name in ["todo", "unimplemented", "dbg"] {
            let places = source.places(name).into_iter();
            let calls = places.filter(|place| source.code[place + name.len()..].starts_with('!'));
            calls.for_each(|place| complain(place, format!("{name}!: write it now")));
        }
        for (place, _) in source.code.match_indices("#[ignore") {
            complain(place, "an ignored test: find the race and fix it".to_owned());
        }
        for word in ["TODO", "FIXME", "XXX", "HACK"] {
            let notes = source.comments.match_indices(word);
            notes.for_each(|(place, _)| complain(place, format!("{word}: do it or file an issue")));
        }
    }
    none(complaints);
}

#[test]
fn no_key_and_no_certificate_is_committed() {
    let mut complaints = Vec::new();
    for path in files() {
        let text = fs::read(root().join(&path)).expect("a readable file");
        let text = String::from_utf8_lossy(&text);
        // A block has a line of base64 after its head; a head alone is how code speaks of one.
        let blocks = text.lines().zip(text.lines().skip(1)).filter(|(head, body)| {
            let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
            head.trim().starts_with("-----BEGIN ") && body.len() > 40 && body.chars().all(base64)
        });
        complaints.extend(blocks.map(|(head, _)| {
            format!("{path}: holds {head:?}: make it at run time with certs::ca")
        }));
    }
    none(complaints);
}

#[test]
fn no_package_registry_is_named() {
    let mut complaints = Vec::new();
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("a Cargo.lock");
    let index = concat!("registry+https://github.com/rust-lang/crates", ".io-index");
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        if line.trim_start_matches("source = ").trim_matches('"') != index {
            complaints.push(format!("Cargo.lock: {line}: use released versions of public crates"));
        }
    }
    let hosts = ["index.crates", "static.crates", "[source.", "replace-with", "proxy.golang"];
    for path in files().iter().filter(|path| *path != "Cargo.lock") {
        let text = fs::read(root().join(path)).expect("a readable file");
        let text = String::from_utf8_lossy(&text);
        for host in hosts.iter().filter(|host| text.contains(**host)) {
            if path != "tests/tests/tidy.rs" {
                complaints.push(format!(
                    "{path}: names {host:?}: where packages come from is the builder's affair"
                ));
            }
        }
    }
    none(complaints);
}

#[test]
fn the_architecture_lists_every_crate() {
    let path = root().join("docs/ARCHITECTURE.md");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let missing = CRATES.iter().filter(|(name, _)| !text.contains(&format!("| `{name}` |")));
    none(
        missing
            .map(|(name, _)| {
                format!("docs/ARCHITECTURE.md: say in the table what `{name}` is and never does")
            })
            .collect(),
    );
}
