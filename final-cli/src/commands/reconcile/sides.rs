//! A table of a file as a [`Side`].

use final_reconcile::Side;
use sqlx::pool::PoolOptions;

use crate::{config::DatabaseAddress, exit::Failure};

/// The table of this name in the database of this address. Nothing is connected yet.
pub(super) fn side(database: &DatabaseAddress, table: &str) -> Result<Side, Failure> {
    macro_rules! on {
        ($feature:literal, $database:ident, $side:ident) => {{
            #[cfg(feature = $feature)]
            {
                let options = database
                    .expose()
                    .parse()
                    .map_err(|_| Failure::usage(format!("the URL of {database} cannot be read")))?;
                let pool = PoolOptions::<sqlx::$database>::new().connect_lazy_with(options);
                Ok(Side::$side(pool, table))
            }
            #[cfg(not(feature = $feature))]
            Err(Failure::usage(concat!(
                "this build of `final` has no such database: build it with the feature `",
                $feature,
                "`"
            )))
        }};
    }
    match database.scheme() {
        "mysql" | "mariadb" => on!("mysql", MySql, mysql),
        "sqlite" => on!("sqlite", Sqlite, sqlite),
        _ => on!("postgres", Postgres, postgres),
    }
}
