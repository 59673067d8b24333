//! Flags as Go programs take them: `-name=value`, `-name value`, `--name ...`, `-switch`.
//!
//! Flags end at the first argument that is none, or at `--`; a lone `-` is an argument.

/// Columns that help texts are wrapped to.
const HELP_WIDTH: usize = 78;

/// How alike a name must be to one that exists to be offered instead.
const ALIKE_MIN: f64 = 0.75;

/// A flag that a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Name, without dashes.
    pub name: &'static str,
    /// What its value is called in the help; `None`: true or false, true when left out.
    pub takes: Option<&'static str>,
    /// What it does, in a sentence.
    pub about: &'static str,
}

impl Flag {
    /// Makes a flag that is true or false.
    pub const fn bool(name: &'static str, about: &'static str) -> Self {
        Self { name, takes: None, about }
    }

    /// Makes a flag with a value.
    pub const fn value(name: &'static str, takes: &'static str, about: &'static str) -> Self {
        Self { name, takes: Some(takes), about }
    }
}

/// A command line that was taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Flags in the order given; a switch has the value `true` or `false`.
    pub flags: Vec<(&'static str, String)>,
    /// What follows them.
    pub args: Vec<String>,
    /// Whether `-h`, `-help` was among the flags.
    pub help: bool,
}

impl Line {
    /// Returns the last value of a flag.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// Returns all values of a flag that can be repeated.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// Tells whether a switch is on.
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }
}

/// Says why a command line can't be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// There is no such flag.
    #[error("flag provided but not defined: -{name}{}", nearest.map_or(String::new(), |n| format!(", did you mean -{n}?")))]
    Unknown {
        /// As given.
        name: String,
        /// The flag that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A flag that needs a value stands last.
    #[error("flag needs an argument: -{0}")]
    NoValue(&'static str),
    /// A switch is set to something else than true or false.
    #[error("invalid boolean value {value:?} for -{name}: parse error")]
    NotBool {
        /// The flag.
        name: &'static str,
        /// What it was set to.
        value: String,
    },
    /// An argument is all dashes, or begins with `-=`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
}

/// Takes a command line apart.
pub fn parse(flags: &[Flag], words: &[String]) -> Result<Line, FlagError> {
    let mut line = Line::default();
    let mut words = words.iter();
    while let Some(word) = words.as_slice().first() {
        if !word.starts_with('-') || word == "-" {
            break;
        }
        words.next();
        if word == "--" {
            break;
        }
        let bare = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or(word);
        if bare.is_empty() || bare.starts_with(['-', '=']) {
            return Err(FlagError::Syntax(word.clone()));
        }
        let (name, inline) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (bare, None),
        };
        let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
            if matches!(name, "h" | "help") {
                line.help = true;
                continue;
            }
            return Err(FlagError::Unknown {
                name: name.to_owned(),
                nearest: nearest(flags, name),
            });
        };
        let value = match (flag.takes, inline) {
            (None, None) => "true".to_owned(),
            (None, Some(value)) => switch(flag.name, value)?,
            (Some(_), Some(value)) => value.to_owned(),
            (Some(_), None) => words.next().cloned().ok_or(FlagError::NoValue(flag.name))?,
        };
        line.flags.push((flag.name, value));
    }
    line.args = words.cloned().collect();
    Ok(line)
}

/// Writes the help of flags, sorted by name.
pub fn help(flags: &[Flag]) -> String {
    let mut sorted: Vec<_> = flags.iter().collect();
    sorted.sort_by_key(|flag| flag.name);
    let mut text = String::new();
    for flag in sorted {
        match flag.takes {
            Some(takes) => text.push_str(&format!("\n  -{}=<{takes}>\n", flag.name)),
            None => text.push_str(&format!("\n  -{}\n", flag.name)),
        }
        text.push_str(&wrapped(flag.about, "     "));
    }
    text
}

/// Breaks a text into indented lines.
pub fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = indent.to_owned();
    for word in text.split_whitespace() {
        if line.len() > indent.len() && line.len() + 1 + word.len() > HELP_WIDTH {
            lines.push_str(line.trim_end());
            lines.push('\n');
            line = indent.to_owned();
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines + line.trim_end() + "\n"
}

/// Finds the name that an unknown one was probably meant to be.
pub fn nearest(flags: &[Flag], name: &str) -> Option<&'static str> {
    flags
        .iter()
        .map(|flag| (strsim::jaro_winkler(flag.name, name), flag.name))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn switch(name: &'static str, value: &str) -> Result<String, FlagError> {
    let truth = truth(value).ok_or_else(|| FlagError::NotBool { name, value: value.to_owned() })?;
    Ok(truth.to_string())
}

/// Reads true or false in the forms that Go knows.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::bool("server", "Be a server."),
        Flag::value("bind", "address", "Where."),
        Flag::value("join", "address", "Whom."),
    ];

    fn line(words: &str) -> Result<Line, FlagError> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        parse(FLAGS, &words)
    }

    #[test]
    fn all_four_forms_of_a_value_are_one() {
        for words in ["-bind=1", "-bind 1", "--bind=1", "--bind 1"] {
            assert_eq!(line(words).unwrap().value("bind"), Some("1"), "{words}");
        }
    }

    #[test]
    fn a_switch_takes_its_value_only_behind_an_equals_sign() {
        assert!(line("-server").unwrap().is_set("server"));
        assert!(!line("-server=false").unwrap().is_set("server"));
        let line = line("-server false").unwrap();
        assert!(line.is_set("server"));
        assert_eq!(line.args, ["false"]);
    }

    #[test]
    fn the_last_value_counts_and_all_are_kept() {
        let line = line("-join a -join=b x -join c").unwrap();
        assert_eq!(line.value("join"), Some("b"));
        assert_eq!(line.values("join").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(line.args, ["x", "-join", "c"]);
    }

    #[test]
    fn dashes_alone_end_the_flags() {
        assert_eq!(line("-server - x").unwrap().args, ["-", "x"]);
        assert_eq!(line("-server -- -bind").unwrap().args, ["-bind"]);
    }

    #[test]
    fn help_is_asked_for_by_h_or_help() {
        for words in ["-h", "--help", "-help", "-server -h"] {
            assert!(line(words).unwrap().help, "{words}");
        }
    }

    #[test]
    fn errors_are_those_of_go() {
        for (words, error) in [
            ("-sever", "flag provided but not defined: -sever, did you mean -server?"),
            ("-zzz", "flag provided but not defined: -zzz"),
            ("-bind", "flag needs an argument: -bind"),
            ("-server=maybe", "invalid boolean value \"maybe\" for -server: parse error"),
            ("---bind", "bad flag syntax: ---bind"),
            ("-=x", "bad flag syntax: -=x"),
        ] {
            assert_eq!(line(words).unwrap_err().to_string(), error);
        }
    }
}
