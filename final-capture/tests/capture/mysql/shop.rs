//! A database of a test on a MariaDB with a binary log, and a stream of its changes.

use std::time::Duration;

use final_capture::{
    position::{Position, SourcePoint},
    select::Selection,
    source::{
        Event, OpenedSource, RowChange, RowOp, Source, SourceError, Transaction, mysql::MySqlSource,
    },
    value::{Row, Value},
};
use final_tests::servers::{MariaDb, Setup};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tokio::{sync::OnceCell, time::timeout};

/// How long a change may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The arguments of a server that can be captured.
pub(crate) fn args(more: &[&str]) -> Vec<String> {
    [
        "--log-bin=mysql-bin",
        "--binlog-format=ROW",
        "--binlog-row-metadata=FULL",
        "--server-id=7",
    ]
    .iter()
    .chain(more)
    .map(|&arg| arg.to_owned())
    .collect()
}

/// A server of a test's own.
pub(crate) async fn server(more: &[&str]) -> MariaDb {
    let setup = Setup {
        args: args(more),
        ..Setup::default()
    };
    MariaDb::start_with(setup).await.expect("MariaDB")
}

/// The server of all tests.
async fn shared() -> &'static MariaDb {
    static SERVER: OnceCell<MariaDb> = OnceCell::const_new();
    SERVER.get_or_init(|| server(&[])).await
}

/// A fresh database.
pub(crate) struct Shop {
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) conn: MySqlConnection,
}

impl Shop {
    /// On the server of all tests.
    pub(crate) async fn open() -> Self {
        Self::on(&shared().await.url()).await
    }

    /// On a server.
    pub(crate) async fn on(url: &str) -> Self {
        let name = final_tests::shared::unique("shop");
        let mut conn = MySqlConnection::connect(url).await.expect("a connection");
        let sql = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
        conn.execute(AssertSqlSafe(sql)).await.expect("a database");
        conn.execute(AssertSqlSafe(format!("USE {name}")))
            .await
            .expect("the database");
        conn.execute("SET time_zone = '+00:00'").await.expect("UTC");
        Self {
            url: url.to_owned(),
            name,
            conn,
        }
    }

    /// Runs statements, separated by semicolons.
    pub(crate) async fn run(&mut self, sql: &str) {
        for statement in sql.split(';').map(str::trim).filter(|sql| !sql.is_empty()) {
            let done = self.conn.execute(AssertSqlSafe(statement.to_owned())).await;
            done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// Another connection to the same database.
    pub(crate) async fn again(&self) -> Self {
        Self::on_database(&self.url, Some(&self.name)).await
    }

    /// A connection to a database that is there, or to none.
    pub(crate) async fn on_database(url: &str, name: Option<&str>) -> Self {
        let mut conn = MySqlConnection::connect(url).await.expect("a connection");
        if let Some(name) = name {
            let sql = format!("USE {name}");
            conn.execute(AssertSqlSafe(sql))
                .await
                .expect("the database");
        }
        Self {
            url: url.to_owned(),
            name: name.unwrap_or("none").to_owned(),
            conn,
        }
    }

    pub(crate) fn source(&self) -> MySqlSource {
        MySqlSource::new(&self.url).expect("a source")
    }

    /// All tables of this database.
    pub(crate) fn all(&self) -> Selection {
        Selection::tables([format!("{}.*", self.name)])
    }

    /// The changes from now on.
    pub(crate) async fn stream(&self) -> Stream {
        self.stream_of(&self.source()).await
    }

    /// The changes from now on, as that source reads them.
    pub(crate) async fn stream_of(&self, source: &MySqlSource) -> Stream {
        Stream::new(source.open(&self.all(), None).await.expect("a stream"))
    }

    /// The changes behind a position.
    pub(crate) async fn stream_from(
        &self,
        source: &MySqlSource,
        from: &Position,
    ) -> Result<Stream, SourceError> {
        source.open(&self.all(), Some(from)).await.map(Stream::new)
    }
}

/// A stream of changes.
pub(crate) struct Stream {
    pub(crate) opened: OpenedSource,
    /// What was read and not taken.
    events: Vec<Event>,
    /// The point behind what was taken.
    pub(crate) point: SourcePoint,
    error: Option<SourceError>,
}

/// A transaction with its changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bundle {
    pub(crate) begin: Transaction,
    pub(crate) changes: Vec<Event>,
    pub(crate) commit: SourcePoint,
}

impl Bundle {
    /// Its rows.
    pub(crate) fn rows(&self) -> Vec<&RowChange> {
        self.changes
            .iter()
            .filter_map(|event| match event {
                Event::Row(row) => Some(row),
                _ => None,
            })
            .collect()
    }

    /// Its rows in short.
    pub(crate) fn short(&self) -> Vec<String> {
        self.rows().into_iter().map(short).collect()
    }
}

/// A row's change in short, such as `insert t 1,a`.
pub(crate) fn short(row: &RowChange) -> String {
    let table = &row.table.name.table;
    let one = |row: &Option<Row>| row.as_ref().map_or_else(String::new, text);
    match row.op {
        RowOp::Insert => format!("insert {table} {}", one(&row.after)),
        RowOp::Update => format!("update {table} {} > {}", one(&row.before), one(&row.after)),
        RowOp::Delete => format!("delete {table} {}", one(&row.before)),
    }
}

fn text(row: &Row) -> String {
    let texts: Vec<String> = row
        .iter()
        .map(|value| match value {
            Value::Null => "null".to_owned(),
            Value::Absent => "absent".to_owned(),
            Value::Int(number) => number.to_string(),
            Value::UInt(number) => number.to_string(),
            Value::Text(text) | Value::Json(text) => text.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    texts.join(",")
}

impl Stream {
    pub(crate) fn new(opened: OpenedSource) -> Self {
        Self {
            point: opened.point.clone(),
            opened,
            events: Vec::new(),
            error: None,
        }
    }

    /// The position behind what was taken.
    pub(crate) fn position(&self) -> Position {
        Position {
            identity: self.opened.identity.clone(),
            point: self.point.clone(),
            partial: None,
        }
    }

    /// Reads once.
    pub(crate) async fn read(&mut self) -> Result<(), SourceError> {
        let reading = self.opened.reader.read(&mut self.events, 1 << 20);
        timeout(PATIENCE, reading)
            .await
            .unwrap_or_else(|_| panic!("nothing comes behind {}", self.opened.point))
    }

    /// The next transaction. An error that came with events waits until they are taken.
    pub(crate) async fn next(&mut self) -> Result<Bundle, SourceError> {
        loop {
            if let Some(bundle) = self.take() {
                return Ok(bundle);
            }
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            self.error = self.read().await.err();
        }
    }

    /// The next transaction, and only if it is read without an error.
    pub(crate) async fn bundle(&mut self) -> Bundle {
        self.next().await.expect("a transaction")
    }

    /// Reads until an error comes.
    pub(crate) async fn error(&mut self) -> SourceError {
        if let Some(error) = self.error.take() {
            return error;
        }
        loop {
            if let Err(error) = self.read().await {
                return error;
            }
        }
    }

    /// Reads until a quiet point comes that is behind all that was committed now.
    pub(crate) fn take(&mut self) -> Option<Bundle> {
        let quiet = |event: &Event| matches!(event, Event::Quiet(_));
        while self.events.first().is_some_and(quiet) {
            if let Event::Quiet(point) = self.events.remove(0) {
                self.point = point;
            }
        }
        let end = self
            .events
            .iter()
            .position(|event| matches!(event, Event::Commit(_)))?;
        let mut events: Vec<Event> = self.events.drain(..=end).collect();
        let commit = match events.pop() {
            Some(Event::Commit(point)) => point,
            other => panic!("no commit: {other:?}"),
        };
        let begin = match events.remove(0) {
            Event::Begin(begin) => begin,
            other => panic!("a transaction begins with {other:?}"),
        };
        self.point = commit.clone();
        Some(Bundle {
            begin,
            changes: events,
            commit,
        })
    }
}
