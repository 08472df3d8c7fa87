//! Reads the source, encodes, and fills lots.
//!
//! Input: an open stream, the position in it. State: the events that were read, the encoder, the lot that is being
//! filled. Output: lots for the target, and the end of the stream.
//!
//! ```text
//!   reads ─ events ─▶ encodes ─▶ fills the lot ─┬─ the target takes one ─▶ handed over
//!     ▲                                         └─ the target is busy, the lot is not full ─┐
//!     └─────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::{sync::Arc, time::Duration};

use final_core::failpoint::{Failpoint, pass};
use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Engine, OnSchemaChange,
    assembly::Assembly,
    skip::{OtherTransaction, Skip},
    vitals::Vitals,
};
use crate::{
    capture::{SchemaChange, StopReason},
    format::{EncodeError, Encoder, TopicFn},
    position::{Partial, Position},
    source::{Event, Reader, SourceError},
    target::Lot,
};

/// How many bytes of events are read at a time.
const READ: usize = 256 * 1024;

/// How often a position is saved that moves without a message.
const POINT: Duration = Duration::from_secs(1);

/// Why a stream ends.
#[derive(Debug)]
pub(super) enum FeedEnd {
    /// It was told to.
    Told,
    /// The source is away, or another reader has the stream.
    Away(SourceError),
    /// Only a person helps.
    Stopped(StopReason),
    /// The target takes no more.
    TargetEnded,
}

pub(super) struct Feed {
    encoder: Encoder,
    topic: TopicFn,
    skip: Skip,
    assembly: Assembly,
    vitals: Arc<Vitals>,
    on_schema_change: Option<OnSchemaChange>,
    point_due: Instant,
}

impl Feed {
    pub(super) fn new(
        engine: &Engine,
        encoder: Encoder,
        partial: Option<Partial>,
        vitals: Arc<Vitals>,
    ) -> Self {
        Self {
            encoder,
            topic: Arc::clone(&engine.encoder.topic),
            skip: Skip::new(partial),
            assembly: Assembly::default(),
            vitals,
            on_schema_change: engine.on_schema_change.clone(),
            point_due: Instant::now(),
        }
    }

    /// Reads until the stream ends. The rest is handed over, after a stop only as far as the target has room.
    pub(super) async fn run(
        &mut self,
        reader: &mut dyn Reader,
        lots: mpsc::Sender<Lot>,
        mut position: watch::Receiver<Option<Position>>,
        stop: &CancellationToken,
    ) -> FeedEnd {
        let mut events = Vec::new();
        let end = loop {
            let can_send = self.assembly.has_messages()
                || (self.assembly.has_point_only() && Instant::now() >= self.point_due);
            let point_due = self.assembly.has_point_only() && !can_send;
            tokio::select! {
                biased;
                () = stop.cancelled() => break FeedEnd::Told,
                changed = position.changed() => {
                    let saved = position.borrow_and_update().as_ref().map(|at| at.point.clone());
                    if changed.is_ok() && let Some(point) = saved {
                        reader.saved(&point);
                        self.vitals.change(|numbers| numbers.source_lag = reader.lag());
                    }
                }
                permit = lots.reserve(), if can_send => {
                    let Ok(permit) = permit else {
                        break FeedEnd::TargetEnded;
                    };
                    if let Some(lot) = self.take() {
                        permit.send(lot);
                    }
                }
                () = sleep_until(self.point_due), if point_due => {}
                read = reader.read(&mut events, READ), if !self.assembly.is_full() => {
                    // Those before an error count.
                    if let Err(stopped) = self.encode(&mut events) {
                        break FeedEnd::Stopped(stopped);
                    }
                    pass(Failpoint::AfterChangeRead);
                    if let Err(error) = read {
                        break match StopReason::of(error) {
                            Ok(reason) => FeedEnd::Stopped(reason),
                            Err(error) => FeedEnd::Away(error),
                        };
                    }
                    // What is done of a large transaction is read without a pause. The other tasks need the thread as well:
                    // one of them renews the lease.
                    yield_now().await;
                }
            }
        };
        // Whole changes that were read are as good as any. Told to end, the feed does not wait for a target that is busy
        // or away: what does not fit is read again, and the limit of the shutdown begins.
        tokio::select! {
            biased;
            permit = lots.reserve() => match permit {
                Ok(permit) => {
                    if let Some(lot) = self.take() {
                        permit.send(lot);
                    }
                    end
                }
                Err(_) => FeedEnd::TargetEnded,
            },
            () = stop.cancelled() => end,
        }
    }

    fn take(&mut self) -> Option<Lot> {
        let lot = self.assembly.take()?;
        self.point_due = Instant::now() + POINT;
        self.vitals.read(&lot);
        Some(lot)
    }

    fn encode(&mut self, events: &mut Vec<Event>) -> Result<(), StopReason> {
        let mut out = Vec::new();
        for event in events.drain(..) {
            match event {
                Event::Begin(transaction) => {
                    self.skip.begin(&transaction.id).map_err(other)?;
                    self.assembly.begin(transaction.clone());
                    self.encoder.begin(transaction);
                }
                Event::Row(change) if self.skip.is_done(change.index) => {}
                Event::Row(change) => {
                    let index = change.index;
                    self.assembly.count_row();
                    let encoded = self.encoder.row(change, &mut out);
                    self.keep(&mut out, encoded.err(), index)?;
                }
                Event::Truncate { index, .. } if self.skip.is_done(index) => {}
                Event::Truncate { tables, index } => {
                    self.assembly.count_row();
                    let encoded = self.encoder.truncate(&tables, index, &mut out);
                    self.keep(&mut out, encoded.err(), index)?;
                }
                Event::Columns(table) => {
                    self.vitals.change(|numbers| numbers.schema_changes += 1);
                    tracing::info!(
                        target: "final::capture",
                        table = %table.name,
                        "the columns of a table have changed"
                    );
                    if let Some(tell) = &self.on_schema_change {
                        tell(&SchemaChange { table });
                    }
                }
                Event::Commit(point) => {
                    self.encoder.commit(&point, &mut out);
                    out.drain(..)
                        .for_each(|encoded| self.assembly.push(encoded));
                    self.vitals.change(|numbers| numbers.transactions += 1);
                    self.assembly.commit(point);
                }
                Event::Quiet(point) if !self.skip.is_waiting() => self.assembly.quiet(point),
                Event::Quiet(_) => {}
            }
        }
        Ok(())
    }

    /// Puts messages into the lot, and a change that cannot be written behind them.
    fn keep(
        &mut self,
        out: &mut Vec<crate::format::Encoded>,
        error: Option<EncodeError>,
        index: u64,
    ) -> Result<(), StopReason> {
        out.drain(..)
            .for_each(|encoded| self.assembly.push(encoded));
        let Some(error) = error else {
            return Ok(());
        };
        let why = error.to_string();
        if error.stops {
            return Err(StopReason::Config(why));
        }
        let topic: Arc<str> = (self.topic)(&error.table).into();
        self.assembly
            .push_unwritable(topic, error.key, why, index + 1);
        Ok(())
    }
}

fn other(other: OtherTransaction) -> StopReason {
    let OtherTransaction { wanted, found } = other;
    StopReason::Partial(format!(
        "transaction {wanted} is done in part, and the source has {found} in its place: the source is not what it was, the \
         tables of {wanted} are no longer captured, or another server has the transactions of several GTID domains in \
         another order; look which changes of {wanted} are at the target, and set the position"
    ))
}
