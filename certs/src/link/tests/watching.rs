//! Paths of a WAN: whoever cares for one sends the heartbeats, and nobody else does.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::nodes::{ECHO, HANG, Node, fabric, wan_pair};
use crate::{
    error::CallError,
    fabric::Fabric,
    link::{Pace, Path, PathState},
};

/// How long an unused connection stays.
const IDLE: Duration = Duration::from_secs(30);

fn is_down(path: &Path) -> bool {
    matches!(path.state, PathState::Down { .. } | PathState::Dialing { after: Some(_) })
}

/// Two servers with a connection that nobody watches, dialled by the first.
async fn connected(fabric: &Fabric) -> (Node, Node) {
    let (a, b) = wan_pair(fabric);
    a.ask(&b, ECHO, b"hello").await.unwrap();
    b.path_when(a.endpoint.local_addr(), Path::is_up).await;
    (a, b)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_watches_has_no_heartbeats_and_ends_by_itself() {
    let (a, b) = connected(&fabric()).await;
    let beats = a.path_to(b.endpoint.local_addr()).unwrap().beats;
    sleep(IDLE / 2).await;
    assert_eq!(a.path_to(b.endpoint.local_addr()).unwrap().beats, beats);
    a.ask(&b, ECHO, b"use").await.unwrap();
    sleep(IDLE - Duration::from_secs(1)).await;
    assert_eq!(a.endpoint.open_connections(), 1);
    sleep(Duration::from_secs(5)).await;
    assert_eq!((a.endpoint.open_connections(), b.endpoint.open_connections()), (0, 0));
    assert!(a.endpoint.paths().is_empty() && b.endpoint.paths().is_empty());
    assert_eq!(a.ask(&b, ECHO, b"again").await.unwrap(), "again");
}

#[tokio::test(start_paused = true)]
async fn either_side_can_watch_and_its_pace_decides() {
    for (dialler_watches, pace, rate) in [
        (true, Pace::Watch, 10),
        (false, Pace::Watch, 10),
        (true, Pace::Brisk, 33),
        (false, Pace::Brisk, 33),
    ] {
        let (a, b) = connected(&fabric()).await;
        let (watcher, other) = if dialler_watches { (&a, &b) } else { (&b, &a) };
        let at = other.endpoint.local_addr();
        watcher.endpoint.watch(&other.target(), pace);
        let before = watcher.path_to(at).unwrap().beats;
        sleep(Duration::from_secs(10)).await;
        let path = watcher.path_to(at).unwrap();
        let beats = path.beats - before;
        assert!(beats.abs_diff(rate) <= 2, "{pace:?}, dialler: {dialler_watches}: {beats}");
        assert_eq!(path.beats_lost, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_watch_each_other_send_hardly_more_heartbeats_than_one() {
    let (a, b) = connected(&fabric()).await;
    a.endpoint.watch(&b.target(), Pace::Watch);
    b.endpoint.watch(&a.target(), Pace::Watch);
    sleep(Duration::from_secs(30)).await;
    let beats = a.path_to(b.endpoint.local_addr()).unwrap().beats;
    assert!((28..36).contains(&beats), "{beats}");
}

#[tokio::test(start_paused = true)]
async fn both_watchers_know_of_a_cut_in_either_direction_within_four_seconds() {
    for both in [true, false] {
        let fabric = fabric();
        let (a, b) = connected(&fabric).await;
        a.endpoint.watch(&b.target(), Pace::Watch);
        b.endpoint.watch(&a.target(), Pace::Watch);
        sleep(Duration::from_secs(7)).await;
        let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
        let cut = Instant::now();
        fabric.cut(at_b, at_a);
        if both {
            fabric.cut(at_a, at_b);
        }
        a.path_when(at_b, is_down).await;
        b.path_when(at_a, is_down).await;
        assert!(cut.elapsed() < Duration::from_secs(4), "{both}: {:?}", cut.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_that_becomes_brisk_is_tried_at_once() {
    let fabric = fabric();
    let (a, b) = connected(&fabric).await;
    sleep(Duration::from_secs(20)).await;
    let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
    fabric.cut(at_a, at_b);
    fabric.cut(at_b, at_a);
    let target = b.target();
    let began = Instant::now();
    let hanging = a.ask_at(&target, HANG, Bytes::new());
    let watching = async { a.endpoint.watch(&target, Pace::Brisk) };
    let (lost, ()) = tokio::join!(hanging, watching);
    assert!(matches!(lost, Err(CallError::Lost { sent: true, .. })), "{lost:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_released_connection_goes_on_while_it_is_used() {
    let (a, b) = wan_pair(&fabric());
    let (target, at) = (b.target(), b.endpoint.local_addr());
    a.endpoint.watch(&target, Pace::Watch);
    a.path_when(at, Path::is_up).await;
    a.endpoint.release(&target);
    sleep(IDLE / 2).await;
    assert_eq!(a.ask(&b, ECHO, b"still").await.unwrap(), "still");
    assert!(a.path_to(at).unwrap().beats <= 2);
    sleep(IDLE + Duration::from_secs(5)).await;
    assert_eq!(a.endpoint.open_connections(), 0);
    a.endpoint.watch(&target, Pace::Watch);
    a.path_when(at, Path::is_up).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_heard_but_does_not_hear_is_known_by_its_knocks() {
    let fabric = fabric();
    let (a, b) = wan_pair(&fabric);
    a.endpoint.watch(&b.target(), Pace::Watch);
    b.endpoint.watch(&a.target(), Pace::Watch);
    let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
    b.path_when(at_a, Path::is_up).await;
    a.path_when(at_b, Path::is_up).await;
    fabric.cut(at_a, at_b);
    let cut = Instant::now();
    sleep(Duration::from_secs(12)).await;
    for _ in 0..30 {
        let knocked = a.path_to(at_b).unwrap().knocked.expect("b tries to connect");
        assert!(knocked > cut && knocked.elapsed() < Duration::from_secs(10), "{knocked:?}");
        assert!(b.path_to(at_a).unwrap().knocked.is_none_or(|at| at < cut));
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_path_is_counted() {
    let fabric = fabric();
    let (a, b) = connected(&fabric).await;
    a.endpoint.watch(&b.target(), Pace::Brisk);
    let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
    for _ in 0..10 {
        sleep(Duration::from_millis(1200)).await;
        fabric.cut(at_a, at_b);
        sleep(Duration::from_millis(450)).await;
        fabric.heal();
    }
    let path = a.path_to(at_b).unwrap();
    assert!(path.is_up());
    assert!((8..=25).contains(&path.beats_lost), "{} of {}", path.beats_lost, path.beats);
}
