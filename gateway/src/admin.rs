//! Answers those who run the gateway: state, metrics, and a few orders.
//!
//! Runs beside the engine and never on a worker. What must stay true: only the admin address takes
//! orders and tells details, and it answers this machine alone; a page in a browser cannot use it
//! (`guard`); every wait on a peer is bounded.

mod certificates;
mod client;
mod egress;
mod guard;
mod metrics;
mod port;
mod process;
mod report;
mod serve;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{engine::View, source::file::Status};

pub use client::{Answer, AskError, ask};
pub use port::{BindError, Ports};

/// What somebody wants done.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration again.
    Reload,
    /// End: within this time, or the configured one.
    Drain(Option<Duration>),
    /// Tell what is logged; before that, change it when there is a text.
    LogLevel(Option<String>, oneshot::Sender<Result<String, String>>),
}

/// What the answers are made of.
#[derive(Debug)]
pub struct Admin {
    view: View,
    status: watch::Receiver<Status>,
    orders: mpsc::Sender<Order>,
    draining: AtomicBool,
    started: SystemTime,
}

impl Admin {
    /// Answers from `view` and `status`, and passes orders on.
    pub fn new(view: View, status: watch::Receiver<Status>, orders: mpsc::Sender<Order>) -> Self {
        Self {
            view,
            status,
            orders,
            draining: AtomicBool::new(false),
            started: SystemTime::now(),
        }
    }

    /// From now on the gateway is not ready.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_ready(&self) -> bool {
        !self.is_draining() && self.view.live().is_some()
    }
}
