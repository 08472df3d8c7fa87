//! The log of a database as the target.
//!
//! Input: lots. State: a link without topics, which tells other processes of new messages. Output: messages in the
//! log. Where the position is in the same database, both are one transaction; where it is elsewhere, the
//! position is saved after the COMMIT.

use std::{sync::Arc, time::Duration};

use final_core::{
    Error, Message, OutboxDatabase, SqlBroker,
    broker::{Broker, Link, Setup},
    database::DbResult,
    failpoint::{Failpoint, pass},
};
use futures::future::BoxFuture;
use tokio::sync::Mutex;

use super::{
    Job, Outlet, TargetEnd,
    desk::PutBack,
    lots::{LotSink, WriteError, causes, run},
};
use crate::{
    capture::CaptureError,
    position::{ParkedChange, PositionError, PositionStore, Saved, SqlPositions, Standing, Term},
};

/// How long one lot may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the position is.
pub(crate) enum PlaceOfPosition<DB: OutboxDatabase> {
    /// In the database of the log.
    Same(Arc<SqlPositions<DB>>),
    /// Anywhere else.
    Apart(Arc<dyn PositionStore>),
}

pub(crate) struct LogOutlet<DB: OutboxDatabase> {
    log: SqlBroker<DB>,
    place: PlaceOfPosition<DB>,
    link: Mutex<Option<Arc<dyn Link>>>,
    published: Mutex<Published>,
}

/// What is in the log while the store, which is elsewhere, does not know of it yet. Only the store is tried again then:
/// each try would publish the messages once more.
#[derive(Debug, Default, PartialEq, Eq)]
enum Published {
    #[default]
    Nothing,
    /// The messages of the save with this number, in this term.
    Lot(i64),
    /// These parked changes.
    Parked(Vec<i64>),
}

impl<DB: OutboxDatabase> LogOutlet<DB> {
    pub(crate) fn new(log: SqlBroker<DB>, place: PlaceOfPosition<DB>) -> Self {
        Self {
            log,
            place,
            link: Mutex::default(),
            published: Mutex::default(),
        }
    }
}

impl<DB: OutboxDatabase> Outlet for LogOutlet<DB> {
    fn kind(&self) -> &'static str {
        match &self.place {
            PlaceOfPosition::Same(_) => "the log, exactly once",
            PlaceOfPosition::Apart(_) => "the log, at least once",
        }
    }

    fn positions(&self) -> Arc<dyn PositionStore> {
        match &self.place {
            PlaceOfPosition::Same(positions) => Arc::clone(positions) as Arc<dyn PositionStore>,
            PlaceOfPosition::Apart(store) => Arc::clone(store),
        }
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), CaptureError>> {
        Box::pin(async move {
            Broker::migrate(&self.log).await?;
            Ok(self.positions().migrate().await?)
        })
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), CaptureError>> {
        Box::pin(async move {
            let setup = Setup::new(name, Vec::<Arc<str>>::new());
            let opened = self.log.open(setup).await?;
            *self.link.lock().await = Some(opened.link);
            Ok(())
        })
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Result<(), TargetEnd>> {
        Box::pin(async move {
            // Another term may cut its lots otherwise.
            *self.published.lock().await = Published::Nothing;
            run(self, job).await
        })
    }

    fn close(&self, limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(link) = self.link.lock().await.take() else {
                return;
            };
            link.stop_consuming(limit).await;
            link.finish_consuming(limit).await;
            link.close(limit).await;
        })
    }
}

impl<DB: OutboxDatabase> LogOutlet<DB> {
    /// Messages, refused messages and the position in one transaction.
    async fn write_together(
        &self,
        positions: &SqlPositions<DB>,
        term: &Term,
        messages: &[Message],
        parked: &[ParkedChange],
        standing: &Standing,
    ) -> Result<(), WriteError> {
        let mut refused = None;
        let work = async {
            let mut tx = DB::begin_durable(&positions.pool()).await?;
            if !messages.is_empty()
                && let Err(error) = self.log.append(&mut *tx, messages).await
            {
                return explained(error, &mut refused);
            }
            let saved = positions.save_in(&mut *tx, term, standing, parked).await?;
            pass(Failpoint::AfterChanges);
            match saved {
                Saved::Now => tx.commit().await?,
                Saved::Before | Saved::Deposed => tx.rollback().await?,
            }
            Ok(saved)
        };
        let saved = positions.within(LIMIT, work).await;
        // Also after an error: the COMMIT may have taken place.
        self.log.committed();
        ended(saved, refused)
    }

    /// Messages that were parked come back in one transaction with their removal.
    async fn put_back_together(
        &self,
        positions: &SqlPositions<DB>,
        term: &Term,
        messages: &[Message],
        ids: &[i64],
    ) -> Result<(), WriteError> {
        let mut refused = None;
        let work = async {
            let mut tx = DB::begin_durable(&positions.pool()).await?;
            let removed = positions.unpark_in(&mut *tx, term, ids).await?;
            if removed == Saved::Now
                && !messages.is_empty()
                && let Err(error) = self.log.append(&mut *tx, messages).await
            {
                return explained(error, &mut refused);
            }
            if !positions.is_ours(&mut *tx, term).await? {
                tx.rollback().await?;
                return Ok(Saved::Deposed);
            }
            tx.commit().await?;
            Ok(removed)
        };
        let removed = positions.within(LIMIT, work).await;
        self.log.committed();
        ended(removed, refused)
    }

    /// Messages in a transaction of the log's own, unless they are there.
    async fn publish(&self, messages: &[Message], what: Published) -> Result<(), WriteError> {
        let mut published = self.published.lock().await;
        if messages.is_empty() || *published == what {
            return Ok(());
        }
        match self.log.publish(messages, |_| false).await {
            Ok(_) => {
                *published = what;
                Ok(())
            }
            Err(error) if error.is_refusal() => Err(WriteError::Refused(causes(&error))),
            Err(error) => Err(WriteError::Away(causes(&error))),
        }
    }
}

/// An error of the log as one of the database, with the words of a refusal on the side.
fn explained(error: Error, refused: &mut Option<String>) -> DbResult<Saved> {
    if error.is_refusal() {
        *refused = Some(causes(&error));
    }
    Err(match error {
        Error::Database { source, .. } => source,
        other => sqlx::Error::Configuration(other.to_string().into()),
    })
}

fn ended(saved: DbResult<Saved>, refused: Option<String>) -> Result<(), WriteError> {
    match (saved, refused) {
        (Ok(Saved::Now | Saved::Before), _) => {
            pass(Failpoint::AfterChangesSaved);
            Ok(())
        }
        (Ok(Saved::Deposed), _) => Err(WriteError::Deposed),
        (Err(_), Some(refused)) => Err(WriteError::Refused(refused)),
        (Err(error), None) => Err(match PositionError::carried(error) {
            Ok(error) => error.into(),
            Err(error) => WriteError::Away(causes(&error)),
        }),
    }
}

impl<DB: OutboxDatabase> PutBack for LogOutlet<DB> {
    fn store(&self) -> &dyn PositionStore {
        match &self.place {
            PlaceOfPosition::Same(positions) => &**positions,
            PlaceOfPosition::Apart(store) => &**store,
        }
    }

    fn put_back<'a>(
        &'a self,
        term: &'a Term,
        messages: &'a [Message],
        ids: &'a [i64],
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(async move {
            match &self.place {
                PlaceOfPosition::Same(positions) => {
                    self.put_back_together(positions, term, messages, ids).await
                }
                PlaceOfPosition::Apart(store) => {
                    self.publish(messages, Published::Parked(ids.to_vec()))
                        .await?;
                    Ok(store.unpark(term, ids).await?)
                }
            }
        })
    }
}

impl<DB: OutboxDatabase> LotSink for LogOutlet<DB> {
    fn write<'a>(
        &'a self,
        term: &'a Term,
        messages: &'a [Message],
        parked: &'a [ParkedChange],
        standing: &'a Standing,
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(async move {
            match &self.place {
                PlaceOfPosition::Same(positions) => {
                    self.write_together(positions, term, messages, parked, standing)
                        .await
                }
                PlaceOfPosition::Apart(store) => {
                    self.publish(messages, Published::Lot(standing.number))
                        .await?;
                    pass(Failpoint::AfterChanges);
                    store.save(term, standing, parked).await?;
                    pass(Failpoint::AfterChangesSaved);
                    Ok(())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
