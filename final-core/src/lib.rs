//! Publishes messages if, and only if, the caller's SQL transaction commits.
//!
//! A [`Bus`] belongs to one service. It writes messages into an outbox table inside the caller's own
//! sqlx transaction, sends them to a broker after the commit, deletes the records the broker has
//! proven to hold, and brings incoming messages to handlers.
//!
//! The rooms, in reading order: a [`Message`] and its [`Headers`]; the [`outbox`] it waits in; the
//! relay that carries it out; the [`broker`] it crosses; the router that finds its handler.

// Without a database there is no bus, only the types that a broker is written with.
#![cfg_attr(
    not(any(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code, unused_imports, unused_macros)
)]

// So that `#[subscribe]`, which writes `::final_core`, can be used in here as well.
extern crate self as final_core;

pub mod broker;
mod bus;
mod consume;
pub mod database;
mod error;
mod extract;
#[doc(hidden)]
pub mod failpoint;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
pub mod fuzzing;
mod handler;
mod lock;
mod log;
mod message;
pub mod middleware;
mod names;
mod options;
pub mod outbox;
mod payload;
mod relay;
mod router;
mod runtime;

pub use broker::MemoryBroker;
#[cfg(feature = "mysql")]
pub use bus::MySqlBus;
#[cfg(feature = "postgres")]
pub use bus::PgBus;
#[cfg(feature = "sqlite")]
pub use bus::SqliteBus;
pub use bus::{Bus, ByHand, InClosure, Publish, PublishIn, RetryFailed, Stats, TxBus, TxPublish};
pub use bytes::Bytes;
pub use error::{BoxError, Error};
pub use extract::{Attempt, FromMessage, FromRef, Json, Key, Payload, State, Topic};
pub use final_macros::subscribe;
pub use handler::{
    Handler, HandlerError, HandlerService, IntoOutcome, Outcome, Permanent, SubscribeFn,
    Subscribed, SubscribedTopic,
};
pub use log::{Letter, LetterFilter, LogBacklog, NumbersWentBack, SqlBroker, Start};
pub use message::{Headers, Message, MessageId};
pub use options::Options;
pub use outbox::{FailedRecord, OutboxDatabase};
pub use payload::{EncodedPayload, IntoPayload};
pub use router::{Route, Router};

// The examples of the attribute need this crate, so they are tested here.
#[cfg(doctest)]
#[doc = include_str!("../../final-macros/src/subscribe.md")]
mod subscribe_docs {}
