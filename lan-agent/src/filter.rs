//! Filters (`?filter=`): which records of an answer its client wants, in the language of go-bexpr as
//! Consul 1.8 speaks it.
//!
//! ```text
//! text ──parse──▶ Expression ──compile, for a Schema──▶ Filter ──admits(Record)──▶ bool
//!
//! Service.Meta.version == "2" and ("canary" in Service.Tags or Checks.Status != passing)
//! ```
//!
//! A [`Schema`] says which selectors an endpoint has and of which type each is, so that whatever can be
//! wrong with a filter is found before any record is looked at; a filter that was compiled can't
//! fail. Evaluation borrows from the records and allocates nothing. Lengths, nesting and the size
//! of regular expressions are bounded, and these run in linear time: a filter comes from anybody.
//!
//! Two rules may surprise. A test of a list of records (`Checks.Status`) asks whether any of them
//! passes it, with `!=` as well. A test of a key that a map has not is false, and its negation true.

mod error;
mod evaluate;
mod expression;
mod parse;
mod program;
mod quote;
mod schema;

#[cfg(test)]
mod tests;

pub use error::FilterError;
pub use evaluate::{Record, ShownCheck, ShownNode};
pub use expression::{Expression, Match, Selector, Test};
pub use parse::parse;
pub use schema::Schema;

use crate::catalog::Lookup;

/// Longest expression, in bytes: some hundred tests, so that one request can't keep a server busy.
pub const LEN_MAX: usize = 8 * 1024;

/// Deepest nesting of `not` and parentheses: far above any filter, far below the stack.
pub const DEPTH_MAX: usize = 64;

/// Most regular expressions in one filter: each may take a millisecond to compile.
pub const PATTERNS_MAX: usize = 16;

/// A filter that is ready to be asked about records of its schema.
#[derive(Debug, Default)]
pub struct Filter {
    /// `None` admits all.
    program: Option<program::Program>,
}

impl Filter {
    /// Compiles a text; one that is empty admits everything.
    pub fn compile(text: &str, schema: Schema) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let program = program::compile(&parse(text)?, schema)?;
        Ok(Self { program: Some(program) })
    }

    /// Compiles the filter of a lookup; where Consul has none it passes over what is there.
    pub fn of(lookup: &Lookup) -> Result<Self, FilterError> {
        match Schema::of(&lookup.subject) {
            Some(schema) => Self::compile(&lookup.selection.filter, schema),
            None => Ok(Self::default()),
        }
    }

    /// Tells whether a record is wanted.
    pub fn admits(&self, record: &impl Record) -> bool {
        self.program.as_ref().is_none_or(|program| program.is_true_of(record))
    }
}
