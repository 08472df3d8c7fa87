//! A transaction pooler in front of the database.
//!
//! Input: two connections. Output: a finding if the one is answered by the session of the other, or by another session
//! than before.
//!
//! ```text
//!   one asks which session it has ─ the other begins a transaction and asks ─ the same session ─────▶ pooler
//!                                                                            └ one asks again: another ─▶ pooler
//! ```
//!
//! Nothing is prepared here: with a transaction pooler a prepared statement may be missing from the next session.

use sqlx::Connection;

use super::{
    finding::{Diagnosis, Finding, Level},
    ward::{Ward, within},
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect},
};

pub(super) const TRANSACTION_POOLER: Diagnosis = Diagnosis::new(
    Level::Error,
    "transaction_pooler",
    "The settings of the bus's sessions go astray to other people's transactions, and its statements run without \
     them; with a log, other people's commits then do not wait for the disk, and LISTEN does not work",
);

/// How often it is tried: a pooler may lend the same session twice by chance.
const TRIES: usize = 5;

pub(super) async fn look<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<Vec<Finding>> {
    // The statements of SQLite run in this process.
    if DB::DIALECT == Dialect::Sqlite || !is_pooled(ward).await? {
        return Ok(Vec::new());
    }
    let mend = match DB::DIALECT {
        Dialect::Postgres => {
            "Connect to PostgreSQL itself, or set `pool_mode = session` for this database in pgbouncer.ini, and look again"
        }
        Dialect::MySql | Dialect::Sqlite => {
            "Connect to the database itself, or switch multiplexing off in the proxy, and look again"
        }
    };
    let what = "a transaction pooler stands between this program and the database: one connection was answered by \
                several sessions of the server; nothing else of the database was looked at";
    Ok(vec![TRANSACTION_POOLER.found(what, mend)])
}

async fn is_pooled<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<bool> {
    let mut one = ward.callers().await?;
    let mut other = ward.callers().await?;
    within(async {
        let first = DB::session(&mut one).await?;
        for _ in 0..TRIES {
            let mut tx = other.begin().await?;
            let others = DB::session(&mut tx).await?;
            // Not asked again in this case: a pooler with one session would let it wait for the transaction.
            let is_pooled = others == first || DB::session(&mut one).await? != first;
            tx.rollback().await?;
            if is_pooled {
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await
}
