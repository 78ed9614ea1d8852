//! Every task has an owner, and every owner can be told to finish.
//!
//! [`Tasks`] is a tree: a child is told whenever its parent is, and can be told alone (a route that
//! disappeared, while the listener stays). Waiting for a tree means waiting for all of its tasks.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A group of tasks that finish together.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Finish what is in flight, take nothing new.
    draining: CancellationToken,
    /// The deadline is over: stop at once.
    aborting: CancellationToken,
}

impl Tasks {
    /// A root.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that is told when this one is, and whose tasks this one waits for.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            tracker: self.tracker.clone(),
            draining: self.draining.child_token(),
            aborting: self.aborting.child_token(),
        }
    }

    /// Runs a task that may move between threads. It is dropped when the group is aborted.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let aborting = self.aborting.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = aborting.cancelled_owned() => {}
                () = task => {}
            }
        });
    }

    /// Runs a task on this worker's thread. It is dropped when the group is aborted.
    pub fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        let aborting = self.aborting.clone();
        self.tracker.spawn_local(async move {
            tokio::select! {
                () = aborting.cancelled_owned() => {}
                () = task => {}
            }
        });
    }

    /// Tells the group to finish.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Drops what is still running.
    pub fn abort(&self) {
        self.draining.cancel();
        self.aborting.cancel();
    }

    /// Whether the group was told to finish.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether the group's deadline is over.
    pub fn is_aborted(&self) -> bool {
        self.aborting.is_cancelled()
    }

    /// Completes when the group is told to finish.
    pub fn drained(&self) -> impl Future<Output = ()> + 'static {
        self.draining.clone().cancelled_owned()
    }

    /// Tells the group to finish, waits for at most `grace`, then drops the rest.
    /// Returns whether everything finished by itself.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.drain();
        self.tracker.close();
        let in_time = tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_ok();
        self.abort();
        self.tracker.wait().await;
        in_time
    }

    /// How many tasks are running.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task is running.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}
