//! A [`Reader`](super::Reader) of one table, for each kind of database.
//!
//! | part | has |
//! | --- | --- |
//! | `server` | PostgreSQL, MySQL and MariaDB: canonical texts and digests are made by the server |
//! | `sqlite` | SQLite: they are made in this process |
//! | [`here`] | digests of rows that were read into this process |

mod here;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;
