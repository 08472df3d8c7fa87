//! Publishes messages if, and only if, the caller's SQL transaction commits.
//!
//! A [`Bus`] belongs to one service. It writes messages into an outbox table inside the caller's own
//! sqlx transaction, sends them to a broker after the commit, deletes the records the broker has
//! proven to hold, and brings incoming messages to handlers.
//!
//! What a service needs every day is here at the root. The rest is in modules:
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`bus`] | the futures that publishing returns, and the markers of [`TxBus`] |
//! | [`payload`] | what can be published |
//! | [`received`] | what came with a delivery: properties, headers with their types |
//! | [`router`], [`handler`] | routes as tower services; what a handler is and may return |
//! | [`metrics`] | what a monitoring system reads: [`Bus::metrics`] |
//! | [`middleware`] | layers for messages that tower does not have |
//! | [`outbox`] | records that cannot be sent |
//! | [`log`] | settings and numbers of [`SqlBroker`], the log in the database |
//! | [`admin`] | what an operator may know and do, without a running bus |
//! | [`broker`] | dead letters, and what a broker of one's own implements |

// Without a database there is no bus, only the types that a broker is written with.
#![cfg_attr(
    not(any(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code, unused_imports, unused_macros)
)]

// So that `#[subscribe]`, which writes `::final_core`, can be used in here as well.
extern crate self as final_core;

pub mod admin;
pub mod broker;
pub mod bus;
mod collect;
mod consume;
pub mod database;
mod error;
mod extract;
#[doc(hidden)]
pub mod failpoint;
mod filter;
#[cfg(any(test, feature = "__fuzzing"))]
#[doc(hidden)]
#[allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
pub mod fuzzing;
pub mod handler;
mod lock;
pub mod log;
mod message;
pub mod metrics;
pub mod middleware;
mod names;
mod options;
pub mod outbox;
pub mod payload;
pub mod received;
mod relay;
pub mod router;
mod runtime;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod scratch;
mod telemetry;
mod timestamp;

pub use broker::MemoryBroker;
#[cfg(feature = "mysql")]
pub use bus::MySqlBus;
#[cfg(feature = "postgres")]
pub use bus::PgBus;
#[cfg(feature = "sqlite")]
pub use bus::SqliteBus;
pub use bus::{Bus, Health, Stats, TxBus};
pub use bytes::Bytes;
pub use error::{BoxError, Error};
pub use extract::{Attempt, FromMessage, FromRef, Json, Key, Payload, State, Topic};
pub use final_macros::subscribe;
pub use handler::{HandlerError, Hold, OnFailure, Outcome};
pub use log::SqlBroker;
pub use message::{Headers, Message, MessageId};
pub use metrics::Metrics;
pub use options::Options;
pub use outbox::OutboxDatabase;
pub use router::Router;
pub use telemetry::Telemetry;

// The examples of the attribute need this crate, so they are tested here.
#[cfg(doctest)]
#[doc = include_str!("../../final-macros/src/subscribe.md")]
mod subscribe_docs {}
