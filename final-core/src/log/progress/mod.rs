//! How far a group has come in the log, as pure state: no database, no task, no channel.
//!
//! Input: rows that [`tables`](super::tables) has read, and the settlements of the handlers. Output: which rows
//! go to a handler, and the progress that [`engine`](super::engine) writes. The types of the rows live here,
//! and `tables` imports them.
//!
//! ```text
//!   LogRow ─▶ Stream ─ offer ─▶ Lane ─ take ─▶ InFlight ─ in key order ─▶ delivery
//!             │ gaps             ▲                                          │
//!             │                  └───────────────── settle ─────────────────┘
//!             └────────────────▶ Progress: read_to, open sequence numbers, settled_to
//! ```

pub(crate) mod gaps;
pub(crate) mod gates;
pub(crate) mod held;
pub(crate) mod in_flight;
pub(crate) mod key_order;
pub(crate) mod knowledge;
pub(crate) mod lane;
pub(crate) mod letter;
pub(crate) mod rebalance;
pub(crate) mod returned;
pub(crate) mod rows;
pub(crate) mod set_aside;
pub(crate) mod side_effect;
pub(crate) mod spans;
pub(crate) mod stream;
pub(crate) mod streams;
pub(crate) mod watermark;
