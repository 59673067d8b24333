//! Web servers, good and bad.

use std::time::Duration;

use certs::https::Callers;
use http_body_util::Full;
use hyper::Response;
use tokio::{io::AsyncReadExt, time::timeout};

use super::*;
use crate::{
    checks::{
        Credentials,
        tests::{
            self, IMPATIENCE, PATIENCE,
            net::{Asked, Trusted, Web, canned, closed_port, full_backlog, serve},
        },
    },
    definition::{OUTPUT_LEN_MAX, Probe},
};

type Answer = Response<Full<Bytes>>;

fn answer(status: u16, body: &str) -> Answer {
    let body = Full::from(Bytes::copy_from_slice(body.as_bytes()));
    Response::builder().status(status).body(body).unwrap()
}

fn elsewhere(status: u16, to: &str) -> Answer {
    let answer = Response::builder().status(status).header("Location", to);
    answer.body(Full::default()).unwrap()
}

/// What to ask, as short as can be.
struct Ask {
    url: String,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
    disable_redirects: bool,
    tls: Tls,
    credentials: Credentials,
    timeout: Duration,
}

impl Ask {
    fn get(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            method: "",
            headers: Vec::new(),
            body: "",
            disable_redirects: false,
            tls: Tls::default(),
            credentials: Credentials::default(),
            timeout: PATIENCE,
        }
    }

    async fn find(self) -> Finding {
        let headers =
            self.headers.into_iter().map(|(name, value)| (name.into(), vec![value.into()]));
        let probe = Probe::Http {
            url: self.url.into(),
            method: self.method.into(),
            headers: headers.collect(),
            body: self.body.into(),
            disable_redirects: self.disable_redirects,
            tls: self.tls,
        };
        tests::find(probe, &self.credentials, self.timeout).await
    }
}

async fn get(url: &str) -> Finding {
    Ask::get(url).find().await
}

#[tokio::test]
async fn the_status_says_how_it_is() {
    let web = Web::answering(None, |asked| {
        let status = asked.head.uri.path()[1..].parse().unwrap();
        answer(status, "well")
    })
    .await;
    for (status, reason, health) in [
        (200, "OK", Health::Passing),
        (201, "Created", Health::Passing),
        (429, "Too Many Requests", Health::Warning),
        (304, "Not Modified", Health::Critical),
        (404, "Not Found", Health::Critical),
        (500, "Internal Server Error", Health::Critical),
    ] {
        let url = web.url(&format!("/{status}"));
        let finding = get(&url).await;
        let body = if status == 304 { "" } else { "well" };
        let output = format!("HTTP GET {url}: {status} {reason} Output: {body}");
        assert_eq!(finding, Finding { health, output });
    }
}

#[tokio::test]
async fn what_is_asked_is_as_the_definition_says() {
    let web = Web::answering(None, |_| answer(200, "")).await;
    get(&web.url("/a?b=c")).await;
    let ask = Ask {
        method: "POST",
        headers: vec![("host", "web.example"), ("User-Agent", "me"), ("X-Own", "1")],
        body: "ping",
        ..Ask::get(&web.url("").replace("http://", "http://user:p%3As@"))
    };
    let url = ask.url.clone();
    assert_eq!(ask.find().await.output, format!("HTTP POST {url}: 200 OK Output: "));
    let [plain, own] = web.asked().try_into().unwrap();
    assert_eq!(plain.head.method, "GET");
    assert_eq!(plain.head.uri, "/a?b=c");
    assert_eq!(plain.header("host"), web.server.at().to_string());
    assert_eq!(plain.header("user-agent"), "Consul Health Check");
    assert_eq!(plain.header("accept"), "text/plain, text/*, */*");
    assert_eq!(plain.header("connection"), "close");
    assert_eq!(own.head.method, "POST");
    assert_eq!(own.head.uri, "/");
    assert_eq!(own.body, "ping");
    assert_eq!((own.header("host"), own.header("user-agent")), ("web.example", "me"));
    assert_eq!(own.header("x-own"), "1");
    assert_eq!(own.header("authorization"), "Basic dXNlcjpwOnM=");
}

#[tokio::test]
async fn of_a_long_body_the_end_is_kept() {
    let web = Web::answering(None, |_| answer(200, &format!("{}end", "x".repeat(100_000)))).await;
    let output = get(&web.url("/")).await.output;
    assert!(output.ends_with("xxxend"));
    let body = output.split_once("Output: ").unwrap().1;
    assert_eq!(body.len(), OUTPUT_LEN_MAX);
}

#[tokio::test]
async fn who_sends_elsewhere_is_followed_or_not() {
    let there = Web::answering(None, |_| answer(200, "there")).await;
    let to = there.url("/there");
    let here = Web::answering(None, move |asked| match asked.head.uri.path() {
        "/over" => elsewhere(302, &to),
        "/again" => elsewhere(307, "done?x"),
        "/done" => answer(200, "done"),
        "/lost" => Response::builder().status(302).body(Full::default()).unwrap(),
        _ => elsewhere(301, "loop"),
    })
    .await;
    let post = |path: &str| Ask {
        method: "POST",
        body: "secret",
        headers: vec![("Authorization", "me"), ("X-Own", "1")],
        ..Ask::get(&here.url(path))
    };
    // To another server by GET, without what is meant for this one.
    let finding = post("/over").find().await;
    let url = here.url("/over");
    let output = format!("HTTP POST {url}: 200 OK Output: there");
    assert_eq!(finding, Finding::passing(output));
    let [asked] = there.asked().try_into().unwrap();
    assert_eq!((asked.head.method.as_str(), &asked.body[..]), ("GET", &b""[..]));
    assert_eq!((asked.header("authorization"), asked.header("x-own")), ("", "1"));
    assert_eq!(asked.header("host"), there.server.at().to_string());
    // To the same one with the same again.
    assert_eq!(post("/again").find().await.health, Health::Passing);
    let asked = here.asked().pop().unwrap();
    assert_eq!((asked.head.method.as_str(), &asked.body[..]), ("POST", &b"secret"[..]));
    assert_eq!(
        (asked.head.uri.to_string().as_str(), asked.header("authorization")),
        ("/done?x", "me")
    );
    // Not at all, in a circle, to nowhere.
    let refusing = Ask { disable_redirects: true, ..post("/over") }.find().await;
    assert_eq!(refusing.health, Health::Critical);
    assert!(refusing.output.contains("302 Found Output: "), "{}", refusing.output);
    let circle = get(&here.url("/loop")).await;
    assert!(circle.output.ends_with("it was sent elsewhere 10 times"), "{}", circle.output);
    assert!(get(&here.url("/lost")).await.output.contains("302 Found"));
}

#[tokio::test]
async fn what_can_not_be_asked_is_critical_with_the_reason() {
    let (refusing, _held) = closed_port();
    let refusing = format!("http://{refusing}/");
    for (ask, reason) in [
        (Ask::get("ftp://a/"), "is no http:// or https:// address"),
        (Ask { method: "NO WAY", ..Ask::get("http://a/") }, "is no method of HTTP"),
        (Ask { headers: vec![("a b", "")], ..Ask::get("http://a/") }, "is no header field"),
        (Ask { headers: vec![("a", "\n")], ..Ask::get("http://a/") }, "is no header field"),
        (Ask::get(&refusing), "refused"),
        (Ask::get("http://no.such.name.invalid/"), "can't resolve no.such.name.invalid"),
    ] {
        let url = ask.url.clone();
        let finding = ask.find().await;
        assert_eq!(finding.health, Health::Critical, "{url}");
        assert!(finding.output.contains(reason), "{}", finding.output);
    }
}

#[tokio::test]
async fn who_says_nothing_is_critical_in_time() {
    let silent = canned(None, b"").await;
    let (full, _backlog) = full_backlog().await;
    for addr in [silent.at(), full] {
        let ask = Ask { timeout: IMPATIENCE, ..Ask::get(&format!("http://{addr}/")) };
        let finding = timeout(PATIENCE, ask.find()).await.unwrap();
        let output = format!("HTTP GET http://{addr}/: no answer within 300ms");
        assert_eq!(finding, Finding::critical(output));
    }
}

#[tokio::test]
async fn the_status_counts_whatever_becomes_of_the_body() {
    // Half a body, then silence.
    let half = canned(None, b"HTTP/1.1 200 Fine\r\nContent-Length: 10\r\n\r\nhalf").await;
    let url = format!("http://{}/", half.at());
    let finding = Ask { timeout: IMPATIENCE, ..Ask::get(&url) }.find().await;
    assert_eq!(finding, Finding::passing(format!("HTTP GET {url}: 200 Fine Output: half")));
    // A body without an end.
    let endless = serve(None, |mut stream| async move {
        use tokio::io::AsyncWriteExt;
        let mut said = stream.write_all(b"HTTP/1.1 500 X\r\n\r\n").await;
        while said.is_ok() {
            said = stream.write_all(&[b'x'; 10_000]).await;
        }
    })
    .await;
    let finding = get(&format!("http://{}/", endless.at())).await;
    assert_eq!(finding.health, Health::Critical);
    assert!(finding.output.len() < 5000);
}

#[tokio::test]
async fn garbage_and_hasty_goodbyes_are_critical() {
    let garbage = canned(None, b"\x16\x03\x01 this is not HTTP\r\n\r\n").await;
    let hasty = serve(None, |mut stream| async move {
        let _ = stream.read(&mut [0; 10]).await;
    })
    .await;
    for addr in [garbage.at(), hasty.at()] {
        let finding = get(&format!("http://{addr}/")).await;
        assert_eq!(finding.health, Health::Critical);
        assert!(!finding.output.contains("no answer within"), "{}", finding.output);
    }
}

#[tokio::test]
async fn a_run_that_is_stopped_hangs_up() {
    let (seen, mut ended) = tokio::sync::mpsc::channel(2);
    let server = serve(None, move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut piece = [0; 1024];
            while !matches!(stream.read(&mut piece).await, Ok(0) | Err(_)) {
                seen.send("asked").await.unwrap();
            }
            seen.send("hung up").await.unwrap();
        }
    })
    .await;
    let url = format!("http://{}/", server.at());
    tokio::select! {
        _ = get(&url) => panic!("nobody answers"),
        said = ended.recv() => assert_eq!(said, Some("asked")),
    }
    assert_eq!(timeout(PATIENCE, ended.recv()).await.unwrap(), Some("hung up"));
}

fn versions(asked: &[Asked]) -> Vec<Version> {
    asked.iter().map(|asked| asked.head.version).collect()
}

#[tokio::test]
async fn tls_is_spoken_with_those_whose_certificate_is_good() {
    let (trusted, other) = (Trusted::new(), Trusted::new());
    let acceptor = trusted.acceptor(Callers::Anyone);
    let web = Web::answering(Some(acceptor), |_| answer(200, "private")).await;
    let by_name = format!("https://localhost:{}/x", web.server.port());
    let by_addr = format!("https://{}/x", web.server.at());
    let skip = Tls { skip_verify: true, ..Tls::default() };
    let named = Tls { server_name: "localhost".into(), ..Tls::default() };
    for (url, tls, credentials, refusal) in [
        (&by_name, Tls::default(), trusted.credentials(), None),
        (&by_addr, named, trusted.credentials(), None),
        (&by_addr, skip, Credentials::default(), None),
        (&by_addr, Tls::default(), trusted.credentials(), Some("for another name")),
        (&by_name, Tls::default(), other.credentials(), Some("no authority that is trusted")),
        (&by_name, Tls::default(), Credentials::default(), Some("no authority that is trusted")),
    ] {
        let finding = Ask { tls, credentials, ..Ask::get(url) }.find().await;
        match refusal {
            None => {
                let output = format!("HTTP GET {url}: 200 OK Output: private");
                assert_eq!(finding, Finding::passing(output));
            }
            Some(reason) => {
                assert_eq!(finding.health, Health::Critical);
                assert!(finding.output.contains(reason), "{}", finding.output);
            }
        }
    }
    // HTTP/2 where both sides speak it.
    assert_eq!(versions(&web.asked()), [Version::HTTP_2; 3]);
    assert_eq!(web.asked()[0].head.uri.to_string(), by_name);
}

#[tokio::test]
async fn a_certificate_is_shown_where_one_is_wanted() {
    let trusted = Trusted::new();
    let acceptor = trusted.acceptor(Callers::Certified);
    let web = Web::answering(Some(acceptor), |_| answer(200, "")).await;
    let url = format!("https://localhost:{}/", web.server.port());
    let without = Ask { credentials: trusted.credentials(), ..Ask::get(&url) }.find().await;
    assert_eq!(without.health, Health::Critical);
    assert!(without.output.contains("CertificateRequired"), "{}", without.output);
    let with = Ask { credentials: trusted.own(), ..Ask::get(&url) }.find().await;
    assert_eq!(with.health, Health::Passing);
}

#[tokio::test]
async fn who_does_not_speak_tls_is_critical() {
    let web = Web::answering(None, |_| answer(200, "")).await;
    let url = format!("https://{}/", web.server.at());
    let trusted = Trusted::new();
    let finding = Ask { credentials: trusted.credentials(), ..Ask::get(&url) }.find().await;
    assert!(finding.output.contains("does not speak TLS"), "{}", finding.output);
}
