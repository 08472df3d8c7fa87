//! The database itself as the broker: a log that groups read, each at its own pace.
//!
//! ```text
//!   caller's tx ─ one INSERT ─▶ final_log ─▶ engine of each bus ─▶ deliveries ─▶ handlers
//!                                  │              │ lanes: who reads what, and how far
//!                 final_log_scheduled ─ when due ─┘ dead letters, beside the progress
//! ```
//!
//! A message is one row, however many groups there are. What a group has done with it stands nowhere
//! but in its [lanes](progress::lane): sixteen shares of its messages, each owned by one member at a time, each
//! with a number up to which all is done and a list of what is open below. So reading costs one SELECT
//! for hundreds of messages, and being done costs one UPDATE every so often.
//!
//! Numbers are given at the INSERT and show at the COMMIT; what is missing below what was read is
//! watched until it shows or can never show, see [`gaps`](progress::gaps).

mod engine;
mod hooks;
mod link;
mod member;
mod options;
mod progress;
pub(crate) mod tables;
#[cfg(test)]
mod tests;

use std::{borrow::Borrow, fmt, sync::Arc};

use futures::future::BoxFuture;
use sqlx::Pool;
use tokio::sync::mpsc;

use self::{
    hooks::Hooks,
    link::SqlLink,
    member::{Member, wakeups::Wakeups},
    options::Tuning,
    tables::{Log, members::Announcement},
};
pub use self::{
    options::Start,
    tables::{
        backlog::LogBacklog,
        dead_letters::{Letter, LetterFilter},
        numbers::NumbersWentBack,
    },
};
use crate::broker::{Broker, BrokerError, BrokerErrorKind, Opened, Setup, Staged};
use crate::{Error, OutboxDatabase};

/// Connections of the log's own pool: leases, removals, and what else needs no session.
const CONNECTIONS: u32 = 3;

/// The service's own database as its broker: durable, and nothing else to run.
///
/// A message goes straight from the caller's transaction into the log, a table all services of the
/// database share: one INSERT, whatever the number of groups, and at COMMIT it is there. Every service
/// that subscribes its topic is a group and gets it once; the instances of a service share its
/// messages. On PostgreSQL, MySQL and MariaDB, and SQLite.
///
/// Clones are the same broker. Brokers of one process on one database wake each other at once; other
/// processes hear of a message by NOTIFY on PostgreSQL, and look for it elsewhere.
///
/// A bus whose outbox is in another database than the log can use it too: its messages then go through
/// its outbox.
///
/// ```no_run
/// use final_core::{Bus, Router, SqlBroker, SqliteBus};
/// # use final_core::Error;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = sqlx::SqlitePool::connect("sqlite:shop.db?mode=rwc").await?;
/// let bus: SqliteBus = Bus::new("shop", pool.clone(), SqlBroker::new(pool));
/// bus.start(Router::new()).await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct SqlBroker<DB: OutboxDatabase> {
    log: Arc<Log<DB>>,
    wakeups: Arc<Wakeups>,
    place: Arc<str>,
    tuning: Tuning,
    hooks: Hooks,
}

impl<DB: OutboxDatabase> SqlBroker<DB> {
    /// A broker in the database of that pool. Nothing is connected until it is used.
    ///
    /// It opens up to three connections of its own, and each running bus one that reads and on
    /// PostgreSQL one that listens, all with the pool's connect options.
    pub fn new(pool: Pool<DB>) -> Self {
        let place = DB::place(&pool);
        Self {
            log: Arc::new(Log::new(pool)),
            wakeups: Wakeups::at(&place),
            place: place.into(),
            tuning: Tuning::default(),
            hooks: Hooks::default(),
        }
    }

    /// How far a service is behind, and how many dead letters it has. What `Bus::stats` tells is about
    /// the outbox, which such a bus does not need.
    ///
    /// One statement that counts what waits; meant for a health check every few seconds.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or the tables are missing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn backlog(&self, service: impl AsRef<str>) -> Result<LogBacklog, Error> {
        self.log
            .backlog(service.as_ref())
            .await
            .map_err(Error::database("counting what waits in the log"))
    }

    /// Dead letters of a service, oldest first: 1,000 at most.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or the tables are missing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn dead_letters(
        &self,
        service: impl AsRef<str>,
        filter: impl Borrow<LetterFilter>,
    ) -> Result<Vec<Letter>, Error> {
        let filter = filter.borrow();
        let most = u32::try_from(filter.at_most().min(1_000)).unwrap_or(1_000);
        self.log
            .letters(service.as_ref(), filter, most)
            .await
            .map_err(Error::database("reading dead letters"))
    }

    /// Puts dead letters of a service back: it alone gets them again, with the same ids. Returns how
    /// many there were.
    ///
    /// # Errors
    ///
    /// Fails if the database does; those already put back stay so.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some put back and some not; calling it again does the rest.
    pub async fn replay(
        &self,
        service: impl AsRef<str>,
        filter: impl Borrow<LetterFilter>,
    ) -> Result<u64, Error> {
        let doing = "putting dead letters back";
        let replayed = self.log.replay(service.as_ref(), filter.borrow()).await;
        let replayed = replayed.map_err(Error::database(doing));
        self.wakeups.committed();
        if let Err(error) = self
            .log
            .notify(self.wakeups.process, Announcement::Messages)
            .await
        {
            tracing::debug!(%error, "others were not told of dead letters put back; they will look");
        }
        replayed
    }

    /// Throws dead letters of a service away. Returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the database does; those already gone stay so.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some gone and some not.
    pub async fn discard(
        &self,
        service: impl AsRef<str>,
        filter: impl Borrow<LetterFilter>,
    ) -> Result<u64, Error> {
        self.log
            .discard(service.as_ref(), filter.borrow())
            .await
            .map_err(Error::database("throwing dead letters away"))
    }

    /// Forgets a service that does not come back: its subscriptions, its progress and its dead
    /// letters. The log no longer waits for it. False if it was not known.
    ///
    /// A service that is still at work subscribes again, as if for the first time.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle it has happened or it has not.
    pub async fn forget(&self, service: impl AsRef<str>) -> Result<bool, Error> {
        self.log
            .forget(service.as_ref())
            .await
            .map_err(Error::database("forgetting a service"))
    }
}

impl<DB: OutboxDatabase> Broker<DB> for SqlBroker<DB> {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        Box::pin(async move {
            self.check()?;
            let member = Arc::new(Member::new(
                Arc::clone(&self.log),
                Arc::clone(&self.wakeups),
                self.tuning,
                self.hooks.clone(),
                setup.service,
                setup.topics,
            ));
            if setup.purge {
                member.purge().await?;
            }
            if let Err(error) = member.prepare().await {
                if error.as_database_error().is_some() || NumbersWentBack::of(&error).is_some() {
                    let text = "the log's tables could not be made or used; see the cause";
                    return Err(BrokerError::new(BrokerErrorKind::Refused, text).because(error));
                }
                tracing::warn!(
                    service = &*member.group, %error,
                    "the log's database cannot be reached yet; trying again"
                );
            } else {
                member.set_state(crate::broker::LinkState::Ready);
            }
            // Room for everything that can be in hand, and for a page that was read for it.
            let (sender, deliveries) = mpsc::channel(self.tuning.prefetch + 1_000);
            let link = Arc::new(SqlLink::start(member, setup.confirm_window, sender));
            Ok(Opened { link, deliveries })
        })
    }

    fn lives_in(&self, pool: &Pool<DB>) -> bool {
        *DB::place(pool) == *self.place
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.log
                .migrate()
                .await
                .map_err(Error::database("making the log's tables"))
        })
    }

    fn migration_sql(&self) -> String {
        Log::<DB>::script()
    }

    fn stage<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        messages: &'a [Staged],
    ) -> Option<BoxFuture<'a, Result<(), Error>>> {
        Some(Box::pin(async move {
            self.log.append(conn, messages).await?;
            messages.iter().for_each(|staged| self.ring_for(staged));
            Ok(())
        }))
    }

    fn stage_alone<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        message: &'a Staged,
    ) -> Option<BoxFuture<'a, Result<bool, Error>>> {
        Some(Box::pin(async move {
            let written = self.log.append_alone(conn, message).await?;
            if written {
                self.ring_for(message);
            }
            Ok(written)
        }))
    }

    fn committed(&self) {
        self.wakeups.committed();
    }
}

impl<DB: OutboxDatabase> SqlBroker<DB> {
    /// Has the log looked at when a message that is written with a delay is due.
    fn ring_for(&self, staged: &Staged) {
        if !staged.delay.is_zero() {
            self.wakeups.due_in(staged.delay);
            self.wakeups.wake();
        }
    }
}

impl<DB: OutboxDatabase> Clone for SqlBroker<DB> {
    fn clone(&self) -> Self {
        Self {
            log: Arc::clone(&self.log),
            wakeups: Arc::clone(&self.wakeups),
            place: Arc::clone(&self.place),
            tuning: self.tuning,
            hooks: self.hooks.clone(),
        }
    }
}

impl<DB: OutboxDatabase> fmt::Debug for SqlBroker<DB> {
    /// Without the pool: its options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlBroker")
            .field("tuning", &self.tuning)
            .finish_non_exhaustive()
    }
}
