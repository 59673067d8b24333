//! Rust source read as text: what is code, what is comment, and where functions end.
//!
//! A scanner, not a parser. It knows nested comments, strings of all kinds, characters and
//! lifetimes, which is enough to match braces and to look for a word without finding it in a
//! string. It fails on source that does not compile: the answers are then nonsense, but the
//! compiler has said so first.

use std::{fs, io, ops::Range, path::Path};

/// One file of Rust source.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it lies, from the root of the repository.
    pub path: String,
    /// As it is in the file.
    pub text: String,
    /// As long as `text`, with strings, characters and comments blanked.
    pub code: String,
    /// As long as `text`, with everything but comments blanked.
    pub comments: String,
}

/// A function and the lines it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Lines from the one with `fn` to the one with the closing brace, counted from 1.
    pub lines: Range<usize>,
}

/// What a byte of source belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Text,
}

impl Source {
    /// Reads a file below a root.
    pub fn read(root: &Path, path: &str) -> io::Result<Self> {
        Ok(Self::new(path, fs::read_to_string(root.join(path))?))
    }

    /// Scans source that is at hand.
    pub fn new(path: &str, text: String) -> Self {
        let kinds = scan(text.as_bytes());
        let code = keep(&text, &kinds, Kind::Code);
        let comments = keep(&text, &kinds, Kind::Comment);
        Self { path: path.to_owned(), text, code, comments }
    }

    /// Returns the places where `word` stands in code as a whole identifier.
    pub fn places(&self, word: &str) -> Vec<usize> {
        words(&self.code, word).collect()
    }

    /// Returns the line of a place, counted from 1.
    pub fn line(&self, place: usize) -> usize {
        1 + self.text.as_bytes()[..place].iter().filter(|byte| **byte == b'\n').count()
    }

    /// Returns the bytes that belong to items under `#[cfg(test)]`.
    pub fn test_items(&self) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for (start, _) in self.code.match_indices("#[cfg(test)]") {
            if found.last().is_some_and(|last| last.contains(&start)) {
                continue;
            }
            found.push(start..body_end(self.code.as_bytes(), start + "#[cfg(test)]".len()));
        }
        found
    }

    /// Counts the lines that are not under `#[cfg(test)]`.
    pub fn lines_without_tests(&self) -> usize {
        let tests: usize = self
            .test_items()
            .into_iter()
            .map(|item| self.line(item.end.saturating_sub(1)) + 1 - self.line(item.start))
            .sum();
        self.text.lines().count() - tests
    }

    /// Finds all functions that have a body, those inside others too.
    pub fn functions(&self) -> Vec<Function> {
        let code = self.code.as_bytes();
        let mut found = Vec::new();
        for place in self.places("fn") {
            let name: String = self.code[place + 2..]
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if name.is_empty() {
                continue; // the type of a function pointer
            }
            let end = body_end(code, place);
            if code[..end].last() == Some(&b'}') {
                found.push(Function { name, lines: self.line(place)..self.line(end - 1) + 1 });
            }
        }
        found
    }
}

/// Finds where the item that begins at `from` ends: after its body, or after its semicolon.
fn body_end(code: &[u8], from: usize) -> usize {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (offset, byte) in code[from..].iter().enumerate() {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others = others.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return from + offset + 1;
                }
            }
            b';' if braces == 0 && others == 0 => return from + offset + 1,
            _ => {}
        }
    }
    code.len()
}

fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    code.match_indices(word).map(|(place, _)| place).filter(move |place| {
        let bytes = code.as_bytes();
        let before = place.checked_sub(1).and_then(|index| bytes.get(index));
        !part(before) && !part(bytes.get(place + word.len()))
    })
}

fn keep(text: &str, kinds: &[Kind], kept: Kind) -> String {
    let bytes = text.bytes().zip(kinds).map(|(byte, kind)| match byte {
        b'\n' => b'\n',
        _ if *kind == kept && byte.is_ascii() => byte,
        _ => b' ',
    });
    bytes.map(char::from).collect()
}

fn scan(text: &[u8]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let (kind, len) = token(text, at);
        let end = (at + len).min(text.len());
        kinds[at..end].fill(kind);
        at = end;
    }
    kinds
}

/// Tells what begins at a place in code, and how long it is.
fn token(text: &[u8], at: usize) -> (Kind, usize) {
    let rest = &text[at..];
    let in_word = at > 0 && (text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => {
            (Kind::Comment, rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()))
        }
        [b'/', b'*', ..] => (Kind::Comment, block_comment(rest)),
        [b'"', ..] => (Kind::Text, quoted(rest, b'"')),
        [b'r' | b'b' | b'c', ..] if !in_word => prefixed(rest),
        [b'\'', b'\\', ..] => (Kind::Text, quoted(rest, b'\'')),
        [b'\'', first, ..] => {
            let len = 1 + utf8_len(*first);
            if rest.get(len) == Some(&b'\'') { (Kind::Text, len + 1) } else { (Kind::Code, 1) }
        }
        _ => (Kind::Code, 1),
    }
}

fn utf8_len(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Strings that begin with letters: `b""`, `c""`, `r""`, `r#""#`, `br#""#`, `b'x'`.
fn prefixed(rest: &[u8]) -> (Kind, usize) {
    let letters = rest.iter().take_while(|b| matches!(b, b'r' | b'b' | b'c')).count();
    let raw = rest[..letters].contains(&b'r');
    let hashes = rest[letters..].iter().take_while(|b| **b == b'#').count();
    let open = letters + hashes;
    match rest.get(open) {
        Some(b'"') if raw => {
            let close: Vec<u8> =
                std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let body = &rest[open + 1..];
            let len = body.windows(close.len()).position(|window| window == close);
            (Kind::Text, len.map_or(rest.len(), |len| open + 1 + len + close.len()))
        }
        Some(b'"') if hashes == 0 => (Kind::Text, letters + quoted(&rest[letters..], b'"')),
        Some(b'\'') if hashes == 0 && rest[0] == b'b' && letters == 1 => {
            (Kind::Text, 1 + quoted(&rest[1..], b'\''))
        }
        _ => (Kind::Code, letters),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("x.rs", text.to_owned())
    }

    #[test]
    fn strings_and_comments_are_not_code() {
        let found =
            source("let a = \"quinn\"; // quinn\n/* quinn /* quinn */ quinn */ let b = 'q';");
        assert!(found.places("quinn").is_empty(), "{}", found.code);
        assert!(found.comments.contains("// quinn"));
        assert_eq!(found.places("let").len(), 2);
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let found = source("let a = r#\"one \" {\"#; let b = br\"{\"; fn r#match() {}");
        assert_eq!(found.places("let").len(), 2);
        assert!(!found.code[..found.code.find("fn").unwrap()].contains('{'));
    }

    #[test]
    fn lifetimes_do_not_open_characters() {
        let found = source("fn one<'a>(x: &'a str) -> char { let c = '{'; '\\'' }\nfn two() {}");
        let names: Vec<String> = found.functions().into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["one", "two"]);
    }

    #[test]
    fn functions_span_their_bodies() {
        let found = source("trait T { fn none(&self); }\nfn some(f: fn(u8) -> u8)\n{\n  {}\n}\n");
        assert_eq!(found.functions(), [Function { name: "some".to_owned(), lines: 2..6 }]);
    }

    #[test]
    fn test_items_do_not_count() {
        let found = source("//! doc\nfn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\n");
        assert_eq!(found.lines_without_tests(), 2);
    }
}
