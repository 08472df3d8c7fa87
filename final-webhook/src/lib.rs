//! Calls an HTTP endpoint of somebody else, and says what came of it and when it may be called again.
//!
//! A receiver needs [`verify`] alone: without the feature `caller` this crate has no client, and no TLS.

mod signature;

pub use signature::{SIGNATURE_HEADER, SecretTooShort, SigningSecret, VerifyError, sign, verify};
