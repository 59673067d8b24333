//! One question to the servers for many who ask the same at once.
//!
//! ```text
//! who asks      a    b  c      d
//! the servers   |---1---|---2---|---3---|
//!               a: 1    b, c: 2     d: 3
//! ```
//!
//! A read must not be answered with what was true before it was asked. So nobody joins a question
//! that is under way: all who come meanwhile share the one after it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    ask::{Answer, AskError},
    cache::Key,
};

/// For how long a question may be under way so that others wait for its end. With a server that
/// takes longer everybody asks for himself.
const QUICK: Duration = Duration::from_millis(100);

/// What came of asking the servers.
type Fetched = Result<Answer, AskError>;

/// What is asked, and whether the leader has to make sure that it leads.
type Asked = (Key, bool);

/// The questions under way. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<BTreeMap<Asked, Flying>>>);

/// A question that is under way.
struct Flying {
    since: Instant,
    this: Flight,
    /// The one that comes after it.
    next: Option<Flight>,
}

/// Tells all who wait what came of a question.
#[derive(Clone)]
pub(crate) struct Flight(watch::Receiver<Option<Fetched>>);

impl Flights {
    /// Joins the next question for this, which `ask` puts to the servers if nobody has wanted it so
    /// far; it goes on when those who wait for it go away. `None` when the one under way takes long.
    pub(crate) fn join<F>(
        &self,
        asked: &Asked,
        ask: impl FnOnce() -> F + Send + 'static,
    ) -> Option<Flight>
    where
        F: Future<Output = Fetched> + Send + 'static,
    {
        let mut table = self.table();
        // One that was ended with its task says nothing any more.
        let flying = table.get_mut(asked).filter(|it| it.this.0.has_changed().is_ok());
        if let Some(next) = flying.as_ref().and_then(|it| it.next.as_ref()) {
            return Some(next.clone());
        }
        let (landed, waiting) = watch::channel(None);
        let flight = Flight(waiting);
        let before = match flying {
            Some(flying) if flying.since.elapsed() > QUICK => return None,
            Some(flying) => {
                flying.next = Some(flight.clone());
                Some(flying.this.clone())
            }
            None => {
                table.insert(asked.clone(), Flying::new(flight.clone()));
                None
            }
        };
        drop(table);
        let (flights, asked, this) = (self.clone(), asked.clone(), flight.clone());
        tokio::spawn(async move {
            if let Some(before) = before {
                before.landed().await;
                // Who comes from here on is for the one after this.
                flights.table().insert(asked.clone(), Flying::new(this));
            }
            let fetched = ask().await;
            flights.end(&asked);
            landed.send_replace(Some(fetched));
        });
        Some(flight)
    }

    /// Forgets a question that ended, unless another one comes after it.
    fn end(&self, asked: &Asked) {
        let mut table = self.table();
        if table.get(asked).is_some_and(|flying| flying.next.is_none()) {
            table.remove(asked);
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Asked, Flying>> {
        // The table is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flying {
    fn new(this: Flight) -> Self {
        Self { since: Instant::now(), this, next: None }
    }
}

impl Flight {
    /// Returns what came of the question, or an error when it takes too long.
    pub(crate) async fn answer(self, deadline: Instant) -> Fetched {
        let late = |_| Err(AskError::Deadline("no server answered in time".to_owned()));
        let stopped = || Err(AskError::CutOff("this agent is stopping".to_owned()));
        let landed = async { self.landed().await.unwrap_or_else(stopped) };
        timeout_at(deadline, landed).await.unwrap_or_else(late)
    }

    async fn landed(mut self) -> Option<Fetched> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::oneshot, time::sleep};

    use super::*;
    use crate::catalog::{Form, Lookup, Selection, Subject};

    fn asked(service: &str) -> Asked {
        let subject = Subject::Service(service.into());
        let lookup = Lookup { subject, selection: Selection::default(), form: Form::Json };
        (Key { dc: None, token: String::new(), lookup }, false)
    }

    /// Joins with a question that lands when it is told what to say.
    fn join(flights: &Flights, asked: &Asked) -> (Option<Flight>, oneshot::Sender<&'static str>) {
        let (say, said) = oneshot::channel();
        let ask = || async move {
            let body = said.await.unwrap();
            Ok(Answer::plain(body))
        };
        (flights.join(asked, ask), say)
    }

    async fn body(flight: Option<Flight>) -> String {
        let answer = flight.unwrap().answer(Instant::now() + Duration::from_secs(5)).await.unwrap();
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_come_while_a_question_is_under_way_share_the_next_one() {
        let (flights, web) = (Flights::default(), asked("web"));
        let (first, say_first) = join(&flights, &web);
        let (second, say_second) = join(&flights, &web);
        let (third, say_third) = join(&flights, &web);
        assert!(say_third.is_closed(), "nobody asks for the third");
        let (other, say_other) = join(&flights, &asked("db"));
        say_other.send("db").unwrap();
        assert_eq!(body(other).await, "db", "what is not the same does not wait");
        say_second.send("new").unwrap();
        sleep(Duration::from_millis(1)).await;
        assert!(second.as_ref().unwrap().0.borrow().is_none(), "asked after the first has landed");
        say_first.send("old").unwrap();
        assert_eq!(body(first).await, "old");
        assert_eq!([body(second).await, body(third).await], ["new", "new"]);
        assert!(flights.table().is_empty(), "and then it is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_when_the_next_one_has_left_waits_for_the_one_after_it() {
        let (flights, web) = (Flights::default(), asked("web"));
        let (first, say_first) = join(&flights, &web);
        let (second, say_second) = join(&flights, &web);
        say_first.send("1").unwrap();
        assert_eq!(body(first).await, "1");
        sleep(Duration::from_millis(1)).await;
        let (third, say_third) = join(&flights, &web);
        say_second.send("2").unwrap();
        say_third.send("3").unwrap();
        assert_eq!([body(second).await, body(third).await], ["2", "3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_slow_one_or_for_longer_than_he_has() {
        let (flights, web) = (Flights::default(), asked("web"));
        let (first, _say) = join(&flights, &web);
        sleep(QUICK + Duration::from_millis(1)).await;
        assert!(join(&flights, &web).0.is_none(), "he asks for himself");
        let late = first.unwrap().answer(Instant::now() + Duration::from_secs(1)).await;
        assert!(matches!(late, Err(AskError::Deadline(_))), "{late:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_goes_on_when_who_asked_it_goes_away_and_one_that_died_is_replaced() {
        let (flights, web) = (Flights::default(), asked("web"));
        let (first, say_first) = join(&flights, &web);
        drop(first);
        let (second, say_second) = join(&flights, &web);
        say_first.send("1").unwrap();
        say_second.send("2").unwrap();
        assert_eq!(body(second).await, "2");
        let (died, say_nothing) = join(&flights, &web);
        drop(say_nothing);
        assert!(died.unwrap().answer(Instant::now() + QUICK).await.is_err());
        let (after, say_after) = join(&flights, &web);
        say_after.send("3").unwrap();
        assert_eq!(body(after).await, "3");
    }
}
