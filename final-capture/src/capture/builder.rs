//! A capture that is not started, and its options.

use std::{fmt, sync::Arc, time::Duration};

use final_core::admin::doctor::Finding;
use uuid::Uuid;

use super::{CaptureError, RunningCapture, error::check_name};
use crate::{
    engine::{Engine, OnSchemaChange},
    format::{EncoderOptions, Format, Order},
    position::SourcePoint,
    select::Selection,
    source::Source,
    table::{Table, TableName},
    target::{OnPoison, Target},
};

/// How long a reader that is gone keeps the capture from the others.
const LEASE: Duration = Duration::from_secs(10);

/// The shortest lease: a shorter one would be lost to a slow disk.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// How many messages may be parked.
const MOST_PARKED: u64 = 10_000;

/// As RabbitMQ takes them by default.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// How long what was read has to reach the target, at a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// What is done if changes after the position are no longer at the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnGap {
    /// The capture stops and says what is still there. It never goes on from now by itself. Reading the tables anew
    /// beside the stream is not there yet.
    #[default]
    Stop,
}

/// The columns of a table are not those of its last change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchemaChange {
    /// The table as it is from now on.
    pub table: Arc<Table>,
}

/// A capture that is not started.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")]
/// # async fn capture(source: impl final_capture::source::Source) -> Result<(), final_core::BoxError> {
/// use final_capture::{Capture, select::Selection, target::Target};
/// use final_core::SqlBroker;
///
/// let pool = sqlx::SqlitePool::connect("sqlite:bus.db?mode=rwc").await?;
/// let capture = Capture::new("shop", source, Selection::tables(["shop.holes", "shop.replies"]))
///     .to(Target::log(pool.clone(), SqlBroker::new(pool)));
/// for finding in capture.doctor().await? {
///     println!("{finding}");
/// }
/// let running = capture.start().await?;
/// # running.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use]
pub struct Capture {
    name: String,
    source: Box<dyn Source>,
    encoder: EncoderOptions,
    target: Option<Target>,
    from: Option<SourcePoint>,
    lease: Duration,
    on_poison: OnPoison,
    most_parked: u64,
    max_message_bytes: usize,
    shutdown_within: Duration,
    on_schema_change: Option<OnSchemaChange>,
}

impl Capture {
    /// A capture of these tables. All processes that share the work have the same name: one of them reads, the others
    /// stand by.
    pub fn new(name: impl Into<String>, source: impl Source, selection: Selection) -> Self {
        Self {
            name: name.into(),
            source: Box::new(source),
            encoder: EncoderOptions::new(selection),
            target: None,
            from: None,
            lease: LEASE,
            on_poison: OnPoison::default(),
            most_parked: MOST_PARKED,
            max_message_bytes: MAX_MESSAGE,
            shutdown_within: SHUTDOWN,
            on_schema_change: None,
        }
    }

    /// Sets where messages go. There is no default.
    pub fn to(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Sets which changes come one after the other: those of a row by default.
    pub fn order(mut self, order: Order) -> Self {
        self.encoder.order = order;
        self
    }

    /// Sets how a message is written: as JSON by default.
    pub fn format(mut self, format: Format) -> Self {
        self.encoder.format = format;
        self
    }

    /// Sets the topic of each table: `cdc.<schema>.<table>` by default.
    pub fn topic(mut self, topic: impl Fn(&TableName) -> String + Send + Sync + 'static) -> Self {
        self.encoder.topic = Arc::new(topic);
        self
    }

    /// Changes further options of the messages.
    pub fn map_messages(mut self, change: impl FnOnce(EncoderOptions) -> EncoderOptions) -> Self {
        self.encoder = change(self.encoder);
        self
    }

    /// Sets where a capture begins that has no position yet. By default it begins with what is written from now on. A
    /// capture that has a position goes on from there.
    pub fn begin_at(mut self, point: SourcePoint) -> Self {
        self.from = Some(point);
        self
    }

    /// Sets what is done if changes after the position are no longer there.
    pub fn on_gap(self, on_gap: OnGap) -> Self {
        match on_gap {
            OnGap::Stop => self,
        }
    }

    /// Sets what is done with a message that the target refuses for good: it is parked by default.
    pub fn on_poison(mut self, on_poison: OnPoison) -> Self {
        self.on_poison = on_poison;
        self
    }

    /// Sets how many messages may be parked, those behind refused ones included, before the capture stops: 10,000 by
    /// default.
    pub fn most_parked(mut self, most: u64) -> Self {
        self.most_parked = most;
        self
    }

    /// Sets how large a message may be: 16 MiB by default. A larger one is refused.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets how long a reader that is gone without a shutdown keeps the capture from the others: 10 s by default, 1 s at
    /// least.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(SHORTEST_LEASE);
        self
    }

    /// Sets how long what was read has to reach the target at a shutdown: 10 s by default. What does not is read again.
    pub fn shutdown_within(mut self, limit: Duration) -> Self {
        self.shutdown_within = limit;
        self
    }

    /// Calls a function whenever the columns of a table are not those of its last change. It must return at once.
    pub fn on_schema_change(
        mut self,
        tell: impl Fn(&SchemaChange) + Send + Sync + 'static,
    ) -> Self {
        self.on_schema_change = Some(Arc::new(tell));
        self
    }

    /// Says what is wrong with the source's settings, rights and tables, each with the statement that mends it. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// Fails if the source cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn doctor(&self) -> Result<Vec<Finding>, CaptureError> {
        Ok(self.source.check(&self.encoder.selection).await?)
    }

    /// Makes the tables that the capture needs at its target, or leaves them as they are. [`start`](Self::start) does
    /// the same. Several processes may do so at once.
    ///
    /// # Errors
    ///
    /// Fails if the name cannot be used, or the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest to the next call.
    pub async fn migrate(&self) -> Result<(), CaptureError> {
        check_name(&self.name)?;
        let wrong = |error| CaptureError::Config(crate::target::lots::causes(&error));
        self.encoder.check().map_err(wrong)?;
        self.checked_target()?.0.migrate().await
    }

    /// Starts it: makes the tables, and reads as soon as no other process does.
    ///
    /// # Errors
    ///
    /// Fails if something of the configuration is wrong, the target's database fails, or the broker refuses. A source or
    /// a broker that is away is no error: it is tried again. What else is wrong with the source is seen in the
    /// [state](RunningCapture::state).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what has been started.
    pub async fn start(self) -> Result<RunningCapture, CaptureError> {
        self.migrate().await?;
        let target = self.checked_target()?;
        let outlet = Arc::clone(&target.0);
        outlet.open(&self.name).await?;
        let engine = Engine {
            name: self.name.into(),
            owner: Uuid::now_v7(),
            source: self.source,
            encoder: self.encoder,
            outlet,
            from: self.from,
            lease: self.lease,
            on_poison: self.on_poison,
            most_parked: self.most_parked,
            max_message_bytes: self.max_message_bytes,
            shutdown_within: self.shutdown_within,
            on_schema_change: self.on_schema_change,
        };
        Ok(RunningCapture::start(engine))
    }

    fn checked_target(&self) -> Result<&Target, CaptureError> {
        let missing = || CaptureError::Config("the capture has no target; name one by `to`".into());
        self.target.as_ref().ok_or_else(missing)
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("name", &self.name)
            .field("source", &self.source.place())
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
