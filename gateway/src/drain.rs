//! Every task has an owner, and every owner can be told to finish.
//!
//! [`Tasks`] is a tree: a child is told whenever its parent is, and can be told alone (a route that
//! disappeared, while the listener stays). Waiting for a tree means waiting for all of its tasks.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

/// How long a client that was just let in may take for its first word when its listener is told to finish: it
/// is on its way mostly, and who is closed unheard cannot know that it is safe to ask again.
pub const FIRST_WORD: Duration = Duration::from_secs(1);

/// A group of tasks that finish together.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Finish what is in flight, take nothing new.
    draining: CancellationToken,
    /// The deadline is over: stop at once.
    aborting: CancellationToken,
    told: Arc<Told>,
}

/// What a group was told, to be read with every request: its tokens answer that under a lock, which
/// all workers share.
#[derive(Debug, Default)]
struct Told {
    draining: AtomicBool,
    aborting: AtomicBool,
    parent: Option<Arc<Told>>,
}

impl Told {
    fn any(&self, what: impl Fn(&Self) -> &AtomicBool) -> bool {
        let mut group = Some(self);
        while let Some(told) = group {
            if what(told).load(Ordering::Acquire) {
                return true;
            }
            group = told.parent.as_deref();
        }
        false
    }
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
            told: Arc::new(Told {
                parent: Some(Arc::clone(&self.told)),
                ..Told::default()
            }),
        }
    }

    /// Runs a task that may move between threads. It is dropped when the group is aborted.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.until_aborted(task));
    }

    /// Runs a task on this worker's thread. It is dropped when the group is aborted.
    pub fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        self.tracker.spawn_local(self.until_aborted(task));
    }

    fn until_aborted<T>(&self, task: T) -> UntilAborted<T> {
        UntilAborted {
            task,
            aborted: self.aborting.clone().cancelled_owned(),
            told: Arc::clone(&self.told),
            watched: None,
        }
    }

    /// Tells the group to finish.
    pub fn drain(&self) {
        self.told.draining.store(true, Ordering::Release);
        self.draining.cancel();
    }

    /// Drops what is still running.
    pub fn abort(&self) {
        self.drain();
        self.told.aborting.store(true, Ordering::Release);
        self.aborting.cancel();
    }

    /// Whether the group was told to finish.
    pub fn is_draining(&self) -> bool {
        self.told.any(|told| &told.draining)
    }

    /// Whether the group's deadline is over.
    pub fn is_aborted(&self) -> bool {
        self.told.any(|told| &told.aborting)
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

pin_project! {
    /// A task that ends when its group is aborted.
    struct UntilAborted<T> {
        #[pin]
        task: T,
        #[pin]
        aborted: WaitForCancellationFutureOwned,
        told: Arc<Told>,
        // Who is woken when it comes to that.
        watched: Option<Waker>,
    }
}

impl<T: Future<Output = ()>> Future for UntilAborted<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.told.any(|told| &told.aborting) {
            return Poll::Ready(());
        }
        // The token's lock is all workers': once it knows whom to wake there is nothing to ask it.
        let known = this.watched.as_ref();
        if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
            if this.aborted.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            *this.watched = Some(cx.waker().clone());
        }
        this.task.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_to_a_group_is_told_to_those_below_it_only() {
        let root = Tasks::new();
        let (left, right) = (root.child(), root.child());
        let below = left.child();

        left.drain();
        assert!(left.is_draining() && below.is_draining());
        assert!(!root.is_draining() && !right.is_draining());
        assert!(!left.is_aborted());

        root.abort();
        assert!(right.is_draining() && right.is_aborted() && below.is_aborted());
    }

    #[test]
    fn a_task_has_room_for_its_future_once() {
        let large = std::future::ready([0_u8; 4096]);
        let before = size_of_val(&large);
        let size = size_of_val(&Tasks::new().until_aborted(large));
        assert!((before..before + 128).contains(&size), "{size} bytes");
    }

    #[tokio::test]
    async fn a_task_that_waits_for_nothing_ends_with_its_group() {
        let tasks = Tasks::new();
        let child = tasks.child();
        child.spawn(std::future::pending());
        tokio::task::yield_now().await;
        assert_eq!(tasks.len(), 1);

        assert!(!tasks.finish(Duration::ZERO).await);
        assert!(tasks.is_empty());
    }
}
