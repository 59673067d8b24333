//! HCL, the first version of it, as Consul's users write their configuration.
//!
//! ```text
//! document := item*                     items need no separator; a comma is allowed
//! item     := key "=" value | key label* block
//! key      := identifier | string      label := identifier | string
//! value    := string | heredoc | number | "true" | "false" | list | block
//! list     := "[" (value ",")* value? "]"
//! block    := "{" item* "}"
//! ```
//!
//! A block that stands more than once becomes a list of objects; a label becomes an object
//! around its block; a value given twice is the last one. Every error names line and column.
//! Nesting is bounded, so that no input can exhaust the stack.

mod scanner;

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use self::scanner::{Scanner, Token};

/// Deepest nesting of blocks and lists: far above any configuration, far below the stack.
const DEPTH_MAX: usize = 64;

/// A place in a text: both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column in the line.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Says where a text stops being HCL, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct SyntaxError {
    /// Where.
    pub at: Position,
    /// What was expected there.
    pub message: String,
}

/// A document that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its content; always an object.
    pub value: Value,
    /// Where each key, written as a dotted path, stood first.
    pub places: BTreeMap<String, Position>,
}

/// Reads a document.
pub fn parse(text: &str) -> Result<Document, SyntaxError> {
    let mut parser = Parser {
        scanner: Scanner::new(text),
        ahead: None,
        path: Vec::new(),
        places: BTreeMap::new(),
    };
    let items = parser.items(Token::End, 0)?;
    Ok(Document { value: Value::Object(items), places: parser.places })
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    ahead: Option<(Position, Token)>,
    path: Vec<String>,
    places: BTreeMap<String, Position>,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<(Position, Token), SyntaxError> {
        match self.ahead.take() {
            Some(ahead) => Ok(ahead),
            None => self.scanner.next(),
        }
    }

    /// Reads items up to and including the token that closes them.
    fn items(&mut self, close: Token, depth: usize) -> Result<Map<String, Value>, SyntaxError> {
        let mut items = Map::new();
        loop {
            let (at, token) = self.next()?;
            match token {
                token if token == close => return Ok(items),
                Token::Comma if !items.is_empty() => {}
                Token::Identifier(key) | Token::Text(key) => {
                    self.path.push(key.clone());
                    self.places.entry(self.path.join(".")).or_insert(at);
                    let (value, form) = self.item(depth)?;
                    self.path.pop();
                    add(&mut items, key, value, form);
                }
                token => {
                    let expected = if close == Token::End { "a key" } else { "a key or \"}\"" };
                    return Err(unexpected(at, expected, &token));
                }
            }
        }
    }

    /// Reads what follows a key.
    fn item(&mut self, depth: usize) -> Result<(Value, Form), SyntaxError> {
        let (at, token) = self.next()?;
        match token {
            Token::Equals => {
                let (at, token) = self.next()?;
                Ok((self.value(at, token, depth)?, Form::Value))
            }
            Token::BlockOpen => Ok((Value::Object(self.block(at, depth)?), Form::Block)),
            Token::Identifier(label) | Token::Text(label) => {
                self.path.push(label.clone());
                let inner = self.labelled(depth)?;
                self.path.pop();
                Ok((Value::Object(Map::from_iter([(label, inner)])), Form::Block))
            }
            token => Err(unexpected(at, "\"=\", a label or \"{\"", &token)),
        }
    }

    /// Reads further labels and the block that they name.
    fn labelled(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        if depth >= DEPTH_MAX {
            let (at, _) = self.next()?;
            return Err(too_deep(at));
        }
        let (at, token) = self.next()?;
        match token {
            Token::BlockOpen => Ok(Value::Object(self.block(at, depth)?)),
            Token::Identifier(label) | Token::Text(label) => {
                self.path.push(label.clone());
                let inner = self.labelled(depth + 1)?;
                self.path.pop();
                Ok(Value::Object(Map::from_iter([(label, inner)])))
            }
            token => Err(unexpected(at, "\"{\" after a label", &token)),
        }
    }

    fn block(&mut self, at: Position, depth: usize) -> Result<Map<String, Value>, SyntaxError> {
        if depth >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        self.items(Token::BlockClose, depth + 1)
    }

    fn value(&mut self, at: Position, token: Token, depth: usize) -> Result<Value, SyntaxError> {
        match token {
            Token::Text(text) => Ok(Value::String(text)),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Identifier(word) if word == "true" => Ok(Value::Bool(true)),
            Token::Identifier(word) if word == "false" => Ok(Value::Bool(false)),
            Token::Identifier(word) => Err(SyntaxError {
                at,
                message: format!("{word} is not a value: write \"{word}\" if it is a text"),
            }),
            Token::ListOpen => self.list(at, depth),
            Token::BlockOpen => Ok(Value::Object(self.block(at, depth)?)),
            token => Err(unexpected(at, "a value", &token)),
        }
    }

    fn list(&mut self, at: Position, depth: usize) -> Result<Value, SyntaxError> {
        if depth >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        let mut values = Vec::new();
        loop {
            let (at, token) = self.next()?;
            if token == Token::ListClose {
                return Ok(Value::Array(values));
            }
            values.push(self.value(at, token, depth + 1)?);
            match self.next()? {
                (_, Token::Comma) => {}
                (at, Token::ListClose) => self.ahead = Some((at, Token::ListClose)),
                (at, token) => return Err(unexpected(at, "\",\" or \"]\"", &token)),
            }
        }
    }
}

/// How an item was written: blocks of one name add up, values replace each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Value,
    Block,
}

fn add(items: &mut Map<String, Value>, key: String, value: Value, form: Form) {
    match (form, items.get_mut(&key)) {
        (Form::Block, Some(Value::Array(blocks))) => blocks.push(value),
        (Form::Block, Some(first @ Value::Object(_))) => {
            *first = Value::Array(vec![first.take(), value]);
        }
        _ => {
            items.insert(key, value);
        }
    }
}

fn unexpected(at: Position, expected: &str, found: &Token) -> SyntaxError {
    SyntaxError { at, message: format!("expected {expected}, found {found}") }
}

fn too_deep(at: Position) -> SyntaxError {
    SyntaxError { at, message: format!("nested deeper than {DEPTH_MAX} levels") }
}

#[cfg(test)]
mod tests;
