//! A database of one's own at a server that can be captured, and what is read from it.

use std::{sync::Arc, time::Duration};

use final_capture::{
    position::{Position, SourceIdentity, SourcePoint},
    select::Selection,
    source::{Event, OpenedSource, Reader, RowChange, Source, SourceError, postgres::PgSource},
};
use final_tests::{
    servers::{Postgres, Setup},
    unique,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The settings of a server that can be captured.
pub(crate) fn settings(more: &[&str]) -> Vec<String> {
    [
        "wal_level=logical",
        "max_replication_slots=100",
        "max_wal_senders=100",
        "fsync=off",
    ]
    .iter()
    .chain(more)
    .flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()])
    .collect()
}

/// A server of one's own, for a test that restarts or changes it.
pub(crate) async fn server(more: &[&str]) -> Postgres {
    let setup = Setup {
        args: settings(more),
        ..Setup::default()
    };
    Postgres::start_with(setup).await.unwrap()
}

/// A fresh database, and a source that reads it.
pub(crate) struct Shop {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    pub(crate) slot: String,
    /// `shop.*`, which has the tables of most tests.
    pub(crate) wanted: Selection,
}

impl Shop {
    /// At the server that the tests share.
    pub(crate) async fn new() -> Self {
        static SERVER: OnceCell<Postgres> = OnceCell::const_new();
        let server = SERVER
            .get_or_init(|| server(&["max_prepared_transactions=10"]))
            .await;
        Self::at(&server.url()).await
    }

    /// At another server.
    pub(crate) async fn at(server: &str) -> Self {
        let name = unique("shop");
        let mut connection = PgConnection::connect(server).await.unwrap();
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        let url = format!("{}/{name}", server.trim_end_matches("/postgres"));
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .connect(&url)
            .await
            .unwrap();
        pool.execute("CREATE SCHEMA shop").await.unwrap();
        Self {
            url,
            pool,
            slot: unique("slot"),
            wanted: Selection::tables(["shop.*"]),
        }
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.pool
            .execute(AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) fn source(&self) -> PgSource {
        self.source_at(&self.url)
    }

    pub(crate) fn source_at(&self, url: &str) -> PgSource {
        PgSource::new(url)
            .and_then(|source| source.slot(&self.slot))
            .and_then(|source| source.publication(&self.slot))
            .unwrap()
    }

    pub(crate) async fn try_open(
        &self,
        from: Option<&Position>,
    ) -> Result<OpenedSource, SourceError> {
        self.source().open(&self.wanted, from).await
    }

    pub(crate) async fn open(&self, from: Option<&Position>) -> Stream {
        Stream::of(self.try_open(from).await.unwrap())
    }

    pub(crate) async fn slot_point(&self) -> SourcePoint {
        let point: String = sqlx::query_scalar(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1",
        )
        .bind(&self.slot)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        format!("lsn:{point}").parse().unwrap()
    }
}

/// An open stream, and what came of it.
pub(crate) struct Stream {
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) identity: SourceIdentity,
    /// The last complete point.
    pub(crate) point: SourcePoint,
}

/// A whole transaction.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) events: Vec<Event>,
    pub(crate) point: SourcePoint,
}

impl Stream {
    pub(crate) fn of(opened: OpenedSource) -> Self {
        Self {
            reader: opened.reader,
            identity: opened.identity,
            point: opened.point,
        }
    }

    pub(crate) fn position(&self) -> Position {
        Position {
            identity: self.identity.clone(),
            point: self.point.clone(),
            partial: None,
        }
    }

    /// Reads what comes next.
    pub(crate) async fn some(&mut self) -> Result<Vec<Event>, SourceError> {
        let mut events = Vec::new();
        let read = self.reader.read(&mut events, 1 << 20);
        tokio::time::timeout(LIMIT, read)
            .await
            .expect("nothing came")?;
        for event in &events {
            if let Event::Commit(point) | Event::Quiet(point) = event {
                self.point = point.clone();
            }
        }
        Ok(events)
    }

    /// Reads so many transactions.
    pub(crate) async fn transactions(&mut self, count: usize) -> Vec<Read> {
        let mut read = Vec::new();
        let mut open = Vec::new();
        while read.len() < count {
            for event in self.some().await.unwrap() {
                let commit = match &event {
                    Event::Commit(point) => Some(point.clone()),
                    Event::Quiet(_) => continue,
                    _ => None,
                };
                open.push(event);
                if let Some(point) = commit {
                    let events = std::mem::take(&mut open);
                    read.push(Read { events, point });
                }
            }
        }
        assert_eq!(read.len(), count);
        read
    }

    pub(crate) async fn transaction(&mut self) -> Read {
        self.transactions(1).await.pop().unwrap()
    }

    /// Everything up to here is safe.
    pub(crate) fn saved(&mut self) {
        self.reader.saved(&self.point.clone());
    }

    pub(crate) async fn close(self) -> Position {
        let position = self.position();
        self.reader.close().await;
        position
    }

    /// Reads until the stream fails.
    pub(crate) async fn failure(&mut self) -> SourceError {
        loop {
            if let Err(error) = self.some().await {
                return error;
            }
        }
    }
}

impl Read {
    pub(crate) fn id(&self) -> Arc<str> {
        match self.events.first() {
            Some(Event::Begin(transaction)) => Arc::clone(&transaction.id),
            other => panic!("a transaction begins with {other:?}"),
        }
    }

    pub(crate) fn rows(&self) -> Vec<&RowChange> {
        let events = self.events.iter();
        events
            .filter_map(|event| match event {
                Event::Row(row) => Some(row),
                _ => None,
            })
            .collect()
    }

    /// The only row.
    pub(crate) fn row(&self) -> &RowChange {
        let rows = self.rows();
        assert_eq!(rows.len(), 1, "{self:?}");
        rows[0]
    }
}
