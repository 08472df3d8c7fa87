//! A reader that has the slot and is frozen, or whose machine is gone, loses it.
//!
//! Input: the process at the server that sends to it. Output: the slot is free, or it is busy.
//!
//! A reader that is alive answers the server each second. The time of its last answer is by its own clock, so the
//! time counts only as something that changes or does not.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{catalog::Catalog, fault};
use crate::source::SourceError;

/// A reader that says nothing for so long is frozen.
const FROZEN: Duration = Duration::from_secs(3);
/// How long the server may take to end its process.
const ENDING: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(100);

/// Who has a slot: the process, the last answer that it had, and whether we may see that.
type Holder = (i32, Option<String>, bool);

/// Waits until the slot is free. Takes it from a reader that is frozen.
///
/// # Errors
///
/// [`SourceError::Busy`] if the reader is alive.
pub(super) async fn frozen(catalog: &Catalog, slot: &str, pid: i32) -> Result<(), SourceError> {
    let busy = |pid: i32| {
        SourceError::Busy(format!(
            "the slot {slot} is read through the server's process {pid}"
        ))
    };
    let begun = Instant::now();
    let first = holder(catalog, slot).await?;
    while begun.elapsed() < FROZEN {
        sleep(STEP).await;
        match (holder(catalog, slot).await?, &first) {
            (None, _) => return Ok(()),
            (Some(now), Some(first)) if now == *first => {}
            (Some((pid, ..)), _) => return Err(busy(pid)),
        }
    }
    // Where we may not see its answers, nothing says that it is frozen.
    if first.is_none_or(|(.., is_seen)| !is_seen) {
        return Err(busy(pid));
    }
    tracing::warn!(
        target: "final::capture",
        slot,
        pid,
        "the reader of the slot is frozen or gone; its process at the server is ended"
    );
    let ended = sqlx::query(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_replication WHERE pid = $1",
    )
    .bind(pid)
    .execute(&catalog.0)
    .await;
    match ended {
        Ok(_) => {}
        // It is another role's.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
            return Err(busy(pid));
        }
        Err(error) => return Err(fault::catalog(error)),
    }
    let begun = Instant::now();
    while begun.elapsed() < ENDING {
        match holder(catalog, slot).await? {
            Some((now, ..)) if now == pid => sleep(STEP).await,
            _ => return Ok(()),
        }
    }
    Err(busy(pid))
}

async fn holder(catalog: &Catalog, slot: &str) -> Result<Option<Holder>, SourceError> {
    sqlx::query_as(
        "SELECT s.active_pid, r.reply_time::text, r.state IS NOT NULL FROM pg_catalog.pg_replication_slots s
         LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
         WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL",
    )
    .bind(slot)
    .fetch_optional(&catalog.0)
    .await
    .map_err(fault::catalog)
}
