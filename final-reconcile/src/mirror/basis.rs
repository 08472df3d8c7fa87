//! What a judgement rests on, for people.

use std::time::Duration;

/// What is said about a row rests on this.
pub(crate) fn basis(settle: Duration, heartbeat: Option<&str>, lag: Option<Duration>) -> String {
    let Some(table) = heartbeat else {
        return format!("a settle of {settle:?}, which must be longer than the copy lags");
    };
    match lag {
        Some(lag) => format!(
            "the heartbeat in {table}; the mirror was {:.1} s behind",
            lag.as_secs_f64()
        ),
        None => {
            format!("the heartbeat in {table}, which does not tell how far the mirror is behind")
        }
    }
}
