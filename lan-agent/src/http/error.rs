//! Errors of the HTTP interface: the one place where they get a status code.

use std::borrow::Cow;

use axum::http::StatusCode;

use crate::{ask::AskError, pool::PoolError};

/// Why a request is refused, as the client reads it: a status and a plain-text sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) text: Cow<'static, str>,
    /// Methods for the `Allow` header of a 405.
    pub(super) allow: Option<&'static str>,
    /// Whether the connection must end because the body was not read.
    pub(super) close: bool,
}

impl Failure {
    pub(super) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), allow: None, close: false }
    }

    /// 400: the client is wrong, and this is what is wrong.
    pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 500 with a sentence.
    pub(super) fn internal(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// 413: the body is over its bound and was not read to its end. `len` where it is known.
    pub(super) fn body_too_large(len: Option<u64>, len_max: usize, setting: &str) -> Self {
        let known = len.map(|len| format!("({len} bytes)")).unwrap_or_default();
        let text = format!("Request body{known} too large, max size: {len_max} bytes. {setting}");
        Self { close: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, text) }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let status = match &error {
            AskError::Bad(_) => StatusCode::BAD_REQUEST,
            AskError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            AskError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            AskError::NoLeader
            | AskError::Lost
            | AskError::NoPath { .. }
            | AskError::NoServer { .. }
            | AskError::CutOff(_)
            | AskError::Deadline(_)
            | AskError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let text = match &error {
            AskError::NoServer { reason, .. } if !reason.is_empty() => format!("{error}: {reason}"),
            _ => error.to_string(),
        };
        Self::new(status, text)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::internal(error.to_string())
    }
}
