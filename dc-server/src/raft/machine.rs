//! Applies what is committed, and publishes the state once for each batch.

use std::{io, sync::Arc};

use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot,
    entry::RaftEntry,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};

use super::{
    protocol::{Entry, LogId, Membership, SnapshotMeta, TypeConfig},
    snapshot::{Image, Store},
};
use crate::state::{Applied, State, Touched, view::View};

/// Most commands between two publications, so that readers and authors do not wait for a long log
/// to be replayed.
const BATCH_MAX: usize = 1024;

type Published = Snapshot<super::protocol::LeaderId, u64, super::protocol::Peer, Image>;

/// The state machine: the one writer of the state.
pub(super) struct Machine {
    view: View,
    state: State,
    last: Option<LogId>,
    membership: Membership,
    store: Store,
}

/// Commands that were applied, whose authors are told when the state is published.
#[derive(Default)]
struct Batch {
    touched: Touched,
    told: Vec<(ApplyResponder<TypeConfig>, Applied)>,
    len: usize,
}

impl Machine {
    /// Starts from a snapshot, or from nothing.
    pub(super) fn new(
        view: View,
        store: Store,
        restored: Option<(SnapshotMeta, Arc<State>)>,
    ) -> Self {
        let (meta, state) = restored.unwrap_or_default();
        let state = State::clone(&state);
        view.replace(state.clone());
        Self { view, state, last: meta.last_log_id, membership: meta.last_membership, store }
    }

    fn take(&mut self, entry: Entry, batch: &mut Batch) -> io::Result<Applied> {
        let id = entry.log_id();
        let applied = match entry.payload {
            EntryPayload::Normal(command) => self
                .state
                .apply(id.index, &command, &mut batch.touched)
                .map_err(|refused| io::Error::new(io::ErrorKind::InvalidData, refused))?,
            EntryPayload::Blank => {
                self.state.pass(id.index);
                Applied::Nothing
            }
            EntryPayload::Membership(membership) => {
                self.state.pass(id.index);
                self.membership = Membership::new(Some(id), membership);
                Applied::Nothing
            }
        };
        self.last = Some(id);
        batch.len += 1;
        Ok(applied)
    }

    fn publish(&self, batch: Batch) {
        if batch.len > 0 {
            self.view.publish(self.state.clone());
        }
        // Authors first: a thousand watchers that wake up would keep them waiting.
        for (author, applied) in batch.told {
            author.send(applied);
        }
        self.view.watches().wake(&batch.touched);
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some(next) = entries.next().await {
            let (entry, author) = next?;
            let applied = self.take(entry, &mut batch)?;
            batch.told.extend(author.map(|author| (author, applied)));
            if batch.len >= BATCH_MAX {
                self.publish(std::mem::take(&mut batch));
            }
        }
        self.publish(batch);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { store: self.store.clone(), state: self.state.clone(), meta: self.meta() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        image: Image,
    ) -> Result<(), io::Error> {
        let state = match image.state {
            Some(state) => state,
            None => Arc::new(self.store.read(&image.name).await?.0),
        };
        self.state = State::clone(&state);
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.view.replace(self.state.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Published>, io::Error> {
        Ok(self.store.newest().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes a snapshot of the state as it was when this was made, beside the machine.
pub(super) struct Builder {
    store: Store,
    state: State,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> Result<Published, io::Error> {
        let snapshot = self.store.build(self.state.clone(), self.meta.clone()).await?;
        tracing::info!(name = %snapshot.name, len = snapshot.len, "snapshot written");
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
