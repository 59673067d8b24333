//! Texts between quotes, as Go writes them.

/// Puts a text between quotes, with escapes that Go reads.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            // go-bexpr ends a text at the first quote, whatever stands before it.
            '"' => quoted.push_str("\\x22"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads what stands between double quotes; `None` for what Go would not write there.
pub(super) fn unquote(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\n']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest[at..].strip_prefix('\\')?;
        rest = escaped(escape, &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// Reads what follows a backslash, and returns what follows that.
fn escaped<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let plain = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '"' => kind as u8,
        'x' => return number(rest, 2, 16, |code| bytes.push(code as u8)),
        '0'..='7' => {
            let byte = u32::from_str_radix(text.get(..3)?, 8).ok()?;
            bytes.push(u8::try_from(byte).ok()?);
            return Some(&text[3..]);
        }
        'u' | 'U' => {
            let len = if kind == 'u' { 4 } else { 8 };
            let mut char = None;
            let rest = number(rest, len, 16, |code| char = char::from_u32(code))?;
            bytes.extend_from_slice(char?.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    bytes.push(plain);
    Some(rest)
}

/// Reads a number of so many digits, and returns what follows it.
fn number(text: &str, len: usize, radix: u32, take: impl FnOnce(u32)) -> Option<&str> {
    let digits = text.get(..len).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    take(u32::from_str_radix(digits, radix).ok()?);
    Some(&text[len..])
}
