//! What names stand for that no configuration has: looked up when somebody asks, kept for as long as the
//! answer says, and no longer than `[dns]` allows.
//!
//! Shared by all workers; the look-ups run on the control runtime. What must stay true: who asks for the
//! same name at the same time gets the same answer; neither questions nor answers pile up.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use sluice_config::model::Dns;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::super::resolve::{LookupError, look_up};
use crate::{
    drain::Tasks,
    telemetry::metrics::{Counter, Shard},
};

/// The most names that are kept.
const MOST: usize = 4096;

/// The most questions that wait; further ones fail at once.
const QUESTIONS: usize = 1024;

/// Looks names up.
pub struct Names {
    dns: Dns,
    questions: mpsc::Sender<Question>,
    known: Mutex<HashMap<Box<str>, Asked>>,
}

/// An answer, or the wait for it.
type Asked = Shared<BoxFuture<'static, Answer>>;

/// What a name stands for.
#[derive(Debug, Clone)]
struct Answer {
    /// None: it could not be found out, or the name has no address.
    addresses: Option<Arc<[IpAddr]>>,
    until: Instant,
}

#[derive(Debug)]
struct Question {
    name: Box<str>,
    answer: oneshot::Sender<Answer>,
}

impl Names {
    /// Has to be called on the runtime where look-ups shall run.
    pub(in crate::upstream) fn start(dns: &Dns, control: &Tasks, counters: &Shard) -> Arc<Self> {
        let (questions, mut receiver) = mpsc::channel::<Question>(QUESTIONS);
        let (own, settings, counters) = (control.clone(), dns.clone(), counters.clone());
        let drained = control.drained();
        control.spawn(async move {
            let mut drained = std::pin::pin!(drained);
            loop {
                let question = tokio::select! {
                    () = &mut drained => return,
                    question = receiver.recv() => question,
                };
                // Without it nobody can ask any more.
                let Some(Question { name, answer }) = question else {
                    return;
                };
                let (dns, counters) = (settings.clone(), counters.clone());
                own.spawn(async move {
                    // Nobody may want it any more.
                    let _gone = answer.send(found(&name, &dns, &counters).await);
                });
            }
        });
        Arc::new(Self {
            dns: dns.clone(),
            questions,
            known: Mutex::default(),
        })
    }

    /// What it was started with.
    pub(in crate::upstream) fn settings(&self) -> &Dns {
        &self.dns
    }

    /// How many names are kept, or asked about.
    pub fn kept(&self) -> usize {
        self.known.lock().len()
    }

    /// The addresses of `name`; none where there are none, or it could not be found out in time. Waits at
    /// most twice `dns.timeout`.
    pub async fn addresses(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let answer = self.ask(name)?.await;
        if Instant::now() < answer.until {
            return answer.addresses;
        }
        // Whoever asked has left before the answer came, and nobody looked at it until now.
        self.ask(name)?.await.addresses
    }

    fn ask(&self, name: &str) -> Option<Asked> {
        let now = Instant::now();
        let holds = |asked: &Asked| asked.peek().is_none_or(|answer| now < answer.until);
        let mut known = self.known.lock();
        if let Some(asked) = known.get(name).filter(|asked| holds(asked)) {
            return Some(asked.clone());
        }
        if known.len() >= MOST {
            known.retain(|_, asked| holds(asked));
        }
        if known.len() >= MOST {
            // Whoever waits for it goes on waiting.
            let any = known.keys().next().cloned();
            drop(any.and_then(|any| known.remove(&any)));
        }
        let (answer, receiver) = oneshot::channel();
        let name: Box<str> = name.into();
        let question = Question {
            name: name.clone(),
            answer,
        };
        self.questions.try_send(question).ok()?;
        let nothing = Answer {
            addresses: None,
            until: now,
        };
        let asked = receiver.map(|answer| answer.unwrap_or(nothing));
        let asked = asked.boxed().shared();
        known.insert(name, asked.clone());
        Some(asked)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("kept", &self.kept())
            .finish_non_exhaustive()
    }
}

async fn found(name: &str, dns: &Dns, counters: &Shard) -> Answer {
    // A dot at its end: no search list of the system may make another name of it.
    let absolute = format!("{name}.");
    let outcome = timeout(dns.timeout, look_up(&absolute, dns)).await;
    let outcome = outcome.unwrap_or(Err(LookupError::Timeout));
    let (addresses, kept) = match outcome {
        Ok((addresses, ttl)) => (Some(Arc::from(addresses)), ttl),
        Err(error) => {
            counters.count(Counter::DnsFailures);
            let error: &dyn std::error::Error = &error;
            tracing::debug!(name, error, "a name does not resolve");
            (None, dns.min_refresh)
        }
    };
    let kept = kept.max(dns.min_refresh).min(dns.max_refresh);
    Answer {
        addresses,
        until: Instant::now() + kept,
    }
}
