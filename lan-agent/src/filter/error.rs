//! Why a filter can't be used, in Consul's words and, where those leave the reader alone, some more.

use crate::ask::AskError;

use super::{DEPTH_MAX, LEN_MAX, PATTERNS_MAX};

/// Why a filter can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is too long.
    #[error("the expression has {0} bytes, more than {LEN_MAX}")]
    TooLong(usize),
    /// The text is not an expression. Lines and columns count from 1, the offset is in bytes.
    #[error("{line}:{column} ({offset}): {message}")]
    Syntax {
        /// Line.
        line: usize,
        /// Column in the line, in characters.
        column: usize,
        /// Where it is in the text.
        offset: usize,
        /// What is wrong there.
        message: String,
    },
    /// `not` and parentheses are nested too deeply.
    #[error("\"not\" and parentheses are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// The endpoint's records have no such field.
    #[error("Selector {selector:?} is not valid: {hint}")]
    Selector {
        /// As it was written.
        selector: String,
        /// What there is instead.
        hint: String,
    },
    /// The field's type does not have this operator.
    #[error("Invalid match operator {operator:?} for selector {selector:?}: {hint}")]
    Operator {
        /// Consul's name of it.
        operator: &'static str,
        /// As it was written.
        selector: String,
        /// What there is instead.
        hint: String,
    },
    /// The value is not of the field's type.
    #[error("Failed to coerce value {value:?} for selector {selector:?}: {why}")]
    Value {
        /// As it was written.
        value: String,
        /// As it was written.
        selector: String,
        /// What is wrong with it.
        why: String,
    },
    /// The regular expression is none, or too large.
    #[error("Failed to compile regular expression {pattern:?}: {why}")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are too many regular expressions.
    #[error("more than {PATTERNS_MAX} regular expressions in one filter")]
    TooManyPatterns,
}

impl From<FilterError> for AskError {
    fn from(error: FilterError) -> Self {
        AskError::Bad(format!("Failed to create boolean expression evaluator: {error}"))
    }
}
