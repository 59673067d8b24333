//! One `causeway agent` process.

use std::{
    fs::{self, File},
    io::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{binary, client::Client, namespaces::Namespace, until};

/// How long an agent may take until its HTTP address answers.
pub const START_MAX: Duration = Duration::from_secs(20);

/// Bytes of an agent's log that a failing test shows.
const LOG_TAIL: usize = 6_000;

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Open files, sockets and pipes.
    pub files: usize,
    /// Threads.
    pub threads: usize,
    /// Memory, in KiB.
    pub resident_kib: usize,
}

/// One agent: its configuration outlives its process, so that it can be started again.
#[derive(Debug)]
pub struct Agent {
    /// Its node name.
    pub name: String,
    /// The address that it binds for other agents.
    pub host: IpAddr,
    /// The address at which it answers applications.
    pub front: IpAddr,
    /// The namespace that it runs in, if that is another one than the test's.
    pub namespace: Option<Namespace>,
    /// Where its configuration, data and log are.
    pub dir: PathBuf,
    /// Its configuration file, as JSON.
    pub config: Value,
    child: Option<Child>,
}

impl Agent {
    /// Describes an agent that is not started yet.
    pub fn new(name: &str, host: IpAddr, dir: PathBuf, config: Value) -> Self {
        fs::create_dir_all(&dir).expect("a directory for the agent");
        let name = name.to_owned();
        Self { name, host, front: host, namespace: None, dir, config, child: None }
    }

    /// Returns where it answers HTTP.
    pub fn http_addr(&self) -> SocketAddr {
        SocketAddr::new(self.front, 8500)
    }

    /// Returns a client of its own connections.
    pub fn client(&self) -> Client {
        Client::new(self.http_addr())
    }

    /// Returns where it keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.config["data_dir"].as_str().map_or_else(|| self.dir.join("data"), PathBuf::from)
    }

    /// Changes its configuration for the next start: the keys of an object replace its own.
    pub fn configure(&mut self, changes: Value) {
        let (Some(config), Value::Object(changes)) = (self.config.as_object_mut(), changes) else {
            panic!("configurations are objects");
        };
        config.extend(changes);
    }

    /// Writes its configuration, which counts from its next start or reload on; returns the file.
    pub fn write_config(&self) -> PathBuf {
        let file = self.dir.join("agent.json");
        fs::write(&file, self.config.to_string()).expect("a configuration");
        file
    }

    /// Starts the process.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let file = self.write_config();
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log");
        let mut command = Command::new(binary());
        command
            .arg("agent")
            .arg(format!("-config-file={}", file.display()))
            .env("CAUSEWAY_PARENT_PIPE", "1")
            .env("HOME", &self.dir)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let child = match &self.namespace {
            Some(namespace) => namespace.within(|| command.spawn()),
            None => command.spawn(),
        };
        let mut child = child.expect("the agent starts");
        // Nothing is ever written: the pipe closes when this process ends, however it ends.
        child.stdin.as_mut().expect("a pipe").flush().expect("a pipe");
        self.child = Some(child);
    }

    /// Starts the process and waits until HTTP answers.
    pub async fn start(&mut self) {
        self.spawn();
        self.wait_for_http().await;
    }

    /// Waits until HTTP answers; fails with the log when the process ends instead.
    pub async fn wait_for_http(&mut self) {
        let client = self.client().patient(Duration::from_secs(2));
        until(START_MAX, &format!("{} answers", self.name), async || {
            if let Some(status) = self.exited() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            client.get("/v1/agent/self").await.map(drop).map_err(|error| format!("{error:#}"))
        })
        .await;
    }

    /// Returns how the process ended, if it did by itself.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("it is our child"))
    }

    /// Waits until the process ended by itself.
    pub async fn wait_for_exit(&mut self, most: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let status = until(most, &what, async || self.exited().ok_or_else(|| self.log())).await;
        self.child = None;
        status
    }

    /// Tells whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.exited().is_none()
    }

    /// Kills the process (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone_already = child.kill();
            child.wait().expect("it is our child");
        }
    }

    /// Sends the process a signal by its name, such as `STOP`, `CONT`, `INT` or `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.expect("there is kill").success(), "kill -{name} {pid}");
    }

    /// Returns what the process takes of the machine.
    ///
    /// # Panics
    /// When it does not run.
    pub fn usage(&self) -> Usage {
        let pid = self.child.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        };
        Usage {
            files: fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count(),
            threads: field("Threads:").expect("Linux says so"),
            resident_kib: field("VmRSS:").expect("Linux says so"),
        }
    }

    /// Returns the path of its log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Returns the whole log.
    pub fn full_log(&self) -> String {
        fs::read(self.log_path())
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the end of the log.
    pub fn log(&self) -> String {
        let log = self.full_log();
        let from = log.len().saturating_sub(LOG_TAIL);
        let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
        log[from..].to_owned()
    }

    /// Runs a command of the binary against this agent: exit code, standard output, errors.
    pub fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        run(&self.dir, Some(self.http_addr()), args)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("\n--- log of {} ({}):\n{}", self.name, self.host, self.log());
        }
    }
}

/// Runs the binary to its end: exit code, standard output, errors.
pub fn run(dir: &Path, http: Option<SocketAddr>, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.args(args).current_dir(dir).env("HOME", dir).stdin(Stdio::null());
    if let Some(http) = http {
        command.env("CONSUL_HTTP_ADDR", http.to_string());
    }
    let output = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The configuration that all agents of tests have in common.
pub fn base_config(name: &str, dc: &str, host: IpAddr, dir: &Path) -> Value {
    json!({
        "node_name": name,
        "datacenter": dc,
        "bind_addr": host.to_string(),
        "client_addr": host.to_string(),
        "data_dir": dir.join("data"),
        "log_level": "debug",
        "retry_interval": "500ms",
        "retry_interval_wan": "500ms",
        "ports": { "dns": -1, "https": -1 },
    })
}
