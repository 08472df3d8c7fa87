//! Listening: sockets, TLS, and limits of connections, the same for both protocols.
//!
//! Input: addresses, certificates. State: open connections, counted. Output: streams, each with the peer's address.
