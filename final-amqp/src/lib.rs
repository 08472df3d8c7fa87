//! RabbitMQ behind the `Broker` trait of `final-core`.
//!
//! [`Amqp`] says which RabbitMQ to use, and how; the bus connects to it. A topic is an exchange. A service is
//! a queue that is bound to the exchanges of its topics. Dead letters go to a dead-letter queue of the
//! service. The names are those of the Go predecessor, so both can share one RabbitMQ.
//!
//! Two halves have a connection each, which is made anew when it is lost. The publishing half sends over
//! confirm channels and proves which message is stored. The consuming half acks finished messages together,
//! and publishes a dead letter before it acks its message. All of it runs on a thread of its own, so heartbeats
//! and acks go on while a handler blocks the service's runtime.
//!
//! All tracing events have the target `final::amqp`. The client lapin logs every returned message with
//! headers and payload at `WARN` (target `lapin::returned_messages`) and the login bytes at `TRACE`; filter
//! these targets.

mod code;
mod connection;
mod consume;
mod counts;
mod credentials;
mod dead_letters;
mod deadline;
mod declare;
pub mod doctor;
mod error;
#[cfg(any(test, feature = "__fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
mod inbound;
mod link;
mod lock;
mod login;
mod names;
mod options;
mod outage;
mod properties;
mod publish;
mod refusal;
mod retry_delay;
mod role;
mod shortages;
mod tail;
mod text;
mod thread;
mod topology;
mod uri;

pub use credentials::Credentials;
pub use declare::Declare;
pub use options::{Amqp, QueueKind};
pub use tail::Tail;
