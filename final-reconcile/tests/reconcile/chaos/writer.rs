//! Writers of the source, and the mirror that follows them later.
//!
//! ```text
//!  writers ─▶ source
//!     └─ committed ─▶ queue ─ a lag that varies ─▶ mirror ─▶ copy
//! ```
//!
//! Each row has one writer. A transaction is tried until it is answered; it leaves the same rows however often it is done.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use final_tests::Conn;
use tokio::{
    sync::RwLock,
    time::{sleep, timeout},
};

use super::{
    books::Books,
    table::{Change, Kind, Place, stays},
};

/// How many write.
pub const WRITERS: i64 = 2;
/// How long a transaction may take before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Writers wait while so many changes are on their way.
const MOST_BEHIND: usize = 100_000;
/// The most changes that the mirror brings in one transaction.
const LOT: usize = 500;

/// What writers, mirror and planter share.
#[derive(Debug)]
pub struct Scene {
    pub source: String,
    pub target: String,
    pub books: Arc<Books>,
    /// The longest that the mirror holds a change back.
    pub lag: Duration,
    /// A change that is later may look like a difference.
    pub most: Duration,
    /// The rows at the beginning.
    pub rows: i64,
    pub over: AtomicBool,
    version: AtomicI64,
    updates: AtomicU64,
    pub others: AtomicU64,
    transactions: AtomicU64,
    queue: Mutex<VecDeque<(Change, Instant)>>,
    /// Writers share it from before a commit until its changes are queued.
    pub commits: RwLock<()>,
    /// Whether all changes are in the copy.
    pub is_mirrored: AtomicBool,
}

impl Scene {
    pub fn new(
        urls: (String, String),
        books: Arc<Books>,
        times: (Duration, Duration),
        rows: i64,
    ) -> Self {
        Self {
            source: urls.0,
            target: urls.1,
            books,
            lag: times.0,
            most: times.1,
            rows,
            over: AtomicBool::new(false),
            version: AtomicI64::new(1),
            updates: AtomicU64::new(0),
            others: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            queue: Mutex::default(),
            commits: RwLock::default(),
            is_mirrored: AtomicBool::new(false),
        }
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// How long the oldest change is on its way.
    pub fn behind(&self) -> Duration {
        let queue = self.queue.lock().expect("no panic");
        queue
            .front()
            .map(|(_, since)| since.elapsed())
            .unwrap_or_default()
    }

    /// How many rows were updated.
    pub fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    /// How many transactions were answered.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Gives changes to the mirror.
    pub fn queue_up(&self, changes: impl IntoIterator<Item = Change>) {
        self.queue_since(changes, Instant::now());
    }

    fn queue_since(&self, changes: impl IntoIterator<Item = Change>, since: Instant) {
        let mut queue = self.queue.lock().expect("no panic");
        queue.extend(changes.into_iter().map(|change| (change, since)));
    }

    fn waiting(&self) -> usize {
        self.queue.lock().expect("no panic").len()
    }
}

/// Runs a transaction until it is answered.
pub async fn until_done(url: &str, conn: &mut Option<Conn>, sql: &str) {
    loop {
        let done = timeout(PATIENCE, async {
            let mut open = match conn.take() {
                Some(open) => open,
                None => Conn::open(url).await?,
            };
            open.run(sql).await?;
            *conn = Some(open);
            Ok::<(), sqlx::Error>(())
        });
        match done.await {
            Ok(Ok(())) => return,
            Ok(Err(sqlx::Error::Database(error))) if is_wrong(&*error) => {
                panic!("{error}: {sql}")
            }
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Whether a statement can never succeed, so that the test itself is wrong.
fn is_wrong(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.is_unique_violation() || error.code().is_some_and(|code| code.starts_with("42"))
}

/// Changes rows of its own until it is over.
pub async fn write(scene: Arc<Scene>, number: i64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed ^ number.unsigned_abs());
    let mut rows: Vec<i64> = (1..=scene.rows)
        .filter(|n| n % WRITERS == number)
        .map(|n| n * 2)
        .collect();
    let mut next = scene.rows / WRITERS * WRITERS + WRITERS + number;
    let (kind, mut conn) = (Kind::of(&scene.source), None);
    while !scene.is_over() {
        if scene.waiting() > MOST_BEHIND {
            sleep(Duration::from_millis(50)).await;
            continue;
        }
        sleep(Duration::from_millis(random.u64(2..20))).await;
        let mut changes = Vec::new();
        for _ in 0..random.usize(1..30) {
            let version = scene.version.fetch_add(1, Ordering::Relaxed);
            let at = random.usize(..rows.len());
            let id = rows[at];
            changes.push(match random.u8(..20) {
                0 | 1 => {
                    next += WRITERS;
                    rows.push(next * 2);
                    Change::Insert {
                        id: next * 2,
                        version,
                    }
                }
                2 | 3 if !stays(id) => Change::Delete {
                    id: rows.swap_remove(at),
                },
                _ => Change::Update { id, version },
            });
        }
        // From here on it may be committed.
        let shared = scene.commits.read().await;
        let since = Instant::now();
        let sql = kind.transaction(Place::Source, changes.iter().copied());
        until_done(&scene.source, &mut conn, &sql).await;
        let is_update = |change: &&Change| matches!(change, Change::Update { .. });
        let updates = changes.iter().filter(is_update).count() as u64;
        scene.updates.fetch_add(updates, Ordering::Relaxed);
        scene
            .others
            .fetch_add(changes.len() as u64 - updates, Ordering::Relaxed);
        scene.transactions.fetch_add(1, Ordering::Relaxed);
        scene.queue_since(changes, since);
        drop(shared);
    }
}

/// Brings changes to the copy until writers have ended and all is there.
pub async fn mirror(scene: Arc<Scene>, writers_ended: Arc<AtomicBool>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (kind, mut conn) = (Kind::of(&scene.target), None);
    let (mut lag, mut until) = (scene.lag, Instant::now());
    loop {
        if Instant::now() >= until {
            let part = |random: &mut fastrand::Rng| scene.lag.mul_f64(random.f64());
            lag = part(&mut random);
            until = Instant::now() + scene.lag / 2 + part(&mut random);
        }
        let has_ended = writers_ended.load(Ordering::Relaxed);
        let lot: Vec<(Change, Instant)> = {
            let queue = scene.queue.lock().expect("no panic");
            let is_due = |(_, since): &&(Change, Instant)| since.elapsed() >= lag;
            queue.iter().take(LOT).take_while(is_due).copied().collect()
        };
        if lot.is_empty() {
            if has_ended && scene.waiting() == 0 {
                scene.is_mirrored.store(true, Ordering::Relaxed);
                return;
            }
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        let sql = kind.transaction(Place::Copy, lot.iter().map(|(change, _)| *change));
        until_done(&scene.target, &mut conn, &sql).await;
        for (change, since) in &lot {
            if let Some(id) = change.id() {
                scene.books.mirrored(id, since.elapsed(), scene.most);
            }
        }
        scene.queue.lock().expect("no panic").drain(..lot.len());
    }
}
