//! MariaDB as a source. One server serves all tests that need no setting or end of their own.

pub(crate) mod shop;

mod changes;
mod checks;
mod failover;
mod gaps;
mod large;
mod outages;
mod schema;
mod secure;
mod settings;
mod types;
