//! What outbox, log, relay and consuming share at run time, and what knows nothing of messages.
//!
//! [`crew`] runs background tasks, [`finishing`] runs work that must not stop half-way, [`bell`] wakes a task,
//! [`asked`] keeps the answer to a question of many, [`inside`] knows what runs in a handler, [`backoff`] says how long to wait before another try, and
//! [`counter`] counts for `Bus::stats`.

pub(crate) mod asked;
pub(crate) mod backoff;
pub(crate) mod bell;
pub(crate) mod counter;
pub(crate) mod crew;
pub(crate) mod finishing;
pub(crate) mod inside;
