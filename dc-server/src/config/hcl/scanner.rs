//! Turns HCL text into tokens: identifiers, strings, heredocs, numbers, punctuation.
//!
//! Comments (`#`, `//`, `/* */`) and white space, line ends included, separate tokens and are
//! otherwise nothing. A string ends on its line, except inside `${...}`, which is kept as it is.

use std::fmt;

use serde_json::Number;

use super::{Position, SyntaxError};

/// A piece of HCL.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Identifier(String),
    Text(String),
    Number(Number),
    Equals,
    Comma,
    BlockOpen,
    BlockClose,
    ListOpen,
    ListClose,
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Identifier(word) => f.write_str(word),
            Token::Text(text) => write!(f, "{text:?}"),
            Token::Number(number) => write!(f, "{number}"),
            Token::Equals => f.write_str("\"=\""),
            Token::Comma => f.write_str("\",\""),
            Token::BlockOpen => f.write_str("\"{\""),
            Token::BlockClose => f.write_str("\"}\""),
            Token::ListOpen => f.write_str("\"[\""),
            Token::ListClose => f.write_str("\"]\""),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

/// Walks over a text, token by token.
pub(super) struct Scanner<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest, at: Position { line: 1, column: 1 } }
    }

    /// Returns the next token and where it begins; [`Token::End`] for ever after the last one.
    pub(super) fn next(&mut self) -> Result<(Position, Token), SyntaxError> {
        self.skip_blank()?;
        let at = self.at;
        let Some(first) = self.peek() else { return Ok((at, Token::End)) };
        let token = match first {
            '=' => self.punctuation(Token::Equals),
            ',' => self.punctuation(Token::Comma),
            '{' => self.punctuation(Token::BlockOpen),
            '}' => self.punctuation(Token::BlockClose),
            '[' => self.punctuation(Token::ListOpen),
            ']' => self.punctuation(Token::ListClose),
            '"' => Token::Text(self.string(at)?),
            '<' => Token::Text(self.heredoc(at)?),
            '-' | '+' | '0'..='9' => Token::Number(self.number(at)?),
            c if c == '_' || c.is_alphabetic() => Token::Identifier(
                self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')).to_owned(),
            ),
            c => return Err(error(at, format!("{c:?} has no meaning here"))),
        };
        Ok((at, token))
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn advance_by(&mut self, bytes: usize) -> &'a str {
        let taken = &self.rest[..bytes];
        let end = self.rest.len() - bytes;
        while self.rest.len() > end {
            self.advance();
        }
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let len = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.advance_by(len)
    }

    fn punctuation(&mut self, token: Token) -> Token {
        self.advance();
        token
    }

    fn skip_blank(&mut self) -> Result<(), SyntaxError> {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
            if self.rest.starts_with('#') || self.rest.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest.starts_with("/*") {
                let at = self.at;
                let Some(len) = self.rest[2..].find("*/") else {
                    return Err(error(at, "the comment is not closed with \"*/\""));
                };
                self.advance_by(len + 4);
            } else {
                return Ok(());
            }
        }
    }

    fn string(&mut self, at: Position) -> Result<String, SyntaxError> {
        self.advance();
        let mut text = String::new();
        let mut braces = 0usize;
        loop {
            let here = self.at;
            let Some(c) = self.advance() else {
                return Err(error(at, "the string is not closed with '\"'"));
            };
            match c {
                '"' if braces == 0 => return Ok(text),
                '\n' if braces == 0 => {
                    return Err(error(at, "the string is not closed with '\"' on its line"));
                }
                '$' if braces == 0 && self.peek() == Some('{') => {
                    self.advance();
                    braces = 1;
                    text.push_str("${");
                    continue;
                }
                '{' if braces > 0 => braces += 1,
                '}' if braces > 0 => braces -= 1,
                '\\' if braces == 0 => {
                    text.push(self.escape(here)?);
                    continue;
                }
                _ => {}
            }
            text.push(c);
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self, at: Position) -> Result<char, SyntaxError> {
        let Some(c) = self.advance() else {
            return Err(error(at, "the string ends after a backslash"));
        };
        Ok(match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '"' => c,
            '0'..='7' => {
                let digits = self.digits(at, 2, 8)?;
                return code(at, c.to_digit(8).unwrap_or(0) * 64 + digits);
            }
            'x' => return self.digits(at, 2, 16).and_then(|n| code(at, n)),
            'u' => return self.digits(at, 4, 16).and_then(|n| code(at, n)),
            'U' => return self.digits(at, 8, 16).and_then(|n| code(at, n)),
            c => {
                return Err(error(
                    at,
                    format!("\\{c} is not an escape: write \\\\ for a backslash"),
                ));
            }
        })
    }

    fn digits(&mut self, at: Position, count: usize, radix: u32) -> Result<u32, SyntaxError> {
        let mut number = 0u32;
        for _ in 0..count {
            let digit = self
                .peek()
                .and_then(|c| c.to_digit(radix))
                .ok_or_else(|| error(at, format!("the escape needs {count} digits")))?;
            self.advance();
            number = number.wrapping_mul(radix).wrapping_add(digit);
        }
        Ok(number)
    }

    /// Reads `<<EOF` (kept as it is) or `<<-EOF` (without the indent of its closing line).
    fn heredoc(&mut self, at: Position) -> Result<String, SyntaxError> {
        if !self.rest.starts_with("<<") {
            return Err(error(at, "'<' has no meaning here: a heredoc begins with \"<<\""));
        }
        self.advance_by(2);
        let indented = self.rest.starts_with('-');
        if indented {
            self.advance();
        }
        let anchor = self.take_while(|c| c.is_alphanumeric() || c == '_');
        let line_end = self.take_while(|c| c == '\r');
        if anchor.is_empty() || line_end.len() > 1 || self.advance() != Some('\n') {
            return Err(error(at, "a heredoc's name stands alone behind \"<<\", such as <<EOF"));
        }
        let mut lines: Vec<&str> = Vec::new();
        while !self.rest.is_empty() {
            let line = self.take_while(|c| c != '\n');
            if line.trim_start().trim_end_matches('\r') == anchor {
                return Ok(heredoc_text(&lines, line, indented));
            }
            self.advance();
            lines.push(line);
        }
        Err(error(at, format!("the heredoc is not closed with {anchor} on a line of its own")))
    }

    fn number(&mut self, at: Position) -> Result<Number, SyntaxError> {
        let mut previous = ' ';
        let len = self
            .rest
            .find(|c: char| {
                let part = c.is_ascii_alphanumeric()
                    || c == '.'
                    || (matches!(c, '-' | '+') && matches!(previous, ' ' | 'e' | 'E'));
                previous = c;
                !part
            })
            .unwrap_or(self.rest.len());
        let text = self.advance_by(len);
        let bad = || error(at, format!("{text} is not a number"));
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let whole = |digits: &str, radix| i64::from_str_radix(digits, radix).map_err(|_| bad());
        if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            return Ok((sign * whole(hex, 16)?).into());
        }
        if !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(bad());
        }
        if digits.contains(['.', 'e', 'E']) {
            let number: f64 = text.parse().map_err(|_| bad())?;
            return Number::from_f64(number).ok_or_else(bad);
        }
        let octal = digits.len() > 1 && digits.starts_with('0');
        Ok((sign * whole(digits, if octal { 8 } else { 10 })?).into())
    }
}

fn heredoc_text(lines: &[&str], closing: &str, indented: bool) -> String {
    let indent = if indented { closing.len() - closing.trim_start().len() } else { 0 };
    let mut text = String::new();
    for line in lines {
        let blank = line.len() - line.trim_start().len();
        text.push_str(&line[blank.min(indent)..]);
        text.push('\n');
    }
    text
}

fn code(at: Position, number: u32) -> Result<char, SyntaxError> {
    char::from_u32(number).ok_or_else(|| error(at, "the escape is no character"))
}

fn error(at: Position, message: impl Into<String>) -> SyntaxError {
    SyntaxError { at, message: message.into() }
}
