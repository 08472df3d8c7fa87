//! Real servers to test against, and the means to make them fail.
//!
//! ```text
//! shared      one PostgreSQL, MariaDB and RabbitMQ for all tests; each test takes a fresh
//!             database, vhost or file of it
//! servers     a server of one's own, to kill -9, to freeze and to start again
//! proxy       a wire that can be cut, stalled and refused
//! methods     what a RabbitMQ answers, counted on such a wire
//! process     any other program, killed as hard
//! raw         AMQP frames written by hand, as no client library would
//! conn        one connection to either kind of server
//! clients     RabbitMQ's clients in other languages, each a script
//! promtool    checks texts and rules for Prometheus
//! take        messages out of a queue, to look at
//! wait        `eventually`: conditions with deadlines in place of sleeps
//! ```
//!
//! Everything listens on loopback only, on reserved ports, with data in its own folder, so tests run beside
//! each other and beside a second copy of themselves. Nothing outlives the test process, however it ends.
//! `FINAL_TEST_KEEP=1` keeps the data folders and logs.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FINAL_TEST_POSTGRES_URL` | use this PostgreSQL as the shared one; the user may create databases |
//! | `FINAL_TEST_MYSQL_URL` | the same for MariaDB or MySQL |
//! | `FINAL_TEST_AMQP_URL` | the same for RabbitMQ; see [`shared::amqp_vhost`] |
//! | `FINAL_TEST_RABBITMQ_API` | its management API, `http://user:password@host:port` |
//! | `FINAL_TEST_KEEP` | keep data folders, logs and vhosts |
//!
//! `cargo xtask test` sets the first four for the whole run, so that the servers start once; a plain
//! `cargo test -p final-tests` starts its own, once per test binary.
//!
//! Linux only: process groups, `/proc` and `setpriv` do the hard parts.

pub mod clients;
mod dirs;
mod error;
mod ports;
pub mod process;
pub mod promtool;
mod redis;
pub mod servers;

#[cfg(feature = "chaos")]
pub mod chaos;
#[cfg(feature = "clients")]
mod conn;
#[cfg(feature = "clients")]
pub mod methods;
#[cfg(feature = "clients")]
pub mod place;
#[cfg(feature = "clients")]
pub mod proxy;
#[cfg(feature = "clients")]
pub mod raw;
#[cfg(feature = "clients")]
pub mod shared;
#[cfg(feature = "clients")]
pub mod take;
#[cfg(feature = "clients")]
pub mod wait;

pub use dirs::WorkDir;
pub use error::{Error, Result};
pub use ports::Port;
pub use process::clock_offset;
pub use redis::Redis;
#[cfg(feature = "clients")]
pub use {
    clients::Client,
    conn::Conn,
    methods::Method,
    proxy::Proxy,
    raw::{RawProducer, RawProperties},
    servers::{Authority, Management, MariaDb, Postgres, RabbitCluster, RabbitMq},
    shared::{SqliteFile, Vhost, amqp_vhost, mysql_database, pg_database, sqlite_file, unique},
    take::{Taken, take},
    wait::{always, eventually},
};

/// Runs blocking work on another thread, so that it does not block the test's runtime.
#[cfg(feature = "clients")]
pub(crate) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => Err(Error::new(
            format!("the harness itself failed: {failed}"),
            "look at the panic above this message",
        )),
    }
}
