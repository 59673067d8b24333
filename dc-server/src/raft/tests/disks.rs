//! Real files: restarts, torn tails, damage.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use lan_agent::caller::Promise;
use tokio::time::{Instant, timeout};
use topology::NodeName;

use super::cluster::{get, set};
use crate::raft::{
    Config, Raft, StartError,
    disk::{Disk, Files},
    network::{Wire, WireError},
    protocol::Peer,
};

struct Nowhere;

impl Wire for Nowhere {
    fn call(
        &self,
        _: u64,
        _: &Peer,
        _: u16,
        _: Bytes,
        _: Instant,
    ) -> Promise<Result<Bytes, WireError>> {
        Box::pin(async { Err(WireError::Unreachable("alone".to_owned())) })
    }
}

struct Alone {
    raft: Raft,
    disk: Arc<Files>,
}

impl Deref for Alone {
    type Target = Raft;

    fn deref(&self) -> &Raft {
        &self.raft
    }
}

async fn start(dir: &Path, snapshot_entries: u64) -> Result<Alone, StartError> {
    let name = NodeName::new("alone").unwrap();
    let addr = "127.0.0.1:8300".parse().unwrap();
    let config = Config {
        id: 1,
        name: name.clone(),
        addr,
        multiplier: 1,
        snapshot_entries,
        seed: 1,
        boot_ms: 1,
    };
    let disk = Arc::new(Files::open(dir).unwrap());
    let raft = Raft::start(config, disk.clone(), Arc::new(Nowhere)).await?;
    if !raft.is_bootstrapped().await.unwrap() {
        raft.bootstrap([(1, Peer { name, addr })].into()).await.unwrap();
    }
    let mut leadership = raft.leadership();
    let elected = leadership.wait_for(|now| now.leader == Some(1));
    timeout(Duration::from_secs(30), elected).await.unwrap().unwrap();
    Ok(Alone { raft, disk })
}

/// Stops a server and waits until its last task has let go of the log and the files.
async fn stop(alone: Alone) {
    let Alone { raft, disk } = alone;
    raft.shutdown().await;
    let health = raft.health.clone();
    drop(raft);
    while Arc::strong_count(&health.broken) > 1 || Arc::strong_count(&disk) > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The log's files are closed on a thread of their own when its writer was the last to hold it.
    while disk.open_log().is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn files(dir: &Path, of: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.join(of)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "wal" || e == "snap"));
    files.sort();
    files
}

async fn written(dir: &Path, count: u64, snapshot_entries: u64) {
    let raft = start(dir, snapshot_entries).await.unwrap();
    for i in 0..count {
        raft.write(set(i)).await.unwrap();
    }
    stop(raft).await;
}

#[tokio::test]
async fn a_server_restarts_from_its_log() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 20, 1000).await;
    let raft = start(dir.path(), 1000).await.unwrap();
    raft.write(set(20)).await.unwrap();
    let state = raft.state();
    assert!((0..=20).all(|i| get(&state, i) == Some(i)));
}

#[tokio::test]
async fn a_server_restarts_from_its_snapshot_and_keeps_two() {
    let dir = tempfile::tempdir().unwrap();
    let raft = start(dir.path(), 16).await.unwrap();
    for i in 0..100 {
        raft.write(set(i)).await.unwrap();
    }
    let built = |metrics: &openraft::RaftMetrics<_>| metrics.snapshot.is_some_and(|s| s.index > 30);
    let wait = raft.raft.raft.wait(Some(Duration::from_secs(30)));
    wait.metrics(built, "two snapshots").await.unwrap();
    stop(raft).await;
    assert_eq!(files(dir.path(), "snapshots").len(), 2);
    let raft = start(dir.path(), 16).await.unwrap();
    raft.write(set(100)).await.unwrap();
    assert!((0..=100).all(|i| get(&raft.state(), i) == Some(i)));
}

#[tokio::test]
async fn a_torn_last_record_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 20, 1000).await;
    let file = files(dir.path(), "log").pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(&[0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef]);
    fs::write(&file, &bytes).unwrap();
    let raft = start(dir.path(), 1000).await.unwrap();
    raft.write(set(20)).await.unwrap();
    assert!((0..=20).all(|i| get(&raft.state(), i) == Some(i)));
}

#[tokio::test]
async fn damage_in_the_middle_of_the_log_is_refused_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 40, 1000).await;
    let file = files(dir.path(), "log").pop().unwrap();
    let good = fs::read(&file).unwrap();
    for at in (64..good.len() / 2).step_by(97) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        let error = start(dir.path(), 1000).await.err().expect("refused").to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert!(error.contains("damaged at offset"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "the file was touched");
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_made_up_for_by_the_one_before_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let raft = start(dir.path(), 16).await.unwrap();
    for i in 0..100 {
        raft.write(set(i)).await.unwrap();
    }
    let purged = |metrics: &openraft::RaftMetrics<_>| metrics.purged.is_some();
    let wait = raft.raft.raft.wait(Some(Duration::from_secs(30)));
    wait.metrics(purged, "purged").await.unwrap();
    stop(raft).await;
    let snapshots = files(dir.path(), "snapshots");
    damage(&snapshots[1]);
    match start(dir.path(), 16).await {
        Ok(raft) => {
            raft.write(set(100)).await.unwrap();
            assert!((0..=100).all(|i| get(&raft.state(), i) == Some(i)));
            stop(raft).await;
        }
        Err(error) => assert!(error.to_string().contains("damaged at offset"), "{error}"),
    }
    for snapshot in files(dir.path(), "snapshots") {
        damage(&snapshot);
    }
    let error = start(dir.path(), 16).await.err().expect("refused").to_string();
    assert!(error.contains(".snap") && error.contains("damaged at offset"), "{error}");
}

fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] = bytes[middle].wrapping_add(1);
    fs::write(file, bytes).unwrap();
}
