//! The client: it calls an endpoint once, and says what came of it.
//!
//! Input: an endpoint and a call. Output: an outcome. State: the contacts of a [`Caller`], in memory alone.
//!
//! ```text
//! Caller ─┬─ Contacts ─ Contact of each endpoint: Circuit, places, idle connections
//!         ├─ exchange ─ dial (resolve, check, connect, TLS) ─ Connection ─ Answer
//!         └─ verdict ── CallOutcome for the caller, Evidence for the circuit
//! ```

mod builder;
mod call;
mod caller;
mod circuit;
mod clock;
mod connection;
mod contact;
mod destination;
mod dial;
mod endpoint;
mod excerpt;
mod exchange;
mod lock;
mod network;
mod resolve;
mod retry_after;
#[cfg(test)]
mod tests;
mod tls;
mod verdict;

pub use builder::{CallerBuilder, CallerError};
pub use call::{Call, CallOutcome, NotDone, Step};
pub use caller::{Caller, CallerStats};
pub use clock::{Clock, SystemClock};
pub use endpoint::{Endpoint, EndpointError, IDEMPOTENCY_KEY_HEADER};
pub use network::{AddressKind, Network, NetworkError};
pub use resolve::{Resolver, SystemResolver};
