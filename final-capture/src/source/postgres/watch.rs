//! The task that looks at the server beside the stream.
//!
//! Input: the catalog, how far the stream is. Output: how far it is behind, a sign of life in the log where there is
//! nothing else to read, new tables in the publication, and the end of the stream when the server is shut down or a
//! captured table has lost its key.
//!
//! A server that is shut down waits until its log is confirmed to the end. While the target is away nothing is
//! confirmed, so the stream has to end for the server to end.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::PgConnection;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    catalog::{Catalog, Glance, beat},
    publication::Publication,
    reader::Lag,
    stream::{Batch, Seen},
};
use crate::{select::Selection, source::SourceError};

/// After so many looks the publication is compared with the tables.
const TABLES_EACH: u32 = 6;
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the end may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// So much of the log may pass without anything to read before a sign of life is written.
const SILENT_BYTES: i64 = 1 << 20;

/// What the task needs.
pub(super) struct Watch {
    pub(super) catalog: Catalog,
    pub(super) slot: String,
    pub(super) publication: Publication,
    pub(super) wanted: Selection,
    pub(super) seen: Arc<Seen>,
    pub(super) lag: Arc<Lag>,
    pub(super) each: Duration,
    /// Ends this task and the stream.
    pub(super) leave: CancellationToken,
    /// Takes the error that ends the stream.
    pub(super) out: mpsc::UnboundedSender<Result<Batch, SourceError>>,
}

/// What the last look saw.
struct Last {
    /// How far the stream was.
    read: u64,
    wal_status: Option<String>,
}

impl Watch {
    /// Looks until it is told to stop.
    pub(super) async fn run(self) {
        let (leave, catalog) = (self.leave.clone(), self.catalog.clone());
        leave.run_until_cancelled(self.work()).await;
        // It says goodbye to the server, which may be gone.
        let _ = timeout(GOODBYE, catalog.0.close()).await;
    }

    async fn work(self) {
        let mut ticks = interval(self.each);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = None;
        let mut last = Last {
            read: self.seen.received.load(Ordering::Relaxed),
            wal_status: None,
        };
        let mut told = HashSet::new();
        for turn in 0_u32.. {
            ticks.tick().await;
            let looked = timeout(PATIENCE, self.look(&mut connection, &mut last)).await;
            let error = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(sqlx::Error::PoolTimedOut),
            };
            if let Some(error) = error {
                connection = None;
                if is_shut_down(&error) {
                    tracing::info!(
                        target: "final::capture",
                        slot = self.slot,
                        "the server is shut down; the stream is given back"
                    );
                    self.leave.cancel();
                    return;
                }
                tracing::debug!(
                    target: "final::capture",
                    slot = self.slot,
                    %error,
                    "the source's catalog did not answer"
                );
            }
            if turn % TABLES_EACH == TABLES_EACH - 1 {
                let mut last = None;
                let follow =
                    self.publication
                        .follow(&self.catalog, &self.wanted, &mut told, &mut last);
                let _ = timeout(PATIENCE, follow).await;
                if let Some(error) = last {
                    let _ = self.out.send(Err(error));
                    self.leave.cancel();
                    return;
                }
            }
        }
    }

    /// Looks once.
    async fn look(
        &self,
        connection: &mut Option<PgConnection>,
        last: &mut Last,
    ) -> sqlx::Result<()> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.catalog.connect().await?),
        };
        let read = self.seen.received.load(Ordering::Relaxed);
        let glance = Glance::of(connection, &self.slot, read).await?;
        let unread = glance.unread.unwrap_or(-1).max(0);
        self.lag
            .retained
            .store(glance.retained.unwrap_or(-1), Ordering::Relaxed);
        self.lag.unread.store(unread, Ordering::Relaxed);
        let is_news = glance.wal_status != last.wal_status;
        if is_news && matches!(glance.wal_status.as_deref(), Some("unreserved" | "lost")) {
            tracing::error!(
                target: "final::capture",
                slot = self.slot,
                status = glance.wal_status,
                "the server gives up the slot's part of the log; raise max_slot_wal_keep_size, and look why the capture \
                 is behind"
            );
        }
        // Others write, and nothing of it came to us since the last look.
        if unread > SILENT_BYTES && read == last.read {
            beat(connection).await?;
        }
        *last = Last {
            read,
            wal_status: glance.wal_status,
        };
        Ok(())
    }
}

/// Whether the server takes no new connections, because it is shut down.
fn is_shut_down(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57P03"))
}
