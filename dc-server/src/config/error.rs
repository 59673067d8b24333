//! What is wrong with a configuration. Everything that is wrong is reported at once.

use std::{fmt, path::PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A file can't be read.
    #[error("{}: {message}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A text is not HCL or JSON.
    #[error("{place}: {message}")]
    Syntax {
        /// File, line and column.
        place: String,
        /// What was expected there.
        message: String,
    },
    /// A key is none of the agent's.
    #[error("{place}: invalid config key {key}{}", did_you_mean(nearest))]
    UnknownKey {
        /// File, with line and column where known, or flag.
        place: String,
        /// Dotted path, as written.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value is not what its key holds.
    #[error("{place}: {key}: expected {expected}, found {found}")]
    BadValue {
        /// File, with line and column where known, or flag.
        place: String,
        /// Dotted path.
        key: String,
        /// What the key holds.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Values don't go together, or one that is needed is missing.
    #[error("{0}")]
    Rule(String),
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map_or(String::new(), |key| format!(", did you mean {key}?"))
}

/// Everything that is wrong; never empty. Shows one problem on each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
