//! Follows what a choice depends on: for those who wait for another one, and for services that are away.

use std::{
    collections::HashSet,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, select_all};
use lan_agent::{
    ask::{AskError, Blocking},
    catalog::Text,
};
use tokio::{sync::watch, time::Instant};
use wan_federation::Federation;

use super::{
    Failover,
    asked::{Asked, Name},
    kept::part_of,
    plan::Target,
};
use crate::{
    blocking::stretched,
    state::watch::{Topic, Watch},
};

/// How soon it is looked again for a datacenter of which nothing is known: there is nothing to wait on.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Rings when a choice may become another one.
struct News {
    changed: Vec<BoxFuture<'static, ()>>,
    verdicts: Option<watch::Receiver<u64>>,
    /// When to look whatever happens.
    look: Option<Instant>,
    /// While it is there, somebody listens.
    _watches: Vec<Watch>,
}

impl News {
    /// Returns at the first of them, or at a time.
    async fn come(mut self, until: Option<Instant>) {
        let verdicts = async {
            match &mut self.verdicts {
                Some(changes) => drop(changes.changed().await),
                None => std::future::pending().await,
            }
        };
        let time = async {
            match [until, self.look].into_iter().flatten().min() {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = select_all(self.changed) => {}
            () = verdicts => {}
            () = time => {}
        }
    }
}

impl Failover {
    /// Waits until the index is another one.
    pub(super) async fn wait(
        self: &Arc<Self>,
        asked: Asked<'_>,
        blocking: Blocking,
    ) -> Result<(), AskError> {
        let seed = self.jitter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let until = Instant::now() + stretched(blocking.wait, seed);
        while Instant::now() < until {
            let news = self.news(asked)?;
            let state = self.own.view.load();
            let kept = self.keep(&state, asked)?;
            let index = kept.as_ref().map_or_else(|| asked.rules(&state).max(1), |kept| kept.index);
            if index != blocking.index {
                return Ok(());
            }
            let again = kept.and_then(|kept| kept.again_at).map(|at| self.start + at);
            news.come(Some(again.map_or(until, |again| again.min(until)))).await;
        }
        Ok(())
    }

    /// Follows a service whose lookups are away until they are back: for how long a better place has been well is known
    /// only to who has seen all that happened there.
    pub(super) fn mind(self: &Arc<Self>, service: &Text) {
        let name = Asked::Service(service).name();
        if !self.minded().insert(name.clone()) {
            return;
        }
        let (failover, service) = (self.clone(), service.clone());
        tokio::spawn(async move {
            while failover.is_away(&name) {
                if failover.look_again(Asked::Service(&service)).await.is_err() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        });
    }

    async fn look_again(self: &Arc<Self>, asked: Asked<'_>) -> Result<(), AskError> {
        let news = self.news(asked)?;
        let kept = self.keep(&self.own.view.load(), asked)?;
        if let Some(kept) = kept.filter(|kept| kept.memory.is_some()) {
            news.come(kept.again_at.map(|at| self.start + at)).await;
        }
        Ok(())
    }

    /// Tells whether lookups of a service are away. When they are not, they are not minded any more either.
    fn is_away(&self, name: &Name) -> bool {
        // Whoever goes away meanwhile waits for this to see whether it is minded.
        let mut minded = self.minded();
        let away = self.kept.load().get(name).is_some_and(|kept| kept.memory.is_some());
        if !away {
            minded.remove(name);
        }
        away
    }

    fn minded(&self) -> MutexGuard<'_, HashSet<Name>> {
        // A set of names is whole whoever panicked.
        self.minded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers for all that a choice depends on: from here on nothing is missed.
    fn news(&self, asked: Asked<'_>) -> Result<News, AskError> {
        let mut verdicts = self.federation.as_ref().map(Federation::changes);
        verdicts.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let planned = self.plan(&self.own.view.load(), asked)?;
        let targets = planned.map(|planned| planned.plan.targets).unwrap_or_default();
        let mut watches = vec![self.own.view.watches().watch(vec![asked.topic()])];
        watches.extend(targets.iter().filter_map(|it| self.watch(it)));
        let unknown = |it: &Target| it.dc.as_ref().is_some_and(|dc| self.mirrors.get(dc).is_none());
        Ok(News {
            changed: watches.iter().map(Watch::changed).collect(),
            verdicts,
            look: targets.iter().any(unknown).then(|| Instant::now() + LOOK_AGAIN),
            _watches: watches,
        })
    }

    /// Registers for changes of what a target has.
    fn watch(&self, target: &Target) -> Option<Watch> {
        let topics = vec![Topic::Catalog(part_of(target))];
        match &target.dc {
            None => Some(self.own.view.watches().watch(topics)),
            Some(dc) => Some(self.mirrors.get(dc)?.view().watches().watch(topics)),
        }
    }
}
