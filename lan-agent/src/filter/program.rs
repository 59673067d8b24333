//! Expressions to programs: every selector is known, every value is of its field's type.

use regex::{Regex, RegexBuilder};

use super::{
    FilterError, PATTERNS_MAX,
    expression::{self, Expression, Match, Selector},
    schema::{ANY_KEY, Field, Kind, Schema},
};

/// Most bytes that a compiled regular expression may take, and as many again while it runs.
const PATTERN_SIZE_MAX: usize = 1024 * 1024;

/// A known selector may be meant if no more than one letter of so many is another.
const LETTERS_PER_TYPO: usize = 3;

/// What is to be true of a record.
#[derive(Debug)]
pub(super) enum Program {
    All(Vec<Program>),
    Any(Vec<Program>),
    Not(Box<Program>),
    Test(FieldTest),
}

/// A test of a field.
#[derive(Debug)]
pub(super) struct FieldTest {
    pub(super) field: Field,
    /// Where the field is in a map: its key.
    pub(super) key: Option<String>,
    pub(super) test: Test,
    pub(super) negated: bool,
}

/// What a field is tested for.
#[derive(Debug)]
pub(super) enum Test {
    Text(String),
    Number(i64),
    Flag(bool),
    Contains(String),
    Matches(Regex),
    Empty,
}

/// Compiles an expression about records of a schema.
pub(super) fn compile(expression: &Expression, schema: Schema) -> Result<Program, FilterError> {
    Compiler { schema, patterns: 0 }.program(expression)
}

struct Compiler {
    schema: Schema,
    patterns: usize,
}

impl Compiler {
    fn program(&mut self, expression: &Expression) -> Result<Program, FilterError> {
        Ok(match expression {
            Expression::All(terms) => Program::All(self.programs(terms)?),
            Expression::Any(terms) => Program::Any(self.programs(terms)?),
            Expression::Not(inner) => Program::Not(Box::new(self.program(inner)?)),
            Expression::Match(test) => Program::Test(self.test(test)?),
        })
    }

    fn programs(&mut self, terms: &[Expression]) -> Result<Vec<Program>, FilterError> {
        terms.iter().map(|term| self.program(term)).collect()
    }

    fn test(&mut self, written: &Match) -> Result<FieldTest, FilterError> {
        let Match { selector, test, negated } = written;
        let unsupported = |hint: String| FilterError::Operator {
            operator: written.operator(),
            selector: selector.dotted(),
            hint,
        };
        let (field, key) = match find(self.schema, selector) {
            Found::Field(field, key) => (field, key),
            Found::Group => return Err(unsupported("only what is in it can be tested".to_owned())),
            Found::Nothing { known } => {
                let hint = hint(self.schema, &selector.dotted());
                let selector = selector.0[..=known].join(".");
                return Err(FilterError::Selector { selector, hint });
            }
        };
        let mistyped = |value: &str, why: String| FilterError::Value {
            value: value.to_owned(),
            selector: selector.dotted(),
            why,
        };
        let test = match (test, field.kind()) {
            (expression::Test::Equal(value), Kind::Text) => Test::Text(value.clone()),
            (expression::Test::Equal(value), Kind::Number) => {
                Test::Number(number(value).map_err(|why| mistyped(value, why))?)
            }
            (expression::Test::Equal(value), Kind::Flag) => {
                Test::Flag(flag(value).map_err(|why| mistyped(value, why))?)
            }
            (expression::Test::Contains(value), Kind::Text | Kind::Texts | Kind::Map) => {
                Test::Contains(value.clone())
            }
            (expression::Test::Matches(pattern), Kind::Text) => {
                Test::Matches(self.pattern(pattern)?)
            }
            (expression::Test::Empty, Kind::Texts | Kind::Map | Kind::Records) => Test::Empty,
            (_, kind) => return Err(unsupported(format!("it has {}", kind.operators()))),
        };
        Ok(FieldTest { field, key, test, negated: *negated })
    }

    fn pattern(&mut self, pattern: &str) -> Result<Regex, FilterError> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(FilterError::TooManyPatterns);
        }
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(PATTERN_SIZE_MAX).dfa_size_limit(PATTERN_SIZE_MAX);
        builder.build().map_err(|error| {
            let text = error.to_string();
            // The lines before show where in the pattern it is.
            let why = text.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why).to_owned();
            FilterError::Pattern { pattern: pattern.to_owned(), why }
        })
    }
}

/// What a selector leads to.
enum Found {
    /// A field, by this key if it is in a map.
    Field(Field, Option<String>),
    /// Something that has fields and is none.
    Group,
    /// Nothing, though there is something by this many of its names.
    Nothing { known: usize },
}

fn find(schema: Schema, selector: &Selector) -> Found {
    let names = &selector.0;
    let mut known_max = 0;
    for (path, field) in schema.selectors() {
        let steps: Vec<&str> = path.split('.').collect();
        let fits = |(name, step): &(&String, &&str)| **step == ANY_KEY || name == *step;
        let known = names.iter().zip(&steps).take_while(fits).count();
        if known == names.len() && known == steps.len() {
            let at = steps.iter().position(|step| *step == ANY_KEY);
            return Found::Field(field, at.map(|at| names[at].clone()));
        }
        known_max = known_max.max(known);
    }
    if known_max == names.len() { Found::Group } else { Found::Nothing { known: known_max } }
}

/// Says what there is instead of a selector.
fn hint(schema: Schema, written: &str) -> String {
    // What is always empty is of no use to anybody.
    let known = schema.selectors();
    let known = known.filter(|(_, field)| !matches!(field, Field::Unset(_) | Field::Nowhere(_)));
    let known: Vec<String> = known.map(|(path, _)| path).collect();
    let small = written.to_ascii_lowercase();
    let near = known.iter().map(|path| (strsim::osa_distance(&small, &path.to_lowercase()), path));
    let nearest = near.min_by_key(|(distance, _)| *distance);
    let meant = match nearest {
        Some((distance, path)) if distance * LETTERS_PER_TYPO <= written.len() => {
            format!("did you mean {path:?}? ")
        }
        _ => String::new(),
    };
    format!("{meant}there are {}", known.join(", "))
}

/// Reads a whole number as Go does, in any of its bases.
fn number(written: &str) -> Result<i64, String> {
    let failed = |why: &str| format!("strconv.ParseInt: parsing {written:?}: {why}");
    let (negative, digits) = match written.as_bytes() {
        [b'-', ..] => (true, &written[1..]),
        [b'+', ..] => (false, &written[1..]),
        _ => (false, written),
    };
    let small = digits.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)];
    let prefixed = prefixes.iter().find_map(|(prefix, radix)| {
        let rest = small.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        Some((rest, *radix))
    });
    let (digits, radix) = prefixed.unwrap_or((&small, 10));
    if digits.is_empty() || !digits.chars().all(|char| char.is_digit(radix)) {
        return Err(failed("invalid syntax"));
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| failed("value out of range"))
}

/// Reads what Go takes for a boolean.
fn flag(written: &str) -> Result<bool, String> {
    match written {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {written:?}: invalid syntax")),
    }
}
