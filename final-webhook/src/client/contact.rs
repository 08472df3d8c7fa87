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
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::{
    Endpoint,
    client::circuit::{Circuit, Settings},
    client::connection::Connection,
    client::lock::lock,
};

/// How long a connection is kept without a call. Many endpoints end it earlier.
const LONGEST_IDLE: Duration = Duration::from_secs(30);

pub(crate) struct Contact {
    pub(crate) circuit: Mutex<Circuit>,
    /// How many more calls may be under way. Without this, a dead endpoint would hold the places of all others.
    pub(crate) places: Semaphore,
    /// The last one was used last.
    idle: Mutex<Vec<Idle>>,
    /// When it was asked for, as a number that grows.
    used: AtomicU64,
}

pub(crate) struct Contacts {
    known: Mutex<HashMap<String, Arc<Contact>>>,
    limits: ContactLimits,
    settings: Settings,
    /// Counts the calls.
    calls: AtomicU64,
    /// When the idle connections of all endpoints were looked at.
    looked: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ContactLimits {
    /// How many endpoints are remembered.
    pub(crate) endpoints: usize,
    /// How many calls to one endpoint are under way at once.
    pub(crate) calls: usize,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Contact {
    /// A connection that was used before and seems to be alive.
    pub(crate) fn idle_connection(&self, now: Instant) -> Option<Connection> {
        loop {
            let mut idle = lock(&self.idle).pop()?;
            if idle.is_usable(now) {
                return Some(idle.connection);
            }
        }
    }

    pub(crate) fn keep(&self, connection: Connection, now: Instant) {
        let mut idle = Idle {
            connection,
            since: now,
        };
        if idle.is_usable(now) {
            lock(&self.idle).push(idle);
        }
    }
}

impl Idle {
    fn is_usable(&mut self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.since);
        idle < LONGEST_IDLE && self.connection.is_usable()
    }
}

impl Contacts {
    pub(crate) fn new(limits: ContactLimits, settings: Settings) -> Self {
        Self {
            known: Mutex::default(),
            limits,
            settings,
            calls: AtomicU64::new(0),
            looked: Mutex::default(),
        }
    }

    /// The contact of an endpoint; none if there are as many as may be, and a call to each of them is under way.
    pub(crate) fn of(&self, endpoint: &Endpoint, now: Instant) -> Option<Arc<Contact>> {
        self.close_unused(now);
        let identity = endpoint.identity();
        let used = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut forgotten = Vec::new();
        let mut known = lock(&self.known);
        if let Some(contact) = known.get(&identity) {
            contact.used.store(used, Ordering::Relaxed);
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
            used: AtomicU64::new(used),
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

    /// From time to time, closes what was idle for long or was closed by its endpoint. Nothing else would look at the
    /// connections of an endpoint that is called no more.
    fn close_unused(&self, now: Instant) {
        let mut looked = lock(&self.looked);
        let last = *looked.get_or_insert(now);
        if now.saturating_duration_since(last) < LONGEST_IDLE {
            return;
        }
        *looked = Some(now);
        drop(looked);
        let contacts: Vec<_> = lock(&self.known).values().cloned().collect();
        for contact in contacts {
            lock(&contact.idle).retain_mut(|idle| idle.is_usable(now));
        }
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.known).len()
    }
}
