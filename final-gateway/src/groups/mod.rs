//! Consuming: what the broker delivers to a group, and which client has it in hand.
//!
//! Input: pairs of group and topic that clients ask for; deliveries of the broker. State: for each pair an open broker
//! while somebody consumes; the messages in hand, each with its holder or its deadline. Output: messages to clients,
//! settlements to the broker.
//!
//! ```text
//!   delivery ─▶ waiting ─ take, pull ─▶ in hand ─ ack, commit ─▶ settled
//!                  ▲                      │  └─ nack, or given out too often ─▶ dead letter
//!                  └── connection ended, deadline passed, nack with delay ─┘
//! ```

mod addresses;
mod attempts;
mod budget;
mod counts;
mod desk;
mod entry;
mod hand;
mod holder;
mod offsets;
mod open;
mod options;
mod pull;
mod pulled;
mod quota;
mod receipt;
mod remaining;
mod slots;
mod stock;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use final_core::{
    Error, Message, OutboxDatabase, SqlBroker,
    broker::{Broker, DeadLetter, DeadLetterFilter, LinkBacklog},
};
use sqlx::Pool;
use tokio::time::Instant;

use self::{
    addresses::Addresses,
    desk::GroupDesk,
    quota::AppQuota,
    receipt::Receipts,
    slots::Slots,
    tables::{GroupTables, SqlGroupTables},
};
pub use self::{counts::GroupStats, holder::Holder, options::GroupOptions};
use crate::names::Pair;

/// How long a connection waits until its group is open.
const OPEN_WITHIN: Duration = Duration::from_secs(15);

/// The groups that are open on this node. Clones share them.
///
/// A group and topic opens when the first client asks for it, and closes some time after the last one has left. The
/// subscription stays: messages wait for the group. While a group and topic is open it has one connection to the
/// database, and on PostgreSQL a second one that listens.
#[derive(Clone)]
pub struct Groups {
    inner: Arc<GroupsInner>,
    /// For whom they are used. Nobody's uses are not counted.
    quota: Option<AppQuota>,
}

/// What all clones share. Dropping it ends all tasks, as a crash would.
struct GroupsInner {
    slots: Arc<Slots>,
    tables: Arc<dyn GroupTables>,
    receipts: Receipts,
    desk: Option<Arc<dyn GroupDesk>>,
    addresses: Arc<Addresses>,
    /// Numbers of connections, and tags of messages.
    next_number: AtomicU64,
}

/// How much one answer may have.
#[derive(Clone, Copy, Debug)]
pub struct Lot {
    /// So many messages at most.
    pub messages: usize,
    /// So many bytes of payload at most; the first message comes whatever its size.
    pub bytes: usize,
    /// How long to wait for the first message.
    pub wait: Duration,
    /// How long to gather more, once the first is there.
    pub gather: Duration,
}

/// A message that a connection has in hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The message.
    pub message: Message,
    /// The partition: the lane of the log, 0 for a broker without lanes.
    pub partition: i32,
    /// Counts what was given out: it rises over connections, restarts and nodes. `SET partition offset` means it.
    pub offset: i64,
    /// The number of the message in the log.
    pub seq: Option<i64>,
    /// How often the message was given out, this time included.
    pub attempt: u32,
}

/// A message that was pulled and has a deadline.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pulled {
    /// What acks, nacks or extends it: signed, and without anything of the message.
    pub receipt: String,
    /// The message.
    pub message: Message,
    /// The partition: the lane of the log, 0 for a broker without lanes.
    pub partition: i32,
    /// The number of the message in the log.
    pub seq: Option<i64>,
    /// How often the message was given out, this time included.
    pub attempt: u32,
}

/// Why a group cannot be consumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The broker refuses the group.
    #[error("the group cannot be opened: {0}")]
    Refused(String),
    /// The database or the broker is away.
    #[error("the broker is away: {0}")]
    Away(String),
    /// So many groups and topics are open on this node that no other may be.
    #[error("too many groups and topics are open on this node ({0})")]
    TooMany(usize),
    /// The app uses as many groups and topics on this node as it may.
    #[error(
        "app {app:?} uses {most} groups and topics at once on this node, and may use no more; an operator can raise its \
         limit (`final gateway apps limit --open-pairs`)"
    )]
    TooManyOfApp {
        /// The app.
        app: String,
        /// Its limit.
        most: usize,
    },
    /// The broker has no way to tell that.
    #[error(
        "the broker of this gateway cannot tell what waits for a group, nor list its dead letters; look at the queue \
         `group/topic` in RabbitMQ"
    )]
    CannotTell,
    /// The gateway is being stopped.
    #[error("the gateway is being stopped")]
    Stopping,
}

/// Why an offset cannot be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no such partition.
    #[error("there is no partition {0}")]
    Partition(i64),
    /// No message with this offset was given to this connection, or to any.
    #[error("offset {0} was not given to this connection")]
    Offset(i64),
}

/// Why a receipt settles nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It is no receipt of this gateway, or of another group.
    #[error("this is no receipt of this group")]
    Foreign,
    /// Its message is not in hand any longer: its deadline has passed, or it was settled. It will be delivered again
    /// unless it was settled.
    #[error("the message is not in hand any longer: its time is over, or it is settled")]
    Gone,
    /// Another node gave the message out.
    #[error("node {0} gave the message out; send the receipt there")]
    OtherNode(String),
}

impl Groups {
    /// Groups over the log of a database. `node` is the name of this node: no other one that runs at the same time may
    /// have it. The tables are made if they are missing. Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn over_log<DB: OutboxDatabase>(
        pool: Pool<DB>,
        log: SqlBroker<DB>,
        node: &str,
        options: GroupOptions,
    ) -> Result<Self, GroupError> {
        let (broker, desk) = (Arc::new(log.clone()), Arc::new(log));
        let tables = SqlGroupTables::new(pool);
        Self::start(broker, Some(desk), Arc::new(tables), node, options).await
    }

    /// Groups over another broker, with tables of the gateway in the pool's database. Such a broker cannot tell what
    /// waits, and its dead letters are looked at elsewhere. The rest is as with [`over_log`](Self::over_log).
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn over_broker<DB: OutboxDatabase>(
        pool: Pool<DB>,
        broker: impl Broker,
        node: &str,
        options: GroupOptions,
    ) -> Result<Self, GroupError> {
        let options = options.over_broker();
        let tables = SqlGroupTables::new(pool);
        Self::start(Arc::new(broker), None, Arc::new(tables), node, options).await
    }

    async fn start(
        broker: Arc<dyn Broker>,
        desk: Option<Arc<dyn GroupDesk>>,
        tables: Arc<dyn GroupTables>,
        node: &str,
        options: GroupOptions,
    ) -> Result<Self, GroupError> {
        let failed = |error: sqlx::Error| {
            let text = format!("the gateway's tables of groups cannot be made or read: {error}");
            GroupError::Away(text)
        };
        tables.migrate().await.map_err(failed)?;
        let key = tables.key().await.map_err(failed)?;
        broker.migrate().await.map_err(away)?;
        let mut incarnation = [0; 8];
        getrandom::fill(&mut incarnation)
            .map_err(|error| failed(sqlx::Error::Configuration(error.to_string().into())))?;
        Ok(Self {
            inner: Arc::new(GroupsInner {
                slots: Arc::new(Slots::new(broker, options)),
                tables,
                receipts: Receipts::new(&key, node, u64::from_be_bytes(incarnation)),
                desk,
                addresses: Arc::default(),
                next_number: AtomicU64::new(0),
            }),
            quota: None,
        })
    }

    /// The same groups, as one app uses them: it may use so many groups and topics at once on this node, or as many as
    /// [`most_open_of_app`](GroupOptions::most_open_of_app) says. It uses one while a connection of it holds it, a pull of
    /// it waits, or a message that it has pulled is in hand. One whose connections are silent makes room for another.
    #[must_use]
    pub fn for_app(&self, app: &str, most: Option<u32>) -> Self {
        let most = most.map_or(self.inner.slots.options().most_open_of_app, |most| {
            usize::try_from(most).unwrap_or(usize::MAX)
        });
        let app = app.into();
        Self {
            inner: Arc::clone(&self.inner),
            quota: Some(AppQuota { app, most }),
        }
    }

    /// Opens a pair for a connection that takes messages one lot after the other.
    ///
    /// # Errors
    ///
    /// Says why the group cannot be consumed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing was taken. The pair may stay open for a while.
    pub async fn hold(&self, pair: &Pair) -> Result<Holder, GroupError> {
        let until = Instant::now() + OPEN_WITHIN;
        let quota = self.quota.clone();
        let presence = self.inner.slots.enter(pair, quota.as_ref(), until).await?;
        Holder::begin(Arc::clone(&self.inner), quota, presence).await
    }

    /// The same as [`hold`](Self::hold), for a connection that comes from an address. As long as it lives, the address is among the
    /// [`addresses`](Self::addresses) of the group.
    ///
    /// # Errors
    ///
    /// Says why the group cannot be consumed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing was taken. The pair may stay open for a while.
    pub async fn hold_from(&self, pair: &Pair, from: SocketAddr) -> Result<Holder, GroupError> {
        let mut holder = self.hold(pair).await?;
        holder.comes_from(self.inner.addresses.note(pair.plain_group(), from));
        Ok(holder)
    }

    /// From where the connections come that hold something of a group on this node, in any colour. Pulls by HTTP have none.
    #[must_use]
    pub fn addresses(&self, group: &str) -> Vec<SocketAddr> {
        self.inner.addresses.of(group)
    }

    /// Takes messages of one or more pairs. Each is in hand until it is acked or nacked, or for `visibility`:
    /// [`most_visibility`](GroupOptions::most_visibility) at most.
    ///
    /// It ends after the `wait` of the lot. Only a pair that has just been opened has a second for its first messages,
    /// however short the wait is.
    ///
    /// # Errors
    ///
    /// Says why the group cannot be consumed. A pair whose broker is away is an error only if no other pair answers.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has taken nothing.
    pub async fn pull(
        &self,
        pairs: &[Pair],
        lot: Lot,
        visibility: Duration,
    ) -> Result<Vec<Pulled>, GroupError> {
        let quota = self.quota.as_ref();
        self.inner.pull(pairs, quota, lot, visibility).await
    }

    /// The pair of a receipt, for a check of rights.
    ///
    /// # Errors
    ///
    /// [`ReceiptError::Foreign`].
    pub fn pair_of(&self, receipt: &str) -> Result<Pair, ReceiptError> {
        Ok(self.inner.receipts.read(receipt)?.pair)
    }

    /// Settles messages: they are handled. One result for each receipt. It is answered once the settlement is in the
    /// broker's progress, which is written within the time that the broker has for it (`SqlBroker::commit_within`).
    pub async fn ack(&self, group: &str, receipts: &[String]) -> Vec<Result<(), ReceiptError>> {
        let now = Instant::now();
        self.inner.settle(group, receipts, |open, tag| {
            open.with(|stock| stock.ack_pulled(tag, now))
        })
    }

    /// Gives messages back, to be delivered again after `delay`. After its last attempt the message is dead-lettered, with
    /// `reason`.
    ///
    /// No delay is longer than [`most_delay`](Self::most_delay). Over the log a message waits in the table of scheduled
    /// messages. Over RabbitMQ, and for a message with a key in key order, it waits on this node, for a quarter of an hour at
    /// most. At most half of what may be in hand waits so; beyond, the message that is due first comes at once.
    pub async fn nack(
        &self,
        group: &str,
        receipts: &[String],
        delay: Duration,
        reason: Option<&str>,
    ) -> Vec<Result<(), ReceiptError>> {
        let now = Instant::now();
        let delay = delay.min(self.most_delay());
        self.inner.settle(group, receipts, |open, tag| {
            open.with(|stock| stock.nack_pulled(tag, delay, reason, now))
        })
    }

    /// Gives messages a new deadline, so long from now. With all its extensions a message is in hand for
    /// [`most_visibility`](GroupOptions::most_visibility) at most.
    pub async fn extend(
        &self,
        group: &str,
        receipts: &[String],
        visibility: Duration,
    ) -> Vec<Result<(), ReceiptError>> {
        let deadline = after(visibility);
        self.inner.settle(group, receipts, |open, tag| {
            open.with(|stock| stock.extend(tag, deadline))
        })
    }

    /// What waits for a pair.
    ///
    /// # Errors
    ///
    /// Fails if the database is away, or the broker cannot tell.
    pub async fn backlog(&self, pair: &Pair) -> Result<LinkBacklog, GroupError> {
        let group = pair.broker_group();
        self.desk()?.backlog(&group).await.map_err(away)
    }

    /// Dead letters of a pair, the oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database is away, or the broker cannot list them.
    pub async fn dead_letters(
        &self,
        pair: &Pair,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter>, GroupError> {
        let group = pair.broker_group();
        self.desk()?.list(&group, filter).await.map_err(away)
    }

    /// Puts dead letters of a pair back. Returns how many.
    ///
    /// # Errors
    ///
    /// Fails if the database is away, or the broker cannot put them back.
    pub async fn replay(&self, pair: &Pair, filter: &DeadLetterFilter) -> Result<u64, GroupError> {
        let group = pair.broker_group();
        self.desk()?.replay(&group, filter).await.map_err(away)
    }

    /// How long a pulled message can be in hand over this broker, with all its extensions.
    #[must_use]
    pub fn most_visibility(&self) -> Duration {
        self.inner.slots.options().most_visibility
    }

    /// The longest delay of a message that is given back over this broker.
    #[must_use]
    pub fn most_delay(&self) -> Duration {
        self.inner.slots.options().most_delay
    }

    /// How many groups and topics are open on this node, and what was done with their messages.
    pub fn stats(&self) -> GroupStats {
        self.inner.slots.stats()
    }

    /// The gateway is about to stop. From now on a connection that ends is not the failure of its client, so what it has
    /// in hand goes back as if it had not been given out. Everything else goes on until [`shutdown`](Self::shutdown).
    pub fn expect_shutdown(&self) {
        self.inner.slots.expect_shutdown();
    }

    /// Gives nothing out any more, gives everything back, and closes all pairs. What waits ends at once with
    /// [`GroupError::Stopping`]. Each step of a link has [`stop_within`](GroupOptions::stop_within).
    pub async fn shutdown(&self) {
        self.inner.slots.shutdown().await;
    }

    fn desk(&self) -> Result<&dyn GroupDesk, GroupError> {
        self.inner.desk.as_deref().ok_or(GroupError::CannotTell)
    }
}

impl GroupsInner {
    /// A number that was not given before.
    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for GroupsInner {
    fn drop(&mut self) {
        self.slots.stop().cancel();
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Groups").field(&self.inner.slots).finish()
    }
}

/// So long from now. What no clock can tell is as far away as matters.
fn after(time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + time.min(FAR)
}

fn away(error: Error) -> GroupError {
    let text = match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    GroupError::Away(text)
}
