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
//! | [`due`](mod@due) | when a row that looks different is looked at again |
//! | [`trust`] | whether the heartbeat's time is one of the clock as it is now |
//! | [`basis`] | what a judgement rests on, for people |

pub(crate) mod basis;
mod due;
pub(crate) mod pulse;
pub(crate) mod stand;
mod trust;

pub(crate) use self::{
    due::Due,
    pulse::{Pulse, due},
    stand::Stand,
};
