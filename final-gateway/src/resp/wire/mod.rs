//! The bytes of the Redis protocol: requests in, answers out.
//!
//! Input: bytes as they come, in any pieces. State: how far a request has been read. Output: requests, each a list of
//! words; bytes of answers in RESP2 or RESP3.

mod error;
mod inline;
mod reader;
mod writer;

pub(crate) use self::{
    error::WireError,
    reader::{RequestReader, WireLimits},
    writer::{Protocol, Writer},
};
