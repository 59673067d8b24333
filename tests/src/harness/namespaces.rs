//! Several hosts on this machine: network namespaces with cables (veth) to switches (bridges).
//!
//! ```text
//!  host 1   host 2      host 3   host 4        namespaces cw<pid>-1, cw<pid>-2, ...
//!    |lan     |lan        |lan     |lan        10.77.0.<number>: what agents say to each other
//!  == left ==== --trunk-- ==== right ==        in namespace cw<pid>-0; the trunk can be cut
//!    |desk    |desk       |desk    |desk       10.78.0.<number>: where agents answer
//!  ================ desk ================      10.78.0.254: the test, which reaches everyone
//! ```
//!
//! Everything is in namespaces of its own, switches included: the machine's own network stays as it
//! is. They are named for the process that made them and go when it drops them; what a process
//! that was killed left behind, the next one removes. Needs root and `ip` of iproute2.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    path::Path,
    process::{self, Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How names of namespaces begin; the number of the process follows.
const PREFIX: &str = "cw";

/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// The namespace of the switches and of the test.
const DESK: u8 = 0;

/// The number of the test's own address at the desk.
const DESK_HOST: u8 = 254;

/// Hosts, switches and cables, for as long as it lives.
#[derive(Debug)]
pub struct Namespaces {
    hosts: u8,
}

impl Namespaces {
    /// Makes hosts 1 to `hosts`, those of `left` on one side of the trunk and all others on the other.
    /// Says why when that can't be done here.
    pub fn make(hosts: u8, left: &BTreeSet<u8>) -> Result<Self, String> {
        remove_leftovers();
        // Removes what there is when the rest fails.
        let made = Self { hosts };
        for number in DESK..=hosts {
            ip(&["netns", "add", &name(number)])?;
        }
        let desk = name(DESK);
        let mut lines = vec![
            format!("link add left netns {desk} type bridge"),
            format!("link add right netns {desk} type bridge"),
            format!("link add desk netns {desk} type bridge"),
            format!("link add trunk netns {desk} type veth peer name knurt netns {desk}"),
        ];
        for number in 1..=hosts {
            let host = name(number);
            for (port, cable) in [("l", "lan"), ("d", "desk")] {
                let peer = format!("type veth peer name {cable} netns {host}");
                lines.push(format!("link add {port}{number} netns {desk} {peer}"));
            }
        }
        batch(None, &lines)?;
        let mut lines = vec![
            "link set trunk master left".to_owned(),
            "link set knurt master right".to_owned(),
            format!("addr add {}/24 dev desk", made.desk(DESK_HOST)),
        ];
        for number in 1..=hosts {
            let side = if left.contains(&number) { "left" } else { "right" };
            lines.push(format!("link set l{number} master {side} up"));
            lines.push(format!("link set d{number} master desk up"));
        }
        let up = ["lo", "left", "right", "desk", "trunk", "knurt"];
        lines.extend(up.map(|device| format!("link set {device} up")));
        batch(Some(DESK), &lines)?;
        for number in 1..=hosts {
            let (lan, desk) = (made.lan(number), made.desk(number));
            let mut lines =
                vec![format!("addr add {lan}/24 dev lan"), format!("addr add {desk}/24 dev desk")];
            lines.extend(["lo", "lan", "desk"].map(|device| format!("link set {device} up")));
            batch(Some(number), &lines)?;
        }
        Ok(made)
    }

    /// Returns the address of a host by which the others reach it.
    pub fn lan(&self, number: u8) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, number).into()
    }

    /// Returns the address of a host by which the test reaches it.
    pub fn desk(&self, number: u8) -> IpAddr {
        Ipv4Addr::new(10, 78, 0, number).into()
    }

    /// Cuts the trunk: nothing gets from one side to the other.
    pub fn cut(&self) {
        batch(Some(DESK), &["link set trunk down".to_owned()]).expect("the trunk is there");
    }

    /// Mends the trunk.
    pub fn heal(&self) {
        batch(Some(DESK), &["link set trunk up".to_owned()]).expect("the trunk is there");
    }

    /// Returns the namespace of a host.
    pub fn host(&self, number: u8) -> Namespace {
        assert!((1..=self.hosts).contains(&number), "there is no host {number}");
        Namespace(name(number))
    }

    /// Does something where the test reaches every host.
    pub fn at_desk<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        Namespace(name(DESK)).within(work)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for number in DESK..=self.hosts {
            // One that was not made yet is not there to be removed.
            let _gone = ip(&["netns", "delete", &name(number)]);
        }
    }
}

/// One namespace.
#[derive(Debug, Clone)]
pub struct Namespace(String);

impl Namespace {
    /// Does something on a thread in the namespace. Sockets that it opens, threads and processes that
    /// it starts belong there, too.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let namespace = File::open(Path::new(NAMES).join(&self.0)).expect("the namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter its namespaces");
            work()
        };
        let ended = thread::scope(|scope| scope.spawn(inside).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn name(number: u8) -> String {
    format!("{PREFIX}{}-{number}", process::id())
}

/// Removes the namespaces of processes that are no more.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(NAMES) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        let owner = owner.and_then(|(pid, _)| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another process may be removing it at the same time.
            let _gone = ip(&["netns", "delete", &name]);
        }
    }
}

/// Runs `ip`; says what it complains about.
fn ip(args: &[&str]) -> Result<(), String> {
    run(args, "")
}

/// Has `ip` run lines, in a namespace if one is given.
fn batch(within: Option<u8>, lines: &[String]) -> Result<(), String> {
    let name = within.map(name);
    let mut args: Vec<&str> = name.iter().flat_map(|name| ["-netns", name.as_str()]).collect();
    args.extend(["-batch", "-"]);
    run(&args, &lines.join("\n"))
}

fn run(args: &[&str], input: &str) -> Result<(), String> {
    let said = |error| format!("ip {}: {error}", args.join(" "));
    let mut child = Command::new("ip")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| said(error.to_string()))?;
    let mut pipe = child.stdin.take().expect("a pipe");
    // One that has ended early says why itself.
    let _read = pipe.write_all(input.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().map_err(|error| said(error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(said(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
