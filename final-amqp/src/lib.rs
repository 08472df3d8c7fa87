//! RabbitMQ behind the `Broker` trait of `final-core`.
//!
//! [`Amqp`] says which RabbitMQ and how to use it; the bus opens it. A topic is an exchange, a service
//! is a queue bound to the exchanges of its topics, and what a service gives up on goes to its
//! dead-letter queue: the same names as the Go predecessor's, so both can share one RabbitMQ.
//!
//! The rooms: the way out publishes over confirm channels and proves which message is stored; the way
//! in consumes, acks together what is finished, and publishes dead letters before it acks them. Each
//! has a connection of its own, which is rebuilt from nothing when it is lost.
//!
//! lapin, the client below, logs every returned message with headers and payload at `WARN` (target
//! `lapin::returned_messages`), and the login bytes at `TRACE`: filter its targets accordingly.

mod connection;
mod consume;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
mod inbound;
mod link;
mod names;
mod options;
mod outage;
mod properties;
mod publish;
mod retry_delay;
mod text;
mod topology;
mod uri;

pub use options::{Amqp, QueueKind};
