//! MariaDB: the binary log.
//!
//! ```text
//!   server ─▶ dump ──▶ groups ───────────────▶ play ────────────▶ events
//!             task:    transactions,           table maps, rows,
//!             checked  what of them is valid   values
//!             events
//! ```
//!
//! Input: the stream of a server with `binlog_format=ROW` and `binlog_row_metadata=FULL`. Output: its committed
//! changes. mysql_async carries the protocol; each event is decoded here, from its bytes. An event that is not
//! understood ends the stream with its position.

mod characters;
mod charset;
mod check;
mod checksum;
mod connect;
mod decimal;
mod describe;
mod dump;
mod ended;
mod filter;
#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) mod fuzzing;
mod groups;
mod gtid;
mod inflate;
mod layout;
mod newest;
mod opener;
mod patience;
mod place;
mod play;
mod raw;
mod reader;
mod rows;
mod server;
mod shape;
mod short;
mod source;
mod special;
mod statement;
mod tables;
mod temporal;
mod wire;
mod words;

pub use self::{place::PositionBy, source::MySqlSource};
