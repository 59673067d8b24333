//! What this program is: its version and, in a release, the commit that it was built from.

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, with a mark behind it when the sources were changed; empty when not known.
pub const REVISION: &str = match option_env!("CAUSEWAY_REVISION") {
    Some(revision) => revision,
    None => "",
};

/// The date of that commit in the form of RFC 3339; `None` when not known.
pub const BUILD_DATE: Option<&str> = option_env!("CAUSEWAY_BUILD_DATE");

#[cfg(test)]
mod tests {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::*;

    #[test]
    fn a_date_is_one_and_comes_with_a_commit() {
        assert_eq!(BUILD_DATE.is_some(), !REVISION.is_empty());
        if let Some(date) = BUILD_DATE {
            OffsetDateTime::parse(date, &Rfc3339).unwrap();
        }
    }
}
