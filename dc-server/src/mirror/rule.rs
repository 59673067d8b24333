//! When what is mirrored of another datacenter answers for it.

use std::time::Duration;

use lan_agent::{
    ask::{Ask, Consistency, Question},
    catalog::Subject,
};

/// How old what is mirrored may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// To answer while its datacenter may be asked as well (`federation.mirror_max_age`).
    pub fresh: Duration,
    /// To answer at all (`federation.max_stale`).
    pub stale: Duration,
}

/// What there is of another datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// How long ago it was the truth for certain.
    pub age: Duration,
    /// Whether what is asked for is in it.
    pub covers: bool,
    /// Whether the datacenter is held for lost, and asking it is in vain.
    pub lost: bool,
}

/// What to do with a question about another datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Answer with what is mirrored.
    First,
    /// Ask the datacenter; answer with what is mirrored if nobody there does.
    Last,
    /// Ask the datacenter.
    Never,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { fresh: Duration::from_secs(10), stale: Duration::from_secs(72 * 3600) }
    }
}

/// Decides what to do with a question about another datacenter.
///
/// Whoever says how old a stale answer may be has it from the mirror up to that age; who doesn't, as long as the
/// mirror is fresh. What is older is asked for, and answers only if that is in vain.
pub fn choose(ask: &Ask, held: Option<Held>, bounds: Bounds) -> Use {
    let stale = ask.question.reads() && ask.consistency == Consistency::Stale;
    let Some(held) = held.filter(|held| stale && held.covers) else { return Use::Never };
    let oldest = ask.max_stale.unwrap_or(bounds.stale).min(bounds.stale);
    let fresh = ask.max_stale.unwrap_or(bounds.fresh).min(bounds.stale);
    match held.age {
        age if age <= fresh => Use::First,
        age if age <= oldest && held.lost => Use::First,
        age if age <= oldest => Use::Last,
        _ => Use::Never,
    }
}

/// Tells whether the answer to a question is in a mirror with the keys below these prefixes.
pub fn covers(question: &Question, prefixes: &[String]) -> bool {
    let is_below = |wanted: &str| prefixes.iter().any(|prefix| wanted.starts_with(prefix));
    match question {
        // Its own servers know the queries.
        Question::Lookup(lookup) => !matches!(lookup.subject, Subject::Query(_)),
        Question::KvGet { key, .. } => is_below(key),
        Question::KvList { prefix } | Question::KvKeys { prefix, .. } => is_below(prefix),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use lan_agent::ask::{RequestId, TraceId};
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::*;

    const BOUNDS: Bounds =
        Bounds { fresh: Duration::from_secs(10), stale: Duration::from_secs(100) };

    fn ask(consistency: Consistency, max_stale: Option<u64>) -> Ask {
        Ask {
            dc: None,
            consistency,
            max_stale: max_stale.map(Duration::from_secs),
            blocking: None,
            token: String::new(),
            trace: TraceId(Uuid::nil()),
            request: RequestId(Uuid::nil()),
            deadline: Instant::now(),
            question: Question::KvGet { key: "k".into(), raw: false },
        }
    }

    fn held(age: u64, lost: bool) -> Option<Held> {
        Some(Held { age: Duration::from_secs(age), covers: true, lost })
    }

    fn chosen(max_stale: Option<u64>, age: u64, lost: bool) -> Use {
        choose(&ask(Consistency::Stale, max_stale), held(age, lost), BOUNDS)
    }

    #[test]
    fn only_stale_reads_of_what_is_held_are_answered() {
        for consistency in [Consistency::Default, Consistency::Consistent] {
            assert_eq!(choose(&ask(consistency, None), held(0, true), BOUNDS), Use::Never);
        }
        let stale = ask(Consistency::Stale, None);
        assert_eq!(choose(&stale, None, BOUNDS), Use::Never);
        let elsewhere = held(0, false).map(|held| Held { covers: false, ..held });
        assert_eq!(choose(&stale, elsewhere, BOUNDS), Use::Never);
    }

    #[test]
    fn what_is_fresh_answers_and_what_is_old_only_if_nobody_else_does() {
        assert_eq!(chosen(None, 10, false), Use::First);
        assert_eq!(chosen(None, 11, false), Use::Last);
        assert_eq!(chosen(None, 11, true), Use::First);
        assert_eq!(chosen(None, 101, true), Use::Never);
    }

    #[test]
    fn who_says_how_old_gets_nothing_older() {
        assert_eq!(chosen(Some(3), 3, false), Use::First);
        assert_eq!(chosen(Some(3), 4, false), Use::Never);
        assert_eq!(chosen(Some(3), 4, true), Use::Never);
        assert_eq!(chosen(Some(50), 50, false), Use::First);
        assert_eq!(chosen(Some(1000), 101, true), Use::Never);
    }

    #[test]
    fn keys_are_covered_by_their_prefixes() {
        let prefixes = ["config/".to_owned()];
        let get = |key: &str| Question::KvGet { key: key.into(), raw: true };
        assert!(covers(&get("config/a"), &prefixes));
        assert!(!covers(&get("config"), &prefixes));
        assert!(covers(&Question::KvList { prefix: "config/a/".into() }, &prefixes));
        assert!(!covers(&Question::KvList { prefix: "conf".into() }, &prefixes));
        assert!(!covers(&Question::KvList { prefix: String::new() }, &prefixes));
        assert!(!covers(&Question::StatusLeader, &prefixes));
    }
}
