//! The way in: from the broker's deliveries to their settlements.
//!
//! ```text
//!   Delivery ─▶ Subscriber ─ not a message ──────────────────▶ DeadLetter
//!                  │       └ no route ─ handed back for a while, then ▲
//!                  ▼                                                  │
//!   slot (at most `concurrency`) ─▶ attempt: layers ▶ handler ─ done ─┼─▶ Ack
//!     ▲                                │  └ rejected, given up ───────┘
//!     └────────── pause ◀──────────────┘ failed
//! ```
//!
//! Every delivery is settled once. Dropped, it is handed back, so an aborted handler loses nothing.
//! What a handler did not finish is never acked.

mod attempt;
mod retry;
mod stats;
mod subscriber;
#[cfg(test)]
mod tests;
mod unrouted;
mod work;

pub(crate) use self::{stats::Consumed, subscriber::Subscriber};
