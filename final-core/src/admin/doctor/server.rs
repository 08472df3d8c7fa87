//! Servers and options with which a bus refuses to start, and servers that take no writes.
//!
//! Input: what a start asks first. Output: the start's own error as a finding.

use super::{
    finding::{Diagnosis, Finding, Level},
    ward::{Ward, within},
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect},
};

pub(super) const SETTING_REFUSED: Diagnosis = Diagnosis::new(
    Level::Error,
    "setting_refused",
    "A bus refuses to start with it, because it could not keep its promises",
);

pub(super) const SERVER_READ_ONLY: Diagnosis = Diagnosis::new(
    Level::Error,
    "server_read_only",
    "Nothing can be published, and what is in the outbox is not sent: a bus leaves such a server",
);

pub(super) async fn look<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<Vec<Finding>> {
    let mut conn = ward.own().await?;
    let server = within(DB::server(&mut conn)).await.map(drop);
    drop(conn);
    if let Err(error) = server {
        return refused(error).map(|finding| vec![finding]);
    }
    if !ward.first::<bool>("SELECT {read_only}", &[]).await? {
        return Ok(Vec::new());
    }
    let mend = match DB::DIALECT {
        Dialect::Postgres => {
            "Connect to the primary. If this is the primary, run `ALTER SYSTEM RESET default_transaction_read_only` and \
             `SELECT pg_reload_conf()`"
        }
        Dialect::MySql => {
            "Connect to the primary. If this is the primary, run `SET GLOBAL read_only = 0`"
        }
        Dialect::Sqlite => "Open the file so that it can be written",
    };
    Ok(vec![
        SERVER_READ_ONLY.found("the server takes no writes", mend),
    ])
}

/// The text of such an error says what is set, and after a semicolon what to do.
fn refused(error: sqlx::Error) -> DbResult<Finding> {
    let sqlx::Error::Configuration(cause) = &error else {
        return Err(error);
    };
    let text = cause.to_string();
    let (what, mend) = text
        .split_once("; ")
        .unwrap_or((&text, "see docs/settings.md"));
    let mut letters = mend.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let mend: String = first.into_iter().chain(letters).collect();
    Ok(SETTING_REFUSED.found(what, mend))
}
