//! A broker that lives in the database writes inside the caller's transaction.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures::{FutureExt, future::BoxFuture};
use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use crate::{
    Bus, Error, MemoryBroker,
    broker::{Broker, BrokerError, Opened, Setup, Staged, Staging, StagingRequest},
};

/// Keeps messages in a table of its own.
#[derive(Clone, Default)]
struct InTheDatabase {
    committed: Arc<AtomicU32>,
}

impl Broker for InTheDatabase {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        async move { MemoryBroker::new().open(setup).await }.boxed()
    }

    fn staging(&self, request: &mut StagingRequest<'_>) {
        request.answer(|_: &SqlitePool| Some(Arc::new(self.clone()) as Arc<dyn Staging<Sqlite>>));
    }
}

impl Staging<Sqlite> for InTheDatabase {
    fn stage<'a>(
        &'a self,
        conn: &'a mut SqliteConnection,
        messages: &'a [Staged],
    ) -> BoxFuture<'a, Result<(), Error>> {
        let writing = async move {
            for staged in messages {
                sqlx::query("INSERT INTO transport (topic) VALUES (?)")
                    .bind(staged.message.topic())
                    .execute(&mut *conn)
                    .await
                    .map_err(Error::database("staging"))?;
            }
            Ok(())
        };
        writing.boxed()
    }

    fn committed(&self) {
        self.committed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn topics(pool: &SqlitePool) -> Vec<String> {
    sqlx::query_scalar("SELECT topic FROM transport ORDER BY rowid")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn messages_are_staged_in_the_callers_transaction_and_not_in_the_outbox() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    sqlx::query("CREATE TABLE transport (topic TEXT)")
        .execute(&pool)
        .await
        .unwrap();
    let broker = InTheDatabase::default();
    let bus = Bus::new("shop", pool.clone(), broker.clone());
    bus.migrate().await.unwrap();

    let mut rolled_back = bus.with_tx(bus.begin().await.unwrap());
    rolled_back.publish("never", "payload").await.unwrap();
    rolled_back.flush().await.unwrap();
    rolled_back.rollback().await.unwrap();
    assert_eq!(broker.committed.load(Ordering::Relaxed), 0);

    let mut committed = bus.with_tx(bus.begin().await.unwrap());
    committed.publish("placed", "payload").await.unwrap();
    committed.commit().await.unwrap();
    bus.publish("alone", "payload").await.unwrap();
    let mut early = bus.with_tx(bus.begin().await.unwrap());
    early.publish("early", "payload").await.unwrap();
    early.flush().await.unwrap();
    early.commit().await.unwrap();
    let mut borrowed = bus.begin().await.unwrap();
    let publish = bus.publish_in(&mut borrowed, "borrowed", "payload");
    publish.await.unwrap();
    borrowed.commit().await.unwrap();

    assert_eq!(
        topics(&pool).await,
        ["placed", "alone", "early", "borrowed"]
    );
    // The bus does not see the COMMIT of a borrowed transaction.
    assert_eq!(broker.committed.load(Ordering::Relaxed), 3);
    assert_eq!(bus.stats().await.unwrap().pending, 0);
}
