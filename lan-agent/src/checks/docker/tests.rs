//! A fake engine at a socket file, and the real one where there is one.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::*;
use crate::{
    catalog::Health,
    checks::tests::{IMPATIENCE, PATIENCE},
};

/// How the fake engine behaves.
#[derive(Default)]
struct Behaviour {
    /// What it answers to a question for a program, unless it takes it.
    refusal: Option<(u16, &'static str)>,
    /// What programs print, in frames.
    printed: Vec<u8>,
    /// Whether programs print for ever.
    endless: bool,
    exit_code: i32,
    /// How often it says that an ended program still runs.
    slow: AtomicUsize,
    hangs: AtomicBool,
}

/// An engine whose socket file goes with it.
struct Fake {
    home: TempDir,
    behaviour: Arc<Behaviour>,
    asked: mpsc::UnboundedReceiver<String>,
    _tasks: JoinSet<()>,
}

fn frame(output: u8, text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[output, 0, 0, 0][..], &len, text.as_bytes()].concat()
}

impl Fake {
    fn new(behaviour: Behaviour) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("docker.sock")).unwrap();
        let behaviour = Arc::new(behaviour);
        let (tell, asked) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let shared = behaviour.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (behaviour, tell) = (shared.clone(), tell.clone());
                connections.spawn(async move {
                    // A check that was given up hangs up.
                    let _ = answer(stream, &behaviour, &tell).await;
                });
            }
        });
        Self { home, behaviour, asked, _tasks: tasks }
    }

    fn runs(&self, patience: Duration) -> Runs {
        let socket = self.home.path().join("docker.sock");
        let engine = Engine::at(&format!("unix://{}", socket.display()));
        Runs::new(docker("web-1", &["/check", "-v"], ""), engine, patience)
    }

    async fn find(&self) -> Finding {
        self.runs(PATIENCE).find(4096).await
    }

    /// Returns what it was asked so far.
    fn asked(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

fn docker(container: &str, args: &[&str], shell: &str) -> Docker {
    let args = args.iter().copied().map(Text::from).collect();
    Docker { container: container.into(), args, shell: shell.into() }
}

async fn answer(
    mut stream: UnixStream,
    behaviour: &Behaviour,
    tell: &mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    let mut request = vec![0; 4096];
    let len = stream.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..len]).into_owned();
    let line = request.lines().next().unwrap_or_default();
    let body = request.split("\r\n\r\n").nth(1).unwrap_or_default();
    let _ = tell.send(format!("{line} {body}"));
    if line.starts_with("POST /containers/") {
        let (status, body) = behaviour.refusal.unwrap_or((201, r#"{"Id":"e1"}"#));
        let len = body.len();
        let reply = format!("HTTP/1.1 {status} X\r\nContent-Length: {len}\r\n\r\n{body}");
        stream.write_all(reply.as_bytes()).await
    } else if line.starts_with("POST /exec/e1/start") {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&behaviour.printed).await?;
        let endless = behaviour.endless.then(|| frame(1, &"x".repeat(60_000)));
        while let Some(more) = &endless {
            stream.write_all(more).await?;
        }
        while behaviour.hangs.load(SeqCst) {
            stream.read_exact(&mut [0]).await?;
        }
        Ok(())
    } else {
        let slow = behaviour.slow.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        let running = slow || behaviour.hangs.load(SeqCst);
        let code = if running { "null".to_owned() } else { behaviour.exit_code.to_string() };
        // A process of its own id that does not lie within the container.
        let pid = std::process::id();
        let body = format!(
            r#"{{"ID":"e1","Running":{running},"ExitCode":{code},"Pid":{pid},"ContainerID":"c1d2"}}"#
        );
        let len = body.len();
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}");
        stream.write_all(reply.as_bytes()).await
    }
}

#[tokio::test]
async fn exit_codes_say_how_it_is_and_both_outputs_are_kept() {
    for (exit_code, health) in
        [(0, Health::Passing), (1, Health::Warning), (2, Health::Critical), (126, Health::Critical)]
    {
        let printed = [frame(1, "out\n"), frame(2, "err\n")].concat();
        let mut fake = Fake::new(Behaviour { exit_code, printed, ..Behaviour::default() });
        let finding = fake.find().await;
        assert_eq!(finding, Finding { health, output: "out\nerr\n".to_owned() });
        let [created, started, asked] = fake.asked().try_into().unwrap();
        assert!(created.starts_with("POST /containers/web-1/exec HTTP/1.1 {"), "{created}");
        assert!(created.contains(r#""Cmd":["/check","-v"]"#), "{created}");
        assert!(started.contains(r#"{"Detach":false,"Tty":false}"#), "{started}");
        assert!(asked.starts_with("GET /exec/e1/json"), "{asked}");
    }
}

#[test]
fn a_shell_runs_a_single_argument_as_a_line() {
    assert_eq!(docker("c", &["a | b"], "/bin/sh").command(), ["/bin/sh", "-c", "a | b"]);
    assert_eq!(docker("c", &["a", "b"], "/bin/sh").command(), ["a", "b"]);
    assert_eq!(docker("c", &["a"], "").command(), ["a"]);
}

#[tokio::test]
async fn a_program_that_has_closed_its_outputs_is_waited_for() {
    let slow = AtomicUsize::new(3);
    let mut fake = Fake::new(Behaviour { slow, exit_code: 1, ..Behaviour::default() });
    assert_eq!(fake.find().await.health, Health::Warning);
    assert_eq!(fake.asked().len(), 2 + 4);
}

#[tokio::test]
async fn what_the_engine_refuses_is_critical_with_the_reason() {
    for (refusal, reason) in [
        ((404, "{}"), "there is no container web-1"),
        ((409, "{}"), "container web-1 is paused or stopped"),
        ((500, r#"{"message":"disk full"}"#), "can't prepare the program (status 500"),
        ((500, r#"{"message":"disk full"}"#), "disk full"),
        ((201, "nonsense"), "can't be read"),
    ] {
        let fake = Fake::new(Behaviour { refusal: Some(refusal), ..Behaviour::default() });
        let finding = fake.find().await;
        assert_eq!(finding.health, Health::Critical);
        assert!(finding.output.contains(reason), "{}", finding.output);
    }
    let nowhere = Engine::at("unix:///nowhere/docker.sock");
    let finding = Runs::new(docker("c", &["a"], ""), nowhere.clone(), PATIENCE).find(4096).await;
    assert!(finding.output.contains("can't connect to Docker's engine"), "{}", finding.output);
    let unusable = Engine::at("ssh://h");
    let finding = Runs::new(docker("c", &["a"], ""), unusable, PATIENCE).find(4096).await;
    assert!(finding.output.contains("DOCKER_HOST is"), "{}", finding.output);
    let finding = Runs::new(docker("../x", &["a"], ""), nowhere, PATIENCE).find(4096).await;
    assert!(finding.output.contains("can't be the name of a container"), "{}", finding.output);
}

#[tokio::test]
async fn a_flood_is_cut_off() {
    let fake = Fake::new(Behaviour { endless: true, ..Behaviour::default() });
    let finding = fake.find().await;
    assert_eq!(finding, Finding::critical("the check printed too much and was killed".to_owned()));
}

#[tokio::test]
async fn what_hangs_is_given_up_and_no_second_one_joins_it() {
    let hangs = AtomicBool::new(true);
    let printed = frame(1, "begun\n");
    let mut fake = Fake::new(Behaviour { hangs, printed, ..Behaviour::default() });
    let mut runs = fake.runs(IMPATIENCE);
    let finding = runs.find(4096).await;
    let output = "Timed out (300ms) running check\n\nbegun\n".to_owned();
    assert_eq!(finding, Finding::critical(output));
    // It was to be killed, but its process is not one of the container: this test lives on.
    let farewell = timeout(PATIENCE, async {
        loop {
            let line = fake.asked.recv().await.unwrap();
            if line.starts_with("GET") {
                return;
            }
        }
    });
    farewell.await.unwrap();
    let finding = runs.find(4096).await;
    assert!(finding.output.contains("still runs within the container"), "{}", finding.output);
    fake.behaviour.hangs.store(false, SeqCst);
    assert_eq!(runs.find(4096).await, Finding::passing("begun\n".to_owned()));
}

/// A container of the real engine, with a shell and little else in it.
struct Container {
    name: String,
    _home: TempDir,
}

fn run(program: &str, args: &[&str]) -> bool {
    let output = Command::new(program).args(args).output();
    output.is_ok_and(|output| output.status.success())
}

impl Container {
    /// Starts one; `None` where there is no engine.
    fn start(name: &str) -> Option<Self> {
        if !run("docker", &["version"]) {
            return None;
        }
        let name = format!("causeway-test-{name}-{}", std::process::id());
        let home = tempfile::tempdir().unwrap();
        let archive = home.path().join("image.tar");
        let line = format!(
            "cd / && files=$(ldd /bin/sh /bin/sleep | grep -o '/[^ :]*' | sort -u) &&
             tar --dereference -cf {} $(echo $files | sed 's, /, ,g; s,^/,,') &&
             docker import {} {name}",
            archive.display(),
            archive.display(),
        );
        assert!(run("/bin/sh", &["-c", &line]), "an image can be made");
        let args = ["run", "-d", "--rm", "--network", "none", "--name", &name, &name];
        assert!(run("docker", &[&args[..], &["/bin/sleep", "1000"]].concat()), "it starts");
        Some(Self { name, _home: home })
    }

    fn runs(&self, line: &str, patience: Duration) -> Runs {
        let docker = docker(&self.name, &[line], "/bin/sh");
        Runs::new(docker, Engine::default(), patience)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        run("docker", &["rm", "-f", &self.name]);
        run("docker", &["rmi", &self.name]);
    }
}

#[tokio::test]
async fn the_real_engine_runs_programs_within_a_container() {
    let Some(container) = Container::start("runs") else { return };
    for (line, finding) in [
        ("echo fine", Finding::passing("fine\n".to_owned())),
        ("echo so-so >&2; exit 1", Finding::warning("so-so\n".to_owned())),
        ("exit 7", Finding::critical(String::new())),
    ] {
        assert_eq!(container.runs(line, PATIENCE).find(4096).await, finding);
    }
    let docker = docker(&container.name, &["/nowhere"], "");
    let finding = Runs::new(docker, Engine::default(), PATIENCE).find(4096).await;
    assert_eq!(finding.health, Health::Critical);
}

#[tokio::test]
async fn a_program_that_hangs_within_a_container_is_killed() {
    let Some(container) = Container::start("hangs") else { return };
    let mut runs = container.runs("trap '' TERM; sleep 1000", Duration::from_secs(2));
    let finding = runs.find(4096).await;
    assert_eq!(finding, Finding::critical("Timed out (2s) running check".to_owned()));
    // The engine says that it has ended, or would refuse to begin again.
    let ended = timeout(PATIENCE, async {
        while runs.find(4096).await.output.contains("still runs") {
            tokio::task::yield_now().await;
        }
    });
    ended.await.unwrap();
}
