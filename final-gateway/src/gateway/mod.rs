//! The gateway as a whole: what it is made of, its start and its end.
//!
//! Input: an engine, addresses, limits. State: the parts that run, each owned here. Output: addresses that clients reach,
//! texts about its condition, and an end in which nothing is lost.
//!
//! ```text
//!   Gateway ─ start ─▶ Running ─ shutdown ─▶ no new connections ─▶ sessions end ─▶ hands go back
//!                                                  ─▶ the publisher finishes ─▶ links close
//! ```

mod builder;
mod doors;
mod engine;
mod error;
mod latest;
mod limits;
mod running;
mod staff;
#[cfg(test)]
mod tests;
mod vitals;

pub use self::{
    builder::Gateway, doors::Addresses, engine::Engine, error::GatewayError, limits::Limits,
    running::Running, vitals::Health,
};
