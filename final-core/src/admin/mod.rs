//! What an operator may know and do, with a pool alone: no running bus, no broker.
//!
//! Input: a pool of the database that services share. State: none but the database's; bulk actions are written down
//! in `final_operations`. Output: what there is of each service, what does not move and why, where one message is;
//! and bulk actions that are planned first and carried out in batches.
//!
//! ```text
//!   Admin ─┬─ services, groups, trail, operations
//!          ├─ service("shop") ─┬─ overview, records, letters, lanes, trail
//!          │                   └─ plan ─▶ Plan { id, count, sample, cut_off } ─┐
//!          └─ carry_out(id) ◀──────────────────────────────────────────────────┘
//! ```
//!
//! Reading is cheap or says so: counts stop at 10,000, lists read no payloads, and a filter without an index looks at
//! 100,000 rows at most. Nothing that only reads makes a table or takes a lock.

mod carry_out;
mod count;
mod desk;
pub mod doctor;
mod error;
mod groups;
mod held;
mod letters;
mod log_schema;
mod not_moving;
mod operations;
mod overview;
mod plan;
mod records;
mod services;
mod tail;
mod terms;
mod trail;
mod walk;

use std::{fmt, sync::Arc};

use sqlx::Pool;

pub(crate) use self::operations::{make_operations, operations_script};
pub use self::{
    count::{Count, Page},
    error::AdminError,
    groups::{LogGroup, LogLane},
    held::{HeldMessage, HeldWish},
    letters::{Letter, LetterSource, WholeLetter},
    not_moving::NotMoving,
    operations::{Operation, OperationFilter, OperationProgress, OperationState},
    overview::{DeadCount, OutboxOverview, Overview, ParkedTopic, RecordOwner},
    plan::{Action, Pace, Plan, Sample, Selection},
    records::{RecordCursor, RecordFilter, RecordInfo, RecordState, WholeRecord},
    services::{Schema, ServiceInfo},
    tail::{LogEntry, LogTail},
    trail::{GroupPosition, Station, Trail},
};
use self::{
    desk::{Desk, doing},
    letters::MOST_LISTED,
    services::ServiceTables,
};
pub use crate::filter::FilterWords;
use crate::{
    MessageId, OutboxDatabase,
    broker::{DeadLetterFilter, LetterCursor},
};

type Answer<T> = Result<T, AdminError>;

/// What an operator may know and do in one database. Cheap to clone.
///
/// ```no_run
/// # async fn stuck(pool: sqlx::SqlitePool) -> Result<(), final_core::BoxError> {
/// use final_core::{admin::{Action, Admin, Pace}, broker::DeadLetterFilter};
///
/// let admin = Admin::new(pool);
/// for service in admin.services().await? {
///     for stuck in admin.service(&service.name).overview().await?.not_moving {
///         println!("{}: {stuck}", service.name);
///     }
/// }
///
/// let timeouts = DeadLetterFilter::all().reason("timed out");
/// let plan = admin.service("shop").plan(Action::Replay, &timeouts, "ann").await?;
/// println!("{} letters, for example {:?}", plan.count, plan.sample.first());
/// admin.carry_out(plan.id, Pace::per_second(200), |progress| println!("{}", progress.done)).await?;
/// # Ok(()) }
/// ```
pub struct Admin<DB: OutboxDatabase> {
    desk: Arc<Desk<DB>>,
}

/// What an operator may know and do about one service. Cheap to clone.
pub struct ServiceAdmin<DB: OutboxDatabase> {
    admin: Admin<DB>,
    service: String,
}

/// What failed.
const GROUPS: &str = "reading the groups of the log";

impl<DB: OutboxDatabase> Admin<DB> {
    /// Over the database of this pool. Nothing is connected until the first question. The questions go over two
    /// connections of its own, made with the connect options of the pool.
    #[must_use]
    pub fn new(pool: Pool<DB>) -> Self {
        Self {
            desk: Arc::new(Desk::new(pool)),
        }
    }

    /// The services of the database, by name. A service with tables of an older or newer release is among them, and
    /// its [`ServiceInfo`] says so. Empty in a database without tables of the bus.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn services(&self) -> Answer<Vec<ServiceInfo>> {
        self.desk.services().await
    }

    /// One service. Whether the database knows it is found out by the first question.
    #[must_use]
    pub fn service(&self, name: impl Into<String>) -> ServiceAdmin<DB> {
        ServiceAdmin {
            admin: self.clone(),
            service: name.into(),
        }
    }

    /// The groups of the log, by name. Empty in a database without a log.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn groups(&self) -> Answer<Vec<LogGroup>> {
        let groups = async {
            let mut groups = Vec::new();
            for name in self.desk.group_names().await? {
                groups.push(self.desk.group(&name).await?.0);
            }
            Ok(groups)
        };
        groups.await.map_err(doing(GROUPS))
    }

    /// Where one message is, in all services of the database.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn trail(&self, id: MessageId) -> Answer<Trail> {
        let mut services = Vec::new();
        for service in self.desk.services().await? {
            services.push(self.desk.tables_of(&service.name).await?);
        }
        self.desk.follow(&services, id).await
    }

    /// Carries out a planned operation, or goes on with one that was stopped or interrupted: in batches of 100, each
    /// one transaction together with its progress. `progress` is called after each batch. Returns the operation as it
    /// stands at the end: done, or stopped by [`stop`](Self::stop).
    ///
    /// No letter or record that died or failed after the plan is touched, and no more of them than the plan has
    /// counted.
    ///
    /// # Errors
    ///
    /// Fails if the database does, if another program carries the operation out, or if it is done already. What is
    /// done stays done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the operation between two batches. It is then listed as interrupted once its lease
    /// has run out, after half a minute, and can be carried on.
    pub async fn carry_out(
        &self,
        id: i64,
        pace: Pace,
        progress: impl FnMut(&OperationProgress) + Send,
    ) -> Answer<Operation> {
        self.desk.carry_out(id, pace, progress).await
    }

    /// Operations, the latest first. Empty if none was ever planned.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn operations(&self, filter: &OperationFilter) -> Answer<Vec<Operation>> {
        let operations = self.desk.operations(filter).await;
        operations.map_err(doing("listing operations"))
    }

    /// One operation.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if there is no operation of that number.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn operation(&self, id: i64) -> Answer<Operation> {
        self.desk.operation(id).await
    }

    /// Stops an operation. The program that carries it out ends before its next batch. Returns the operation.
    ///
    /// # Errors
    ///
    /// Fails if the database does, if there is no such operation, or if it is done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was stopped. Calling it again makes sure.
    pub async fn stop(&self, id: i64) -> Answer<Operation> {
        self.desk.stop(id).await
    }
}

impl<DB: OutboxDatabase> ServiceAdmin<DB> {
    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.service
    }

    fn desk(&self) -> &Desk<DB> {
        &self.admin.desk
    }

    /// The tables of the service.
    async fn tables(&self) -> Answer<ServiceTables> {
        self.desk().tables_of(&self.service).await
    }

    /// What waits, who has it, and what does not move.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn overview(&self) -> Answer<Overview> {
        let tables = self.tables().await?;
        self.desk().overview(&tables).await
    }

    /// A page of records, without payloads: 1,000 at most, 100 unless the filter says something else.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn records(&self, filter: &RecordFilter) -> Answer<Page<RecordInfo, RecordCursor>> {
        let tables = self.tables().await?;
        if !tables.has_outbox() {
            return Ok(Page::empty());
        }
        let page = self.desk().records(&tables, filter).await;
        page.map_err(doing("listing records"))
    }

    /// One record with its headers and payload.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn record(&self, id: MessageId) -> Answer<Option<WholeRecord>> {
        let tables = self.tables().await?;
        if !tables.has_outbox() {
            return Ok(None);
        }
        let record = self.desk().record(&tables, id).await;
        record.map_err(doing("reading a record"))
    }

    /// A page of dead letters, without payloads: those of the log, then those collected from the broker, each in the
    /// order of their numbers. 1,000 at most, 100 unless the filter says something else.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn letters(&self, filter: &DeadLetterFilter) -> Answer<Page<Letter, LetterCursor>> {
        let tables = self.tables().await?;
        let page = self.desk().letters(&tables, filter, MOST_LISTED).await;
        page.map_err(doing("listing dead letters"))
    }

    /// One dead letter with its headers and payload.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn letter(&self, cursor: &LetterCursor) -> Answer<Option<WholeLetter>> {
        let tables = self.tables().await?;
        let letter = self.desk().letter(&tables, cursor).await;
        letter.map_err(doing("reading a dead letter"))
    }

    /// A page of dead letters with headers and payloads, for an export: 100 at most, and 16 MiB.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn whole_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Answer<Page<WholeLetter, LetterCursor>> {
        let tables = self.tables().await?;
        let page = self.desk().whole_letters(&tables, filter).await;
        page.map_err(doing("reading dead letters"))
    }

    /// The service's group of the log. Empty if it does not read the log.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn groups(&self) -> Answer<Vec<LogGroup>> {
        let tables = self.tables().await?;
        if !tables.is_group {
            return Ok(Vec::new());
        }
        let group = self
            .desk()
            .group(&self.service)
            .await
            .map_err(doing(GROUPS))?;
        Ok(vec![group.0])
    }

    /// The lanes of the service's group. Empty if it does not read the log.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn lanes(&self) -> Answer<Vec<LogLane>> {
        let tables = self.tables().await?;
        if !tables.is_group {
            return Ok(Vec::new());
        }
        let group = self
            .desk()
            .group(&self.service)
            .await
            .map_err(doing(GROUPS))?;
        Ok(group.1)
    }

    /// The messages that the service holds: their handlers have failed, and what comes after them waits. In the order of
    /// the log, 1,000 at most. Empty if it does not read the log.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn held(&self) -> Answer<Vec<HeldMessage>> {
        let tables = self.tables().await?;
        if !tables.is_group {
            return Ok(Vec::new());
        }
        let held = self.desk().held(&self.service).await;
        held.map_err(doing("listing held messages"))
    }

    /// Asks the service to try held messages now: those with this id, or all. Returns how many there are. A running
    /// bus of the service does it within a second or two.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was asked for. Calling it again makes sure.
    pub async fn retry_held(&self, id: Option<MessageId>) -> Answer<u64> {
        self.wish_held(id, HeldWish::Retry, "").await
    }

    /// Asks the service to skip held messages, those with this id or all: they go to its dead letters with the reason
    /// that `who` gives, and what waits behind them goes on. Returns how many there are. A running bus of the service
    /// does it within a second or two; if none runs, the next one does.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was asked for. Calling it again makes sure.
    pub async fn skip_held(&self, id: Option<MessageId>, who: &str, reason: &str) -> Answer<u64> {
        let reason = format!("{who}: {reason}");
        self.wish_held(id, HeldWish::Skip, &reason).await
    }

    async fn wish_held(&self, id: Option<MessageId>, wish: HeldWish, reason: &str) -> Answer<u64> {
        let tables = self.tables().await?;
        if !tables.is_group {
            return Ok(0);
        }
        self.desk().wish_held(&self.service, id, wish, reason).await
    }

    /// Forgets the service's group of the log: its subscriptions, its progress and its dead letters there. False if
    /// it was no group. For a service that does not come back; one that runs subscribes again, as if for the first
    /// time.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was forgotten. Calling it again makes sure.
    pub async fn forget_group(&self) -> Answer<bool> {
        let tables = self.tables().await?;
        if !tables.is_group {
            return Ok(false);
        }
        let forgotten = self.desk().log.forget(&self.service).await;
        forgotten.map_err(doing("forgetting a group of the log"))
    }

    /// Where one message is: in this service's outbox and dead letters, in the log, and at each of its groups.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it does not know the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn trail(&self, id: MessageId) -> Answer<Trail> {
        let tables = self.tables().await?;
        self.desk().follow(&[tables], id).await
    }

    /// Plans a bulk action: counts what it would touch, takes five samples and a cut-off, and writes it down for
    /// `who`. Nothing is changed until it is [carried out](Admin::carry_out). Makes the table of operations where it
    /// is missing.
    ///
    /// [`Action::Replay`] takes a filter of dead letters, [`Action::Retry`] one of records, [`Action::Discard`] any of
    /// the two.
    ///
    /// # Errors
    ///
    /// Fails if the database does, if it does not know the service, or if the action does not go with the filter.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a plan that nobody carries out. It does no harm.
    pub async fn plan(
        &self,
        action: Action,
        selection: impl Into<Selection>,
        who: &str,
    ) -> Answer<Plan> {
        let tables = self.tables().await?;
        self.desk()
            .plan(&tables, action, selection.into(), who)
            .await
    }
}

impl<DB: OutboxDatabase> Clone for Admin<DB> {
    fn clone(&self) -> Self {
        Self {
            desk: Arc::clone(&self.desk),
        }
    }
}

impl<DB: OutboxDatabase> Clone for ServiceAdmin<DB> {
    fn clone(&self) -> Self {
        Self {
            admin: self.admin.clone(),
            service: self.service.clone(),
        }
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Admin<DB> {
    /// Without the pool: its options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

impl<DB: OutboxDatabase> fmt::Debug for ServiceAdmin<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAdmin")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
