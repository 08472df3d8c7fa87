//! HTTP: publish, pull, ack; databus's `POST /databus/pub`; `/openapi.json`.
//!
//! Input: requests. State: how much memory the bodies of requests and answers have. Output: answers as JSON, one status
//! for each record.
//!
//! ```text
//!  request ─ who? may it? ─ body, bounded ─ Rooms ─┬─ Publisher      answer ─ status, JSON
//!             (before the first byte of the body)  ├─ Groups           (bounded, sent in pieces)
//!                                                  └─ Rights
//! ```

mod answer;
mod backlog;
mod body;
mod call;
mod databus;
mod front;
pub(crate) mod json;
mod letters;
mod openapi;
mod params;
mod problem;
mod publish;
mod pull;
mod records;
mod rooms;
mod routes;
mod serve;
mod settle;
mod shown;
mod stall;
mod vitals;

#[cfg(test)]
mod tests;

pub use self::{
    front::{Front, HttpLimits},
    serve::{BUSY, serve_connection},
    vitals::Vitals,
};
