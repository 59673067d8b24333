//! Texts to expressions.
//!
//! ```text
//! any      := all ( _ "or" _ all )*
//! all      := one ( _ "and" _ one )*
//! one      := "not" _ one | "(" any ")" | match
//! match    := selector ( "==" | "!=" | "contains" | "matches" | "not contains" | "not matches" ) value
//!           | selector ( "is empty" | "is not empty" )
//!           | value ( "in" | "not in" ) selector
//! selector := name ( "." name | "[" text "]" )*
//! value    := selector | number | text
//! text     := "..." with Go's escapes | `...` as it is
//! ```
//!
//! Words stand between spaces; around `==`, `!=` and parentheses they may be left out. A selector
//! that stands for a value is the text of its names with points between them. No word is reserved:
//! what follows a `not` that makes no sense without it is tried with the `not` as a value.

use super::{
    DEPTH_MAX, FilterError, LEN_MAX,
    expression::{Expression, Match, Selector, Test},
    quote::unquote,
};

/// Parses a text, which must not be empty.
pub fn parse(text: &str) -> Result<Expression, FilterError> {
    if text.len() > LEN_MAX {
        return Err(FilterError::TooLong(text.len()));
    }
    let mut parser = Parser { text, at: 0 };
    parser.space();
    let expression = parser.any(0)?;
    parser.space();
    match parser.rest().is_empty() {
        true => Ok(expression),
        false => Err(parser.expected("\"and\", \"or\" or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// What stands left of an operator.
enum Left {
    Selector(Selector),
    Value(String),
}

/// What stands between a field and a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Contains,
    Matches,
    Empty,
    In,
}

type Parsed<T> = Result<T, FilterError>;

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Parsed<Expression> {
        let mut terms = vec![self.all(depth)?];
        while self.between_spaces("or") {
            terms.push(self.all(depth)?);
        }
        Ok(one_or(terms, Expression::Any))
    }

    fn all(&mut self, depth: usize) -> Parsed<Expression> {
        let mut terms = vec![self.one(depth)?];
        while self.between_spaces("and") {
            terms.push(self.one(depth)?);
        }
        Ok(one_or(terms, Expression::All))
    }

    fn one(&mut self, depth: usize) -> Parsed<Expression> {
        if depth > DEPTH_MAX {
            return Err(FilterError::TooDeep);
        }
        let start = self.at;
        if self.take("not") && self.space() {
            return match self.one(depth + 1) {
                Ok(inner) => Ok(Expression::Not(Box::new(inner))),
                Err(error) => {
                    self.at = start;
                    self.test().map_err(|_| error)
                }
            };
        }
        self.at = start;
        if !self.take("(") {
            return self.test();
        }
        self.space();
        let inner = self.any(depth + 1)?;
        self.space();
        if self.take(")") { Ok(inner) } else { Err(self.expected("\"and\", \"or\" or \")\"")) }
    }

    fn test(&mut self) -> Parsed<Expression> {
        let left = match self.rest().bytes().next() {
            Some(b'"' | b'`') => Left::Value(self.quoted()?),
            Some(b'-' | b'0'..=b'9') => Left::Value(self.number()?),
            _ => match self.selector()? {
                Some(selector) => Left::Selector(selector),
                None => return Err(self.expected("a selector, a value, \"not\" or \"(\"")),
            },
        };
        let before = self.at;
        let (operator, negated) = self.operator()?;
        let (selector, test) = match (left, operator) {
            (left, Operator::In) => {
                let value = match left {
                    Left::Selector(selector) => selector.dotted(),
                    Left::Value(value) => value,
                };
                let Some(selector) = self.selector()? else {
                    return Err(self.expected("a selector"));
                };
                (selector, Test::Contains(value))
            }
            (Left::Selector(selector), Operator::Empty) => (selector, Test::Empty),
            (Left::Selector(selector), Operator::Equal) => (selector, Test::Equal(self.value()?)),
            (Left::Selector(selector), Operator::Contains) => {
                (selector, Test::Contains(self.value()?))
            }
            (Left::Selector(selector), Operator::Matches) => {
                (selector, Test::Matches(self.value()?))
            }
            (Left::Value(_), _) => {
                self.at = before;
                return Err(self.expected("\"in\" or \"not in\" after a value"));
            }
        };
        Ok(Expression::Match(Match { selector, test, negated }))
    }

    fn operator(&mut self) -> Parsed<(Operator, bool)> {
        let before = self.at;
        let spaced = self.space();
        for (sign, negated) in [("==", false), ("!=", true)] {
            if self.take(sign) {
                self.space();
                return Ok((Operator::Equal, negated));
            }
        }
        if spaced {
            if self.take("is") && self.space() {
                let negated = self.take("not") && self.space();
                if self.take("empty") {
                    return Ok((Operator::Empty, negated));
                }
                return Err(self.expected("\"empty\" or \"not empty\""));
            }
            let negated = self.take("not") && self.space();
            for (word, operator) in [
                ("in", Operator::In),
                ("contains", Operator::Contains),
                ("matches", Operator::Matches),
            ] {
                let start = self.at;
                if self.take(word) && self.space() {
                    return Ok((operator, negated));
                }
                self.at = start;
            }
        }
        self.at = before;
        self.space();
        Err(self.expected(
            "an operator (==, !=, in, not in, contains, not contains, is empty, is not empty, \
             matches, not matches)",
        ))
    }

    fn value(&mut self) -> Parsed<String> {
        match self.rest().bytes().next() {
            Some(b'"' | b'`') => self.quoted(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => match self.selector()? {
                Some(selector) => Ok(selector.dotted()),
                None => Err(self.expected("a value")),
            },
        }
    }

    /// Reads a selector, if one begins here.
    fn selector(&mut self) -> Parsed<Option<Selector>> {
        let Some(first) = self.identifier() else { return Ok(None) };
        let mut names = vec![first];
        loop {
            let before = self.at;
            if self.take(".") {
                let Some(name) = self.identifier() else {
                    self.at = before;
                    return Err(self.expected("a name after \".\""));
                };
                names.push(name);
            } else if self.take("[") {
                self.space();
                if !self.rest().starts_with(['"', '`']) {
                    return Err(self.wrong("Invalid index: expected a text in quotes"));
                }
                names.push(self.quoted()?);
                self.space();
                if !self.take("]") {
                    return Err(self.wrong("Unclosed index expression"));
                }
            } else {
                return Ok(Some(Selector(names)));
            }
        }
    }

    fn identifier(&mut self) -> Option<String> {
        let rest = self.rest();
        rest.bytes().next().filter(u8::is_ascii_alphabetic)?;
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let len = rest.bytes().take_while(|byte| inside(*byte)).count();
        self.at += len;
        Some(rest[..len].to_owned())
    }

    fn number(&mut self) -> Parsed<String> {
        let rest = self.rest();
        let end = rest.find([' ', '\t', '\r', '\n', ')']).unwrap_or(rest.len());
        let written = &rest[..end];
        let digits = written.strip_prefix('-').unwrap_or(written);
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(part) || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(self.wrong("Invalid number literal: other values need quotes"));
        }
        self.at += end;
        Ok(written.to_owned())
    }

    fn quoted(&mut self) -> Parsed<String> {
        let rest = self.rest();
        let raw = rest.starts_with('`');
        let inside = &rest[1..];
        let end = if raw { inside.find('`') } else { end_of_quoted(inside) };
        let Some(end) = end else { return Err(self.wrong("Unterminated string literal")) };
        let inside = &inside[..end];
        // As in Go, where a raw text has no carriage returns.
        let text = if raw { Some(inside.replace('\r', "")) } else { unquote(inside) };
        let Some(text) = text else {
            return Err(self.wrong("invalid syntax: the text has an escape that Go does not have"));
        };
        self.at += end + 2;
        Ok(text)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Passes over spaces; tells whether there were any.
    fn space(&mut self) -> bool {
        let rest = self.rest();
        let len = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.at += len;
        len > 0
    }

    fn between_spaces(&mut self, word: &str) -> bool {
        let before = self.at;
        let found = self.space() && self.take(word) && self.space();
        if !found {
            self.at = before;
        }
        found
    }

    fn expected(&self, what: &str) -> FilterError {
        let found = match self.rest().chars().next() {
            Some(char) => format!("{char:?}"),
            None => "the end".to_owned(),
        };
        self.wrong(&format!("no match found, expected {what}, found {found}"))
    }

    fn wrong(&self, message: &str) -> FilterError {
        let before = &self.text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        FilterError::Syntax {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            offset: self.at,
            message: message.to_owned(),
        }
    }
}

fn one_or(mut terms: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match terms.pop() {
        Some(only) if terms.is_empty() => only,
        last => {
            terms.extend(last);
            many(terms)
        }
    }
}

/// Finds the quote that ends a text; one behind a backslash does not.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}
