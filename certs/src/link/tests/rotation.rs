//! Certificates and authorities are replaced while requests go on.

use std::time::Duration;

use super::nodes::{ECHO, Node, authority, bundle, fabric, keys, server};
use crate::{error::KeyError, link::Path, store::Reload};

#[tokio::test(start_paused = true)]
async fn an_authority_is_rolled_over_without_a_lost_request() {
    let fabric = fabric();
    let (old, new) = (authority(), authority());
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    let one = Node::start(&fabric, "10.0.0.1:8300", &a, keys(bundle(&old, &a, &[&old])), 1);
    let two = Node::start(&fabric, "10.0.0.2:8300", &b, keys(bundle(&old, &b, &[&old])), 2);
    let ask = async |body: &[u8]| one.ask(&two, ECHO, body).await.unwrap();
    ask(b"before").await;
    let stages = [
        (bundle(&old, &a, &[&old, &new]), bundle(&old, &b, &[&old, &new])),
        (bundle(&new, &a, &[&old, &new]), bundle(&old, &b, &[&old, &new])),
        (bundle(&new, &a, &[&old, &new]), bundle(&new, &b, &[&old, &new])),
        (bundle(&new, &a, &[&new]), bundle(&new, &b, &[&new])),
    ];
    for (of_a, of_b) in stages {
        assert_eq!(one.keys.replace(of_a).unwrap(), Reload::Changed);
        ask(b"one replaced").await;
        assert_eq!(two.keys.replace(of_b).unwrap(), Reload::Changed);
        assert_eq!(one.endpoint.open_connections(), 1, "the connection lives on");
        ask(b"both replaced").await;
        // New handshakes use the new keys.
        let (from, to) = (one.endpoint.local_addr(), two.endpoint.local_addr());
        fabric.cut(from, to);
        one.path_when(to, |path| !path.is_up()).await;
        fabric.heal();
        one.endpoint.connect(&two.target());
        one.path_when(to, Path::is_up).await;
        ask(b"new handshake").await;
        one.endpoint.disconnect(&two.target());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // Who kept the old authority only is out.
    let late = server("dc1", "late");
    let late = Node::start(&fabric, "10.0.0.3:0", &late, keys(bundle(&old, &late, &[&old])), 3);
    assert!(late.ask(&two, ECHO, b"").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_another_node_does_not_replace_ours() {
    let ca = authority();
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    let keys = keys(bundle(&ca, &a, &[&ca]));
    let error = keys.replace(bundle(&ca, &b, &[&ca])).unwrap_err();
    assert!(matches!(error, KeyError::OtherIdentity { .. }), "{error}");
    assert_eq!(keys.identity(), a);
}
