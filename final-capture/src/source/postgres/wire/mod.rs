//! A session in PostgreSQL's replication protocol.
//!
//! Input: an [`Address`](super::address::Address). State: the socket and what was read of it. Output: answers to
//! commands, and then the stream.

mod error;
mod frames;
mod login;
mod session;
pub(super) mod tls;

pub(super) use self::{
    error::{ServerError, SessionError},
    frames::Frames,
    session::{EPOCH, PRINTED, Session, Socket, feedback},
};
