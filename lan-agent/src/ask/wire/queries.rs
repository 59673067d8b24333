//! Questions about prepared queries, as they look in bytes.

use serde::{Deserialize, Serialize};

use super::{kind, read};
use crate::{
    ask::{AskError, Question},
    catalog::Text,
};

#[derive(Serialize, Deserialize)]
pub(super) struct QuerySet {
    pub(super) id: Text,
    pub(super) query: Text,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) new: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct QueryDelete {
    pub(super) id: Text,
}

#[derive(Serialize, Deserialize)]
pub(super) struct QueryRead {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Text>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct QueryExplain {
    pub(super) name: Text,
}

/// Reads a question about prepared queries; of any other kind, it is one that this version does not know.
pub(super) fn read_question(kind: u16, body: &[u8]) -> Result<Question, AskError> {
    Ok(match kind {
        kind::QUERY_SET => {
            let QuerySet { id, query, new } = read(body, "question")?;
            Question::QuerySet { id, query, new }
        }
        kind::QUERY_DELETE => {
            let QueryDelete { id } = read(body, "question")?;
            Question::QueryDelete { id }
        }
        kind::QUERY_READ => {
            let QueryRead { id } = read(body, "question")?;
            Question::QueryRead { id }
        }
        kind::QUERY_EXPLAIN => {
            let QueryExplain { name } = read(body, "question")?;
            Question::QueryExplain { name }
        }
        unknown => {
            let text = format!("this server does not know question kind {unknown}: upgrade it");
            return Err(AskError::Bad(text));
        }
    })
}
