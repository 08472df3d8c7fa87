//! An app that has logged in: what it may, and what it has left of its limits.
//!
//! Input: questions of a connection. State: that of the app, shared with all of its connections on this node. Output:
//! yes, or why not.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use tokio_util::sync::CancellationToken;

use super::{
    Denied, Grant, Operation,
    clock::Clock,
    entry::{AppState, Entry, LoginLine},
};

/// Limits of an app as a whole, each on one node. None is no limit, where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppLimits {
    /// The most connections at a time.
    pub connections: Option<u32>,
    /// The most messages published in a second.
    pub publishes_per_second: Option<u32>,
    /// The most messages delivered in a second.
    pub deliveries_per_second: Option<u32>,
    /// The most groups and topics in use at a time. None is the gateway's own limit,
    /// [`open_pairs_of_app`](crate::Limits::open_pairs_of_app).
    pub open_pairs: Option<u32>,
}

impl AppLimits {
    /// The most messages of an operation in a second.
    #[must_use]
    pub fn per_second(&self, operation: Operation) -> Option<u32> {
        match operation {
            Operation::Publish => self.publishes_per_second,
            Operation::Subscribe => self.deliveries_per_second,
        }
    }
}

/// An app whose secret was right. Clones are the same app. Its answers follow the tables as they change.
#[derive(Clone)]
pub struct App {
    entry: Arc<Entry>,
    login: Arc<LoginLine>,
    clock: Clock,
}

/// Counts a connection of an app until it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    entry: Arc<Entry>,
}

impl App {
    pub(super) fn new(entry: Arc<Entry>, login: Arc<LoginLine>, clock: Clock) -> Self {
        Self {
            entry,
            login,
            clock,
        }
    }

    /// The app's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.entry.key
    }

    /// Whether it may. Without a group any of its groups will do, as for publishing by HTTP.
    ///
    /// Rights add up: it may if any of its rights says so.
    ///
    /// # Errors
    ///
    /// Says what it has no right on.
    pub fn may(
        &self,
        operation: Operation,
        group: Option<&str>,
        topic: &str,
    ) -> Result<(), Denied> {
        let Some(state) = self.state() else {
            return Err(Denied::Group);
        };
        let mut denied = match group {
            Some(_) => Denied::Group,
            None => Denied::Topic,
        };
        for in_use in &state.grants {
            let grant = &in_use.grant;
            if !grant.is_of_group(group) {
                continue;
            }
            if !grant.is_of_topic(topic) {
                if denied == Denied::Group {
                    denied = Denied::Topic;
                }
                continue;
            }
            if grant.operations.has(operation) {
                return Ok(());
            }
            denied = Denied::Operation;
        }
        Err(denied)
    }

    /// Whether it may consume any topic in a group.
    #[must_use]
    pub fn consumes(&self, group: &str) -> bool {
        let is_right = |grant: &Grant| {
            grant.is_of_group(Some(group)) && grant.operations.has(Operation::Subscribe)
        };
        let state = self.state();
        state.is_some_and(|state| state.grants.iter().any(|in_use| is_right(&in_use.grant)))
    }

    /// Takes so many messages out of the app's bucket, and out of that of its right on the topic. While both buckets
    /// have anything, all of them are taken, however many: a bucket then owes the rest, and refuses until that is paid.
    /// So deliveries are counted after they went out.
    ///
    /// The right is the closest one that allows the operation: one of the group before one of all groups, then one of
    /// the very topic, then that with the longest prefix. Whether there is one is the answer of [`may`](Self::may), and
    /// no question here.
    ///
    /// # Errors
    ///
    /// [`Denied::Rate`] says when there is room again. Nothing was taken then.
    pub fn spend(
        &self,
        operation: Operation,
        group: Option<&str>,
        topic: &str,
        messages: u32,
    ) -> Result<(), Denied> {
        let state = self.entry.state();
        let of_app = state.limits.per_second(operation);
        let of_app = of_app.map(|rate| (rate, self.entry.bucket(operation)));
        let closest = state.closest(operation, group, topic);
        let of_right = closest.and_then(|in_use| {
            let rate = in_use.grant.per_second(operation)?;
            Some((rate, in_use.bucket(operation)))
        });
        if of_app.is_none() && of_right.is_none() {
            return Ok(());
        }
        let now = self.clock.now();
        let buckets = || of_app.iter().chain(&of_right);
        if let Some(wait) = buckets()
            .filter_map(|(rate, bucket)| bucket.wait(*rate, now))
            .max()
        {
            return Err(Denied::Rate(wait));
        }
        for (rate, bucket) in buckets() {
            bucket.take(messages, *rate, now);
        }
        Ok(())
    }

    /// Counts a connection.
    ///
    /// # Errors
    ///
    /// [`Denied::Connections`].
    pub fn connect(&self) -> Result<ConnectionPermit, Denied> {
        let most = self.entry.state().limits.connections;
        let one_more = |open: u32| match most {
            Some(most) if open >= most => None,
            _ => open.checked_add(1),
        };
        let connections = &self.entry.connections;
        match connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(ConnectionPermit {
                entry: Arc::clone(&self.entry),
            }),
            Err(open) => Err(Denied::Connections(most.unwrap_or(open))),
        }
    }

    /// The most messages of one answer, if the app's right on the pair has a limit.
    #[must_use]
    pub fn batch(&self, group: &str, topic: &str) -> Option<u32> {
        let state = self.entry.state();
        let closest = state.closest(Operation::Subscribe, Some(group), topic)?;
        closest.grant.batch
    }

    /// The most groups and topics that the app may use at a time, if it has a limit of its own.
    #[must_use]
    pub fn open_pairs(&self) -> Option<u32> {
        self.entry.state().limits.open_pairs
    }

    /// Cancelled once the app was disabled or removed, its secret of this login is no longer valid, or its rights
    /// shrank: close the connection, or ask [`may`](Self::may) again. If it still may, this gives a new token for the
    /// next time.
    #[must_use]
    pub fn revoked(&self) -> CancellationToken {
        self.login.revoked()
    }

    fn state(&self) -> Option<Arc<AppState>> {
        (!self.login.is_over()).then(|| self.entry.state())
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.entry.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
