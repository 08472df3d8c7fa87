//! What a caller's SQLite options say, and the journal mode of its file.
//!
//! Input: the caller's pool. Output: whether its database lives in the pool; a file in WAL, unless the caller has
//! another journal mode; and an error that names an option with which a bus cannot work.
//!
//! ```text
//!   the file is in WAL ────────────────────────────────▶ nothing to do
//!   the options name a mode, or a hook sets one ───────▶ it is kept
//!   otherwise ─ WAL ─▶ kept by the file                  │
//!                └ refused: somebody is in the midst of something; the next connection tries again
//! ```
//!
//! Two modes on one file fight: each connection that opens it changes the mode, which needs the file for itself, and
//! all others get "database is locked".

use std::{path::PathBuf, time::Duration};

use sqlx::{
    Executor, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::DbResult;

/// How long a hook that fails is tried.
const TRIED: Duration = Duration::from_secs(1);

/// The journal mode of a file.
pub(super) struct Journal {
    caller: SqlitePool,
    /// Whether connections of the caller's leave a file in WAL.
    keeps_wal: OnceCell<bool>,
}

impl Journal {
    pub(super) fn new(caller: &SqlitePool) -> Self {
        Self {
            caller: caller.clone(),
            keeps_wal: OnceCell::new(),
        }
    }

    /// Switches the file of a connection of ours to WAL, unless it is in WAL already or the caller wants another mode.
    /// Everything works without it, only slower, so that it is no error where it fails.
    pub(super) async fn prepare(&self, conn: &mut SqliteConnection) {
        let switched = async {
            let mode = journal_mode(conn).await?;
            if mode == "wal" || !*self.keeps_wal.get_or_init(|| keeps_wal(&self.caller)).await {
                return Ok(());
            }
            conn.execute("PRAGMA main.journal_mode = WAL")
                .await
                .map(drop)
        };
        let switched: DbResult<()> = switched.await;
        if let Err(error) = switched {
            tracing::debug!(
                target: "final::outbox", %error,
                "the SQLite file could not be switched to WAL yet"
            );
        }
    }
}

async fn journal_mode(conn: &mut SqliteConnection) -> DbResult<String> {
    sqlx::query_scalar("PRAGMA main.journal_mode")
        .fetch_one(conn)
        .await
}

/// Whether neither the caller's options nor its hooks set another journal mode.
///
/// A hook can only be tried. It is tried on a file of its own, since on the caller's file it could lock others out. One
/// that needs the caller's tables fails there, and counts as one that leaves the mode alone.
async fn keeps_wal(caller: &SqlitePool) -> bool {
    let options = caller.connect_options();
    if names(&options, "journal_mode") {
        return false;
    }
    let scratch = Scratch::new();
    let on_scratch = options
        .as_ref()
        .clone()
        .filename(&scratch.0)
        .create_if_missing(true);
    // Without its folder nothing can be tried, and hooks that set a journal mode are rare.
    if !scratch.is_in_wal(&on_scratch).await {
        return true;
    }
    let hooked: SqlitePoolOptions = caller.options().clone();
    let hooked = hooked
        .min_connections(0)
        .max_connections(1)
        .acquire_timeout(TRIED)
        .connect_lazy_with(on_scratch);
    let tried = async {
        // Some hooks run when a connection is made, and others when it is borrowed again.
        drop(hooked.acquire().await?);
        journal_mode(&mut *hooked.acquire().await?).await
    };
    let tried = tried.await;
    hooked.close().await;
    tried.map_or(true, |mode| mode == "wal")
}

/// A file to try hooks on, which goes away with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("final-hooks-{}.db", Uuid::now_v7().simple());
        Self(std::env::temp_dir().join(name))
    }

    async fn is_in_wal(&self, options: &SqliteConnectOptions) -> bool {
        use sqlx::{ConnectOptions, Connection};
        let switched = async {
            let mut conn = options.connect().await?;
            conn.execute("PRAGMA journal_mode = WAL").await?;
            let mode = journal_mode(&mut conn).await?;
            conn.close().await.map(|()| mode == "wal")
        };
        let switched: DbResult<bool> = switched.await;
        switched.unwrap_or(false)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for beside in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.0.clone().into_os_string();
            path.push(beside);
            // What is left is an empty file of the system's temporary folder.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Refuses what a bus cannot work with, by its name.
///
/// # Errors
///
/// Fails if the database does, or if it is opened in such a way.
pub(super) async fn check(conn: &mut SqliteConnection) -> DbResult<()> {
    let refused = |what: &str| Err(sqlx::Error::Configuration(what.into()));
    if journal_mode(conn).await? == "off" {
        return refused(
            "journal_mode is OFF, with which SQLite undoes nothing at a rollback; name another journal mode, or none",
        );
    }
    let query_only: i64 = sqlx::query_scalar("PRAGMA query_only")
        .fetch_one(&mut *conn)
        .await?;
    if query_only != 0 {
        return refused(
            "query_only is set, so that nothing can be written; leave it out of the connect options",
        );
    }
    Ok(())
}

/// sqlx tells it by no getter, and `to_url_lossy` panics for `:memory:`.
pub(super) fn in_memory(options: &SqliteConnectOptions) -> bool {
    let name = options.get_filename().to_string_lossy();
    name.is_empty()
        || name.contains(":memory:")
        || name.contains("mode=memory")
        || format!("{options:?}").contains("in_memory: true")
}

/// Whether each connection keeps the file for itself.
pub(super) fn is_exclusive(options: &SqliteConnectOptions) -> bool {
    pragma(options, "locking_mode").is_some_and(|mode| mode.starts_with("exclusive"))
}

/// Whether the options set a pragma.
fn names(options: &SqliteConnectOptions, name: &str) -> bool {
    pragma(options, name).is_some()
}

/// The value of a pragma, in lower case and with what comes behind it. sqlx tells it by no getter. Quotes within a text
/// are written with a backslash there, so that a file's name cannot look like a pragma.
fn pragma(options: &SqliteConnectOptions, name: &str) -> Option<String> {
    let options = format!("{options:?}").to_ascii_lowercase();
    let set = [
        format!("\"{name}\": some(\""),
        format!("\"main.{name}\": some(\""),
    ];
    let set = set.iter().find_map(|set| options.split_once(set.as_str()));
    set.map(|(_, value)| value.trim_start_matches([' ', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteJournalMode, SqliteLockingMode};

    use super::*;

    fn options() -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename("orders.db")
    }

    #[test]
    fn databases_in_memory_are_recognised() {
        let is = |url: &str| in_memory(&url.parse().unwrap());

        assert!(is("sqlite::memory:"));
        assert!(is("sqlite://?mode=memory&cache=private"));
        assert!(is("sqlite://orders?mode=memory"));
        assert!(in_memory(&SqliteConnectOptions::new().filename(":memory:")));
        assert!(!is("sqlite://orders.db"));
        assert!(!is("sqlite:///tmp/orders.db?mode=rwc"));
    }

    #[test]
    fn a_journal_mode_is_seen_however_it_is_named() {
        let sees = |options| names(&options, "journal_mode");

        assert!(sees(options().journal_mode(SqliteJournalMode::Delete)));
        assert!(sees(options().pragma("Journal_Mode", "truncate")));
        assert!(sees(options().pragma("main.journal_mode", "PERSIST")));
        assert!(!sees(options()));
        assert!(!sees(
            options().filename("\"journal_mode\": Some(\"wal\").db")
        ));
    }

    #[test]
    fn only_an_exclusive_locking_mode_keeps_the_file() {
        assert!(is_exclusive(
            &options().locking_mode(SqliteLockingMode::Exclusive)
        ));
        assert!(is_exclusive(
            &options().pragma("locking_mode", "'exclusive'")
        ));
        assert!(!is_exclusive(
            &options().locking_mode(SqliteLockingMode::Normal)
        ));
        assert!(!is_exclusive(&options()));
    }
}
