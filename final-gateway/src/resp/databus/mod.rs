//! What databus's clients say and hear: the DSN of their login, and messages as JSON or protobuf.
//!
//! Input: the argument of `AUTH`, headers of `HSET`, messages of a group. State: none. Output: a login, headers, and
//! bytes as databus writes them.

mod dsn;
mod header;
mod json;
mod protobuf;
mod record;

pub(crate) use self::{
    dsn::{Dsn, Role},
    header::headers,
    json::is_json,
    record::{Form, Record},
};

/// The header that has the colour of a message.
pub(crate) const COLOR: &str = "color";
