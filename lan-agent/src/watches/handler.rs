//! Tells a handler of an agent of a change.
//!
//! A program gets the value at its standard input and the index in `CONSUL_INDEX`. Other than that of
//! a check it is nobody's prisoner: it may take its time and leave something running behind it,
//! such as the server that it restarted. The end of what it prints is logged.

use std::{
    io,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::Receiver,
    process::Command,
};

use super::{Handler, HttpHandler};
use crate::checks::{Calls, Request, Tail};

/// How much of what a handler prints is logged, as in Consul.
const OUTPUT_LEN_MAX: usize = 4 * 1024;

/// Bytes that are read at once.
const PIECE_LEN: usize = 8 * 1024;

/// Why a handler did not take it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandlerError {
    #[error("there is no program to run")]
    NoProgram,
    #[error("can't run {program:?}: {source}")]
    Start { program: String, source: io::Error },
    #[error("{status}, output: {output:?}")]
    Failed { status: ExitStatus, output: String },
    #[error("{0}")]
    Refused(String),
}

/// What is told.
pub(super) struct News<'a> {
    pub(super) index: u64,
    /// The value, as a line of JSON.
    pub(super) line: &'a str,
}

/// Tells the handler; returns what it says when it took it.
pub(super) async fn tell(
    handler: &Handler,
    calls: &Calls,
    news: News<'_>,
) -> Result<String, HandlerError> {
    match handler {
        Handler::Program(args) => run(args, news).await,
        Handler::Shell(line) => {
            run(&["/bin/sh".to_owned(), "-c".to_owned(), line.clone()], news).await
        }
        Handler::Http(http) => send(http, calls, news).await.map_err(HandlerError::Refused),
    }
}

async fn run(args: &[String], news: News<'_>) -> Result<String, HandlerError> {
    let (program, args) = args.split_first().ok_or(HandlerError::NoProgram)?;
    let failed = |source| HandlerError::Start { program: program.clone(), source };
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut pipe = Receiver::from_owned_fd(reader.into()).map_err(failed)?;
    let mut child = Command::new(program)
        .args(args)
        .env("CONSUL_INDEX", news.index.to_string())
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read what it is given need not.
            let _ = stdin.write_all(news.line.as_bytes()).await;
        }
        std::future::pending::<()>().await;
    };
    let mut output = Tail::new(OUTPUT_LEN_MAX);
    let mut piece = [0; PIECE_LEN];
    let mut open = true;
    let mut feed = std::pin::pin!(feed);
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status.map_err(failed)?,
            () = &mut feed => {}
            read = pipe.read(&mut piece), if open => match read {
                Ok(0) | Err(_) => open = false,
                Ok(len) => output.push(&piece[..len]),
            },
        }
    };
    // Nobody waits for the pipe's end: what was left running may hold it open.
    while let Ok(len @ 1..) = pipe.try_read(&mut piece) {
        output.push(&piece[..len]);
        if len < PIECE_LEN {
            break;
        }
    }
    match status.success() {
        true => Ok(output.text()),
        false => Err(HandlerError::Failed { status, output: output.text() }),
    }
}

async fn send(http: &HttpHandler, calls: &Calls, news: News<'_>) -> Result<String, String> {
    let mut header = http.header.clone();
    let mut default = |name: &str, value: String| {
        if !header.keys().any(|given| given.eq_ignore_ascii_case(name)) {
            header.insert(name.into(), vec![value.as_str().into()]);
        }
    };
    default("Content-Type", "application/json".to_owned());
    default("User-Agent", "Causeway watch".to_owned());
    default("X-Consul-Index", news.index.to_string());
    let request = Request {
        url: http.url.clone(),
        method: http.method.clone(),
        header,
        body: news.line.into(),
        timeout: http.timeout,
        tls_skip_verify: http.tls_skip_verify,
    };
    calls.send(request, OUTPUT_LEN_MAX).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(script: &str) -> Result<String, HandlerError> {
        let calls = Calls::default();
        let news = News { index: 7, line: "{\"a\":1}\n" };
        tell(&Handler::Shell(script.to_owned()), &calls, news).await
    }

    #[tokio::test]
    async fn a_program_reads_the_value_and_knows_its_index() {
        assert_eq!(told("echo $CONSUL_INDEX; cat").await.unwrap(), "7\n{\"a\":1}\n");
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_holds_nobody_up() {
        let began = tokio::time::Instant::now();
        told("sleep 30 & echo started").await.unwrap();
        assert!(began.elapsed() < std::time::Duration::from_secs(20));
    }

    #[tokio::test]
    async fn a_failure_has_its_status_and_output() {
        let error = told("echo oh no >&2; exit 3").await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("oh no"), "{error}");
        let missing = Handler::Program(vec!["/nowhere/at-all".to_owned()]);
        let news = News { index: 7, line: "" };
        let error = tell(&missing, &Calls::default(), news).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/at-all"), "{error}");
    }
}
