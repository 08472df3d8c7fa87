//! The database itself as the broker: a log that consumer groups read, each at its own pace.
//!
//! Input: messages inside the caller's transaction, or through a relay. State: the tables `final_log` and
//! `final_log_*`. Output: deliveries to the handlers of each group.
//!
//! ```text
//!   caller's tx ─ one INSERT ─▶ final_log ──────────▶ engine of each bus ─▶ deliveries ─▶ handlers
//!        └ delayed ─▶ final_log_scheduled ─ when due ─▲    │
//!              final_log_lanes, final_log_dead ◀───────────┘ progress and dead letters, every so often
//! ```
//!
//! A message is one row, however many groups there are. A group's progress is stored only in its
//! lanes: sixteen partitions of its messages, each owned by one member at a time, each with a
//! sequence number up to which everything is done and a list of the open ones below it. So reading costs one
//! SELECT for hundreds of messages, and settling them costs one UPDATE every so often.
//!
//! A sequence number is allocated at the INSERT and becomes visible at the COMMIT. One that is missing below a
//! visible one is a gap, and is watched until its row is visible or can never come, see `gaps`.
//!
//! The rooms, from the floor up: `progress` is pure state, `tables` has all SQL, `member` is one running bus,
//! `engine` is its loop, `link` starts and ends the tasks.

mod engine;
mod hooks;
mod link;
mod member;
mod options;
pub(crate) mod progress;
mod source;
pub(crate) mod tables;
#[cfg(test)]
mod tests;
pub(crate) mod tuning;

use std::{borrow::Borrow, fmt, sync::Arc};

use futures::future::BoxFuture;
use sqlx::Pool;
use tokio::sync::mpsc;

use self::{
    hooks::Hooks,
    link::SqlLink,
    member::{Member, wakeups::Wakeups},
    tuning::Tuning,
};
pub(crate) use self::{
    progress::spans::Spans,
    tables::{
        Log,
        backlog::unread,
        dead_letters::REPLAY,
        dialect::{MESSAGE, TABLES},
        members::Announcement,
    },
};
pub use self::{
    tables::{backlog::LogBacklog, sequence::NumbersWentBack},
    tuning::StartFrom,
};
use crate::broker::{
    Broker, BrokerError, BrokerErrorKind, DeadLetter, DeadLetterFilter, DeadLetters, Opened, Setup,
    Staged, Staging, StagingRequest,
};
use crate::{Error, OutboxDatabase};

/// The service's own database as its broker: durable, and nothing else to run.
///
/// A message goes straight from the caller's transaction into the log, a table that all services of the
/// database share: one INSERT, however many groups there are, and at COMMIT it is there. Every service that
/// subscribes the topic is a group and gets the message once; the instances of a service share its messages.
/// It works on PostgreSQL, MySQL, MariaDB and SQLite.
///
/// Clones are the same broker. Brokers of one process on one database wake each other at once. Other
/// processes hear of a message by NOTIFY on PostgreSQL, and find it by polling on other databases.
///
/// A bus whose outbox is in another database than the log can use it too: its messages then go through its
/// outbox.
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
    /// Which database this is, to compare with the pool of a bus.
    place: Arc<str>,
    tuning: Tuning,
    hooks: Hooks,
}

impl<DB: OutboxDatabase> SqlBroker<DB> {
    /// A broker in the database of that pool. It connects when it is used for the first time.
    ///
    /// It opens up to three connections of its own. Each running bus opens one that reads, and on PostgreSQL
    /// one that listens. All have the pool's connect options.
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

    /// How far a service is behind, and how many dead letters it has. `Bus::stats` reports on the outbox, which
    /// a bus with this broker does not need.
    ///
    /// It counts the waiting messages, so ask every few seconds and not more often.
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

    /// Dead letters of a service, the oldest first: 1,000 at most, and as many as have 16 MiB together. The first one
    /// may have more. The list goes on [`after`](DeadLetterFilter::after) its last letter's cursor, until it is empty.
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
        filter: impl Borrow<DeadLetterFilter>,
    ) -> Result<Vec<DeadLetter>, Error> {
        let filter = filter.borrow();
        self.log
            .letters(service.as_ref(), filter, filter.at_most().min(1_000))
            .await
            .map_err(Error::database("reading dead letters"))
    }

    /// Puts dead letters of a service back into the log. Only that service gets them again, with the same ids.
    /// Returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the database does. Letters that were put back before the error stay in the log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some letters put back and some not. Calling it again does the rest.
    pub async fn replay(
        &self,
        service: impl AsRef<str>,
        filter: impl Borrow<DeadLetterFilter>,
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
            tracing::debug!(
                target: "final::log",
                %error,
                "other processes were not told of replayed dead letters; they find them by polling"
            );
        }
        replayed
    }

    /// Removes dead letters of a service for good. Returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the database does. Letters that were removed before the error stay removed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some letters removed and some not. Calling it again does the rest.
    pub async fn discard(
        &self,
        service: impl AsRef<str>,
        filter: impl Borrow<DeadLetterFilter>,
    ) -> Result<u64, Error> {
        self.log
            .discard(service.as_ref(), filter.borrow())
            .await
            .map_err(Error::database("removing dead letters"))
    }

    /// Forgets a service that does not come back: its subscriptions, its progress and its dead letters. The log
    /// keeps no messages for it any longer. False if the service was not known.
    ///
    /// A service that is still running subscribes again, as if for the first time.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the service was forgotten. Calling it again makes sure.
    pub async fn forget(&self, service: impl AsRef<str>) -> Result<bool, Error> {
        self.log
            .forget(service.as_ref())
            .await
            .map_err(Error::database("forgetting a service"))
    }
}

impl<DB: OutboxDatabase> Broker for SqlBroker<DB> {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        Box::pin(async move {
            self.tuning.check()?;
            let mut tuning = self.tuning;
            // What waits behind a held message must not have begun.
            tuning.key_order |= !setup.holds.is_empty();
            let member = Arc::new(Member::new(
                Arc::clone(&self.log),
                Arc::clone(&self.wakeups),
                tuning,
                self.hooks.clone(),
                setup.service,
                setup.topics,
                setup.holds,
            ));
            if setup.purge {
                member.purge().await?;
            }
            if let Err(error) = member.prepare().await {
                let is_refused = error.as_database_error().is_some()
                    || matches!(error, sqlx::Error::Configuration(_))
                    || NumbersWentBack::of(&error).is_some();
                if is_refused {
                    let text = "the log's tables could not be created or used; see the cause";
                    return Err(BrokerError::new(BrokerErrorKind::Refused, text).because(error));
                }
                tracing::warn!(
                    target: "final::log",
                    service = &*member.group, %error,
                    "the log's database cannot be reached yet; trying again"
                );
            } else {
                member.set_state(crate::broker::LinkState::Ready);
            }
            // Room for everything that can be in flight, and for a page that was read for it.
            let (sender, deliveries) = mpsc::channel(self.tuning.prefetch + 1_000);
            let link = Arc::new(SqlLink::start(member, setup.confirm_window, sender));
            Ok(Opened::new(link, deliveries))
        })
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.log
                .migrate()
                .await
                .map_err(Error::database("creating the log's tables"))
        })
    }

    fn migration_sql(&self) -> String {
        Log::<DB>::script()
    }

    fn staging(&self, request: &mut StagingRequest<'_>) {
        request.answer(|pool: &Pool<DB>| {
            let is_here = *DB::place(pool) == *self.place;
            is_here.then(|| Arc::new(self.clone()) as Arc<dyn Staging<DB>>)
        });
    }

    fn can_hold(&self) -> bool {
        true
    }
}

impl<DB: OutboxDatabase> Staging<DB> for SqlBroker<DB> {
    fn stage<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        messages: &'a [Staged],
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.log.append(conn, messages).await?;
            messages.iter().for_each(|staged| self.wake_for(staged));
            Ok(())
        })
    }

    fn stage_alone<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        message: &'a Staged,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let written = self.log.append_alone(conn, message).await?;
            if written {
                self.wake_for(message);
            }
            Ok(written)
        })
    }

    fn committed(&self) {
        self.wakeups.committed();
    }
}

impl<DB: OutboxDatabase> DeadLetters for SqlBroker<DB> {
    fn list<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, Error>> {
        Box::pin(self.dead_letters(service, filter))
    }

    fn replay<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(Self::replay(self, service, filter))
    }

    fn discard<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(Self::discard(self, service, filter))
    }
}

impl<DB: OutboxDatabase> SqlBroker<DB> {
    /// Wakes the engines for a message that was written with a delay: they note when it is due.
    fn wake_for(&self, staged: &Staged) {
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
