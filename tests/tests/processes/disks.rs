//! Logs that are torn or corrupt, and disks that are full.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use tests::harness::cluster::Cluster;

use crate::dc1;

/// How long an agent may take to find out that it can't start.
const REFUSAL_MAX: Duration = Duration::from_secs(20);

/// Writes keys `k/0`, `k/1`, ... and kills the server.
async fn write_and_kill(cluster: &mut Cluster, keys: u32) {
    let client = cluster.agents[0].client();
    for number in 0..keys {
        assert!(client.kv_put(&format!("k/{number}"), &"v".repeat(500)).await.unwrap());
    }
    cluster.agents[0].kill();
}

/// Returns the newest file of the Raft log.
fn log_file(data: &Path) -> PathBuf {
    let dir = data.join("raft/log");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let files = entries.map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|end| end == "wal"));
    logs.max().expect("a log")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_last_record_costs_nothing_else() {
    let mut cluster = Cluster::start(&dc1(1, 0)).await;
    write_and_kill(&mut cluster, 20).await;
    let path = log_file(&cluster.agents[0].data_dir());
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 7).unwrap();
    drop(file);

    cluster.launch().await;
    let client = cluster.agents[0].client();
    // The last write's record may be the torn one; everything before it was written earlier.
    for number in 0..19 {
        let entry = client.kv_get(&format!("k/{number}")).await.unwrap();
        assert!(entry.is_some(), "k/{number} is gone");
    }
    assert!(client.kv_put("after", "works").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_middle_of_the_log_is_a_refusal_that_names_the_file() {
    let mut cluster = Cluster::start(&dc1(1, 0)).await;
    write_and_kill(&mut cluster, 20).await;
    let path = log_file(&cluster.agents[0].data_dir());
    let mut file = File::options().read(true).write(true).open(&path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&[byte[0] ^ 0x5a]).unwrap();
    drop(file);

    cluster.spawn(0);
    let status = cluster.agents[0].wait_for_exit(REFUSAL_MAX).await;
    assert!(!status.success(), "{status}");
    let log = cluster.agents[0].full_log();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    assert!(log.contains(&name), "the refusal names {name}:\n{log}");
    assert!(log.contains("offset") || log.contains("byte"), "the refusal says where:\n{log}");
}

/// A small file system in memory. Gone when it is dropped, after the agent that uses it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None` when this user can't mount anything.
    fn mount(dir: PathBuf, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(&dir).unwrap();
        let size = format!("size={megabytes}m");
        let args = ["-t", "tmpfs", "-o", &size, "tmpfs"];
        let output = Command::new("mount").args(args).arg(&dir).output().ok()?;
        if !output.status.success() {
            eprintln!("mount: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Self(dir))
    }

    fn grow(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone_with_the_machine = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_acknowledges_nothing_that_it_did_not_write() {
    let mut cluster = Cluster::plan(&dc1(1, 0));
    let data = cluster.agents[0].dir.join("small");
    let Some(disk) = SmallDisk::mount(data.clone(), 16) else {
        eprintln!("not tested: only root can mount a small disk to fill");
        return;
    };
    cluster.agents[0].configure(json!({ "data_dir": data.join("data") }));
    cluster.launch().await;
    let client = cluster.agents[0].client();
    let value = "x".repeat(400 * 1024);
    let mut written = 0;
    let refusal = loop {
        assert!(written < 200, "80 MiB went onto a disk of 16 MiB");
        match client.kv_put(&format!("big/{written}"), &value).await {
            Ok(true) => written += 1,
            Ok(false) => panic!("a plain write compared something"),
            Err(error) => break format!("{error:#}"),
        }
    };
    assert!(written > 0, "{refusal}");
    assert!(cluster.agents[0].is_running(), "it says so and goes on answering reads");
    assert!(client.kv_put("small", "1").await.is_err(), "it stays so until it is started again");
    let entry = client.kv_get("big/0?stale").await.unwrap();
    assert!(entry.is_some(), "stale reads go on");

    cluster.agents[0].kill();
    disk.grow(128);
    cluster.launch().await;
    for number in 0..written {
        let entry = client.kv_get(&format!("big/{number}")).await.unwrap();
        assert_eq!(entry.map(|entry| entry.value.len()), Some(value.len()), "big/{number}");
    }
    cluster.agents[0].kill();
}
