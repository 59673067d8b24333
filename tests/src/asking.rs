//! Asks a node for keys and values as its HTTP interface would: over its [`Caller`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lan_agent::{
    ask::{
        Answer, Ask, AskError, Blocking, Consistency, Meta, Outcome, Question, RequestId, TraceId,
    },
    caller::Caller,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    fabric::Clock,
    harness::client::Entry,
    linearizable::Value,
    workload::{PATIENCE, Reading, Seen, Store, Unanswered},
};

/// Asks through one node, while it runs.
pub struct Asking {
    caller: Arc<dyn Caller>,
    /// Who asks: different in each start of each node.
    name: u64,
    asked: AtomicU64,
    /// The time of the world that the node is in.
    clock: Clock,
}

impl Asking {
    /// Asks under a name that nobody else has.
    pub fn new(caller: Arc<dyn Caller>, name: u64, clock: Clock) -> Self {
        Self { caller, name, asked: AtomicU64::new(0), clock }
    }

    async fn ask(
        &self,
        question: Question,
        consistency: Consistency,
        blocking: Option<Blocking>,
    ) -> Result<Answer, Unanswered> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let id = Uuid::from_u64_pair(self.name, number);
        let ask = Ask {
            dc: None,
            consistency,
            max_stale: None,
            blocking,
            token: String::new(),
            trace: TraceId(id),
            request: RequestId(id),
            deadline: Instant::now() + PATIENCE,
            question,
        };
        self.caller.ask(ask).await.map_err(|error| unanswered(&error))
    }

    async fn write(&self, question: Question) -> Result<bool, Unanswered> {
        let answer = self.ask(question, Consistency::Default, None).await?;
        Ok(answer.body == "true")
    }
}

fn unanswered(error: &AskError) -> Unanswered {
    match error.had_no_effect() {
        true => Unanswered::Never,
        false => Unanswered::Unknown,
    }
}

impl Store for Asking {
    async fn read(&self, key: &str, reading: Reading) -> Result<Seen, Unanswered> {
        let question = Question::KvGet { key: key.to_owned(), raw: false };
        let blocking = reading.beyond.map(|(index, wait)| Blocking { index, wait });
        let answer = self.ask(question, reading.consistency, blocking).await?;
        let entry = match answer.outcome {
            Outcome::Found => Some(Entry::read(&answer.body).expect("an entry")),
            Outcome::Absent | Outcome::Conflict => None,
        };
        let Meta { index, last_contact, .. } = answer.meta;
        Ok(Seen { entry, index, last_contact })
    }

    async fn set(&self, key: &str, value: Value, cas: Option<u64>) -> Result<bool, Unanswered> {
        let value = value.to_string().into();
        self.write(Question::KvPut { key: key.to_owned(), value, flags: 0, cas }).await
    }

    async fn delete(&self, key: &str) -> Result<bool, Unanswered> {
        self.write(Question::KvDelete { key: key.to_owned(), cas: None }).await
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn is_one_server(&self) -> bool {
        self.caller.server().is_some()
    }
}
