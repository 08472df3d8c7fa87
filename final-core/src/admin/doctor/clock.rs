//! Clocks that differ: that of this machine, and that of the database.
//!
//! Input: the database's clock, and how long the question took. Output: a finding if the clocks are too far apart.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{
    finding::{Diagnosis, Finding, Level},
    ward::Ward,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect, limits::micros},
};

pub(super) const CLOCK_SKEW: Diagnosis = Diagnosis::new(
    Level::Warning,
    "clock_skew",
    "Leases, delays and times to live go by the database's clock alone and are right all the same. The times in ids, \
     in dead letters over RabbitMQ and in logs are this machine's, so orders and ages are shown wrong",
);

/// What ordinary machines without a time service come to within days is told, and what a network does is not.
const MOST: Duration = Duration::from_secs(30);

pub(super) async fn look<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<Vec<Finding>> {
    // The clock of SQLite is this machine's.
    if DB::DIALECT == Dialect::Sqlite {
        return Ok(Vec::new());
    }
    // The first answer also opens the connection.
    let _: i64 = ward.first("SELECT {now}", &[]).await?;
    let (began, ours) = (Instant::now(), SystemTime::now());
    let theirs: i64 = ward.first("SELECT {now}", &[]).await?;
    let took = micros(began.elapsed());
    let ours = ours.duration_since(UNIX_EPOCH).map_or(0, micros);
    Ok(skew(ours, theirs, took).into_iter().collect())
}

/// All in microseconds. The database has read its clock at some moment while the question took its time.
fn skew(ours: i64, theirs: i64, took: i64) -> Option<Finding> {
    let ahead = if theirs < ours {
        ours - theirs
    } else {
        (ours + took - theirs).min(0)
    };
    let apart = Duration::from_micros(ahead.unsigned_abs());
    if apart <= MOST {
        return None;
    }
    let word = if ahead > 0 { "ahead of" } else { "behind" };
    let what = format!(
        "the clock of this machine is {} s {word} the clock of the database",
        apart.as_secs()
    );
    let mend = "Set both clocks by a time service: `timedatectl set-ntp true` on the machine whose clock is wrong";
    Some(CLOCK_SKEW.found(what, mend))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_skew() {
        let minute = 60_000_000;

        assert_eq!(skew(5 * minute, 5 * minute, 0), None);
        assert_eq!(skew(5 * minute, 6 * minute, minute), None);
        assert_eq!(skew(5 * minute, 5 * minute - 29_000_000, 0), None);
        let ahead = skew(5 * minute, 4 * minute, minute).unwrap();
        assert!(ahead.what.contains("60 s ahead of"), "{ahead}");
        let behind = skew(5 * minute, 8 * minute, minute).unwrap();
        assert!(behind.what.contains("120 s behind"), "{behind}");
    }
}
