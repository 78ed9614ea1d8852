//! A raw stream that a connection may turn out to be: its endpoint is connected to before that is clear.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use sluice_config::model::Mode;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::{
    connection::{Arrival, peek::Peek, raw},
    error::ProxyError,
    l4::{
        record::Record,
        stream::{carry, dial, record},
    },
    upstream::Raw,
};

/// Room for what an endpoint says first.
const BUFFER: usize = 4 << 10;

/// A raw stream that a connection may turn out to be. Dropped, it was none.
pub(super) enum Early {
    /// No route takes raw streams.
    Impossible,
    /// Nobody was asked for yet.
    Unasked,
    Dialling(Pin<Box<dyn Future<Output = Dialled>>>),
    Dialled(Box<Dialled>),
}

/// What came of it.
pub(super) struct Dialled {
    record: Box<Record>,
    outcome: Result<Raw, ProxyError>,
    /// What the endpoint has said.
    answered: Bytes,
}

impl Early {
    pub(super) fn of(arrival: &Arrival) -> Self {
        let plan = arrival.local.plan();
        if plan.has(&arrival.connection.listener, Mode::Tcp) {
            Self::Unasked
        } else {
            Self::Impossible
        }
    }

    /// Whether some route takes raw streams.
    pub(super) fn is_possible(&self) -> bool {
        !matches!(self, Self::Impossible)
    }

    /// Ready once, when the endpoint has said something or is gone.
    pub(super) fn poll_answered(&mut self, arrival: &Arrival, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self, Self::Unasked) {
            *self = Self::Dialling(Box::pin(dialled(arrival)));
        }
        if let Self::Dialling(dialling) = self {
            let dialled = ready!(dialling.as_mut().poll(cx));
            *self = Self::Dialled(Box::new(dialled));
        }
        let Self::Dialled(dialled) = self else {
            return Poll::Pending;
        };
        // Without an endpoint it is the client's turn all the same: it may speak something else.
        let Ok(raw) = &mut dialled.outcome else {
            return Poll::Pending;
        };
        let mut scratch = [0; BUFFER];
        let mut buffer = ReadBuf::new(&mut scratch);
        // That it is gone shows again to whoever reads next.
        let _outcome = ready!(Pin::new(raw.stream()).poll_read(cx, &mut buffer));
        dialled.answered = Bytes::copy_from_slice(buffer.filled());
        Poll::Ready(())
    }

    /// It is one.
    pub(super) async fn join(self, peek: Peek, arrival: Arrival) {
        let dialled = match self {
            // Nobody is there for a client that says nothing.
            Self::Impossible if peek.bytes().is_empty() => return,
            Self::Impossible | Self::Unasked => {
                return Box::pin(raw(peek.into_parts(), None, arrival)).await;
            }
            Self::Dialling(dialling) => dialling.await,
            Self::Dialled(dialled) => *dialled,
        };
        drop(arrival);
        let Dialled {
            mut record,
            outcome,
            answered,
        } = dialled;
        record.open();
        let (stream, ahead) = peek.into_parts();
        match outcome {
            Ok(raw) => carry(record, (stream, ahead), (raw, answered)).await,
            Err(error) => {
                record.settle(Err(error));
                stream.abort();
            }
        }
    }
}

fn dialled(arrival: &Arrival) -> impl Future<Output = Dialled> + use<> {
    let connection = Arc::new(arrival.connection.clone());
    let (listener, local) = (Arc::clone(&arrival.listener), Rc::clone(&arrival.local));
    async move {
        let mut record = record(None, connection, listener, local);
        let outcome = dial(&mut record, None).await;
        Dialled {
            record,
            outcome,
            answered: Bytes::new(),
        }
    }
}
