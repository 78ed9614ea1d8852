//! The HTTP/2 connections of one worker to one upstream: shared, on their way, given up.
//!
//! What must stay true: many requests that begin together share a connection instead of making one
//! each; and whoever waits for one that fails learns why at once.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{Dialect, Grant, Lent, Pool};
use crate::upstream::{
    connect::{Channel, Connection, Made, NotMade},
    endpoints::Way,
};

/// The HTTP/2 connections of a pool.
#[derive(Debug)]
pub(super) struct Shared {
    /// Per way, the oldest first: what is not needed stays empty and is closed.
    channels: RefCell<HashMap<Way, Vec<Rc<Channel>>, foldhash::fast::RandomState>>,
    coming: RefCell<Vec<Coming>>,
    /// Requests that the connection made last could carry.
    usual: Cell<usize>,
    numbers: Cell<u64>,
}

/// A connection on its way, and those who will share it.
#[derive(Debug)]
struct Coming {
    number: u64,
    way: Way,
    riders: Vec<oneshot::Sender<Ride>>,
}

/// How waiting for a connection on its way ends.
#[derive(Debug)]
pub(in crate::upstream) enum Ride {
    /// There is room on it.
    Place(Place),
    /// It carries less than was thought.
    Full,
    /// It turned out to take one request at a time.
    Whole(Connection),
    /// Another has that one, and there will be none to share.
    Alone,
    /// It will not come.
    NotMade(NotMade),
}

/// The promise of a connection. Broken when dropped: those who wait go on without.
#[derive(Debug)]
pub(in crate::upstream) struct Expected {
    pool: Rc<Pool>,
    number: u64,
}

impl Expected {
    /// The connection is here, or will not come.
    pub(in crate::upstream) fn arrived(self, outcome: Result<Made, NotMade>) {
        self.pool.arrived(self.number, outcome);
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        drop(self.pool.shared.arrived(self.number));
    }
}

/// Room for one request on a shared connection, until dropped.
#[derive(Debug)]
pub(in crate::upstream) struct Place {
    pub(in crate::upstream) channel: Rc<Channel>,
    pool: Rc<Pool>,
}

impl Place {
    fn new(pool: &Rc<Pool>, channel: &Rc<Channel>) -> Self {
        channel.open.set(channel.open.get().saturating_add(1));
        Self {
            channel: Rc::clone(channel),
            pool: Rc::clone(pool),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let channel = &self.channel;
        channel.open.set(channel.open.get().saturating_sub(1));
        channel.refusing.set(false);
        channel.idle_since.set(Instant::now());
        self.pool.vacated(channel);
    }
}

impl Shared {
    pub(super) fn new(usual: usize) -> Self {
        Self {
            channels: RefCell::default(),
            coming: RefCell::default(),
            usual: Cell::new(usual),
            numbers: Cell::new(0),
        }
    }

    /// A connection on `way` with room that `may_serve`; those that may not are given up.
    fn find(&self, way: &Way, may_serve: impl Fn(&Channel) -> bool) -> Option<Rc<Channel>> {
        let mut channels = self.channels.borrow_mut();
        let list = channels.get_mut(way)?;
        loop {
            let at = list.iter().position(|channel| channel.has_room())?;
            let channel = list.get(at)?;
            if may_serve(channel) {
                return Some(Rc::clone(channel));
            }
            list.remove(at).retire();
        }
    }

    /// Waits for a connection that will be there soon, if one has room left.
    fn board(&self, way: &Way) -> Option<oneshot::Receiver<Ride>> {
        let mut coming = self.coming.borrow_mut();
        let most = self.usual.get();
        let mut here = coming.iter_mut().filter(|it| it.way == *way);
        let coming = here.find_map(|it| {
            if it.riders.len() >= most {
                it.riders.retain(|rider| !rider.is_closed());
            }
            (it.riders.len() < most).then_some(it)
        })?;
        let (rider, ride) = oneshot::channel();
        coming.riders.push(rider);
        Some(ride)
    }

    /// Notes that there will be a connection; its number has to arrive.
    fn expect(&self, way: Way) -> (u64, oneshot::Receiver<Ride>) {
        let number = self.numbers.get();
        self.numbers.set(number.wrapping_add(1));
        let (rider, ride) = oneshot::channel();
        self.coming.borrow_mut().push(Coming {
            number,
            way,
            riders: vec![rider],
        });
        (number, ride)
    }

    fn arrived(&self, number: u64) -> Vec<oneshot::Sender<Ride>> {
        let mut coming = self.coming.borrow_mut();
        let at = coming.iter().position(|coming| coming.number == number);
        at.map_or_else(Vec::new, |at| coming.swap_remove(at).riders)
    }

    fn keep(&self, channel: &Rc<Channel>) {
        self.usual.set(channel.capacity().max(1));
        let mut channels = self.channels.borrow_mut();
        let list = channels.entry(channel.way()).or_default();
        list.push(Rc::clone(channel));
    }

    fn give_up(&self, channel: &Rc<Channel>) {
        channel.retire();
        let way = channel.way();
        let mut channels = self.channels.borrow_mut();
        if let Some(list) = channels.get_mut(&way) {
            list.retain(|other| !Rc::ptr_eq(other, channel));
            if list.is_empty() {
                channels.remove(&way);
            }
        }
    }

    /// How many carry nothing.
    pub(super) fn idle(&self) -> usize {
        let channels = self.channels.borrow();
        let idle = channels.values().flatten().filter(|it| it.open.get() == 0);
        idle.count()
    }

    /// Since when the one that carries nothing for longest does.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let channels = self.channels.borrow();
        let idle = channels.values().flatten().filter(|it| it.open.get() == 0);
        idle.map(|channel| channel.idle_since.get()).min()
    }

    /// Closes the one that carries nothing for longest.
    pub(super) fn close_oldest(&self) {
        let oldest = self.oldest();
        let is_oldest =
            |channel: &Channel| channel.open.get() == 0 && Some(channel.idle_since.get()) == oldest;
        let mut channels = self.channels.borrow_mut();
        for list in channels.values_mut() {
            if let Some(at) = list.iter().position(|channel| is_oldest(channel)) {
                list.remove(at).retire();
                return;
            }
        }
    }

    /// Gives up all but those that `keep` wants. What is under way on them goes on.
    pub(super) fn forget(&self, keep: impl Fn(u64, &Channel) -> bool) {
        self.channels.borrow_mut().retain(|way, list| {
            list.retain(|channel| {
                let kept = keep(way.endpoint, channel);
                if !kept {
                    channel.retire();
                }
                kept
            });
            !list.is_empty()
        });
    }

    pub(super) fn endpoints(&self) -> Vec<u64> {
        let channels = self.channels.borrow();
        channels.keys().map(|way| way.endpoint).collect()
    }

    /// Whether any began with a header.
    pub(super) fn has_headers(&self) -> bool {
        let channels = self.channels.borrow();
        channels.keys().any(|way| way.header.is_some())
    }
}

impl Pool {
    /// Room for a request on a connection that there is.
    pub(in crate::upstream) fn place_on(self: &Rc<Self>, way: &Way) -> Option<Place> {
        let channel = self.shared.find(way, |it| self.may_share(it))?;
        Some(Place::new(self, &channel))
    }

    /// Waits for a connection that will be there soon.
    pub(in crate::upstream) fn board(&self, way: &Way) -> Option<oneshot::Receiver<Ride>> {
        self.shared.board(way)
    }

    /// The caller is about to make a connection.
    pub(in crate::upstream) fn expect(
        self: &Rc<Self>,
        way: Way,
    ) -> (Expected, oneshot::Receiver<Ride>) {
        let (number, ride) = self.shared.expect(way);
        let pool = Rc::clone(self);
        (Expected { pool, number }, ride)
    }

    /// A connection that was on its way is here, or will not come.
    fn arrived(self: &Rc<Self>, number: u64, outcome: Result<Made, NotMade>) {
        let riders = self.shared.arrived(number).into_iter();
        let mut riders = riders.filter(|rider| !rider.is_closed());
        let channel = match outcome {
            Ok(Made::Shared(channel)) => Rc::new(channel),
            Ok(Made::Whole(connection)) => {
                let refused = match riders.next() {
                    Some(first) => first.send(Ride::Whole(connection)).err(),
                    None => Some(Ride::Whole(connection)),
                };
                if let Some(Ride::Whole(connection)) = refused {
                    self.take_back(connection);
                }
                for rider in riders {
                    drop(rider.send(Ride::Alone));
                }
                return;
            }
            Err(not_made) => {
                for rider in riders {
                    // Nobody can have left since the last line.
                    drop(rider.send(Ride::NotMade(not_made.clone())));
                }
                return;
            }
        };
        self.shared.keep(&channel);
        for rider in riders {
            let ride = if channel.has_room() {
                Ride::Place(Place::new(self, &channel))
            } else {
                Ride::Full
            };
            drop(rider.send(ride));
        }
        self.share(&channel);
    }

    /// Room for the request for which `channel` was made; others share it from now on.
    pub(in crate::upstream) fn adopt(self: &Rc<Self>, channel: Channel) -> Place {
        let channel = Rc::new(channel);
        self.shared.keep(&channel);
        let place = Place::new(self, &channel);
        self.share(&channel);
        place
    }

    fn share(self: &Rc<Self>, channel: &Rc<Channel>) {
        self.offer(channel);
        if channel.open.get() == 0 {
            self.rest(channel);
        }
    }

    /// A request on a connection is over.
    fn vacated(self: &Rc<Self>, channel: &Rc<Channel>) {
        if !self.may_share(channel) || self.is_closing() {
            self.shared.give_up(channel);
            return;
        }
        self.share(channel);
    }

    /// Lets waiting requests have what room a connection has.
    fn offer(self: &Rc<Self>, channel: &Rc<Channel>) {
        while channel.has_room() && self.may_share(channel) {
            let header = channel.header.as_ref();
            let Some(waiter) = self.next_waiter(Dialect::Http2, header) else {
                return;
            };
            let place = Place::new(self, channel);
            // Nobody can have left since the last line.
            drop(waiter.send(Grant::Lent(Lent::Part(place))));
        }
    }

    /// A connection carries nothing for now.
    fn rest(self: &Rc<Self>, channel: &Rc<Channel>) {
        let unwanted = self.most_idle == 0 || self.is_closing() || !channel.is_needed();
        if unwanted || self.state.budget.waiting() > 0 {
            // Somebody waits elsewhere: what is closed here can be opened there.
            self.shared.give_up(channel);
            return;
        }
        if self.kept.get().saturating_add(self.shared.idle()) > self.most_idle {
            self.close_oldest();
        }
        self.keep_sweeping();
    }

    /// Whether a shared connection may take another request.
    fn may_share(&self, channel: &Channel) -> bool {
        self.is_young(channel.born, channel.served.get()) && channel.is_ready()
    }

    /// Closes shared connections that carry nothing for `limit`, or are dead.
    pub(super) fn sweep_shared(&self, now: Instant, limit: Duration) {
        self.shared.forget(|_, channel| {
            let idle = channel.open.get() == 0;
            let stale = now.duration_since(channel.idle_since.get()) >= limit;
            !(idle && (stale || !channel.is_needed())) && self.may_share(channel)
        });
    }
}
