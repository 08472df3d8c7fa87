//! The database of an address, as a type.
//!
//! Input: an address of a configuration. Output: whatever a function that is generic over databases makes of it; a pool.
//! A database that this build leaves out is an error that names the feature.

use std::time::Duration;

use final_core::{BoxError, OutboxDatabase};
use sqlx::{Pool, pool::PoolOptions};

use crate::config::DatabaseAddress;

/// How long a connection to the database is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls `function::<DB>(address, arguments…)` with the database of the address.
macro_rules! by_scheme {
    ($address:expr, $function:ident($($argument:expr),*)) => {{
        macro_rules! on {
            ($feature:literal, $database:ident) => {{
                #[cfg(feature = $feature)]
                {
                    $function::<sqlx::$database>($address $(, $argument)*)
                }
                #[cfg(not(feature = $feature))]
                {
                    Err(final_core::BoxError::from(concat!(
                        "this build of `final` has no such database: build it with the feature `",
                        $feature,
                        "`"
                    )))
                }
            }};
        }
        match $address.scheme() {
            "mysql" | "mariadb" => on!("mysql", MySql),
            "sqlite" => on!("sqlite", Sqlite),
            _ => on!("postgres", Postgres),
        }
    }};
}
pub(crate) use by_scheme;

/// A pool that connects when it is used.
pub(crate) fn pool<DB: OutboxDatabase>(
    address: &DatabaseAddress,
    connections: u32,
) -> Result<Pool<DB>, BoxError> {
    let options = address
        .expose()
        .parse()
        .map_err(|_| format!("the URL of {address} cannot be read"))?;
    Ok(PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(options))
}
