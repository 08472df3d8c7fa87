//! Leases: work that only one process may do at a time.
//!
//! Input: a name, an owner, and how long the lease lasts. State: a row for each name. Output: the epoch of the
//! lease, or `None` while another owner has it.
//!
//! ```text
//!   free ──take──▶ held ──take (renews)──▶ held
//!     ▲              │
//!     └── released, or run out: the epoch counts up at the next take
//! ```

use std::time::Duration;

use sqlx::SqlStr;
use uuid::Uuid;

use super::{DbResult, Driver, Templates, limits::micros, read};

/// Leases in one table, each with a name.
///
/// A lease has an owner until a time by the database's clock, and an epoch that counts up whenever the owner
/// changes. What is done under a lease is fenced by the epoch: a process that stood still and lost its lease
/// must not write any more.
#[derive(Debug)]
pub struct Leases {
    known: SqlStr,
    insert: SqlStr,
    take: SqlStr,
    epoch: SqlStr,
    release: SqlStr,
}

impl Leases {
    /// Leases in the table that the word `leases` stands for in these templates.
    #[must_use]
    pub fn new(templates: &Templates) -> Self {
        Self {
            known: templates.sql("SELECT epoch FROM {leases} WHERE name = ?"),
            insert: templates.sql(
                "{insert} INTO {leases} (name, owner, epoch, live_until) VALUES (?, ?, 0, 0) {nothing}",
            ),
            // MySQL sets one column after the other, so the epoch is set first.
            take: templates.sql(
                "UPDATE {leases} SET epoch = CASE WHEN owner = ? AND live_until > {now} THEN epoch \
                     ELSE epoch + 1 END, \
                     live_until = {now} + ?, owner = ? \
                 WHERE name = ? AND (owner = ? OR live_until <= {now})",
            ),
            epoch: templates
                .sql("SELECT epoch FROM {leases} WHERE name = ? AND owner = ? AND live_until > {now}"),
            release: templates
                .sql("UPDATE {leases} SET live_until = 0 WHERE name = ? AND owner = ? AND epoch = ?"),
        }
    }

    /// The statement that makes the table, if it is not there.
    #[must_use]
    pub fn create<DB: Driver>(table: &str) -> String {
        let words = DB::DIALECT.words();
        let (name, id, int) = (words.name_type, words.id_type, words.int_type);
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (name {name} NOT NULL PRIMARY KEY, owner {id} NOT NULL, \
             epoch {int} NOT NULL, live_until {int} NOT NULL){}",
            words.table_options
        )
    }

    /// Takes a lease, or renews it where the owner has it. Returns its epoch; `None` where another owner
    /// has it.
    ///
    /// # Errors
    ///
    /// Fails if the database does. The lease may have been taken all the same, and is taken again by the next
    /// call.
    pub async fn take<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        name: &str,
        owner: Uuid,
        length: Duration,
    ) -> DbResult<Option<i64>> {
        let values = [
            owner.into(),
            micros(length).into(),
            owner.into(),
            name.into(),
            owner.into(),
        ];
        if DB::run_sql(conn, &self.take, &values).await? == 0 {
            // On MariaDB an INSERT of a name that is there locks its row, and makes deadlocks with the owner.
            let known: Vec<i64> = read::<DB, _>(conn, &self.known, &[name.into()]).await?;
            if !known.is_empty() {
                return Ok(None);
            }
            let values = [name.into(), owner.into()];
            DB::run_sql(conn, &self.insert, &values).await?;
            let values = [
                owner.into(),
                micros(length).into(),
                owner.into(),
                name.into(),
                owner.into(),
            ];
            DB::run_sql(conn, &self.take, &values).await?;
        }
        let values = [name.into(), owner.into()];
        let epoch: Vec<i64> = read::<DB, _>(conn, &self.epoch, &values).await?;
        Ok(epoch.into_iter().next())
    }

    /// Gives a lease back, if it is still that of this epoch. True if it was.
    ///
    /// # Errors
    ///
    /// Fails if the database does; the lease then runs out by itself.
    pub async fn release<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        name: &str,
        owner: Uuid,
        epoch: i64,
    ) -> DbResult<bool> {
        let values = [name.into(), owner.into(), epoch.into()];
        Ok(DB::run_sql(conn, &self.release, &values).await? > 0)
    }
}
