//! One `causeway gateway` process.

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{binary, cluster::Cluster};

/// Bytes of a gateway's log that a failing test shows.
const LOG_TAIL: usize = 3_000;

/// A gateway before a datacenter of a cluster. It can be started again.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub addr: SocketAddr,
    words: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Gateway {
    /// Describes a gateway at a host; nothing runs yet.
    pub fn new(cluster: &Cluster, dc: &str, host: IpAddr) -> Self {
        let addr = SocketAddr::new(host, 8302);
        let servers = cluster.servers(dc).into_iter().map(|place| {
            let agent = &cluster.agents[place];
            format!("-server={}={}", agent.name, agent.host)
        });
        let words = [format!("-bind={addr}"), format!("-datacenter={dc}")];
        let log = cluster.dir().join(format!("gateway-{host}.log"));
        Self { addr, words: words.into_iter().chain(servers).collect(), log, child: None }
    }

    /// Starts the process.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the gateway {} runs already", self.addr);
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let child = Command::new(binary())
            .arg("gateway")
            .args(&self.words)
            .env("CAUSEWAY_PARENT_PIPE", "1")
            // The pipe closes when this process ends, however it ends.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the gateway starts"));
    }

    /// Kills the process (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone_already = child.kill();
            child.wait().expect("it is our child");
        }
    }

    /// Tells whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("ours").is_none())
    }

    /// Ends it as an operator does; returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("it runs");
        let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(killed.expect("there is kill").success());
        child.wait().expect("it is our child").code()
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.ceil_char_boundary(log.len().saturating_sub(LOG_TAIL));
            eprintln!("\n--- log of the gateway {}:\n{}", self.addr, &log[from..]);
        }
    }
}
