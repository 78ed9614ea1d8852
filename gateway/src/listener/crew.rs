//! How many connections each worker has, and how one relieves another.
//!
//! The kernel spreads connections by hash, so one worker can end up with many more long-lived ones
//! than the rest. More than 25 % and [`SLACK`] above the mean, it hands fresh ones over.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;

use super::Loose;
use crate::plan::{self, Seat};

/// Connections above the mean that are no imbalance yet.
const SLACK: usize = 8;

/// Sockets that may be on their way to one worker.
const ON_THE_WAY: usize = 256;

/// A socket from which no byte was read.
#[derive(Debug)]
pub struct Fresh {
    /// Non-blocking.
    pub stream: Loose,
    /// The connected peer.
    pub peer: SocketAddr,
    /// Where it came in.
    pub listener: Arc<plan::Listener>,
    /// Its place among the connections of the listener.
    pub seat: Seat,
    /// Its place among those of the worker it goes to.
    pub berth: Berth,
}

/// The workers of a process.
#[derive(Debug)]
pub struct Crew {
    posts: Box<[Post]>,
}

#[derive(Debug)]
struct Post {
    open: AtomicUsize,
    inbox: mpsc::Sender<Fresh>,
}

/// A connection's place at its worker; free again when dropped.
#[derive(Debug)]
pub struct Berth {
    crew: Arc<Crew>,
    worker: usize,
}

impl Crew {
    /// A crew of `workers`, and what each of them receives.
    pub fn new(workers: usize) -> (Arc<Self>, Vec<mpsc::Receiver<Fresh>>) {
        let (posts, inboxes): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (inbox, receiver) = mpsc::channel(ON_THE_WAY);
                let open = AtomicUsize::new(0);
                (Post { open, inbox }, receiver)
            })
            .unzip();
        let posts = posts.into_boxed_slice();
        (Arc::new(Self { posts }), inboxes)
    }

    /// How many workers there are.
    pub fn len(&self) -> usize {
        self.posts.len()
    }

    /// Whether there is no worker.
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// Counts a connection at `worker`.
    pub fn enter(self: &Arc<Self>, worker: usize) -> Berth {
        if let Some(post) = self.posts.get(worker) {
            post.open.fetch_add(1, Ordering::Relaxed);
        }
        Berth {
            crew: Arc::clone(self),
            worker,
        }
    }

    /// Who should take the next connection instead of `worker`, if it has too many.
    pub fn relief(&self, worker: usize) -> Option<usize> {
        let open = |post: &Post| post.open.load(Ordering::Relaxed);
        let own = self.posts.get(worker).map(open)?;
        if own <= SLACK || self.posts.len() < 2 {
            return None;
        }
        let all = self.posts.iter().map(open).fold(0, usize::saturating_add);
        let mean = all.checked_div(self.posts.len())?;
        if own <= mean.saturating_add(SLACK) || own <= mean.saturating_add(mean / 4) {
            return None;
        }
        let least = self.posts.iter().map(open).enumerate();
        let (least, _) = least.min_by_key(|(_, open)| *open)?;
        (least != worker).then_some(least)
    }

    /// Gives `fresh` to `worker`; gives it back when that one is not keeping up.
    pub fn hand_over(&self, worker: usize, fresh: Fresh) -> Option<Fresh> {
        let Some(post) = self.posts.get(worker) else {
            return Some(fresh);
        };
        match post.inbox.try_send(fresh) {
            Ok(()) => None,
            Err(error) => Some(error.into_inner()),
        }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if let Some(post) = self.crew.posts.get(self.worker) {
            post.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crew whose workers have that many connections.
    fn crew(open: &[usize]) -> (Arc<Crew>, Vec<Berth>) {
        let (crew, _) = Crew::new(open.len());
        let enter = |(worker, count): (usize, &usize)| {
            let crew = Arc::clone(&crew);
            (0..*count)
                .map(move |_| crew.enter(worker))
                .collect::<Vec<_>>()
        };
        let berths = open.iter().enumerate().flat_map(enter).collect();
        (crew, berths)
    }

    #[test]
    fn only_a_worker_far_above_the_mean_is_relieved_and_by_the_least_loaded() {
        let cases: &[(&[usize], Option<usize>)] = &[
            (&[100], None),
            (&[8, 0, 0], None),
            (&[12, 0], None),
            (&[18, 0], Some(1)),
            (&[100, 90, 80], None),
            (&[113, 100, 88], None),
            (&[160, 90, 50], Some(2)),
        ];
        for (open, expected) in cases {
            let (crew, _berths) = crew(open);
            assert_eq!(crew.relief(0), *expected, "{open:?}");
        }
    }

    #[test]
    fn a_connection_that_ended_is_no_longer_counted() {
        let (crew, berths) = crew(&[18, 0]);
        assert_eq!(crew.relief(0), Some(1));
        drop(berths);
        assert_eq!(crew.relief(0), None);
    }
}
