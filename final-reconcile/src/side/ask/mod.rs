//! One table that is asked, and its statements.
//!
//! | part | has |
//! | --- | --- |
//! | [`asked`] | what a server's table and one of SQLite have in common |
//! | `server`, `sqlite` | the table of each |
//! | `parts` | the statements of a server |
//! | [`keys`] | statements that look for a row whose key is not as it is mostly |
//! | [`odd`] | UUIDs that are written in a way that no index is asked for |

pub(super) mod asked;
mod keys;
mod odd;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod parts;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) mod server;
#[cfg(feature = "sqlite")]
pub(super) mod sqlite;
