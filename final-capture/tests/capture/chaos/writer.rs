//! Writers: rows of their own, changed in every way, a transaction after the other.
//!
//! Input: the source through a connection that breaks, and the gate that holds all writers. State: which rows are there.
//! Output: notes in the books, in the order of the commits. A COMMIT without an answer is looked up:
//!
//! ```text
//!   BEGIN, mark, statements, COMMIT ─ answered ──▶ committed
//!              │                    └ no answer ─▶ the same mark is inserted again ─ it is there ─▶ committed
//!              └ error, ROLLBACK ─▶ rolled back                                   └ inserted ───▶ rolled back
//! ```
//!
//! The second INSERT of the mark waits for the first transaction, wherever that has got stuck, so it tells its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use final_tests::Conn;
use tokio::{sync::RwLock, time::timeout};

use super::{
    books::{Books, Change, Key, Table},
    source::{Kind, body},
};

/// How long a transaction may take before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// With so many transactions on their way writers are slow.
const MOST_OPEN: usize = 300;
/// So many rows does a writer keep.
const MOST_ROWS: usize = 200;

/// What all writers share.
#[derive(Debug)]
pub struct Scene {
    pub kind: Kind,
    /// The source, through a wire that breaks.
    pub url: String,
    /// The source without it, to look up what came of a COMMIT.
    pub direct_url: String,
    pub books: Vec<Arc<Books>>,
    /// Writers hold it while a transaction lasts.
    pub gate: RwLock<()>,
    pub over: AtomicBool,
    /// So many rows in one statement does the next transaction of somebody have.
    pub large: AtomicI64,
    /// COMMITs whose answers were lost.
    pub unknown: AtomicU64,
}

impl Scene {
    fn committed(&self, changes: &[(Key, Change)]) {
        self.books.iter().for_each(|books| books.committed(changes));
    }

    fn undone(&self, changes: &[(Key, Change)]) {
        self.books.iter().for_each(|books| books.undone(changes));
    }

    /// Whether so much is on its way that a machine with other work would not catch up in good time.
    fn is_far_ahead(&self) -> bool {
        self.books.iter().any(|books| books.open() > MOST_OPEN)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A writer with its rows.
#[derive(Debug)]
pub struct Writer {
    scene: Arc<Scene>,
    number: i64,
    random: fastrand::Rng,
    conn: Option<Conn>,
    rows: Vec<i64>,
    /// For ids, versions and transactions: a number is used once.
    next: i64,
}

/// A transaction in the making.
#[derive(Debug, Default)]
struct Draft {
    statements: Vec<String>,
    /// What stays if it commits.
    changes: Vec<(Key, Change)>,
    /// What was rolled back to a savepoint.
    dropped: Vec<(Key, Change)>,
    rows: Vec<i64>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    RolledBack,
}

fn goods(id: i64) -> Key {
    Key {
        table: Table::Goods,
        row: Some(id),
    }
}

fn list(ids: &[i64]) -> String {
    let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
    ids.join(", ")
}

impl Writer {
    pub fn new(scene: Arc<Scene>, number: i64, seed: u64) -> Self {
        Self {
            scene,
            number,
            random: fastrand::Rng::with_seed(seed ^ number.unsigned_abs()),
            conn: None,
            rows: Vec::new(),
            next: number << 40,
        }
    }

    /// Writes until it is over.
    pub async fn run(mut self) {
        while !self.scene.is_over() {
            let pause = match self.scene.is_far_ahead() {
                true => 100,
                false => self.random.u64(2..25),
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let scene = Arc::clone(&self.scene);
            let _open = scene.gate.read().await;
            if scene.is_over() {
                break;
            }
            // One writer empties its table now and then.
            match self.number == 1 && self.random.u8(..40) == 0 {
                true => self.truncate().await,
                false => {
                    let draft = self.draft();
                    self.transaction(draft).await;
                }
            }
        }
    }

    fn next(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    /// Some statements that fit the rows that are there.
    fn draft(&mut self) -> Draft {
        let mut draft = Draft {
            rows: self.rows.clone(),
            ..Draft::default()
        };
        let large = self.scene.large.swap(0, Ordering::Relaxed);
        if large > 0 {
            self.large(&mut draft, large);
            return draft;
        }
        for _ in 0..self.random.usize(1..5) {
            if self.random.u8(..6) == 0 {
                self.savepoint(&mut draft);
            } else {
                self.statement(&mut draft);
            }
        }
        draft
    }

    /// Statements between a savepoint and its end, of either kind.
    fn savepoint(&mut self, draft: &mut Draft) {
        draft.statements.push("SAVEPOINT here".into());
        let (rows, changes) = (draft.rows.clone(), draft.changes.len());
        for _ in 0..self.random.usize(1..3) {
            self.statement(draft);
        }
        if self.random.bool() {
            draft.statements.push("ROLLBACK TO SAVEPOINT here".into());
            draft.rows = rows;
            draft.dropped.extend(draft.changes.drain(changes..));
        } else {
            draft.statements.push("RELEASE SAVEPOINT here".into());
        }
    }

    fn statement(&mut self, draft: &mut Draft) {
        let choice = self.random.u8(..10);
        match choice {
            0..=2 if draft.rows.len() < MOST_ROWS => self.insert(draft),
            9 if self.number == 1 => self.insert_flats(draft),
            _ if draft.rows.is_empty() => self.insert(draft),
            3..=5 => self.update(draft),
            6 => self.rename(draft),
            7 => self.delete(draft),
            8 => self.aside(draft),
            _ => self.update(draft),
        }
    }

    /// What is not captured. On MariaDB a temporary table and one of MyISAM bring what was rolled back into the binary log.
    fn aside(&mut self, draft: &mut Draft) {
        let id = self.next();
        let tables: &[&str] = match self.scene.kind {
            Kind::Postgres => &["unwatched"],
            Kind::MariaDb => &["unwatched", "loose", "passing"],
        };
        let table = tables[self.random.usize(..tables.len())];
        if table == "passing" {
            let create = "CREATE TEMPORARY TABLE IF NOT EXISTS shop.passing (id BIGINT, version BIGINT, body TEXT)";
            draft.statements.push(create.into());
        }
        draft.statements.push(format!(
            "INSERT INTO shop.{table} (id, version, body) VALUES ({id}, {id}, '-')"
        ));
    }

    fn insert(&mut self, draft: &mut Draft) {
        let mut values = Vec::new();
        for _ in 0..self.random.usize(1..8) {
            let (id, version) = (self.next(), self.next());
            values.push(format!("({id}, {version}, '{}')", body(version)));
            draft.changes.push((goods(id), Change::Insert(version)));
            draft.rows.push(id);
        }
        let values = values.join(", ");
        let sql = format!("INSERT INTO shop.goods (id, version, body) VALUES {values}");
        draft.statements.push(sql);
    }

    fn insert_flats(&mut self, draft: &mut Draft) {
        let id = self.next();
        let sql = format!(
            "INSERT INTO shop.flats (id, version, body) VALUES ({id}, {id}, '{}')",
            body(id)
        );
        let key = Key {
            table: Table::Flats,
            row: Some(id),
        };
        draft.statements.push(sql);
        draft.changes.push((key, Change::Insert(id)));
    }

    /// Some rows that are there.
    fn some(&mut self, rows: &[i64], most: usize) -> Vec<i64> {
        let count = self.random.usize(1..=most);
        let random = &mut self.random;
        let mut some: Vec<i64> = (0..count)
            .map(|_| rows[random.usize(..rows.len())])
            .collect();
        some.sort_unstable();
        some.dedup();
        some
    }

    fn update(&mut self, draft: &mut Draft) {
        let (ids, version) = (self.some(&draft.rows, 6), self.next());
        draft.statements.push(format!(
            "UPDATE shop.goods SET version = {version}, body = '{}' WHERE id IN ({})",
            body(version),
            list(&ids)
        ));
        let updated = ids.iter().map(|id| (goods(*id), Change::Update(version)));
        draft.changes.extend(updated);
    }

    /// Changes the key of a row: the old one is deleted, and the new one inserted.
    fn rename(&mut self, draft: &mut Draft) {
        let at = self.random.usize(..draft.rows.len());
        let (id, version) = (self.next(), self.next());
        let old = std::mem::replace(&mut draft.rows[at], id);
        draft.statements.push(format!(
            "UPDATE shop.goods SET id = {id}, version = {version}, body = '{}' WHERE id = {old}",
            body(version)
        ));
        draft.changes.push((goods(old), Change::Delete));
        draft.changes.push((goods(id), Change::Insert(version)));
    }

    fn delete(&mut self, draft: &mut Draft) {
        let ids = self.some(&draft.rows, 4);
        let sql = format!("DELETE FROM shop.goods WHERE id IN ({})", list(&ids));
        draft.statements.push(sql);
        draft.rows.retain(|id| !ids.contains(id));
        let deleted = ids.iter().map(|id| (goods(*id), Change::Delete));
        draft.changes.extend(deleted);
    }

    /// Very many rows in one statement, and their end in the same transaction.
    fn large(&mut self, draft: &mut Draft, count: i64) {
        let (version, later) = (self.next(), self.next());
        let (from, to) = (self.next + 1, self.next + count);
        self.next = to;
        let (first, more) = (Change::Insert(version), Change::Update(later));
        let kind = self.scene.kind;
        draft.statements.extend([
            kind.insert_many(from, count, version),
            format!(
                "UPDATE shop.goods SET version = {later}, body = '{}' WHERE id BETWEEN {from} AND {to} AND id % 4 = 0",
                body(later)
            ),
            format!("DELETE FROM shop.goods WHERE id BETWEEN {from} AND {to}"),
        ]);
        let all = || from..=to;
        draft.changes.extend(all().map(|id| (goods(id), first)));
        let updated = all().filter(|id| id % 4 == 0);
        draft.changes.extend(updated.map(|id| (goods(id), more)));
        draft
            .changes
            .extend(all().map(|id| (goods(id), Change::Delete)));
    }

    async fn transaction(&mut self, draft: Draft) {
        let id = self.next();
        // A large one is to arrive.
        let ends_well = draft.changes.len() > 1_000 || self.random.u8(..8) != 0;
        let fate = match timeout(PATIENCE, self.attempt(id, &draft, ends_well)).await {
            Ok(Some(fate)) => fate,
            Ok(None) | Err(_) => {
                self.conn = None;
                self.scene.unknown.fetch_add(1, Ordering::Relaxed);
                look_up(&self.scene.direct_url, id).await
            }
        };
        self.scene.undone(&draft.dropped);
        match fate {
            Fate::Committed => {
                self.scene.committed(&draft.changes);
                self.rows = draft.rows;
            }
            Fate::RolledBack => self.scene.undone(&draft.changes),
        }
    }

    /// None if the answer to the COMMIT is missing.
    async fn attempt(&mut self, id: i64, draft: &Draft, ends_well: bool) -> Option<Fate> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => match Conn::open(&self.scene.url).await {
                Ok(conn) => conn,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    return Some(Fate::RolledBack);
                }
            },
        };
        let mark = format!("INSERT INTO shop.marks VALUES ({id}, 0)");
        let first = ["BEGIN", &mark];
        let statements = draft.statements.iter().map(String::as_str);
        for statement in first.into_iter().chain(statements) {
            // The connection is closed, which rolls back.
            if conn.run(statement).await.is_err() {
                return Some(Fate::RolledBack);
            }
        }
        if !ends_well {
            if conn.run("ROLLBACK").await.is_ok() {
                self.conn = Some(conn);
            }
            return Some(Fate::RolledBack);
        }
        conn.run("COMMIT").await.ok()?;
        self.conn = Some(conn);
        Some(Fate::Committed)
    }

    async fn truncate(&mut self) {
        let key = Key {
            table: Table::Flats,
            row: None,
        };
        if self.scene.kind == Kind::Postgres {
            let draft = Draft {
                statements: vec!["TRUNCATE shop.flats".into()],
                changes: vec![(key, Change::Truncate)],
                rows: self.rows.clone(),
                ..Draft::default()
            };
            return self.transaction(draft).await;
        }
        // It commits by itself, and leaves no mark.
        let Some(conn) = &mut self.conn else { return };
        let ended = timeout(PATIENCE, conn.run("TRUNCATE TABLE shop.flats")).await;
        if matches!(ended, Ok(Ok(()))) {
            self.scene.committed(&[(key, Change::Truncate)]);
        } else {
            self.conn = None;
            let doubt = |books: &Arc<Books>| books.doubtful(key, Change::Truncate);
            self.scene.books.iter().for_each(doubt);
        }
    }
}

/// What came of a COMMIT whose answer is missing.
async fn look_up(url: &str, id: i64) -> Fate {
    loop {
        if let Ok(Ok(fate)) = timeout(PATIENCE, ask(url, id)).await {
            return fate;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn ask(url: &str, id: i64) -> Result<Fate, sqlx::Error> {
    let mut conn = Conn::open(url).await?;
    let mark = format!("INSERT INTO shop.marks VALUES ({id}, 1)");
    match conn.run(&mark).await {
        Ok(()) => Ok(Fate::RolledBack),
        Err(error)
            if error
                .as_database_error()
                .is_some_and(|it| it.is_unique_violation()) =>
        {
            let fenced = format!("SELECT fenced FROM shop.marks WHERE id = {id}");
            // An earlier question may have left its own mark.
            Ok(match conn.number(&fenced).await? {
                0 => Fate::Committed,
                _ => Fate::RolledBack,
            })
        }
        Err(error) => Err(error),
    }
}
