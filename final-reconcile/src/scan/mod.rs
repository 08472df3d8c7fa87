//! Scans that go on: how rows that differ are found while both tables change.
//!
//! ```text
//!  fresh ids ─┐
//!  updated ───┼─ look different ─▶ suspects (a table) ─ wait, look again ─┬ equal: gone
//!  sweep ─────┤                        ▲                                  └ as before: repair, or report
//!  watch ─────┴─ key of a change ──────┘
//! ```
//!
//! Each job has one unit for each target. A unit is scanned by the process that has its lease; what it writes is fenced by
//! the epoch of the lease. A position is written in one transaction with the suspects before it, so a process that dies
//! leaves nothing out.
//!
//! | part | has |
//! | --- | --- |
//! | [`store`] | what scans remember |
//! | [`term`], [`round`] | takes the lease of a unit, and runs its scans round by round |
//! | [`context`] | what the scans of a unit share |
//! | [`fresh`], [`gaps`] | rows with new ids, also those that become visible late |
//! | [`updated`] | rows whose column of the last update is new |
//! | [`sweep`] | the whole table, from time to time, not too fast |
//! | [`watch`] | keys of changes, as messages have them |
//! | [`room`] | so many rows wait for a look, and then changes wait |
//! | [`look`] | looks at suspects, until they are equal or really different |
//! | [`basis`] | what judgements rest on, for alerts |
//! | [`beat`] | where the mirror stands, and what is told of it |
//! | [`progress`] | how far a scan is, as it is stored |
//! | [`vitals`] | what a health check and a monitoring system see |

pub(crate) mod basis;
mod beat;
mod column;
mod context;
mod fresh;
mod gaps;
mod look;
mod pauses;
mod progress;
pub(crate) mod room;
mod round;
pub(crate) mod store;
mod sweep;
pub(crate) mod term;
mod updated;
pub(crate) mod vitals;
pub(crate) mod watch;
