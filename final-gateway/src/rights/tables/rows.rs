//! Rows of the tables.

use std::fmt;

use final_core::database::columns;

use crate::rights::{AppLimits, Grant, Operations};

/// Everything that the tables have.
#[derive(Debug, Default)]
pub(in crate::rights) struct Loaded {
    pub(in crate::rights) version: i64,
    /// The database's clock at the reading.
    pub(in crate::rights) now: i64,
    pub(in crate::rights) apps: Vec<AppRow>,
    pub(in crate::rights) grants: Vec<GrantRow>,
}

/// Reads [`AppRow`]s.
pub(super) const APPS: &str = "SELECT app_key, secret_kind, secret_hash, old_kind, old_hash, old_until, \
        disabled_at, created_at, connections, publishes_per_second, deliveries_per_second, open_pairs \
    FROM {apps} ORDER BY app_key";

/// Reads [`GrantRow`]s.
pub(super) const GRANTS: &str = "SELECT app_key, group_name, topic, operations, batch, publishes_per_second, \
        deliveries_per_second \
    FROM {rights} ORDER BY app_key, group_name, topic";

columns! {
    /// An app.
    pub(in crate::rights) struct AppRow {
        pub(in crate::rights) app_key: String,
        pub(in crate::rights) secret_kind: String,
        pub(in crate::rights) secret_hash: String,
        pub(in crate::rights) old_kind: Option<String>,
        pub(in crate::rights) old_hash: Option<String>,
        pub(in crate::rights) old_until: Option<i64>,
        pub(in crate::rights) disabled_at: Option<i64>,
        pub(in crate::rights) created_at: i64,
        pub(in crate::rights) connections: Option<i64>,
        pub(in crate::rights) publishes_per_second: Option<i64>,
        pub(in crate::rights) deliveries_per_second: Option<i64>,
        pub(in crate::rights) open_pairs: Option<i64>,
    }
}

columns! {
    /// A right.
    #[derive(Debug)]
    pub(in crate::rights) struct GrantRow {
        pub(in crate::rights) app_key: String,
        pub(in crate::rights) group_name: String,
        pub(in crate::rights) topic: String,
        pub(in crate::rights) operations: i64,
        pub(in crate::rights) batch: Option<i64>,
        pub(in crate::rights) publishes_per_second: Option<i64>,
        pub(in crate::rights) deliveries_per_second: Option<i64>,
    }
}

impl AppRow {
    pub(in crate::rights) fn limits(&self) -> AppLimits {
        AppLimits {
            connections: limit(self.connections),
            publishes_per_second: limit(self.publishes_per_second),
            deliveries_per_second: limit(self.deliveries_per_second),
            open_pairs: limit(self.open_pairs),
        }
    }
}

impl GrantRow {
    /// The right, or why the row is none.
    pub(in crate::rights) fn grant(&self) -> Result<Grant, String> {
        let operations = Operations::from_number(self.operations).ok_or_else(|| {
            format!(
                "its operations are {}, and have to be 1, 2 or 3",
                self.operations
            )
        })?;
        let grant = Grant::new(&self.group_name, &self.topic, operations);
        let mut grant = grant.map_err(|error| error.to_string())?;
        grant.batch = limit(self.batch);
        grant.publishes_per_second = limit(self.publishes_per_second);
        grant.deliveries_per_second = limit(self.deliveries_per_second);
        Ok(grant)
    }
}

/// A limit. A negative one lets nothing through, because somebody has wanted a limit.
fn limit(column: Option<i64>) -> Option<u32> {
    column.map(|limit| u32::try_from(limit.max(0)).unwrap_or(u32::MAX))
}

/// Without the hashes.
impl fmt::Debug for AppRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppRow")
            .field("app_key", &self.app_key)
            .field("secret_kind", &self.secret_kind)
            .finish_non_exhaustive()
    }
}
