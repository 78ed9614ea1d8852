//! What clients send: taken many at once, and passed on to the endpoints of their sessions.

use std::{io, task::Context};

use rustix::io::Errno;
use tokio::io::Interest;

use super::{
    relay::Relay,
    session::Peer,
    wire::{Arrival, Inbox},
};
use crate::telemetry::metrics::Loss;

impl Relay {
    /// Takes datagrams from clients, and says whether more may wait.
    pub(super) fn receive(&mut self, inbox: &mut Inbox, cx: &mut Context<'_>) -> bool {
        if self.socket.poll_recv_ready(cx).is_pending() {
            return false;
        }
        let mut received = Ok(());
        let socket = &self.socket;
        let more = socket.try_io(Interest::READABLE, || match inbox.receive(socket) {
            // What comes from now on is told anew.
            Ok(true) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(false) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) => {
                received = Err(error);
                Ok(())
            }
        });
        if let Err(error) = received {
            tracing::debug!(%error, "a datagram was not received");
        }
        let mut arrived = inbox.iter().peekable();
        while let Some((arrival, bytes)) = arrived.next() {
            let same = |next: &(&Arrival, &[u8])| next.0.is_beside(arrival);
            let Some((_, second)) = arrived.next_if(same) else {
                self.deliver(arrival, &[bytes]);
                continue;
            };
            let rest = std::iter::from_fn(|| arrived.next_if(same).map(|(_, bytes)| bytes));
            let run: Vec<&[u8]> = [bytes, second].into_iter().chain(rest).collect();
            self.deliver(arrival, &run);
        }
        // Asked again where that was all: only then somebody is woken.
        more.is_ok() || self.socket.poll_recv_ready(cx).is_ready()
    }

    /// Sends what a client sent, one datagram after the other, to the endpoint of its session, or to that
    /// of a new one.
    fn deliver(&mut self, arrival: &Arrival, mut run: &[&[u8]]) {
        let peer = Peer {
            client: arrival.client,
            local: arrival.local,
        };
        while !run.is_empty() {
            let known = self.table.find(&peer);
            let done = match known.map(|place| (place, self.pass(place, run))) {
                Some((_, Ok(done))) => done,
                // What its endpoint did not take another one may.
                Some((place, Err(error))) => {
                    self.fail(place, error);
                    self.deliver_anew(peer, run)
                }
                None => self.deliver_anew(peer, run),
            };
            run = run.get(done..).unwrap_or_default();
        }
    }

    /// The same in a new session. Gives how many datagrams are done with, which is at least one.
    fn deliver_anew(&mut self, peer: Peer, run: &[&[u8]]) -> usize {
        let place = match self.open(peer) {
            Ok(place) => place,
            Err(loss) => {
                self.lose(loss);
                return 1;
            }
        };
        self.pass(place, run).unwrap_or_else(|error| {
            self.lose(Loss::Connect);
            self.fail(place, error);
            1
        })
    }

    /// Gives how many of these are done with, which is at least one. An error says that the endpoint is not
    /// there, and that it got none of them.
    fn pass(&mut self, place: usize, run: &[&[u8]]) -> io::Result<usize> {
        let Some(session) = self.table.get_mut(place) else {
            return Ok(run.len());
        };
        match session.send(run) {
            Ok(sent) => {
                let counted = &session.ground.listener.datagrams;
                for bytes in run.iter().take(sent) {
                    session.inward.add(bytes.len());
                    counted.inward(self.local.worker, bytes.len());
                }
                session.moved = self.now;
                Ok(sent.max(1))
            }
            Err(error) => {
                self.lose(match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN | Errno::NOBUFS) => Loss::UpstreamBusy,
                    Some(Errno::MSGSIZE) => Loss::TooLarge,
                    _ => return Err(error),
                });
                Ok(1)
            }
        }
    }
}
