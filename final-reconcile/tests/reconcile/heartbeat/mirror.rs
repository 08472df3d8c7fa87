//! A mirror that brings what the source has committed later, in its order, and its heartbeat with it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, time::sleep};

use crate::place::{Db, Place};

/// The statements of docs/reconcile.md: the table of a heartbeat, and a beat.
pub fn table(db: Db) -> &'static str {
    match db {
        Db::Postgres => "CREATE TABLE mirror_heartbeat (id int PRIMARY KEY, at timestamptz(6))",
        Db::Maria => "CREATE TABLE mirror_heartbeat (id int PRIMARY KEY, at datetime(6))",
        Db::Sqlite => "CREATE TABLE mirror_heartbeat (id integer PRIMARY KEY, at text)",
    }
}

pub fn beat(db: Db) -> &'static str {
    match db {
        Db::Postgres => "UPDATE mirror_heartbeat SET at = clock_timestamp() WHERE id = 1",
        Db::Maria => "UPDATE mirror_heartbeat SET at = utc_timestamp(6) WHERE id = 1",
        Db::Sqlite => {
            "UPDATE mirror_heartbeat SET at = strftime('%Y-%m-%d %H:%M:%f', 'now') WHERE id = 1"
        }
    }
}

/// The heartbeat as a text in UTC.
pub fn read(db: Db) -> &'static str {
    match db {
        Db::Postgres => "SELECT (at AT TIME ZONE 'UTC') AS v FROM mirror_heartbeat",
        Db::Maria | Db::Sqlite => "SELECT at AS v FROM mirror_heartbeat",
    }
}

/// What the target's own column takes.
fn written(db: Db, text: &str) -> String {
    let zone = if db == Db::Postgres { "+00" } else { "" };
    format!("UPDATE mirror_heartbeat SET at = '{text}{zone}' WHERE id = 1")
}

/// The mirror of one pair of databases.
pub struct Mirror<'p> {
    place: &'p Place,
    pub from: Db,
    pub to: Db,
    lag: Duration,
    /// What is committed and not there yet. Who writes to the source has it, so the order is that of the commits.
    queue: Mutex<VecDeque<(Instant, String)>>,
    over: AtomicBool,
    stands: AtomicBool,
}

impl<'p> Mirror<'p> {
    /// With tables for the heartbeat, and a first beat in both.
    pub async fn new(place: &'p Place, from: Db, to: Db, lag: Duration) -> Self {
        let mirror = Self {
            place,
            from,
            to,
            lag,
            queue: Mutex::default(),
            over: AtomicBool::new(false),
            stands: AtomicBool::new(false),
        };
        for db in [from, to] {
            place.run(db, "DROP TABLE IF EXISTS mirror_heartbeat").await;
            place.run(db, table(db)).await;
            place
                .run(db, "INSERT INTO mirror_heartbeat (id) VALUES (1)")
                .await;
        }
        mirror.beat_once().await;
        mirror.bring(Duration::ZERO).await;
        mirror
    }

    /// Writes to the source, and later to the copy: the statement with `{}` for the table.
    pub async fn write(&self, sql: &str) {
        let mut queue = self.queue.lock().await;
        self.place.run(self.from, sql.replace("{}", "a")).await;
        queue.push_back((Instant::now(), sql.replace("{}", "b")));
    }

    async fn beat_once(&self) {
        let mut queue = self.queue.lock().await;
        self.place.run(self.from, beat(self.from)).await;
        let at = self.place.texts(self.from, read(self.from)).await.remove(0);
        queue.push_back((Instant::now(), written(self.to, &at)));
    }

    /// Brings what is old enough, in one transaction.
    async fn bring(&self, lag: Duration) {
        let mut queue = self.queue.lock().await;
        let mut all = Vec::new();
        while let Some((since, sql)) = queue.pop_front() {
            if since.elapsed() < lag {
                queue.push_front((since, sql));
                break;
            }
            all.push(sql);
        }
        drop(queue);
        if !all.is_empty() {
            let sql = format!("BEGIN; {}; COMMIT", all.join("; "));
            self.place.run(self.to, sql).await;
        }
    }

    /// Beats and brings until it is over.
    pub async fn run(&self) {
        while !self.over.load(Ordering::Relaxed) {
            self.beat_once().await;
            if !self.stands.load(Ordering::Relaxed) {
                self.bring(self.lag).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether it brings nothing.
    pub fn stands(&self, stands: bool) {
        self.stands.store(stands, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
