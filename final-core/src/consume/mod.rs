//! Consuming: from the broker's deliveries to their settlements.
//!
//! ```text
//!   Delivery ─▶ Subscriber ─ not a message ───────────────────────────────▶ DeadLetter
//!                  │   └ no route ─▶ Requeue, and after its grace ───────────▲
//!                  ▼                                                         │
//!   slot (at most `concurrency`; a suspect gets a mark) ─▶ attempt: layers ▶ handler ─ Done ────────┼─▶ Ack
//!     ▲                                │  └ Reject, or Retry and none left ──┘
//!     └────────── pause ◀──────────────┘ Retry
//! ```
//!
//! Input: a stream of deliveries, the routes, and the sign to stop. State: the deliveries in flight, and the
//! messages without a route that were seen. Output: one [`Settlement`](crate::broker::Settlement) for each
//! delivery, and counts.
//!
//! A message that waits for long, or as one of many, leaves the queue meanwhile, and comes back as another delivery
//! (`pause.rs`).
//!
//! A handler's answer has two names on its way: the [`Outcome`](crate::Outcome) of one attempt, and the
//! settlement of the delivery. Retries turn several outcomes into one settlement.
//!
//! Every delivery is settled once. Dropping a delivery requeues it, so an aborted handler loses nothing. A
//! message is acked only after its handler has finished it.

mod attempt;
mod context;
mod detour;
mod leave;
mod once_more;
mod pause;
mod retry;
mod stalls;
mod stats;
mod subscriber;
mod suspect_work;
mod suspects;
#[cfg(test)]
mod tests;
mod unrouted;
mod work;

pub(crate) use self::{
    detour::{DetourEntry, DetourQueue},
    stalls::watch,
    stats::Consumed,
    subscriber::Subscriber,
    suspects::Marks,
};
