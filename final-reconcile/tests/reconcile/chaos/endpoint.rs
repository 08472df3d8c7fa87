//! The endpoint that repairs the copy, in every mood.
//!
//! Input: calls. State: its mood. Output: the row in the copy, notes in the books, and an answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use final_tests::Conn;
use tokio::time::{sleep, timeout};

use super::{books::Books, node::LEASE, table::Kind};
use crate::receiver::{Came, Receiver, Reply};

/// How long a reconciler waits for an answer.
pub const CALL: Duration = Duration::from_millis(1_200);

/// What it does about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It repairs and answers. Of some rows it answers first.
    Well,
    /// It answers, and repairs much later.
    TakesItsTime,
    /// 500.
    Fails,
    /// 503 with `Retry-After`.
    IsBusy,
    /// 302.
    SendsAway,
    /// Nothing comes.
    Hangs,
    /// It repairs, and answers after the caller has given up.
    IsLate,
    /// It repairs, and ends in the middle of its answer.
    BreaksOff,
    /// It tells the stage and says nothing.
    IsATrap { repairs: bool },
}

/// The endpoint.
#[derive(Debug)]
pub struct Repairer {
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mood: Mutex<Mood>,
    caught: AtomicU64,
    target: String,
    books: Arc<Books>,
    conn: tokio::sync::Mutex<Option<Conn>>,
}

impl Repairer {
    pub async fn start(target: String, books: Arc<Books>) -> Self {
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Well),
            caught: AtomicU64::new(0),
            target,
            books,
            conn: tokio::sync::Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let receiver = Receiver::replying(move |came| {
            let shared = Arc::clone(&own);
            async move { shared.answer(came).await }
        });
        Self {
            url: receiver.await.url,
            shared,
        }
    }

    pub fn is(&self, mood: Mood) {
        *self.shared.mood.lock().expect("no panic") = mood;
    }

    /// How many calls came whose process is to die.
    pub fn caught(&self) -> u64 {
        self.shared.caught.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn answer(self: &Arc<Self>, came: Came) -> Reply {
        let since = Instant::now();
        let id = came.body["key"]["id"].as_str().unwrap_or_default();
        let id: i64 = id.parse().expect("the key of a row");
        self.books.called(&came.key, id);
        let mood = *self.mood.lock().expect("no panic");
        match mood {
            Mood::Fails => return Reply::Status(500),
            Mood::IsBusy => return Reply::With(503, "Retry-After: 1".into()),
            Mood::SendsAway => return Reply::With(302, "Location: http://127.0.0.1:1/".into()),
            Mood::Hangs => return Reply::Silence,
            Mood::IsATrap { repairs: false } => return self.trap(),
            Mood::Well
            | Mood::TakesItsTime
            | Mood::IsLate
            | Mood::BreaksOff
            | Mood::IsATrap { .. } => {}
        }
        self.books.tries(&came.key);
        let sql = Kind::of(&self.target).repair(id, &came.body["row"]);
        let later = match mood {
            Mood::TakesItsTime => Some(LEASE * 2),
            Mood::Well if id % 3 == 0 => Some(CALL / 4),
            _ => None,
        };
        if let Some(later) = later {
            let own = Arc::clone(self);
            tokio::spawn(async move {
                sleep(later).await;
                while !own.repair(id, &sql).await {}
            });
        } else if !self.repair(id, &sql).await {
            return Reply::Status(503);
        }
        match mood {
            Mood::IsLate => sleep(CALL * 2).await,
            Mood::BreaksOff => return Reply::CloseInAnswer,
            Mood::IsATrap { .. } => return self.trap(),
            _ => {}
        }
        self.books.answered(&came.key, since.elapsed() > CALL / 2);
        if mood == Mood::TakesItsTime {
            self.caught.fetch_add(1, Ordering::Relaxed);
        }
        Reply::Status(200)
    }

    fn trap(&self) -> Reply {
        self.caught.fetch_add(1, Ordering::Relaxed);
        Reply::Silence
    }

    /// Whether it is known to be done.
    async fn repair(&self, row: i64, sql: &str) -> bool {
        let done = timeout(CALL, async {
            let mut conn = self.conn.lock().await;
            let mut open = match conn.take() {
                Some(open) => open,
                None => Conn::open(&self.target).await?,
            };
            // From here on it may be done, also without an answer.
            self.books.repaired(row);
            open.run(sql).await?;
            *conn = Some(open);
            Ok::<(), sqlx::Error>(())
        });
        let is_done = matches!(done.await, Ok(Ok(())));
        if !is_done {
            sleep(Duration::from_millis(50)).await;
        }
        is_done
    }
}
