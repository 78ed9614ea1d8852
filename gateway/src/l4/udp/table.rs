//! The sessions of one socket, by who speaks to which of our addresses.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::session::{Peer, Session};

/// Places that are kept when no session is left.
const KEPT: usize = 256;

/// Sessions, each at a place that is its own until it is over.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_peer: HashMap<Peer, usize, RandomState>,
    places: Vec<Option<Session>>,
    free: Vec<usize>,
}

impl Table {
    pub(super) fn find(&self, peer: &Peer) -> Option<usize> {
        self.by_peer.get(peer).copied()
    }

    pub(super) fn get(&self, place: usize) -> Option<&Session> {
        self.places.get(place)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Session> {
        self.places.get_mut(place)?.as_mut()
    }

    /// The place that the next session gets.
    pub(super) fn next(&self) -> usize {
        self.free.last().copied().unwrap_or(self.places.len())
    }

    pub(super) fn insert(&mut self, session: Session) {
        let place = self.next();
        self.by_peer.insert(session.peer, place);
        self.free.pop();
        match self.places.get_mut(place) {
            Some(free) => *free = Some(session),
            None => self.places.push(Some(session)),
        }
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Session> {
        let session = self.places.get_mut(place)?.take()?;
        self.by_peer.remove(&session.peer);
        if self.by_peer.is_empty() && self.places.len() > KEPT {
            // A flood is over: what it took is given back.
            *self = Self::default();
        } else {
            self.free.push(place);
        }
        Some(session)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    /// Places from 0, free ones included.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }
}
