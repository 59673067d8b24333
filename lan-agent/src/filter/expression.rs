//! An expression as a tree, and as the text that is parsed to this tree again.

use std::fmt;

use super::quote::quote;

/// What is to be true of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// All of these, two or more (`and`).
    All(Vec<Expression>),
    /// Any of these, two or more (`or`).
    Any(Vec<Expression>),
    /// The contrary (`not`).
    Not(Box<Expression>),
    /// A test of a field.
    Match(Match),
}

/// A test of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The field.
    pub selector: Selector,
    /// What it is tested for.
    pub test: Test,
    /// Whether the test must fail (`!=`, `not in`, `is not empty` ...).
    pub negated: bool,
}

/// The names on the way from a record to a field or to a key of a map, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(pub Vec<String>);

/// What a field is tested for, with the value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It is this (`==`).
    Equal(String),
    /// It has this in it (`in`, `contains`): a text a part, a list an element, a map a key.
    Contains(String),
    /// A regular expression is found in it (`matches`).
    Matches(String),
    /// There is nothing in it (`is empty`).
    Empty,
}

impl Match {
    /// Returns Consul's name of the operator.
    pub fn operator(&self) -> &'static str {
        match (&self.test, self.negated) {
            (Test::Equal(_), false) => "Equal",
            (Test::Equal(_), true) => "Not Equal",
            (Test::Contains(_), false) => "In",
            (Test::Contains(_), true) => "Not In",
            (Test::Matches(_), false) => "Matches",
            (Test::Matches(_), true) => "Not Matches",
            (Test::Empty, false) => "Is Empty",
            (Test::Empty, true) => "Is Not Empty",
        }
    }
}

impl Selector {
    /// Returns the names with points between them.
    pub fn dotted(&self) -> String {
        self.0.join(".")
    }
}

/// Tells whether a name can stand in a selector as it is.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::All(terms) => join(f, terms, " and "),
            Expression::Any(terms) => join(f, terms, " or "),
            Expression::Not(inner) => {
                f.write_str("not ")?;
                grouped(f, inner)
            }
            Expression::Match(test) => test.fmt(f),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, terms: &[Expression], word: &str) -> fmt::Result {
    for (position, term) in terms.iter().enumerate() {
        if position > 0 {
            f.write_str(word)?;
        }
        grouped(f, term)?;
    }
    Ok(())
}

fn grouped(f: &mut fmt::Formatter<'_>, expression: &Expression) -> fmt::Result {
    match expression {
        Expression::All(_) | Expression::Any(_) => write!(f, "({expression})"),
        Expression::Not(_) | Expression::Match(_) => write!(f, "{expression}"),
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Match { selector, test, negated } = self;
        let not = if *negated { "not " } else { "" };
        match test {
            Test::Equal(value) if *negated => write!(f, "{selector} != {}", quote(value)),
            Test::Equal(value) => write!(f, "{selector} == {}", quote(value)),
            // The other way round, a field that is called `not` would be read for the word.
            Test::Contains(value) if *negated => write!(f, "{} not in {selector}", quote(value)),
            Test::Contains(value) => write!(f, "{selector} contains {}", quote(value)),
            Test::Matches(value) => write!(f, "{selector} {not}matches {}", quote(value)),
            Test::Empty => write!(f, "{selector} is {not}empty"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.0.iter().enumerate() {
            match (position, is_identifier(name)) {
                (0, _) => f.write_str(name)?,
                (_, true) => write!(f, ".{name}")?,
                (_, false) => write!(f, "[{}]", quote(name))?,
            }
        }
        Ok(())
    }
}
