//! What is done about rows that differ.
//!
//! Input: differences of a comparison. State: a table of open repairs. Output: calls, messages or rows of the target, until
//! each repair is done.
//!
//! | part | has |
//! | --- | --- |
//! | [`way`] | the ways to repair a row: call, publish, SQL |
//! | [`body`] | what is sent |
//! | [`store`] | the statements of the table of open repairs |
//! | [`row`] | a repair as the table has it, and as an operator sees it |
//! | [`worker`] | takes repairs that are due, looks at their rows again, and has them mended |
//!
//! ```text
//!  difference ─▶ open (one for a unit and key) ─ due ─▶ claimed ─ both rows again ─┬ equal: healed, removed
//!                  ▲                                                               ├ done: removed; with a heartbeat
//!                  │                                                               │ once the mirror has passed it
//!                  └──────────────── later, for ever ◀─────────────────────────────┴ anything else
//! ```

mod body;
pub(crate) mod row;
pub(crate) mod store;
mod way;
pub(crate) mod worker;
