//! What an operator reads.

use std::{
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tracing_subscriber::fmt::MakeWriter;

use super::nodes::{ECHO, Node, authority, bundle, fabric, keys, server};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Log;

    fn make_writer(&self) -> Log {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_certificate_is_logged_once_with_its_reason_on_both_sides() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fabric = fabric();
    let (ours, theirs) = (authority(), authority());
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    let one =
        Node::start(&fabric, "10.0.0.1:8300", &a, keys(bundle(&ours, &a, &[&ours, &theirs])), 1);
    let two = Node::start(&fabric, "10.0.0.2:8300", &b, keys(bundle(&theirs, &b, &[&theirs])), 2);
    for _ in 0..5 {
        one.ask_at(&two.target(), ECHO, Bytes::new()).await.unwrap_err();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for me in ["me=server a of dc1", "me=server b of dc1"] {
        let line = lines.iter().find(|line| line.contains(me)).expect(&text);
        assert!(line.contains("WARN"), "{line}");
        assert!(line.contains("issued by no authority that is trusted here"), "{line}");
    }
}
