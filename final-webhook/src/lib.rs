//! Calls an HTTP endpoint of somebody else, and says what came of it and when it may be called again.
//!
//! Input: an `Endpoint` and a `Call`. Output: a `CallOutcome`. A `Caller` keeps a circuit and some connections
//! for each endpoint, in memory alone. What is still to be called, and how often it was tried, is kept by those who
//! use it.
//!
//! A call is a POST with a signature and an idempotency key. Redirects are not followed, private addresses are called
//! only where that is allowed, no proxy is used, and everything that an endpoint does has a limit: `docs/webhooks.md`
//! tells what is sent, how a receiver checks it, and what is repeated.
//!
//! A receiver needs [`verify`] alone: without the feature `caller` this crate has no client, and no TLS.

#[cfg(feature = "caller")]
mod client;
mod signature;

#[cfg(feature = "caller")]
pub use client::*;
pub use signature::{SIGNATURE_HEADER, SecretTooShort, SigningSecret, VerifyError, sign, verify};
