//! A table of a file as a [`Side`].

use final_core::{BoxError, OutboxDatabase};
use final_reconcile::Side;
use sqlx::Pool;

use crate::{
    config::DatabaseAddress,
    databases::{by_scheme, pool},
    exit::Failure,
};

/// Connections of the pool that is named; the library opens two of its own.
const CONNECTIONS: u32 = 1;

/// A database that has tables to be compared.
trait Sided: OutboxDatabase {
    fn side(pool: Pool<Self>, table: &str) -> Side;
}

#[cfg(feature = "postgres")]
impl Sided for sqlx::Postgres {
    fn side(pool: Pool<Self>, table: &str) -> Side {
        Side::postgres(pool, table)
    }
}

#[cfg(feature = "mysql")]
impl Sided for sqlx::MySql {
    fn side(pool: Pool<Self>, table: &str) -> Side {
        Side::mysql(pool, table)
    }
}

#[cfg(feature = "sqlite")]
impl Sided for sqlx::Sqlite {
    fn side(pool: Pool<Self>, table: &str) -> Side {
        Side::sqlite(pool, table)
    }
}

/// The table of this name in the database of this address, for a job. Nothing is connected yet.
pub(super) fn side(job: &str, database: &DatabaseAddress, table: &str) -> Result<Side, Failure> {
    let made = by_scheme!(database, of_database(table));
    made.map_err(|error: BoxError| Failure::usage(format!("job {job}: {error}")))
}

fn of_database<DB: Sided>(database: &DatabaseAddress, table: &str) -> Result<Side, BoxError> {
    Ok(DB::side(pool::<DB>(database, CONNECTIONS)?, table))
}
