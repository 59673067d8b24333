//! The addresses of pages: `http://user@host:port/path?query`, and those that are relative to one
//! (RFC 3986 section 5).

use crate::checks::dial::Target;

/// What an address begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// The address of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    /// Name and password, decoded.
    pub(super) user: Option<Vec<u8>>,
    /// Host and port as they were written.
    pub(super) authority: String,
    /// Where to connect.
    pub(super) target: Target,
    /// Path and query; begins with a slash.
    pub(super) path: String,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let no_url = || format!("{text:?} is no http:// or https:// address");
        let (scheme, rest) = text.split_once("://").ok_or_else(no_url)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(no_url()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(decoded(user)), authority),
            None => (None, authority),
        };
        let target = target(authority, scheme.port()).ok_or_else(no_url)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = encoded(&format!("{slash}{path}"));
        Ok(Self { scheme, user, authority: authority.to_owned(), target, path })
    }

    /// Returns the page that a reference on this one leads to.
    pub(super) fn join(&self, reference: &str) -> Result<Self, String> {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let before_query = reference.split(['?', '#']).next().unwrap_or_default();
        if before_query.contains("://") {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{scheme}:{reference}"));
        }
        let own_path = self.path.split('?').next().unwrap_or_default();
        let path = match reference.chars().next() {
            Some('/') => reference.to_owned(),
            Some('?') => format!("{own_path}{reference}"),
            Some('#') | None => self.path.clone(),
            Some(_) => {
                let directory = own_path.rfind('/').map_or("/", |slash| &own_path[..=slash]);
                format!("{directory}{reference}")
            }
        };
        let path = path.split('#').next().unwrap_or_default();
        let path = encoded(&without_dots(path));
        Ok(Self { path, ..self.clone() })
    }
}

/// Reads `host`, `host:port` or `[::1]:port`; the default port also stands for a missing one.
fn target(authority: &str, default_port: u16) -> Option<Target> {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of an address within brackets.
        Some((_, rest)) if rest.ends_with(']') => (authority, ""),
        Some((host, port)) => (host, port),
        None => (authority, ""),
    };
    if authority.is_empty() {
        return None;
    }
    let port = if port.is_empty() { default_port } else { port.parse().ok()? };
    Target::parse(&format!("{host}:{port}")).ok()
}

/// Takes `.` and `..` out of a path (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

/// Encodes what may not stand in the first line of a request.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = more.get(..2).and_then(|hex| str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Scheme, String, String) {
        let url = Url::parse(text).unwrap();
        (url.scheme, url.target.to_string(), url.path)
    }

    #[test]
    fn addresses_are_taken_apart() {
        for (text, scheme, target, path) in [
            ("http://a", Scheme::Http, "a:80", "/"),
            ("HTTPS://a/b?c#d", Scheme::Https, "a:443", "/b?c"),
            ("http://a:81?q", Scheme::Http, "a:81", "/?q"),
            ("http://[::1]/x", Scheme::Http, "[::1]:80", "/x"),
            ("http://[::1]:8/x", Scheme::Http, "[::1]:8", "/x"),
            ("http://a/b c/ä%20", Scheme::Http, "a:80", "/b%20c/%C3%A4%20"),
        ] {
            assert_eq!(parts(text), (scheme, target.to_owned(), path.to_owned()), "{text}");
        }
        let url = Url::parse("http://us%65r:p%40ss@a:81/").unwrap();
        assert_eq!(url.user.as_deref(), Some(&b"user:p@ss"[..]));
        assert_eq!(url.authority, "a:81");
    }

    #[test]
    fn what_is_no_address_of_a_page_is_refused() {
        for text in ["", "a", "ftp://a", "http://", "http://:x/", "http://a:b/", "http://a:99999/"]
        {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn references_lead_where_the_standard_says() {
        let base = Url::parse("http://a:81/b/c/d?q").unwrap();
        for (reference, joined) in [
            ("https://x/y", "https x:443 /y"),
            ("//x/y", "http x:80 /y"),
            ("/g", "http a:81 /g"),
            ("g?z#f", "http a:81 /b/c/g?z"),
            ("./g", "http a:81 /b/c/g"),
            ("../g", "http a:81 /b/g"),
            ("../../../g", "http a:81 /g"),
            ("..", "http a:81 /b/"),
            ("?y", "http a:81 /b/c/d?y"),
            ("g?to=http://x/", "http a:81 /b/c/g?to=http://x/"),
            ("", "http a:81 /b/c/d?q"),
        ] {
            let url = base.join(reference).unwrap();
            let scheme = if url.scheme == Scheme::Http { "http" } else { "https" };
            assert_eq!(format!("{scheme} {} {}", url.target, url.path), joined, "{reference}");
        }
        assert!(base.join("ftp://x/").is_err());
    }
}
