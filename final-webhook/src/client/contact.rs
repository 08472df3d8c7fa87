//! What a caller knows of its endpoints: circuit, places and idle connections of each.
//!
//! Input: an endpoint. Output: its contact, shared by all calls to it. State: a map of bounded size. An endpoint
//! that was not called for long is forgotten when the map is full.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Semaphore;

use crate::{
    Endpoint,
    client::circuit::{Circuit, Settings},
    client::connection::Connection,
    client::lock::lock,
};

pub(crate) struct Contact {
    pub(crate) circuit: Mutex<Circuit>,
    /// How many more calls may be under way. Without this, a dead endpoint would hold the places of all others.
    pub(crate) places: Semaphore,
    idle: Mutex<Vec<Connection>>,
    /// When it was asked for, as a number that grows.
    used: AtomicU64,
}

pub(crate) struct Contacts {
    known: Mutex<HashMap<String, Arc<Contact>>>,
    limits: ContactLimits,
    settings: Settings,
    clock: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ContactLimits {
    /// How many endpoints are remembered.
    pub(crate) endpoints: usize,
    /// How many calls to one endpoint are under way at once.
    pub(crate) calls: usize,
}

impl Contact {
    /// A connection that was used before and seems to be alive.
    pub(crate) fn idle_connection(&self) -> Option<Connection> {
        // The dead ones among them are dropped without the lock.
        loop {
            let mut connection = lock(&self.idle).pop()?;
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    pub(crate) fn keep(&self, mut connection: Connection) {
        if connection.is_usable() {
            lock(&self.idle).push(connection);
        }
    }
}

impl Contacts {
    pub(crate) fn new(limits: ContactLimits, settings: Settings) -> Self {
        Self {
            known: Mutex::default(),
            limits,
            settings,
            clock: AtomicU64::new(0),
        }
    }

    /// The contact of an endpoint; none if there are as many as may be, and a call to each of them is under way.
    pub(crate) fn of(&self, endpoint: &Endpoint) -> Option<Arc<Contact>> {
        let identity = endpoint.identity();
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut forgotten = Vec::new();
        let mut known = lock(&self.known);
        if let Some(contact) = known.get(&identity) {
            contact.used.store(now, Ordering::Relaxed);
            return Some(contact.clone());
        }
        if known.len() >= self.limits.endpoints {
            forgotten = self.forget(&mut known);
            if forgotten.is_empty() {
                return None;
            }
        }
        let contact = Arc::new(Contact {
            circuit: Mutex::new(Circuit::new(self.settings)),
            places: Semaphore::new(self.limits.calls),
            idle: Mutex::default(),
            used: AtomicU64::new(now),
        });
        known.insert(identity, contact.clone());
        // Their connections are closed without the lock.
        drop(known);
        drop(forgotten);
        Some(contact)
    }

    /// The contact of an endpoint, if it was called before.
    pub(crate) fn known(&self, endpoint: &Endpoint) -> Option<Arc<Contact>> {
        lock(&self.known).get(&endpoint.identity()).cloned()
    }

    /// Takes out some contacts that nobody uses: first those with nothing to remember, then those that were not
    /// called for longest. Several at once, so that a full map is not walked for each new endpoint.
    fn forget(&self, known: &mut HashMap<String, Arc<Contact>>) -> Vec<Arc<Contact>> {
        let unused = known
            .iter()
            .filter(|(_, contact)| Arc::strong_count(contact) == 1);
        let mut unused: Vec<_> = unused
            .map(|(identity, contact)| {
                let remembers = !lock(&contact.circuit).is_blank();
                (
                    remembers,
                    contact.used.load(Ordering::Relaxed),
                    identity.clone(),
                )
            })
            .collect();
        unused.sort_unstable();
        unused.truncate(self.limits.endpoints.div_ceil(16));
        unused
            .iter()
            .filter_map(|(_, _, identity)| known.remove(identity))
            .collect()
    }

    /// Closes an idle connection of any endpoint, and says whether there was one.
    pub(crate) fn close_idle(&self) -> bool {
        let known = lock(&self.known);
        let closed = known.values().find_map(|contact| lock(&contact.idle).pop());
        drop(known);
        closed.is_some()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.known).len()
    }
}
