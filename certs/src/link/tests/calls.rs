//! Calls and datagrams.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::nodes::{ECHO, HANG, LENGTH, REFUSE, fabric, pair};
use crate::{
    error::{CallError, DatagramError, DialError},
    fabric::Fabric,
    link::{DEADLINE_MAX, REQUEST_LEN_MAX, Request},
};

#[tokio::test(start_paused = true)]
async fn a_call_is_answered() {
    let (a, b) = pair(&fabric());
    assert_eq!(a.ask(&b, ECHO, b"hello").await.unwrap(), "hello");
    assert_eq!(a.ask(&b, ECHO, b"").await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn a_large_body_goes_both_ways() {
    let (a, b) = pair(&fabric());
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(a.ask(&b, ECHO, &body).await.unwrap(), body);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_its_bound_is_not_sent() {
    let (a, b) = pair(&fabric());
    let most = Bytes::from(vec![7; REQUEST_LEN_MAX]);
    let reply = a.ask_at(&b.target(), LENGTH, most).await.unwrap();
    assert_eq!(reply, REQUEST_LEN_MAX.to_string());
    let error = a.ask(&b, LENGTH, &vec![7; REQUEST_LEN_MAX + 1]).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    assert!(error.had_no_effect());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_carries_its_code_and_reason() {
    let (a, b) = pair(&fabric());
    let error = a.ask(&b, REFUSE, b"").await.unwrap_err();
    let CallError::Refused { code, ref message, .. } = error else { panic!("{error}") };
    assert_eq!((code, message.as_str()), (99, "no such kind"));
    assert!(error.had_no_effect());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_cancelled_at_the_peer() {
    let (a, b) = pair(&fabric());
    a.ask(&b, ECHO, b"").await.unwrap();
    let target = b.target();
    let call = a.ask_at(&target, HANG, Bytes::new());
    let given_up = tokio::time::timeout(Duration::from_millis(100), call).await;
    assert!(given_up.is_err());
    b.service.dropped.notified().await;
    assert_eq!(b.service.hanging.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_on_both_sides() {
    let (a, b) = pair(&fabric());
    a.ask(&b, ECHO, b"").await.unwrap();
    let began = Instant::now();
    let deadline = began + Duration::from_millis(300);
    let request = Request { kind: HANG, deadline, body: Bytes::new() };
    let error = a.endpoint.call(&b.target(), request).await.unwrap_err();
    assert!(matches!(error, CallError::Deadline { sent: true }), "{error}");
    assert!(!error.had_no_effect());
    b.service.dropped.notified().await;
    assert!(began.elapsed() < Duration::from_millis(320), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_finds_the_deadline_passed_a_little_sooner_has_not_given_up() {
    let (a, b) = pair(&Fabric::new(Duration::ZERO));
    a.ask(&b, ECHO, b"").await.unwrap();
    // What is left of a millisecond is not told to the peer, which is nearer than that.
    for micros in (0..1000).step_by(100) {
        let deadline = Instant::now() + Duration::from_millis(30) + Duration::from_micros(micros);
        let request = Request { kind: HANG, deadline, body: Bytes::new() };
        let error = a.endpoint.call(&b.target(), request).await.unwrap_err();
        assert!(matches!(error, CallError::Deadline { sent: true }), "{micros}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_to_nobody_fails_before_its_deadline_without_effect() {
    let (a, b) = pair(&fabric());
    let mut target = b.target();
    target.addr = "10.0.0.9:8300".parse().unwrap();
    let error = a.ask_at(&target, ECHO, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(DialError::Timeout { .. })), "{error}");
    assert!(error.had_no_effect());
    let error = a.ask_at(&target, ECHO, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(DialError::BackingOff { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_calls_wait_on_one_connection() {
    let (a, b) = pair(&fabric());
    let target = b.target();
    let deadline = Instant::now() + DEADLINE_MAX;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..700 {
        let (endpoint, target) = (a.endpoint.clone(), target.clone());
        let request = Request { kind: HANG, deadline, body: Bytes::new() };
        calls.spawn(async move { endpoint.call(&target, request).await });
    }
    while b.service.hanging.load(Ordering::SeqCst) < 700 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(a.ask(&b, ECHO, b"still").await.unwrap(), "still");
    assert_eq!(b.endpoint.paths().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_datagram_makes_a_connection_and_later_ones_arrive() {
    let (a, mut b) = pair(&fabric());
    let target = b.target();
    let lost = a.endpoint.datagram(&target, Bytes::from_static(b"one"));
    assert_eq!(lost, Err(DatagramError::NoPath));
    a.path_when(target.addr, |path| path.is_up()).await;
    a.endpoint.datagram(&target, Bytes::from_static(b"two")).unwrap();
    let (peer, data) = b.datagrams.recv().await.unwrap();
    assert_eq!((peer, data.as_ref()), (a.me.clone(), &b"two"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_datagram_that_does_not_fit_is_refused_with_what_fits() {
    let (a, b) = pair(&fabric());
    a.ask(&b, ECHO, b"").await.unwrap();
    let large = Bytes::from(vec![0; 1 << 16]);
    let Err(DatagramError::TooLarge { len_max }) = a.endpoint.datagram(&b.target(), large) else {
        panic!("sent");
    };
    assert!(len_max >= 1150, "{len_max}");
}
