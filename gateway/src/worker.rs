//! A worker: one thread, one runtime, its own sockets and its own connections to endpoints.
//!
//! Does what the control runtime orders, one order at a time, and serves in between. Everything it
//! runs stays on its thread.

use std::{
    collections::HashMap,
    io,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
};

use sluice_config::names::ListenerName;
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::LocalSet,
};

use crate::{
    drain::Tasks,
    l4::udp::{DatagramSet, Receiving},
    listener::{Accepting, Crew, Door, Fresh, Listening},
    load::SocketKey,
    plan::{self, Local, Plan, Reaper},
    pressure::Pressure,
    telemetry::metrics::Shard,
    upstream::{Connector, Pools},
};

/// Orders that may wait: a reload at a time, and the end.
const ORDERS: usize = 4;

/// What a worker is made of.
#[derive(Debug)]
pub struct Setup {
    /// Which one, from 0.
    pub number: usize,
    /// All of them.
    pub crew: Arc<Crew>,
    /// How endpoints are reached.
    pub connector: Connector,
    /// Owns what runs besides client connections.
    pub background: Tasks,
    /// Its counters.
    pub counters: Shard,
    /// Whether the process can take more.
    pub pressure: Arc<Pressure>,
    /// Where replaced plans go.
    pub reaper: Reaper,
    /// The first plan.
    pub plan: Arc<Plan>,
}

/// A socket set's part for one worker.
#[derive(Debug)]
pub struct Assignment {
    /// Which set.
    pub key: SocketKey,
    /// Whose connections come in there.
    pub listener: ListenerName,
    /// The socket, when the set is new.
    pub socket: Option<Listening>,
    /// The set, where it is one for datagrams.
    pub datagrams: Option<Arc<DatagramSet>>,
}

/// What the control runtime wants done.
#[derive(Debug)]
enum Order {
    /// Run this plan and accept on these sockets and no others.
    Apply(Arc<Plan>, Vec<Assignment>, oneshot::Sender<()>),
}

/// The control runtime's hold on a worker. Without it the worker ends.
#[derive(Debug)]
pub struct Hand {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

impl Hand {
    /// Starts a worker that accepts nothing yet.
    pub fn start(setup: Setup, inbox: mpsc::Receiver<Fresh>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (orders, receiver) = mpsc::channel(ORDERS);
        let thread = thread::Builder::new()
            .name(format!("worker-{}", setup.number))
            .spawn(move || {
                LocalSet::new().block_on(&runtime, async move {
                    Worker::new(setup).run(receiver, inbox).await;
                });
            })?;
        Ok(Self { orders, thread })
    }

    /// Sends an order; what comes back completes when it is done, or the worker is gone.
    pub async fn apply(
        &self,
        plan: Arc<Plan>,
        assignments: Vec<Assignment>,
    ) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        if self
            .orders
            .send(Order::Apply(plan, assignments, done))
            .await
            .is_err()
        {
            tracing::error!("a worker has ended");
        }
        receiver
    }

    /// Ends the worker, with everything that still runs there. Blocks.
    pub fn end(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("a worker has panicked");
        }
    }
}

/// A worker, on its own thread.
#[derive(Debug)]
pub struct Worker {
    local: Rc<Local>,
    door: Rc<Door>,
    accepting: HashMap<SocketKey, Accepting>,
    /// Those that were told to stop stay until they are over.
    receiving: HashMap<SocketKey, Receiving>,
}

impl Worker {
    /// A worker that accepts nothing yet. On the thread where it will stay.
    pub fn new(setup: Setup) -> Self {
        let Setup {
            number,
            crew,
            connector,
            background,
            counters,
            pressure,
            reaper,
            plan,
        } = setup;
        let pools = Pools::new(number, crew.len(), connector, background, counters.clone())
            .within(Arc::clone(&pressure));
        let own = (rand::random(), pressure);
        let local = Rc::new(Local::new(number, plan, pools, counters, reaper, own));
        Self {
            door: Rc::new(Door::new(Rc::clone(&local), crew)),
            local,
            accepting: HashMap::new(),
            receiving: HashMap::new(),
        }
    }

    /// Where its connections come in.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// What it has at hand.
    pub fn local(&self) -> &Local {
        &self.local
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut inbox: mpsc::Receiver<Fresh>) {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Apply(plan, assignments, done)) => {
                        self.apply(plan, assignments).await;
                        // Whoever waits for this order wants no socket left on its way.
                        while let Ok(fresh) = inbox.try_recv() {
                            self.door.receive(fresh);
                        }
                        if done.send(()).is_err() {
                            tracing::debug!("nobody waits for this plan any more");
                        }
                    }
                    None => break,
                },
                Some(fresh) = inbox.recv() => self.door.receive(fresh),
            }
        }
    }

    /// Runs `plan` and accepts on these sockets and no others.
    pub async fn apply(&mut self, plan: Arc<Plan>, assignments: Vec<Assignment>) {
        self.local.replace(Arc::clone(&plan));
        let mut before = std::mem::take(&mut self.accepting);
        let mut received = std::mem::take(&mut self.receiving);
        for assignment in assignments {
            let Assignment {
                key,
                listener,
                socket,
                datagrams,
            } = assignment;
            let Some(listener) = plan.listeners.get(&listener) else {
                continue;
            };
            let listener = Arc::clone(listener);
            if let Some(set) = datagrams {
                let known = received.remove(&key).filter(|known| known.is_of(&set));
                if let Some(receiving) = self.receive(known, &set, listener) {
                    self.receiving.insert(key, receiving);
                }
            } else if let Some(accepting) = before.remove(&key) {
                accepting.belong_to(listener);
                self.accepting.insert(key, accepting);
            } else if let Some(socket) = socket {
                match Accepting::start(socket, listener, Rc::clone(&self.door)) {
                    Ok(accepting) => {
                        self.accepting.insert(key, accepting);
                    }
                    Err(error) => tracing::error!(%error, ?key, "a socket cannot be watched"),
                }
            }
        }
        for (_, accepting) in before {
            accepting.stop().await;
        }
        for (key, receiving) in received {
            receiving.stop();
            if !receiving.is_over() {
                self.receiving.insert(key, receiving);
            }
        }
        self.local
            .pools
            .retain(|name| plan.upstreams.get(name).cloned());
    }

    /// Receives datagrams by the socket of this worker in `set`: goes on with what is `known`, or begins.
    fn receive(
        &self,
        known: Option<Receiving>,
        set: &Arc<DatagramSet>,
        listener: Arc<plan::Listener>,
    ) -> Option<Receiving> {
        if let Some(known) = known {
            known.belong_to(listener);
            return Some(known);
        }
        let door = Rc::clone(&self.door);
        let ids = Rc::new(move || door.id());
        let started = Receiving::start(set, listener, Rc::clone(&self.local), ids);
        started
            .inspect_err(|error| tracing::error!(%error, "a socket cannot be watched"))
            .ok()
    }
}
