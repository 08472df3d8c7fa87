//! The rights of all apps, as this node knows them, and logins by them.
//!
//! Input: logins; the copy of the tables, which is kept current beside. Output: an [`App`] for a right secret.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver};
use sqlx::Pool;
use tokio_util::sync::CancellationToken;

use super::{
    App, Apps, AuthError, Grants,
    checking::{Overloaded, WasRight},
    entry::AppState,
    keeping::{RightsFrom, Shared},
    secret::StoredSecret,
    tables::SqlStore,
};

/// The rights of all apps, as this node knows them. Clones share them.
///
/// A failed login is counted against its address and its app key. After ten failures within half a minute the address
/// hears [`AuthError::Slowed`] for this app, and after a hundred for every app. An address of IPv6 stands for its /64. A
/// right secret that [`Apps`] has made always gets in; one that people chose is slowed like a wrong one. Behind a load
/// balancer that shows its own address, name that address by [`balancers`](Self::balancers): then failures are counted
/// for each app alone.
#[derive(Clone)]
pub struct Rights {
    shared: Arc<Shared>,
}

impl Rights {
    /// Rights from the tables of a database. Nothing is read until the gateway starts.
    pub fn tables<DB: Driver>(pool: Pool<DB>) -> Self {
        Self::new(RightsFrom::Tables(Arc::new(SqlStore::new(pool))))
    }

    /// Rights that the caller decides at each login, without a table: for tests, and where another system knows the
    /// apps. `decide` gets the app key and the secret, and must not block. Logins of one app share its limits; those of
    /// the latest login hold. [`end`](Self::end) revokes.
    ///
    /// ```
    /// use final_gateway::rights::{AuthError, Grants, Operations, Rights};
    ///
    /// let rights = Rights::from_fn(|key, secret| match (key, secret) {
    ///     ("shop", b"s3cret") => Ok(Grants::new().allow("shop", "order.*", Operations::BOTH)?),
    ///     ("shop", _) => Err(AuthError::Secret),
    ///     _ => Err(AuthError::Key),
    /// });
    /// ```
    pub fn from_fn(
        decide: impl Fn(&str, &[u8]) -> Result<Grants, AuthError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(RightsFrom::Caller(Arc::new(decide)))
    }

    fn new(from: RightsFrom) -> Self {
        Self {
            shared: Arc::new(Shared::new(from)),
        }
    }

    /// How long apps may log in while the database is away. 15 minutes by default.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        self.shared.times().grace = grace;
        self
    }

    /// How often this node asks whether the rights have changed. Every 10 seconds by default. It hears of its own changes
    /// at once, and on PostgreSQL of all.
    #[must_use]
    pub fn read_every(self, every: Duration) -> Self {
        self.shared.times().every = every;
        self
    }

    /// The addresses of load balancers that show their own address in place of the client's.
    #[must_use]
    pub fn balancers(self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.shared.slowing.behind(addresses);
        self
    }

    /// Makes the tables, or leaves them as they are.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn migrate(&self) -> DbResult<()> {
        match &self.shared.from {
            RightsFrom::Tables(store) => store.migrate().await,
            RightsFrom::Caller(_) => Ok(()),
        }
    }

    /// What an operator may do with the apps. None where the caller decides.
    #[must_use]
    pub fn apps(&self) -> Option<Apps> {
        match &self.shared.from {
            RightsFrom::Tables(store) => {
                Some(Apps::of(Arc::clone(store), Some(Arc::clone(&self.shared))))
            }
            RightsFrom::Caller(_) => None,
        }
    }

    /// Reads the tables once, for a program without a gateway. A gateway keeps reading them by itself.
    ///
    /// # Errors
    ///
    /// Fails if the database does; the last good copy stays.
    pub async fn read(&self) -> DbResult<()> {
        self.shared.read().await
    }

    /// Whether apps can log in: the tables were read, and have answered within the grace.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.is_known()
    }

    /// Ends all logins of an app: [`App::revoked`] is cancelled. Where rights come from tables, disable the app instead;
    /// otherwise it can log in again once the tables were read.
    pub fn end(&self, key: &str) {
        self.shared.registry.end(key, self.shared.clock.now());
    }

    /// Checks who a client is. Failures are counted and slowed per address. Without an address they are counted for the
    /// app key alone.
    ///
    /// The time of an answer does not tell whether the key or the secret is wrong.
    ///
    /// # Errors
    ///
    /// Says what is wrong, for the log and the databus dialect. HTTP tells the client less.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nobody is logged in. A check of a secret that has begun goes on and takes its place until it ends.
    pub async fn authenticate(
        &self,
        from: Option<IpAddr>,
        key: &str,
        secret: &[u8],
    ) -> Result<App, AuthError> {
        let shared = &*self.shared;
        let count = || {
            if shared.slowing.failed(from, key, shared.clock.now()) {
                let known = shared
                    .registry
                    .find(key)
                    .map(|entry| Arc::clone(&entry.key));
                // An unknown key may be a secret in the wrong place.
                let app = known.as_deref().unwrap_or("unknown");
                let from = from.map(|from| from.to_string()).unwrap_or_default();
                tracing::warn!(
                    target: "final::gateway",
                    from, app,
                    "logins fail so often that they are slowed"
                );
            }
        };
        let is_slow = || shared.slowing.is_slow(from, key, shared.clock.now());
        match &shared.from {
            RightsFrom::Caller(decide) => match decide(key, secret) {
                Ok(grants) => self.decided(key, grants),
                Err(_) if is_slow() => Err(AuthError::Slowed),
                Err(error) => {
                    if matches!(error, AuthError::Key | AuthError::Secret) {
                        count();
                    }
                    Err(error)
                }
            },
            RightsFrom::Tables(_) => {
                if !shared.is_known() {
                    return Err(AuthError::Unknown);
                }
                let entry = shared.registry.find(key);
                let entry = entry.filter(|entry| entry.state().is_enabled);
                let presented = shared.checking.present(secret);
                let app = |entry, login| App::new(entry, login, shared.clock.clone());
                if let (Some(entry), Some(presented)) = (&entry, &presented)
                    && let Some(login) = shared.checking.quickly(entry, presented)
                {
                    return Ok(app(Arc::clone(entry), login));
                }
                if is_slow() {
                    return Err(AuthError::Slowed);
                }
                let (of, presented) = (entry.as_deref(), presented.as_ref());
                let was_right = match of.zip(presented) {
                    Some((entry, presented)) => shared.checking.remembered(entry, presented),
                    None => WasRight::Unknown,
                };
                // Nothing waits between the question whether it is slow and the count of a guess. So guesses at the same
                // time are slowed like guesses one by one.
                let is_counted = match (was_right, &entry) {
                    (WasRight::This(login), Some(entry)) => {
                        return Ok(app(Arc::clone(entry), login));
                    }
                    (WasRight::Another, _) => {
                        count();
                        true
                    }
                    _ => false,
                };
                let checked = shared.checking.thoroughly(of, presented).await;
                match (entry, checked) {
                    (_, Err(Overloaded)) => Err(AuthError::Slowed),
                    (Some(entry), Ok(Some(login))) => Ok(app(entry, login)),
                    (entry, Ok(_)) => {
                        if !is_counted {
                            count();
                        }
                        Err(entry.map_or(AuthError::Key, |_| AuthError::Secret))
                    }
                }
            }
        }
    }

    fn decided(&self, key: &str, grants: Grants) -> Result<App, AuthError> {
        let (registry, clock) = (&self.shared.registry, &self.shared.clock);
        let now = clock.now();
        let state = AppState::decided(grants.grants, grants.limits);
        let entry = registry.decided(key, state, now);
        let login = entry
            .log_in(&StoredSecret::Decided, now)
            .ok_or(AuthError::Key)?;
        Ok(App::new(entry, login, clock.clone()))
    }

    /// Keeps the copy of the tables current, until it is to stop.
    pub(crate) async fn keep_current(&self, stop: CancellationToken) {
        self.shared.keep_current(stop).await;
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from: &dyn fmt::Debug = match &self.shared.from {
            RightsFrom::Tables(store) => store,
            RightsFrom::Caller(_) => &"the caller",
        };
        f.debug_struct("Rights")
            .field("from", from)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Rights {
    pub(super) fn put_forward(&self, by: Duration) {
        self.shared.clock.put_forward(by);
    }

    pub(super) fn stop_clock(&self) {
        self.shared.clock.stop();
    }

    pub(super) fn is_failing(&self) -> bool {
        self.shared.is_failing()
    }

    /// The version of the tables that was read last.
    pub(super) fn version(&self) -> Option<i64> {
        self.shared.registry.version()
    }

    pub(super) fn checking(&self) -> &super::checking::Checking {
        &self.shared.checking
    }
}
