//! Listening: sockets, TLS, and limits of connections, the same for both protocols.
//!
//! Input: addresses, certificates. State: open connections, counted, each with a task of its own. Output: streams, each
//! with the peer's address.
//!
//! ```text
//!   accept ─▶ no place: a refusal, closed
//!      └────▶ TLS handshake, within its time ─▶ serve ─▶ closed
//! ```

mod accept;
mod entrance;
mod farewell;
mod socket;
mod tls;

pub(crate) use self::{
    entrance::{Entrance, Visitor},
    farewell::farewell,
    socket::Socket,
};
pub use self::{
    entrance::{Listen, ListenError, ListenLimits},
    tls::{Tls, TlsError},
};

#[cfg(test)]
mod tests;
