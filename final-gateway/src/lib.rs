//! A gateway in front of the bus: services in other languages publish and consume by any Redis client or by HTTP.
//!
//! ```text
//!  Redis client ─ resp ─┐                      ┌─ publish ─▶ the log, or an outbox and RabbitMQ
//!                       ├─ rights ─ limits ────┤
//!  HTTP client ── http ─┘                      └─ groups ──▶ one open broker for each group and topic
//! ```
//!
//! A message is answered after its COMMIT. A message that was given out and not acked comes again.

mod ends;
#[cfg(any(test, feature = "__fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
mod gateway;
pub mod groups;
pub mod http;
mod listen;
mod memory;
pub mod names;
pub mod publish;
mod resp;
pub mod rights;

pub use gateway::{Addresses, Engine, Gateway, GatewayError, Health, Limits, Running};
pub use listen::{Listen, ListenError, ListenLimits, Tls, TlsError};
