//! A watch channel that wakes those who wait in the order in which they began to.
//!
//! Tokio's own spreads them over shards drawn at random and wakes shard by shard: a simulation
//! with it does not repeat itself. Here tokio's channel holds the value and its version, and a
//! [`Notify`], which is first-in-first-out, does the waking.

use std::{pin::pin, sync::Arc, task::Poll};

use openraft_rt::{
    OptionalSend, OptionalSync,
    watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender},
};
use tokio::sync::{Notify, watch};

/// The kind of channel.
#[derive(Debug)]
pub struct OrderedWatch;

/// The sending end; clones send to the same receivers.
pub struct Sender<T> {
    /// `None` only while it is dropped.
    value: Option<watch::Sender<T>>,
    changed: Arc<Notify>,
}

/// A receiving end.
pub struct Receiver<T> {
    value: watch::Receiver<T>,
    changed: Arc<Notify>,
}

/// Makes a channel that holds a value.
pub(in crate::raft) fn channel<T>(init: T) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = watch::channel(init);
    let changed = Arc::new(Notify::new());
    let sender = Sender { value: Some(sender), changed: changed.clone() };
    (sender, Receiver { value: receiver, changed })
}

impl Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        channel(init)
    }
}

impl<T> Sender<T> {
    fn value(&self) -> &watch::Sender<T> {
        match &self.value {
            Some(value) => value,
            None => unreachable!("the value is taken by drop alone"),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), changed: self.changed.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Closed first: who is woken must find it so.
        drop(self.value.take());
        self.changed.notify_waiters();
    }
}

impl<T> Sender<T> {
    /// Changes the value, if `modify` says that it did.
    pub(in crate::raft) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = self.value().send_if_modified(modify);
        if modified {
            self.changed.notify_waiters();
        }
        modified
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<OrderedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.value().send(value).map_err(|error| SendError(error.0))?;
        self.changed.notify_waiters();
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        Sender::send_if_modified(self, modify)
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.value().borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver { value: self.value().subscribe(), changed: self.changed.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), changed: self.changed.clone() }
    }
}

impl<T> Receiver<T> {
    /// Returns the value as it is now; a lock while it is held.
    pub fn borrow(&self) -> watch::Ref<'_, T> {
        self.value.borrow()
    }

    /// Returns the value as it is now, which then counts as seen; a lock while it is held.
    pub fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.value.borrow_and_update()
    }

    /// Has the value as it is now count as seen.
    pub fn mark_unchanged(&mut self) {
        self.value.mark_unchanged();
    }

    /// Waits for a value that has not been seen. Fails when nobody can send one any more.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        loop {
            // Registered before it is looked at: no change between the two is missed.
            let mut woken = pin!(self.changed.notified());
            woken.as_mut().enable();
            // One poll of tokio's own wait: ready when changed or closed. Not for the budget of
            // the task to delay: nothing would wake it then.
            let change = {
                let mut change = pin!(tokio::task::unconstrained(self.value.changed()));
                std::future::poll_fn(|cx| Poll::Ready(change.as_mut().poll(cx))).await
            };
            match change {
                Poll::Ready(changed) => return changed,
                Poll::Pending => woken.await,
            }
        }
    }

    /// Waits until a value is as wanted. Fails when nobody can send one any more.
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<(), watch::error::RecvError> {
        while !wanted(&self.borrow_and_update()) {
            self.changed().await?;
        }
        Ok(())
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<OrderedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        Receiver::changed(self).await.map_err(|_| RecvError(()))
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.borrow()
    }

    fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        Receiver::borrow_and_update(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn waiters_wake_in_the_order_in_which_they_came() {
        let (sender, receiver) = OrderedWatch::channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..20)
            .map(|number| {
                let (mut receiver, woken) = (receiver.clone(), woken.clone());
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    woken.lock().unwrap().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.send(1).unwrap();
        for waiter in waiting {
            waiter.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_before_the_wait_counts() {
        let (sender, mut receiver) = OrderedWatch::channel(0);
        sender.send(1).unwrap();
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow_watched(), 1);
    }

    #[tokio::test]
    async fn the_last_sender_closes_the_channel() {
        let (sender, mut receiver) = OrderedWatch::channel(0);
        let other = sender.clone();
        drop(sender);
        let waiting = tokio::spawn(async move { receiver.changed().await });
        tokio::task::yield_now().await;
        other.send(1).unwrap();
        assert!(waiting.await.unwrap().is_ok());
        let mut receiver = other.subscribe();
        let waiting = tokio::spawn(async move { receiver.changed().await });
        tokio::task::yield_now().await;
        drop(other);
        assert!(waiting.await.unwrap().is_err());
    }
}
