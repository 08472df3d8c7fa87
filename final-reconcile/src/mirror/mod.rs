//! How far a mirror is: up to which time of the source's clock the target has all changes.
//!
//! Input: a row in the target's database, with a time of the source's clock. Output: a [`Stand`].
//!
//! ```text
//!  a row looks different, the source's clock says c ─▶ the mirror stands behind c + settle ─▶ look again
//! ```
//!
//! Only times of the source's clock are compared with each other. The clock is read after the rows, so a change that a
//! reading has shown was committed before that time. A heartbeat behind it was written after the change, so a mirror that
//! keeps the source's order has the change as well. The times in rows say nothing: a transaction is committed later than
//! its rows say.
//!
//! | part | has |
//! | --- | --- |
//! | [`pulse`] | reads the row, and the source's clock |
//! | [`stand`] | what both say |
//! | [`trust`] | whether the heartbeat's time is one of the clock as it is now |
//! | [`basis`] | what a judgement rests on, for people |

pub(crate) mod basis;
pub(crate) mod pulse;
pub(crate) mod stand;
mod trust;

use std::time::Duration;

pub(crate) use self::{pulse::Pulse, stand::Stand};
use crate::error::Reconciled;

/// When a row that looks different is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// So much later.
    After(Duration),
    /// Once the mirror has passed this time of the source's clock, in microseconds since 1970.
    Passed(i64),
}

impl Default for Due {
    fn default() -> Self {
        Self::After(Duration::ZERO)
    }
}

/// When rows are looked at again that were read just now.
pub(crate) async fn due(pulse: Option<&Pulse>, settle: Duration) -> Reconciled<Due> {
    match pulse {
        None => Ok(Due::After(settle)),
        Some(pulse) => pulse.due(settle).await,
    }
}
