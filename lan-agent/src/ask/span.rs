//! The span that marks every log line of a request with its trace id.
//!
//! It is opened where a request comes in: at the HTTP interface, at a client agent's caller, at a
//! server's dispatch. It exists only while debug lines are logged; otherwise opening it costs a
//! look at the level.

use std::fmt;

use tracing::{Level, Span, debug_span, level_filters::LevelFilter};

use super::TraceId;

const NAME: &str = "request";

impl TraceId {
    /// Opens the span of a request, or returns the current one within a request: what a request
    /// asks for is part of it.
    pub fn span(self) -> Span {
        if LevelFilter::current() < Level::DEBUG {
            return Span::none();
        }
        let current = Span::current();
        let is_request =
            |meta: &tracing::Metadata<'_>| meta.name() == NAME && meta.target() == module_path!();
        if current.metadata().is_some_and(is_request) {
            return current;
        }
        debug_span!(NAME, trace = %self)
    }
}

/// 32 hexadecimal digits, as in W3C's `traceparent`: the one form in which logs and headers show it.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_request_within_a_request_is_part_of_it() {
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::DEBUG).finish();
        tracing::subscriber::with_default(subscriber, || {
            let outer = TraceId(Uuid::from_u128(1)).span();
            assert!(!outer.is_disabled());
            let inner = outer.in_scope(|| TraceId(Uuid::from_u128(2)).span());
            assert_eq!(inner.id(), outer.id());
            assert_ne!(TraceId(Uuid::from_u128(2)).span().id(), outer.id());
        });
    }

    #[test]
    fn there_is_none_when_nobody_would_see_it() {
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::INFO).finish();
        tracing::subscriber::with_default(subscriber, || {
            assert!(TraceId(Uuid::from_u128(1)).span().is_disabled());
        });
    }
}
